//! What a new solve should keep if it can.

use std::collections::{BTreeSet, HashSet};

use rattler_conda_types::RepoDataRecord;

use super::file::{LockedFile, PlatformEntry};
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
    let platform = Platform {
        name: unit.platform.clone(),
        subdir: unit.needs.subdir,
        virtual_packages: unit.needs.virtual_packages.iter().filter_map(|text| parse_virtual_package(text)).collect(),
    };
    let mut hints: Vec<RepoDataRecord> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    for environment in unit.environments.iter().filter_map(|name| locked.inner.environment(name)) {
        // What was solved for other virtual packages is still a good hint.
        let (PlatformEntry::Same(entry) | PlatformEntry::Changed(entry)) =
            locked.platform_entry(environment, &platform)
        else {
            continue;
        };
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
