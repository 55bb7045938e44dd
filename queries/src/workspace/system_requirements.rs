//! `[system-requirements]`: the older way to declare virtual packages, feature by feature.
//!
//! The requirements of the features of an environment are united: of each virtual package the highest version holds.
//! What makes no sense on a subdir (a C library on macOS) does not apply there.

use std::str::FromStr;

use rattler_conda_types::{GenericVirtualPackage, PackageName, Subdir, Version, package::BuildString};

use super::{
    error::{ManifestError, ManifestErrorKind},
    platform::is_libc,
    table::{Entry, Table},
};

/// The requirements of one feature, or of several united.
#[derive(Debug, Clone, Default)]
pub(crate) struct SystemRequirements {
    packages: Vec<GenericVirtualPackage>,
}

/// Two features that cannot be united.
#[derive(Debug)]
pub(crate) struct Disagreement {
    pub(crate) key: &'static str,
    pub(crate) first: String,
    pub(crate) second: String,
}

impl SystemRequirements {
    pub(crate) fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Adds the requirements of another feature.
    pub(crate) fn unite(&mut self, other: &Self) -> Result<(), Disagreement> {
        for package in &other.packages {
            let name = package.name.as_normalized();
            let same = |held: &GenericVirtualPackage| {
                let held = held.name.as_normalized();
                held == name || (is_libc(held) && is_libc(name))
            };
            let Some(held) = self.packages.iter_mut().find(|held| same(held)) else {
                self.packages.push(package.clone());
                continue;
            };
            if held.name != package.name {
                return Err(Disagreement {
                    key: "system-requirements.libc.family",
                    first: held.name.as_normalized().trim_start_matches('_').to_owned(),
                    second: name.trim_start_matches('_').to_owned(),
                });
            }
            if held.build_string != package.build_string {
                return Err(Disagreement {
                    key: "system-requirements.archspec",
                    first: held.build_string.to_string(),
                    second: package.build_string.to_string(),
                });
            }
            if held.version < package.version {
                held.version = package.version.clone();
            }
        }
        Ok(())
    }

    /// The virtual packages that apply to a subdir.
    pub(crate) fn for_subdir(&self, subdir: Subdir) -> Vec<GenericVirtualPackage> {
        let applies = |name: &str| match name {
            "__linux" => subdir.is_linux(),
            "__osx" => subdir.is_osx(),
            name if is_libc(name) => subdir.is_linux(),
            _ => true,
        };
        self.packages.iter().filter(|package| applies(package.name.as_normalized())).cloned().collect()
    }

    /// Reads a `[system-requirements]` table.
    pub(crate) fn read(table: Table<'_, '_>) -> Result<Self, ManifestError> {
        let mut packages = Vec::new();
        for (key, name) in [("linux", "__linux"), ("cuda", "__cuda"), ("macos", "__osx")] {
            if let Some(entry) = table.get(key) {
                packages.push(package(name, version(&entry)?, "0"));
            }
        }
        for key in ["libc", "glibc"] {
            if let Some(entry) = table.get(key) {
                if packages.iter().any(|package: &GenericVirtualPackage| is_libc(package.name.as_normalized())) {
                    let kind = ManifestErrorKind::Duplicate { what: "the C library", name: key.to_owned() };
                    return Err(entry.source().error(kind).at(&entry.key_span).done());
                }
                packages.push(libc(&entry)?);
            }
        }
        if let Some(entry) = table.get("archspec") {
            let (name, _) = entry.string()?;
            if name.is_empty() {
                return Err(entry.bad_value("the name of a microarchitecture", "it is empty"));
            }
            packages.push(package("__archspec", Version::major(0), name));
        }
        // Every unix platform has `__unix` anyway.
        table.ignore(&["unix"]);
        table.finish();
        Ok(Self { packages })
    }
}

fn package(name: &str, version: Version, build: &str) -> GenericVirtualPackage {
    GenericVirtualPackage {
        name: PackageName::new_unchecked(name),
        version,
        build_string: BuildString::new_unchecked(build),
    }
}

/// A version, as a string or as a plain number.
fn version(entry: &Entry<'_, '_>) -> Result<Version, ManifestError> {
    let text = entry.as_string().or_else(|| entry.number_text()).ok_or_else(|| entry.wrong_type("a version"))?;
    Version::from_str(text).map_err(|error| entry.bad_value("a version", error))
}

/// A version of glibc, or a table that names the family too.
fn libc(entry: &Entry<'_, '_>) -> Result<GenericVirtualPackage, ManifestError> {
    if !entry.is_table() {
        return Ok(package("__glibc", version(entry)?, "0"));
    }
    let table = entry.table()?;
    let family = match table.get("family") {
        Some(family) => family.one_of(&[("glibc", "__glibc"), ("musl", "__musl"), ("eglibc", "__eglibc")])?,
        None => "__glibc",
    };
    let Some(written) = table.get("version") else {
        return Err(entry.wrong_type("a version or a table with `version`"));
    };
    let version = version(&written)?;
    table.finish();
    Ok(package(family, version, "0"))
}
