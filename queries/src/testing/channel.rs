//! Small conda packages and the channels they lie in.
//!
//! [`PackageBuilder`] describes one package and writes it as `.conda` or `.tar.bz2`; [`ChannelBuilder`] keeps the
//! records of a channel directory and writes its indexes: `repodata.json`, `repodata.json.zst` and, when asked, the
//! shards of CEP-16. Index files are always replaced by rename: a reader that has the old file mapped keeps it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use rattler_conda_types::{ChannelUrl, compression_level::CompressionLevel};
use rattler_digest::{Md5, Sha256, compute_bytes_digest};
use rattler_package_streaming::write::{write_conda_package, write_tar_bz2_package};
use serde_json::{Map, Value, json};
use url::Url;

/// The prefix that packages made here were "built" in.
pub const PLACEHOLDER: &str = "/opt/placeholder_placeholder_placeholder_placeholder_placeholder_placeholder_placehold";

/// One second after midnight, 2 January 2024: the time of everything in an archive.
const ARCHIVE_TIME: i64 = 1_704_153_601;

/// The archive format of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveKind {
    /// The current format.
    #[default]
    Conda,
    /// The old format.
    TarBz2,
}

/// The records of a name, in the old format and in the new one.
type OfName = (Map<String, Value>, Map<String, Value>);

