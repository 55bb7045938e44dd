//! Observing a prefix.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use doge::{Epoch, Fingerprint, Last, Observation, ObserveContext, Root, Roots, Seen, Spec};
use rattler_conda_types::PrefixRecord;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::epoch::{CONDA_TYPES, OWN};
use crate::file_stamp::FileStamp;
use crate::prefix::files::{CONDA_META, JOURNAL, LEDGER, PIXI_ENVIRONMENT, PIXI_FINGERPRINT, PIXI_PREFIX};
use crate::prefix::ledger::Ledger;

/// A prefix, by its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrefixStateSpec {
    /// What the path is relative to.
    pub root: Root,
    /// The path, with forward slashes.
    pub path: String,
}

impl fmt::Display for PrefixStateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prefix {}", self.path)
    }
}

impl Spec for PrefixStateSpec {
    const KIND: &'static str = "prefix_state";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl PrefixStateSpec {
    /// Where the prefix is.
    pub fn place(&self, roots: &Roots) -> Option<PathBuf> {
        roots.resolve(&self.root, &self.path)
    }
}

/// What is at a place: nothing, or a prefix.
pub type PrefixState = Option<PrefixValue>;

/// What a prefix looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixValue {
    /// Its canonical absolute path, which is written into files of its packages.
    pub path: String,
    /// The path that its packages were linked for, if that is known.
    pub linked_for: Option<String>,
    /// What is installed, by file name of the record.
    pub packages: Vec<InstalledPackage>,
    /// Records that were there when we left the prefix and that somebody took away, by file name. Not known where pixi was
    /// since, for it may have put something else in the place of what it removed.
    pub taken_away: Vec<String>,
    /// A change of the prefix was begun and never finished.
    pub unfinished: bool,
    /// What pixi says of the prefix, as a fingerprint of its files.
    pub pixi: Option<Fingerprint>,
}

/// A record of an installed package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledPackage {
    /// The file in `conda-meta`.
    pub file_name: String,
    /// The fingerprint of its content.
    pub content: Fingerprint,
    /// We wrote it, and it is as we left it. Unknown for what another tool installed before we came.
    pub as_left: Option<bool>,
    /// What it says, if it can be read.
    pub package: Option<PackageIdentity>,
}

/// What decides whether an installed package is the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageIdentity {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its build string.
    pub build: String,
    /// The SHA-256 of its archive.
    pub sha256: Option<String>,
    /// The MD5 of its archive.
    pub md5: Option<String>,
    /// The size of its archive.
    pub size: Option<u64>,
    /// It is linked anew when the version of Python changes.
    pub noarch_python: bool,
    /// Where the site packages of this Python are, if it is one and says so.
    pub site_packages: Option<String>,
}

impl PackageIdentity {
    pub(crate) fn new(record: &rattler_conda_types::PackageRecord) -> Self {
        Self {
            name: record.name.as_normalized().to_owned(),
            version: record.version.to_string(),
            build: record.build.to_string(),
            sha256: record.sha256.map(hex::encode),
            md5: record.md5.map(hex::encode),
            size: record.size,
            noarch_python: record.noarch.is_python(),
            site_packages: record.python_site_packages_path.clone(),
        }
    }
}

/// What one pass over `conda-meta` sees: for each file of interest what tells it from an edited one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixStamp {
    path: String,
    folder: FileStamp,
    files: BTreeMap<String, FileStamp>,
}

/// Why a prefix could not be looked at.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum PrefixError {
    /// The file system does not let us.
    #[error("the environment at `{}` cannot be read", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The path is not text.
    #[error("the path of the environment at `{}` is not valid Unicode", path.display())]
    NotUnicode {
        /// Where it is.
        path: PathBuf,
    },
    /// The workspace is not known to this database.
    #[error("nobody said where the {root:?} of `{path}` is")]
    NoRoot {
        /// What it is relative to.
        root: Root,
        /// The path.
        path: String,
    },
}

impl Observation for PrefixStateSpec {
    type Output = PrefixState;
    type Error = PrefixError;
    type Stamp = Option<PrefixStamp>;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        PrefixStateSpec::place(self, roots)
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, PrefixError> {
        let path = PrefixStateSpec::place(self, ctx.roots())
            .ok_or_else(|| PrefixError::NoRoot { root: self.root.clone(), path: self.path.clone() })?;
        ctx.blocking(move || look(&path, last)).await
    }
}

fn look(path: &Path, last: Option<Last<PrefixStateSpec>>) -> Result<Seen<PrefixStateSpec>, PrefixError> {
    let stamp = take_stamp(path)?;
    let (last_stamp, last_value) = match last {
        Some(last) if last.is(&stamp) => return Ok(Seen::Same),
        Some(last) => last.into_parts().unwrap_or_default(),
        None => (None, None),
    };
    let Some(now) = stamp else { return Ok(Seen::New { value: None, stamp: None, newest: None }) };
    let newest = now.files.values().chain([&now.folder]).map(FileStamp::newest).max();
    let value = read(path, &now, last_stamp.zip(last_value))
        .map_err(|source| PrefixError::Read { path: path.to_owned(), source })?;
    Ok(Seen::New { value: Some(value), stamp: Some(now), newest })
}

