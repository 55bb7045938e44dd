//! Reading `repodata.json`: what each name stands for, and the records of a name when somebody needs them.
//!
//! Most records of a channel are never looked at. So they stay text until they are; of each only the name and the
//! names that it depends on are read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use doge::Fingerprint;
use rattler_conda_types::package::DistArchiveIdentifier;
use rattler_conda_types::{PackageRecord, ParseMatchSpecOptions, RepoDataRecord};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::conda::error::ChannelError;

/// The records of one subdir of a channel.
pub(crate) struct Repodata {
    bytes: Vec<u8>,
    channel: String,
    subdir: String,
    /// Where the archives are.
    archives: Url,
    /// Part of every digest: the same record at another place is another package.
    base: Option<String>,
    names: BTreeMap<String, Vec<Entry>>,
    parsed: Mutex<HashMap<String, Arc<[RepoDataRecord]>>>,
}

/// One record, unread.
struct Entry {
    file_name: String,
    text: Range<usize>,
    digest: Fingerprint,
    depends: Vec<String>,
}

#[derive(Deserialize)]
struct Top<'a> {
    #[serde(default)]
    info: Info,
    #[serde(borrow, default)]
    packages: BTreeMap<String, &'a RawValue>,
    #[serde(borrow, default, rename = "packages.conda")]
    conda: BTreeMap<String, &'a RawValue>,
    #[serde(default)]
    removed: Vec<String>,
    #[serde(borrow, default)]
    v3: V3<'a>,
}

#[derive(Deserialize, Default)]
struct Info {
    #[serde(default)]
    base_url: Option<String>,
}

#[derive(Deserialize, Default)]
struct V3<'a> {
    #[serde(borrow, default, rename = "tar.bz2")]
    tar_bz2: BTreeMap<String, &'a RawValue>,
    #[serde(borrow, default)]
    conda: BTreeMap<String, &'a RawValue>,
}

/// A record as its fields, unread.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// What is read of every record.
struct Glance {
    name: String,
    depends: Vec<String>,
    extra_depends: BTreeMap<String, Vec<String>>,
}

impl Glance {
    fn at(fields: &Fields<'_>) -> Result<Self, serde_json::Error> {
        fn read<T: DeserializeOwned + Default>(fields: &Fields<'_>, name: &str) -> Result<T, serde_json::Error> {
            fields.get(name).map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text.get()))
        }
        let name: String = read(fields, "name")?;
        if name.is_empty() {
            return Err(serde::de::Error::missing_field("name"));
        }
        Ok(Self { name, depends: read(fields, "depends")?, extra_depends: read(fields, "extra_depends")? })
    }
}

/// What tells a record from others, however it is written: order of fields, blanks and escapes do not count.
///
/// Whoever indexes a channel anew with another program changes none of its records.
fn digest_of(fields: &Fields<'_>) -> Result<Fingerprint, serde_json::Error> {
    let mut canonical = Vec::with_capacity(1024);
    for (name, value) in fields {
        canonical.extend_from_slice(&(name.len() as u64).to_le_bytes());
        canonical.extend_from_slice(name.as_bytes());
        let start = canonical.len();
        canonical.extend_from_slice(&[0; 8]);
        write_canonical(value.get(), &mut canonical)?;
        let length = (canonical.len() - start - 8) as u64;
        canonical[start..start + 8].copy_from_slice(&length.to_le_bytes());
    }
    Ok(Fingerprint::of(&canonical))
}

fn write_canonical(text: &str, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    if text.contains(['\\', '{']) {
        // A map sorts what it holds, however deep; a string loses its escapes.
        let tree: Tree = serde_json::from_str(text)?;
        return serde_json::to_writer(into, &tree);
    }
    // Without escapes each quotation mark begins or ends a string.
    let mut in_string = false;
    for byte in text.bytes() {
        in_string ^= byte == b'"';
        if in_string || !byte.is_ascii_whitespace() {
            into.push(byte);
        }
    }
    Ok(())
}

