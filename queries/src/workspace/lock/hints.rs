//! What a new solve should keep if it can.

use std::collections::{BTreeSet, HashSet};

use doge::Interned;
use rattler_conda_types::RepoDataRecord;

use super::file::{LockedFile, PlatformEntry};
use crate::source::{LockedPackages, LockedSource};
use crate::workspace::{
    description::SolveUnit,
    platform::{Platform, parse_virtual_package},
};

/// Which locked packages are to be chosen anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Update {
    /// None: whatever is locked and still possible stays.
    #[default]
    Nothing,
    /// All of them.
    Everything,
    /// Those of these names, normalised.
    Packages(BTreeSet<String>),
}

impl Update {
    fn drops(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Packages(names) => names.contains(name),
        }
    }
}

/// The locked records a new solve should prefer: those of all environments of the unit, each name once, sorted by name.
///
/// Only records from the channels of the unit are hints: a solver takes a hint for something it can have, wherever it
/// came from.
pub fn locked_hints(locked: &LockedFile, unit: &SolveUnit, update: &Update) -> Vec<RepoDataRecord> {
    let channels: HashSet<String> = unit.needs.channel_urls(&locked.root).into_iter().map(String::from).collect();
    let mut hints: Vec<RepoDataRecord> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for (environment, entry) in entries(locked, unit) {
        let packages = locked.packages(environment, entry).filter_map(|package| package.as_binary_conda());
        for record in packages.filter_map(|package| locked.record(package)) {
            let name = record.package_record.name.as_normalized();
            let known = record.channel.as_ref().is_some_and(|channel| channels.contains(channel));
            if known && !update.drops(name) && names.insert(name.to_owned()) {
                hints.push(record);
            }
        }
    }
    hints.sort_by(|a, b| a.package_record.name.cmp(&b.package_record.name));
    hints
}

/// What is locked of the packages that are built from source, in all environments of the unit, each once, sorted.
///
/// What cannot be understood is no hint.
pub fn locked_sources(locked: &LockedFile, unit: &SolveUnit) -> Vec<Interned<LockedSource>> {
    let mut sources: Vec<Interned<LockedSource>> = Vec::new();
    for (environment, entry) in entries(locked, unit) {
        let built = locked.packages(environment, entry).filter(|package| package.as_source_conda().is_some());
        for package in built {
            let Ok(read) = locked.locked_packages(std::iter::once(package)) else { continue };
            sources.extend(read.source.into_iter().filter(|source| !sources.contains(source)).collect::<Vec<_>>());
        }
    }
    LockedPackages::new(Vec::new(), sources).source
}

/// The entries of the environments of a unit for its platform.
fn entries<'l>(
    locked: &'l LockedFile,
    unit: &SolveUnit,
) -> Vec<(rattler_lock::Environment<'l>, rattler_lock::Platform<'l>)> {
    let platform = Platform {
        name: unit.platform.clone(),
        subdir: unit.needs.subdir,
        virtual_packages: unit.needs.virtual_packages.iter().filter_map(|text| parse_virtual_package(text)).collect(),
    };
    let environments = unit.environments.iter().filter_map(|name| locked.inner.environment(name));
    let entries = environments.filter_map(|environment| match locked.platform_entry(environment, &platform) {
        // What was solved for other virtual packages is still a good hint.
        PlatformEntry::Same(entry) | PlatformEntry::Changed(entry) => Some((environment, entry)),
        PlatformEntry::Missing => None,
    });
    entries.collect()
}