#[derive(Debug, Clone)]
enum Content {
    File { bytes: Vec<u8>, executable: bool, prefix: Option<&'static str> },
    Symlink(PathBuf),
    Directory,
}

/// One package to be: what its record says and what is in it.
///
/// ```
/// use doge_queries::testing::{ChannelBuilder, PackageBuilder};
/// # let dir = tempfile::tempdir().unwrap();
/// let mut channel = ChannelBuilder::new(dir.path());
/// channel.add(PackageBuilder::new("hello", "1.0").file("share/hello.txt", "hello\n").depends(["world >=1"])).unwrap();
/// channel.index().unwrap();
/// assert!(dir.path().join("noarch/hello-1.0-0.conda").is_file());
/// ```
#[derive(Debug, Clone)]
pub struct PackageBuilder {
    name: String,
    version: String,
    build: String,
    build_number: u64,
    subdir: String,
    noarch: Option<&'static str>,
    archive: ArchiveKind,
    timestamp: Option<i64>,
    depends: Vec<String>,
    constrains: Vec<String>,
    entry_points: Vec<String>,
    extra: Map<String, Value>,
    files: BTreeMap<String, Content>,
}

impl PackageBuilder {
    /// A `noarch: generic` package without files, build string `0`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            build: "0".into(),
            build_number: 0,
            subdir: "noarch".into(),
            noarch: Some("generic"),
            archive: ArchiveKind::default(),
            timestamp: None,
            depends: Vec::new(),
            constrains: Vec::new(),
            entry_points: Vec::new(),
            extra: Map::new(),
            files: BTreeMap::new(),
        }
    }

    /// Sets the build string and the build number.
    pub fn build(mut self, build: impl Into<String>, number: u64) -> Self {
        self.build = build.into();
        self.build_number = number;
        self
    }

    /// Puts the package in another subdir; anything but `noarch` makes it platform specific.
    pub fn subdir(mut self, subdir: impl Into<String>) -> Self {
        self.subdir = subdir.into();
        self.noarch = (self.subdir == "noarch").then_some("generic");
        self
    }

    /// Makes it a `noarch: python` package.
    pub fn noarch_python(mut self) -> Self {
        self.subdir = "noarch".into();
        self.noarch = Some("python");
        self
    }

    /// Chooses the archive format.
    pub fn archive(mut self, archive: ArchiveKind) -> Self {
        self.archive = archive;
        self
    }

    /// Sets the build time, in milliseconds since 1970.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Adds dependencies.
    pub fn depends<S: Into<String>>(mut self, specs: impl IntoIterator<Item = S>) -> Self {
        self.depends.extend(specs.into_iter().map(Into::into));
        self
    }

    /// Adds constraints.
    pub fn constrains<S: Into<String>>(mut self, specs: impl IntoIterator<Item = S>) -> Self {
        self.constrains.extend(specs.into_iter().map(Into::into));
        self
    }

    /// Adds a field to `index.json` and to the record.
    pub fn field(mut self, name: impl Into<String>, value: Value) -> Self {
        self.extra.insert(name.into(), value);
        self
    }

    /// Adds a file.
    pub fn file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), Content::File { bytes: content.into(), executable: false, prefix: None });
        self
    }

    /// Adds an executable file.
    pub fn executable(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), Content::File { bytes: content.into(), executable: true, prefix: None });
        self
    }

    /// Adds an executable text file in which [`PLACEHOLDER`] is replaced by the prefix on installation.
    pub fn prefixed_text(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let content = Content::File { bytes: content.into(), executable: true, prefix: Some("text") };
        self.files.insert(path.into(), content);
        self
    }

    /// Adds a binary file in which [`PLACEHOLDER`] is replaced by the prefix on installation.
    pub fn prefixed_binary(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        let content = Content::File { bytes: content.into(), executable: true, prefix: Some("binary") };
        self.files.insert(path.into(), content);
        self
    }

    /// Adds a symbolic link, dangling or not.
    pub fn symlink(mut self, path: impl Into<String>, target: impl Into<PathBuf>) -> Self {
        self.files.insert(path.into(), Content::Symlink(target.into()));
        self
    }

    /// Adds an empty directory.
    pub fn directory(mut self, path: impl Into<String>) -> Self {
        self.files.insert(path.into(), Content::Directory);
        self
    }

    /// Adds an entry point, `command = module:function`, to a `noarch: python` package.
    pub fn entry_point(mut self, entry_point: impl Into<String>) -> Self {
        self.entry_points.push(entry_point.into());
        self
    }

    /// Adds a script that is run after linking.
    pub fn post_link(self, script: impl Into<Vec<u8>>) -> Self {
        let path = format!("bin/.{}-post-link.sh", self.name);
        self.executable(path, script)
    }

    /// Adds a script that is run before unlinking.
    pub fn pre_unlink(self, script: impl Into<Vec<u8>>) -> Self {
        let path = format!("bin/.{}-pre-unlink.sh", self.name);
        self.executable(path, script)
    }

    /// The name of the archive.
    pub fn file_name(&self) -> String {
        let extension = match self.archive {
            ArchiveKind::Conda => "conda",
            ArchiveKind::TarBz2 => "tar.bz2",
        };
        format!("{}.{extension}", self.stem())
    }

    fn stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.build)
    }

    fn index_json(&self) -> Map<String, Value> {
        let mut index = Map::new();
        index.insert("build".into(), json!(self.build));
        index.insert("build_number".into(), json!(self.build_number));
        if !self.constrains.is_empty() {
            index.insert("constrains".into(), json!(self.constrains));
        }
        index.insert("depends".into(), json!(self.depends));
        index.insert("name".into(), json!(self.name));
        if let Some(noarch) = self.noarch {
            index.insert("noarch".into(), json!(noarch));
        }
        index.insert("subdir".into(), json!(self.subdir));
        if let Some(timestamp) = self.timestamp {
            index.insert("timestamp".into(), json!(timestamp));
        }
        index.insert("version".into(), json!(self.version));
        index.extend(self.extra.clone());
        index
    }

    /// Writes the archive into `directory` and yields its record.
    pub fn write(&self, directory: &Path) -> io::Result<Value> {
        let work = tempfile::tempdir()?;
        let root = work.path();
        let mut entries = Vec::new();
        let mut members = Vec::new();
        for (path, content) in &self.files {
            let target = root.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut entry = Map::new();
            entry.insert("_path".into(), json!(path));
            match content {
                Content::File { bytes, executable, prefix } => {
                    fs::write(&target, bytes)?;
                    if *executable {
                        make_executable(&target)?;
                    }
                    entry.insert("path_type".into(), json!("hardlink"));
                    entry.insert("sha256".into(), json!(hex::encode(compute_bytes_digest::<Sha256>(bytes))));
                    entry.insert("size_in_bytes".into(), json!(bytes.len()));
                    if let Some(mode) = prefix {
                        entry.insert("file_mode".into(), json!(mode));
                        entry.insert("prefix_placeholder".into(), json!(PLACEHOLDER));
                    }
                    members.push(PathBuf::from(path));
                }
                Content::Symlink(link) => {
                    make_symlink(link, &target)?;
                    entry.insert("path_type".into(), json!("softlink"));
                    members.push(PathBuf::from(path));
                }
                Content::Directory => {
                    fs::create_dir_all(&target)?;
                    entry.insert("path_type".into(), json!("directory"));
                    members.push(PathBuf::from(path));
                }
            }
            entries.push(Value::Object(entry));
        }
        let mut info = vec![
            ("info/index.json", Value::Object(self.index_json())),
            ("info/paths.json", json!({ "paths": entries, "paths_version": 1 })),
            ("info/about.json", json!({ "summary": format!("the package {}", self.name) })),
        ];
        if self.noarch == Some("python") {
            let link = json!({
                "noarch": { "type": "python", "entry_points": self.entry_points },
                "package_metadata_version": 1,
            });
            info.push(("info/link.json", link));
        }
        fs::create_dir_all(root.join("info"))?;
        for (path, value) in info {
            fs::write(root.join(path), serde_json::to_vec_pretty(&value)?)?;
            members.push(PathBuf::from(path));
        }

        let time = jiff::Timestamp::from_second(ARCHIVE_TIME).map_err(io::Error::other)?;
        let mut bytes = io::Cursor::new(Vec::new());
        let members = members.iter().map(|path| root.join(path)).collect::<Vec<_>>();
        match self.archive {
            ArchiveKind::Conda => write_conda_package(
                &mut bytes,
                root,
                &members,
                CompressionLevel::Default,
                Some(1),
                &self.stem(),
                Some(&time),
                None,
            )?,
            ArchiveKind::TarBz2 => {
                write_tar_bz2_package(&mut bytes, root, &members, CompressionLevel::Default, Some(&time), None)?;
            }
        }
        let bytes = bytes.into_inner();
        fs::create_dir_all(directory)?;
        fs::write(directory.join(self.file_name()), &bytes)?;

        let mut record = self.index_json();
        record.insert("md5".into(), json!(hex::encode(compute_bytes_digest::<Md5>(&bytes))));
        record.insert("sha256".into(), json!(hex::encode(compute_bytes_digest::<Sha256>(&bytes))));
        record.insert("size".into(), json!(bytes.len()));
        record.sort_keys();
        Ok(Value::Object(record))
    }
}