/// Any JSON, with the fields of objects sorted.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Tree {
    Object(BTreeMap<String, Tree>),
    List(Vec<Tree>),
    Leaf(serde_json::Value),
}

impl Repodata {
    pub(crate) fn parse(bytes: Vec<u8>, channel: &Url, subdir: &Url) -> Result<Self, ChannelError> {
        let malformed = |message: String| ChannelError::Malformed { url: subdir.clone(), message };
        let start = bytes.as_ptr() as usize;
        let top: Top<'_> = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let archives = base(subdir, top.info.base_url.as_deref()).ok_or_else(|| {
            malformed(format!("`{}` is no base URL", top.info.base_url.as_deref().unwrap_or_default()))
        })?;

        let removed: HashSet<String> = top.removed.into_iter().collect();
        let mut texts: BTreeMap<String, &RawValue> = BTreeMap::new();
        texts.extend(top.packages);
        texts.extend(top.conda);
        // A file that is listed twice is what its newest listing says.
        texts.extend(top.v3.tar_bz2.into_iter().map(|(stem, text)| (format!("{stem}.tar.bz2"), text)));
        texts.extend(top.v3.conda.into_iter().map(|(stem, text)| (format!("{stem}.conda"), text)));
        texts.retain(|file_name, _| !removed.contains(file_name));
        // Of one build in both formats the newer format is taken, as rattler does by default.
        let doubled: Vec<String> = texts
            .keys()
            .filter_map(|file_name| file_name.strip_suffix(".conda"))
            .map(|stem| format!("{stem}.tar.bz2"))
            .filter(|file_name| texts.contains_key(file_name))
            .collect();
        for file_name in doubled {
            texts.remove(&file_name);
        }

        let texts: Vec<(String, &str)> = texts.into_iter().map(|(file_name, text)| (file_name, text.get())).collect();
        let entries: Vec<(String, Entry)> = texts
            .into_par_iter()
            .map(|(file_name, text)| {
                let unusable = |error: serde_json::Error| malformed(format!("`{file_name}`: {error}"));
                let fields: Fields<'_> = serde_json::from_str(text).map_err(unusable)?;
                let glance = Glance::at(&fields).map_err(unusable)?;
                let depends: BTreeSet<String> = glance
                    .depends
                    .iter()
                    .chain(glance.extra_depends.values().flatten())
                    .filter_map(|spec| name_of(spec))
                    .collect();
                let at = text.as_ptr() as usize - start;
                let digest = digest_of(&fields).map_err(unusable)?;
                let text = at..at + text.len();
                let entry = Entry { file_name, text, digest, depends: depends.into_iter().collect() };
                Ok((glance.name.to_lowercase(), entry))
            })
            .collect::<Result<_, ChannelError>>()?;
        let mut names: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (name, entry) in entries {
            names.entry(name).or_default().push(entry);
        }
        let subdir_name = subdir.path_segments().and_then(|mut parts| parts.rfind(|part| !part.is_empty()));
        Ok(Self {
            subdir: subdir_name.unwrap_or_default().to_owned(),
            channel: channel.to_string(),
            archives,
            base: top.info.base_url,
            names,
            bytes,
            parsed: Mutex::default(),
        })
    }

    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What tells the records of a name from others; nothing if there are none.
    pub(crate) fn digest(&self, name: &str) -> Option<Fingerprint> {
        let entries = self.names.get(name)?;
        Some(digest(self.base.as_deref(), entries.iter().map(|entry| (entry.file_name.as_str(), entry.digest))))
    }

    /// The names that the records of a name depend on, sorted.
    pub(crate) fn depends(&self, name: &str) -> Vec<String> {
        let entries = self.names.get(name).into_iter().flatten();
        let names: BTreeSet<&String> = entries.flat_map(|entry| &entry.depends).collect();
        names.into_iter().cloned().collect()
    }

    /// The digest of each record, by name and file name.
    pub(crate) fn details(&self) -> BTreeMap<String, BTreeMap<String, Fingerprint>> {
        let files = |entries: &[Entry]| entries.iter().map(|entry| (entry.file_name.clone(), entry.digest)).collect();
        self.names.iter().map(|(name, entries)| (name.clone(), files(entries))).collect()
    }

    /// The records of a name, read now if nobody did before.
    pub(crate) fn records(&self, name: &str) -> Result<Arc<[RepoDataRecord]>, ChannelError> {
        if let Some(known) = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(known.clone());
        }
        let entries = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let records: Arc<[RepoDataRecord]> =
            entries.iter().map(|entry| self.record(entry)).collect::<Result<_, _>>()?;
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), records.clone());
        Ok(records)
    }

    fn record(&self, entry: &Entry) -> Result<RepoDataRecord, ChannelError> {
        let malformed = |message: String| ChannelError::Malformed {
            url: self.archives.clone(),
            message: format!("`{}`: {message}", entry.file_name),
        };
        let text = self.bytes.get(entry.text.clone()).unwrap_or_default();
        let record: PackageRecord = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        complete(record, &entry.file_name, &self.subdir, &self.channel, &self.archives).map_err(malformed)
    }
}

