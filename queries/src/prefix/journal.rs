//! The journal: what is being changed, written before anything is.
//!
//! A change that was cut off leaves packages of which some files are there and no record. The next change finds the
//! journal and removes the files of every package that has no whole record, so that nothing is left that no record
//! tells of. Packages whose files may have been touched are linked anew.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Component, Path};

use memchr::memchr3;
use rattler::install::PythonInfo;
use rattler_conda_types::package::{LinkJson, NoArchLinks, PackageFile as _, PathType, PathsEntry, PathsJson};
use rattler_conda_types::{PrefixRecord, RepoDataRecord};
use serde::{Deserialize, Serialize};

use crate::prefix::files::{JOURNAL, meta, remove, replace};
use crate::prefix::state::is_record;

const VERSION: u32 = 1;

/// Where losers of a clash of paths are put.
pub(crate) const CLOBBERS: &str = "__clobbers__";

/// What is being changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    version: u32,
    /// Packages that are being removed, or removed and linked anew.
    pub(crate) removes: BTreeSet<String>,
    /// Packages that are being linked.
    pub(crate) links: Vec<Planned>,
}

/// A package that is being linked, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) name: String,
    /// The file in `conda-meta` that says it is there.
    pub(crate) record: String,
    /// The files it brings, relative to the prefix.
    pub(crate) paths: Vec<String>,
    /// Those of them that are symbolic links; only known to who links, to see afterwards that they are.
    #[serde(skip)]
    pub(crate) symbolic: Vec<String>,
}

impl Planned {
    /// The files that linking a package from the cache will bring.
    pub(crate) fn new(record: &RepoDataRecord, package: &Path, paths: &PathsJson, python: Option<&PythonInfo>) -> Self {
        let python = python.filter(|_| record.package_record.noarch.is_python());
        let target = |entry: &PathsEntry| match python {
            Some(python) => relative(&python.get_python_noarch_target_path(&entry.relative_path)),
            None => relative(&entry.relative_path),
        };
        let is_link = |entry: &&PathsEntry| entry.path_type == PathType::SoftLink;
        let symbolic = paths.paths.iter().filter(is_link).filter_map(target).collect();
        let mut paths: Vec<String> = paths.paths.iter().filter_map(target).collect();
        if let Some(python) = python
            && let Ok(LinkJson { noarch: NoArchLinks::Python(links), .. }) = LinkJson::from_package_directory(package)
        {
            let ends: &[&str] = if python.platform.is_windows() { &["", "-script.py", ".exe"] } else { &[""] };
            for entry in links.entry_points {
                let scripts = ends.iter().map(|end| python.bin_dir.join(format!("{}{end}", entry.command)));
                paths.extend(scripts.filter_map(|path| relative(&path)));
            }
        }
        Self {
            name: record.package_record.name.as_normalized().to_owned(),
            record: PrefixRecord::from_repodata_record(record.clone(), Vec::new()).file_name(),
            paths,
            symbolic,
        }
    }
}

impl From<&PrefixRecord> for Planned {
    /// What a record says that linking brought.
    fn from(record: &PrefixRecord) -> Self {
        Self {
            name: record.repodata_record.package_record.name.as_normalized().to_owned(),
            record: record.file_name(),
            paths: record.paths_data.paths.iter().filter_map(|entry| relative(entry.path())).collect(),
            symbolic: Vec::new(),
        }
    }
}

/// A path that stays in the prefix and can be one of a file, with forward slashes.
pub(crate) fn relative(path: &Path) -> Option<String> {
    // As nearly all of many thousands are written.
    if let Some(text) = path.to_str()
        && memchr3(b'\0', b'\\', b':', text.as_bytes()).is_none()
        && text.as_bytes().split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
    {
        return Some(text.to_owned());
    }
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().filter(|part| !part.contains('\0'))?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// What cleaning up found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CleanedUp {
    /// Packages whose files may be incomplete although their record is there.
    pub(crate) link_anew: BTreeSet<String>,
    /// Files that were removed.
    pub(crate) removed: usize,
}

impl Journal {
    pub(crate) fn new(removes: BTreeSet<String>, links: Vec<Planned>) -> Self {
        Self { version: VERSION, removes, links }
    }