/// A channel directory and its records.
#[derive(Debug, Clone)]
pub struct ChannelBuilder {
    root: PathBuf,
    subdirs: BTreeMap<String, Subdir>,
    shards: bool,
    zst: bool,
    json: bool,
}

#[derive(Debug, Clone, Default)]
struct Subdir {
    records: BTreeMap<String, Value>,
    removed: Vec<String>,
    base_url: Option<String>,
}

impl ChannelBuilder {
    /// A channel in `root`, with a `noarch` subdir and no packages.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let subdirs = BTreeMap::from([("noarch".to_owned(), Subdir::default())]);
        Self { root: root.into(), subdirs, shards: false, zst: true, json: true }
    }

    /// Whether [`Self::index`] writes shards.
    pub fn with_shards(mut self, shards: bool) -> Self {
        self.shards = shards;
        self
    }

    /// Which of `repodata.json` and `repodata.json.zst` [`Self::index`] writes.
    pub fn with_variants(mut self, json: bool, zst: bool) -> Self {
        self.json = json;
        self.zst = zst;
        self
    }

    /// The directory of the channel.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The `file://` URL of the channel.
    ///
    /// # Panics
    ///
    /// When the directory is not absolute.
    pub fn url(&self) -> ChannelUrl {
        ChannelUrl::from(Url::from_directory_path(&self.root).expect("an absolute directory"))
    }

    /// Writes a package and adds its record. Yields the archive's name.
    pub fn add(&mut self, package: PackageBuilder) -> io::Result<String> {
        let record = package.write(&self.root.join(&package.subdir))?;
        let file_name = package.file_name();
        self.add_record(&package.subdir, &file_name, record);
        Ok(file_name)
    }

    /// Adds a record without an archive, or replaces one.
    pub fn add_record(&mut self, subdir: &str, file_name: &str, record: Value) {
        self.subdirs.entry(subdir.to_owned()).or_default().records.insert(file_name.to_owned(), record);
    }

    /// Changes a record; does nothing if there is none of that name.
    pub fn edit(&mut self, subdir: &str, file_name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(record) = self.subdirs.get_mut(subdir).and_then(|subdir| subdir.records.get_mut(file_name)) {
            change(record);
        }
    }

    /// Takes a record away; its archive stays.
    pub fn remove(&mut self, subdir: &str, file_name: &str) {
        if let Some(subdir) = self.subdirs.get_mut(subdir) {
            subdir.records.remove(file_name);
        }
    }

    /// Lists a file under `removed`, its record stays.
    pub fn yank(&mut self, subdir: &str, file_name: &str) {
        self.subdirs.entry(subdir.to_owned()).or_default().removed.push(file_name.to_owned());
    }

    /// Sets `info.base_url` of a subdir.
    pub fn base_url(&mut self, subdir: &str, base_url: &str) {
        self.subdirs.entry(subdir.to_owned()).or_default().base_url = Some(base_url.to_owned());
    }

    /// Makes sure that a subdir is there, if only an empty one.
    pub fn subdir(&mut self, subdir: &str) {
        self.subdirs.entry(subdir.to_owned()).or_default();
    }

    /// Writes the indexes of all subdirs.
    pub fn index(&self) -> io::Result<()> {
        for (name, subdir) in &self.subdirs {
            let directory = self.root.join(name);
            fs::create_dir_all(&directory)?;
            let repodata = serde_json::to_vec_pretty(&subdir.repodata(name))?;
            write_or_remove(&directory.join("repodata.json"), self.json.then_some(&repodata))?;
            let compressed = if self.zst { Some(zstd::encode_all(repodata.as_slice(), 3)?) } else { None };
            write_or_remove(&directory.join("repodata.json.zst"), compressed.as_ref())?;
            self.index_shards(name, subdir, &directory)?;
        }
        Ok(())
    }

    fn index_shards(&self, name: &str, subdir: &Subdir, directory: &Path) -> io::Result<()> {
        let index_path = directory.join("repodata_shards.msgpack.zst");
        if !self.shards {
            return write_or_remove(&index_path, None);
        }
        let mut shards: BTreeMap<String, OfName> = BTreeMap::new();
        for (file, record) in &subdir.records {
            let package = record.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let (tars, condas) = shards.entry(package).or_default();
            let target = if file.ends_with(".conda") { condas } else { tars };
            target.insert(file.clone(), with_binary_hashes(record));
        }
        fs::create_dir_all(directory.join("shards"))?;
        let mut hashes = BTreeMap::new();
        for (package, (tars, condas)) in shards {
            let removed = subdir.removed.iter().filter(|file| file.starts_with(&format!("{package}-")));
            let shard = json!({ "packages": tars, "packages.conda": condas, "removed": removed.collect::<Vec<_>>() });
            let bytes = zstd::encode_all(msgpack(&shard)?.as_slice(), 3)?;
            let hash = compute_bytes_digest::<Sha256>(&bytes);
            write_or_remove(&directory.join(format!("shards/{}.msgpack.zst", hex::encode(hash))), Some(&bytes))?;
            hashes.insert(package, Value::Array(hash.iter().map(|byte| json!(byte)).collect()));
        }
        let index = json!({
            "info": {
                "subdir": name,
                "base_url": subdir.base_url.as_deref().unwrap_or("./"),
                "shards_base_url": "./shards/",
                "created_at": "2024-01-02T00:00:01Z",
            },
            "shards": hashes,
        });
        write_or_remove(&index_path, Some(&zstd::encode_all(msgpack(&index)?.as_slice(), 3)?))
    }
}