/// What tells records from others: their files, and where these are.
pub(crate) fn digest<'a>(base: Option<&str>, files: impl Iterator<Item = (&'a str, Fingerprint)>) -> Fingerprint {
    let mut bytes = Vec::new();
    let mut add = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    add(base.unwrap_or_default().as_bytes());
    for (file_name, content) in files {
        add(file_name.as_bytes());
        add(content.as_bytes());
    }
    Fingerprint::of(&bytes)
}

/// A record with what only its place tells. The message says why there is none.
pub(crate) fn complete(
    mut record: PackageRecord,
    file_name: &str,
    subdir: &str,
    channel: &str,
    archives: &Url,
) -> Result<RepoDataRecord, String> {
    if record.subdir.is_empty() {
        subdir.clone_into(&mut record.subdir);
    }
    let identifier = DistArchiveIdentifier::try_from_filename(file_name).ok_or("that is not the name of a package")?;
    let url = archives.join(file_name).map_err(|error| error.to_string())?;
    Ok(RepoDataRecord { url, channel: Some(channel.to_owned()), package_record: record, identifier })
}

/// Where archives are, by the rules of CEP-15; nothing if that is no URL.
pub(crate) fn base(subdir: &Url, base_url: Option<&str>) -> Option<Url> {
    let mut url = match base_url {
        None => subdir.clone(),
        Some(base) => subdir.join(base).ok()?,
    };
    if url.cannot_be_a_base() {
        return None;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

/// The name that a dependency is about; nothing if it is about no single one.
pub(crate) fn name_of(spec: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let end = spec.find(|c| !is_plain(c)).unwrap_or(spec.len());
    let (name, rest) = spec.split_at(end);
    let ends_name = |c: char| c.is_ascii_whitespace() || matches!(c, '<' | '>' | '=' | '!' | '~' | '[' | ';');
    if !name.is_empty() && rest.chars().next().is_none_or(ends_name) {
        return Some(name.to_ascii_lowercase());
    }
    let options = ParseMatchSpecOptions::lenient().with_extras(true).with_flags(true).with_conditionals(true);
    let spec = rattler_conda_types::MatchSpec::from_str(spec, options).ok()?;
    Some(spec.name.as_exact()?.as_normalized().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_dependency() {
        for (spec, name) in [
            ("python", "python"),
            ("python >=3.8,<4", "python"),
            ("Python>=3.8", "python"),
            ("python_abi 3.12.* *_cp312", "python_abi"),
            ("foo[version='>=1']", "foo"),
            ("some-channel::foo 1.*", "foo"),
            ("__glibc >=2.17,<3.0.a0", "__glibc"),
        ] {
            assert_eq!(name_of(spec).as_deref(), Some(name), "{spec}");
        }
    }

    fn parse(text: &str) -> Result<Repodata, ChannelError> {
        let channel = Url::parse("file:///c/").expect("a URL");
        let subdir = Url::parse("file:///c/noarch/").expect("a URL");
        Repodata::parse(text.as_bytes().to_vec(), &channel, &subdir)
    }

    const RECORD: &str = r#"{"name":"A","version":"1","build":"0","build_number":0,"depends":["b >=1","c"]}"#;

    #[test]
    fn the_newer_format_goes_before_the_older_and_what_was_removed_is_gone() {
        let text = format!(
            r#"{{"packages":{{"a-1-0.tar.bz2":{RECORD},"a-2-0.tar.bz2":{RECORD}}},
                "packages.conda":{{"a-1-0.conda":{RECORD},"a-3-0.conda":{RECORD}}},"removed":["a-3-0.conda"]}}"#
        );
        let repodata = parse(&text).expect("it is well-formed");
        let files: Vec<String> =
            repodata.records("a").expect("records").iter().map(|record| record.identifier.to_file_name()).collect();
        assert_eq!(files, ["a-1-0.conda", "a-2-0.tar.bz2"]);
        assert_eq!(repodata.depends("a"), ["b", "c"]);
        assert_eq!(repodata.names().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn archives_may_lie_elsewhere_and_that_is_part_of_the_digest() {
        let with = |info: &str| parse(&format!(r#"{{"info":{info},"packages":{{"a-1-0.tar.bz2":{RECORD}}}}}"#));
        let here = with("{}").expect("it is well-formed");
        let there = with(r#"{"base_url":"https://files.example/x"}"#).expect("it is well-formed");
        assert_eq!(here.records("a").expect("records")[0].url.as_str(), "file:///c/noarch/a-1-0.tar.bz2");
        assert_eq!(there.records("a").expect("records")[0].url.as_str(), "https://files.example/x/a-1-0.tar.bz2");
        assert_ne!(here.digest("a"), there.digest("a"));
        assert!(with(r#"{"base_url":"mailto:x"}"#).is_err());
    }

    #[test]
    fn how_a_record_is_written_does_not_count_and_what_it_says_does() {
        let with = |record: &str| parse(&format!(r#"{{"packages":{{"a-1-0.tar.bz2":{record}}}}}"#)).expect("JSON");
        let digest = |record: &str| with(record).digest("a").expect("it is there");
        let one = digest(
            r#"{"name":"a","version":"1","build":"0","depends":["b >=1, <2"],"extra_depends":{"x":["y"],"z":[]}}"#,
        );
        let same = r#" { "version" : "1", "name": "\u0061", "build": "0",
            "extra_depends": {"z": [ ], "x": ["y"]},  "depends": [ "b >=1, <2" ] } "#;
        assert_eq!(one, digest(same));
        for other in [
            r#"{"name":"a","version":"1","build":"0","depends":["b >=1,<2"],"extra_depends":{"x":["y"],"z":[]}}"#,
            r#"{"name":"a","version":"1","build":"0","depends":["b >=1, <2"],"extra_depends":{"x":["z"],"y":[]}}"#,
            r#"{"name":"a","version":"1","build":"0","depends":["b >=1", "<2"],"extra_depends":{"x":["y"],"z":[]}}"#,
            r#"{"name":"a","version":1,"build":"0","depends":["b >=1, <2"],"extra_depends":{"x":["y"],"z":[]}}"#,
            r#"{"name":"a","version":"1","build":"0","depends":["b >=1, <2"],"extra_depends":{"x":["y"],"z":[]},"q":1}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = parse(r#"{"packages":{"a-1-0.tar.bz2":{"version":"1"}}}"#).err().expect("there is no name");
        assert!(error.to_string().contains("a-1-0.tar.bz2"), "{error}");
        assert!(parse("{").is_err());
    }
}