/// Looks at the prefix now; for an effect, under the lock that keeps others from changing it.
pub(crate) fn look_now(path: &Path) -> Result<PrefixState, PrefixError> {
    match look(path, None)? {
        Seen::New { value, .. } => Ok(value),
        Seen::Same => Ok(None),
    }
}

pub(crate) fn is_record(name: &str) -> bool {
    name.ends_with(".json")
}

fn is_of_interest(name: &str) -> bool {
    is_record(name) || [LEDGER, JOURNAL, PIXI_FINGERPRINT, PIXI_ENVIRONMENT, PIXI_PREFIX].contains(&name)
}

/// One pass over `conda-meta`; nothing if there is no prefix.
fn take_stamp(path: &Path) -> Result<Option<PrefixStamp>, PrefixError> {
    let error = |source| PrefixError::Read { path: path.to_owned(), source };
    let folder = path.join(CONDA_META);
    let metadata = match fs::metadata(&folder) {
        Ok(metadata) => metadata,
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(error(source)),
    };
    let canonical = fs::canonicalize(path).map_err(error)?;
    let canonical = canonical.to_str().ok_or_else(|| PrefixError::NotUnicode { path: path.to_owned() })?.to_owned();
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_of_interest(&name) {
            continue;
        }
        // Looked at from inside of the folder: the way to it is long, and there are hundreds of files.
        let metadata = match entry.metadata() {
            Ok(metadata) if metadata.is_symlink() => fs::metadata(entry.path()),
            metadata => metadata,
        };
        match metadata {
            Ok(metadata) => {
                files.insert(name, FileStamp::new(&metadata));
            }
            // It went away while we looked, or leads nowhere.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(error(source)),
        }
    }
    Ok(Some(PrefixStamp { path: canonical, folder: FileStamp::new(&metadata), files }))
}

/// Reads what is new since the last look, and takes the rest from it.
fn read(path: &Path, stamp: &PrefixStamp, last: Option<(PrefixStamp, PrefixValue)>) -> io::Result<PrefixValue> {
    let folder = path.join(CONDA_META);
    let content = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let ledger = content(LEDGER)?.as_deref().and_then(Ledger::parse);
    let linked_for = match (&ledger, content(PIXI_PREFIX)?) {
        (Some(ledger), _) => Some(ledger.prefix.clone()),
        (None, Some(text)) => Some(String::from_utf8_lossy(&text).trim().to_owned()),
        (None, None) => None,
    };
    let mut pixi = Vec::new();
    for name in [PIXI_ENVIRONMENT, PIXI_FINGERPRINT] {
        // An empty file says nothing: taking pixi's lock makes one.
        if let Some(bytes) = content(name)?.filter(|bytes| !bytes.is_empty()) {
            pixi.extend_from_slice(name.as_bytes());
            pixi.extend_from_slice(&bytes);
        }
    }
    let known: BTreeMap<&str, (&FileStamp, &InstalledPackage)> = last
        .as_ref()
        .map(|(stamp, value)| {
            let packages = value.packages.iter();
            packages
                .filter_map(|package| {
                    Some((package.file_name.as_str(), (stamp.files.get(&package.file_name)?, package)))
                })
                .collect()
        })
        .unwrap_or_default();
    let records: Vec<_> = stamp.files.iter().filter(|(name, _)| is_record(name)).collect();
    let read = |(name, file): (&String, &FileStamp)| -> io::Result<Option<InstalledPackage>> {
        let read = match known.get(name.as_str()) {
            Some((stamp, package)) if *stamp == file => Some((package.content, package.package.clone())),
            _ => content(name)?.map(|bytes| {
                let content = Fingerprint::of(&bytes);
                let left = ledger.as_ref().and_then(|ledger| ledger.records.get(name));
                let package = match left.filter(|left| left.content == content) {
                    Some(left) => Some(left.package.clone()),
                    None => parse_record(&bytes, name)
                        .map(|record| PackageIdentity::new(&record.repodata_record.package_record)),
                };
                (content, package)
            }),
        };
        let Some((content, package)) = read else { return Ok(None) };
        let as_left =
            ledger.as_ref().map(|ledger| ledger.records.get(name).is_some_and(|left| left.content == content));
        Ok(Some(InstalledPackage { file_name: name.clone(), content, as_left, package }))
    };
    let packages: Vec<_> = records.into_par_iter().map(read).collect::<io::Result<_>>()?;
    let packages = packages.into_iter().flatten().collect();
    let left = ledger.iter().flat_map(|ledger| ledger.records.keys()).filter(|_| pixi.is_empty());
    let taken_away = left.filter(|name| !stamp.files.contains_key(*name)).cloned().collect();
    Ok(PrefixValue {
        taken_away,
        path: stamp.path.clone(),
        linked_for,
        packages,
        unfinished: stamp.files.contains_key(JOURNAL),
        pixi: (!pixi.is_empty()).then(|| Fingerprint::of(&pixi)),
    })
}

/// A record, if it is one and stands in the file that it should.
pub(crate) fn parse_record(bytes: &[u8], file_name: &str) -> Option<PrefixRecord> {
    PrefixRecord::from_reader(bytes).ok().filter(|record| record.file_name() == file_name)
}
