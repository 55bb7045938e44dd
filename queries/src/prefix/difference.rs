//! What is not as wanted in a prefix: rattler's rule for an empty transaction, from the small value of an observation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rattler::install::PythonInfo;
use rattler_conda_types::{RepoDataRecord, Subdir, Version};
use serde::{Deserialize, Serialize};

use crate::prefix::state::{InstalledPackage, PackageIdentity, PrefixState};

/// One thing that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Difference {
    /// There is no prefix.
    NoPrefix,
    /// An earlier change was never finished.
    Unfinished,
    /// It was linked for another path: files of its packages name that path.
    Moved {
        /// The path.
        linked_for: String,
    },
    /// A package is wanted and not there.
    Missing {
        /// Its name.
        name: String,
    },
    /// A package is there in another version or build, or from another archive.
    Other {
        /// Its name.
        name: String,
        /// The version and build that is there.
        found: String,
    },
    /// A package is there and not wanted.
    Unwanted {
        /// Its name.
        name: String,
    },
    /// The record of a package is not as we left it, or cannot be read.
    Edited {
        /// The file in `conda-meta`.
        file_name: String,
    },
    /// The record of a package that is not wanted was taken away, and its files perhaps were not.
    TakenAway {
        /// The file in `conda-meta`.
        file_name: String,
    },
    /// A package has to be linked anew because the version of Python changes.
    OtherPython {
        /// Its name.
        name: String,
    },
    /// Several records claim one package.
    Twice {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::NoPrefix => f.write_str("the environment is not there"),
            Difference::Unfinished => f.write_str("an earlier change was never finished"),
            Difference::Moved { linked_for } => write!(f, "it was made for {linked_for}"),
            Difference::Missing { name } => write!(f, "{name} is missing"),
            Difference::Other { name, found } => write!(f, "{name} is {found}"),
            Difference::Unwanted { name } => write!(f, "{name} is not wanted"),
            Difference::Edited { file_name } => write!(f, "{file_name} was changed by somebody else"),
            Difference::TakenAway { file_name } => write!(f, "{file_name} was taken away by somebody else"),
            Difference::OtherPython { name } => write!(f, "{name} was linked for another Python"),
            Difference::Twice { name } => write!(f, "{name} is recorded twice"),
        }
    }
}

fn python(package: &PackageIdentity, platform: Subdir) -> Option<PythonInfo> {
    let version: Version = package.version.parse().ok()?;
    PythonInfo::from_version(&version, package.site_packages.as_deref(), platform).ok()
}

/// rattler's rule: whether two identities are of the same content.
fn same_content(a: &PackageIdentity, b: &PackageIdentity) -> bool {
    if a.sha256.is_some() || b.sha256.is_some() {
        return a.sha256 == b.sha256;
    }
    if a.md5.is_some() || b.md5.is_some() {
        return a.md5 == b.md5;
    }
    if matches!((a.size, b.size), (Some(a), Some(b)) if a != b) {
        return false;
    }
    a.name == b.name && same_version(a, b) && a.build == b.build
}

/// Versions are equal as versions, not as text.
fn same_version(a: &PackageIdentity, b: &PackageIdentity) -> bool {
    match (a.version.parse::<Version>(), b.version.parse::<Version>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.version == b.version,
    }
}

/// What is not as wanted, sorted by what it is about. Empty means that there is nothing to do.
pub fn differences(state: &PrefixState, wanted: &[RepoDataRecord], platform: Subdir) -> Vec<Difference> {
    let wanted: Vec<PackageIdentity> =
        wanted.iter().map(|record| PackageIdentity::new(&record.package_record)).collect();
    let Some(prefix) = state else { return vec![Difference::NoPrefix] };
    let mut differences = Vec::new();
    if prefix.unfinished {
        differences.push(Difference::Unfinished);
    }
    if let Some(linked_for) = prefix.linked_for.as_ref().filter(|linked_for| **linked_for != prefix.path) {
        differences.push(Difference::Moved { linked_for: linked_for.clone() });
    }
    let mut found: BTreeMap<&str, (&InstalledPackage, &PackageIdentity)> = BTreeMap::new();
    for installed in &prefix.packages {
        match &installed.package {
            None => differences.push(Difference::Edited { file_name: installed.file_name.clone() }),
            Some(package) => {
                if found.insert(&package.name, (installed, package)).is_some() {
                    differences.push(Difference::Twice { name: package.name.clone() });
                }
            }
        }
    }
    let is_python = |package: &&PackageIdentity| package.name == "python";
    let wanted_python = wanted.iter().find(is_python).and_then(|package| python(package, platform));
    let found_python = found.get("python").and_then(|(_, package)| python(package, platform));
    let other_python = match (&wanted_python, &found_python) {
        (Some(wanted), Some(found)) => wanted.is_relink_required(found),
        _ => false,
    };
    let mut names = BTreeSet::new();
    for package in &wanted {
        names.insert(package.name.as_str());
        let name = package.name.clone();
        match found.get(package.name.as_str()) {
            None => differences.push(Difference::Missing { name }),
            Some((_, there)) if !same_content(package, there) => {
                let same = same_version(package, there) && package.build == there.build;
                let other = if same { "another " } else { "" };
                differences
                    .push(Difference::Other { name, found: format!("{other}{} {}", there.version, there.build) });
            }
            Some((installed, _)) if installed.as_left == Some(false) => {
                differences.push(Difference::Edited { file_name: installed.file_name.clone() });
            }
            Some((_, there)) if other_python && there.noarch_python => {
                differences.push(Difference::OtherPython { name })
            }
            Some(_) => {}
        }
    }
    differences.extend(
        found
            .keys()
            .filter(|name| !names.contains(**name))
            .map(|name| Difference::Unwanted { name: (*name).to_owned() }),
    );
    differences
        .extend(prefix.taken_away.iter().map(|file_name| Difference::TakenAway { file_name: file_name.clone() }));
    differences
}