    /// The journal of a change that was never finished. One that cannot be read says nothing: then every package
    /// must be linked anew, which `None` in the inner place means.
    pub(crate) fn read(prefix: &Path) -> io::Result<Option<Option<Self>>> {
        match std::fs::read(meta(prefix, JOURNAL)) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).ok().filter(|journal: &Journal| journal.version == VERSION)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, prefix: &Path) -> io::Result<()> {
        replace(&meta(prefix, JOURNAL), &serde_json::to_vec(self)?)
    }

    pub(crate) fn remove(prefix: &Path) -> io::Result<()> {
        remove(&meta(prefix, JOURNAL))
    }

    /// Removes what a change that was cut off left behind. `installed` are the records that are whole.
    pub(crate) fn clean_up(&self, prefix: &Path, installed: &[PrefixRecord]) -> io::Result<CleanedUp> {
        let mut cleaned = CleanedUp::default();
        let whole: BTreeSet<String> = installed.iter().map(PrefixRecord::file_name).collect();
        let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for record in installed {
            for path in &record.paths_data.paths {
                if let Some(path) = relative(path.path()) {
                    owners.entry(path).or_default().push(record.repodata_record.package_record.name.as_normalized());
                }
            }
        }
        // It is ours, but lies where others can write.
        let sound = self.links.iter().filter(|planned| is_file_of_record(&planned.record));
        let prefix = prefix.canonicalize()?;
        for planned in sound.filter(|planned| !whole.contains(&planned.record)) {
            for path in &planned.paths {
                match owners.get(path) {
                    // Which of them the file is from now cannot be told.
                    Some(others) => cleaned.link_anew.extend(others.iter().map(|name| (*name).to_owned())),
                    None => cleaned.removed += usize::from(remove_path(&prefix, path)?),
                }
            }
            remove(&meta(&prefix, &planned.record))?;
        }
        // Their record goes last, so files may be missing although it is there.
        let still_there = |name: &String| {
            installed.iter().any(|record| record.repodata_record.package_record.name.as_normalized() == name)
        };
        cleaned.link_anew.extend(self.removes.iter().filter(|name| still_there(name)).cloned());
        // Who wins a path that several packages bring is settled last.
        for names in owners.values().filter(|names| names.len() > 1) {
            let planned = |name: &&str| self.links.iter().any(|planned| planned.name == **name);
            if names.iter().any(planned) {
                cleaned.link_anew.extend(names.iter().map(|name| (*name).to_owned()));
            }
        }
        Ok(cleaned)
    }
}

/// Removes the files below a folder that no record names.
///
/// The losers of a clash of paths are moved before the records say so, and the installer does not replace what it finds
/// there.
pub(crate) fn remove_unnamed(prefix: &Path, folder: &Path, installed: &[PrefixRecord]) -> io::Result<usize> {
    let named: HashSet<&Path> = installed
        .iter()
        .flat_map(|record| &record.paths_data.paths)
        .map(|entry| entry.relative_path.as_path())
        .filter(|path| path.starts_with(folder))
        .collect();
    let mut removed = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(prefix.join(&folder)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !named.contains(path.as_path()) {
                remove(&entry.path())?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether this is the name of a file that a record may have, and not a way to somewhere else.
fn is_file_of_record(name: &str) -> bool {
    is_record(name) && Path::new(name).components().count() == 1 && relative(Path::new(name)).as_deref() == Some(name)
}

/// Removes a file and the folders that are empty without it; whether there was one. The prefix is canonical.
fn remove_path(prefix: &Path, path: &str) -> io::Result<bool> {
    // The journal is ours, but it lies where others can write.
    if relative(Path::new(path)).as_deref() != Some(path) || path.is_empty() {
        return Ok(false);
    }
    let full = prefix.join(path);
    // A folder on the way may be a link that leads out of the prefix.
    match full.parent().map(Path::canonicalize) {
        Some(Ok(folder)) if folder.starts_with(prefix) => {}
        Some(Err(error)) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(error);
        }
        _ => return Ok(false),
    }
    match std::fs::symlink_metadata(&full) {
        Ok(metadata) if metadata.is_dir() => return Ok(false),
        Ok(_) => std::fs::remove_file(&full)?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    for folder in Path::new(path).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        // A folder that is not empty stays, and so do those above it.
        if std::fs::remove_dir(prefix.join(folder)).is_err() {
            break;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_relative_if_it_stays_where_it_is() {
        let relative = |path: &str| relative(Path::new(path));
        for stays in ["a", "bin/python3.11", "a b/c", "..a/b..", "ä/ö"] {
            assert_eq!(relative(stays).as_deref(), Some(stays));
        }
        for (written, clean) in [("./a", "a"), ("a//b", "a/b"), ("a/./b", "a/b"), ("a/", "a"), ("", ""), (".", "")] {
            assert_eq!(relative(written).as_deref(), Some(clean), "{written}");
        }
        for leaves in ["/a", "..", "../a", "a/..", "a/../b", "a\0b"] {
            assert_eq!(relative(leaves), None, "{leaves:?}");
        }
    }
}