impl Subdir {
    fn repodata(&self, name: &str) -> Value {
        let mut info = Map::new();
        info.insert("subdir".into(), json!(name));
        if let Some(base_url) = &self.base_url {
            info.insert("base_url".into(), json!(base_url));
        }
        let of_kind = |conda: bool| {
            let records = self.records.iter().filter(|(file, _)| file.ends_with(".conda") == conda);
            Value::Object(records.map(|(file, record)| (file.clone(), record.clone())).collect())
        };
        json!({
            "info": info,
            "packages": of_kind(false),
            "packages.conda": of_kind(true),
            "removed": self.removed,
            "repodata_version": 2,
        })
    }
}

/// Shards hold hashes as bytes, `repodata.json` holds them as hexadecimal text.
fn with_binary_hashes(record: &Value) -> Value {
    let mut record = record.clone();
    for field in ["md5", "sha256"] {
        let Some(text) = record.get(field).and_then(Value::as_str) else { continue };
        if let Ok(bytes) = hex::decode(text) {
            record[field] = json!({ BYTES: bytes });
        }
    }
    record
}

/// The key by which [`msgpack`] tells a binary value from a map.
const BYTES: &str = "\u{0}bytes";

/// Encodes JSON as MessagePack; arrays of hashes become binary values.
fn msgpack(value: &Value) -> io::Result<Vec<u8>> {
    struct Encoded<'a>(&'a Value);
    impl serde::Serialize for Encoded<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            match self.0 {
                Value::Object(map) => {
                    if let Some(Value::Array(bytes)) = map.get(BYTES) {
                        return serializer.serialize_bytes(&as_bytes(bytes));
                    }
                    let mut out = serializer.serialize_map(Some(map.len()))?;
                    for (key, value) in map {
                        out.serialize_entry(key, &Encoded(value))?;
                    }
                    out.end()
                }
                Value::Array(items) if items.len() == 32 && items.iter().all(Value::is_u64) => {
                    serializer.serialize_bytes(&as_bytes(items))
                }
                Value::Array(items) => serializer.collect_seq(items.iter().map(Encoded)),
                other => other.serialize(serializer),
            }
        }
    }
    rmp_serde::to_vec_named(&Encoded(value)).map_err(io::Error::other)
}

fn as_bytes(items: &[Value]) -> Vec<u8> {
    items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()).unwrap_or_default()).collect()
}

fn write_or_remove(path: &Path, bytes: Option<&Vec<u8>>) -> io::Result<()> {
    match bytes {
        Some(bytes) => {
            let directory = path.parent().ok_or_else(|| io::Error::other("a file lies in a directory"))?;
            let file = tempfile::NamedTempFile::new_in(directory)?;
            fs::write(file.path(), bytes)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        }
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn make_symlink(target: &Path, link: &Path) -> io::Result<()> {
    fs::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn make_symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
