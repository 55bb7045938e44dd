//! Package archives in the `.conda` format.
//!
//! Files are sorted and have neither owners nor times, so the same package has the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;

use crate::json::Reader;
use crate::protocol::RpcError;

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) index: Value,
    pub(crate) about: Value,
    pub(crate) run_exports: Option<Value>,
    pub(crate) files: BTreeMap<String, Packaged>,
}

/// A file of a package.
#[derive(Debug)]
pub(crate) struct Packaged {
    pub(crate) content: Content,
    /// The prefix that is written in it.
    pub(crate) prefix: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Content {
    File {
        bytes: Vec<u8>,
        executable: bool,
    },
    /// A symbolic link to this.
    Link(String),
}

impl Packaged {
    pub(crate) fn text(text: String) -> Self {
        Self { content: Content::File { bytes: text.into_bytes(), executable: false }, prefix: None }
    }
}

/// The level that a build request wants its archive to be compressed with. Only `.conda` archives are made here.
pub(crate) fn compression_level(params: &Reader<'_>) -> Result<i32, RpcError> {
    let format = params.reader("packageFormat")?;
    let kind = format.string("archiveType")?.unwrap_or("conda");
    let letters: String = kind.chars().filter(char::is_ascii_alphanumeric).collect();
    if !letters.eq_ignore_ascii_case("conda") {
        return Err(RpcError::backend("archive", format!("cannot make an archive of type '{kind}'")));
    }
    match format.get("compressionLevel") {
        None => Ok(3),
        Some(Value::String(word)) if word == "default" => Ok(3),
        Some(Value::String(word)) if word == "lowest" => Ok(1),
        Some(Value::String(word)) if word == "highest" => Ok(19),
        Some(value) => {
            let wrong = || RpcError::invalid_params("packageFormat.compressionLevel is no level");
            Ok(value.as_i64().ok_or_else(wrong)?.clamp(-7, 22) as i32)
        }
    }
}

/// The bytes of the archive; `stem` is its file name without the extension.
pub(crate) fn pack(package: &Package, stem: &str, level: i32) -> io::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::DEFAULT);
    let parts = [
        ("metadata.json".to_owned(), br#"{"conda_pkg_format_version": 2}"#.to_vec()),
        (format!("pkg-{stem}.tar.zst"), zstd::encode_all(&*tar(&package.files)?, level)?),
        (format!("info-{stem}.tar.zst"), zstd::encode_all(&*tar(&info(package))?, level)?),
    ];
    for (name, bytes) in parts {
        zip.start_file(name, options)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// The files below `info/`.
fn info(package: &Package) -> BTreeMap<String, Packaged> {
    let paths: Vec<Value> = package.files.iter().map(|(path, file)| paths_entry(path, file)).collect();
    let mut documents = vec![
        ("about", package.about.clone()),
        ("index", package.index.clone()),
        ("paths", json!({ "paths": paths, "paths_version": 1 })),
    ];
    documents.extend(package.run_exports.clone().map(|run_exports| ("run_exports", run_exports)));
    let file = |(name, json): (&str, Value)| (format!("info/{name}.json"), Packaged::text(format!("{json:#}\n")));
    documents.into_iter().map(file).collect()
}

fn paths_entry(path: &str, file: &Packaged) -> Value {
    let mut entry = Map::new();
    entry.insert("_path".to_owned(), path.into());
    match &file.content {
        Content::File { bytes, .. } => {
            entry.insert("path_type".to_owned(), "hardlink".into());
            entry.insert("sha256".to_owned(), hex(&Sha256::digest(bytes)).into());
            entry.insert("size_in_bytes".to_owned(), bytes.len().into());
            if let Some(prefix) = &file.prefix {
                let mode = if is_text(bytes) { "text" } else { "binary" };
                entry.insert("file_mode".to_owned(), mode.into());
                entry.insert("prefix_placeholder".to_owned(), prefix.as_str().into());
            }
        }
        Content::Link(_) => {
            entry.insert("path_type".to_owned(), "softlink".into());
        }
    }
    Value::Object(entry)
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(files: &BTreeMap<String, Packaged>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, file) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match &file.content {
            Content::File { bytes, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}
