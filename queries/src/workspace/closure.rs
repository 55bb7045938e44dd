//! Walking from requirements to everything they bring along, within a fixed set of records.
//!
//! Used in two ways: to take from the records of a solve group those one environment needs, and to see whether locked
//! records hold together. No solver and no channel is involved.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use doge::Interned;
use rattler_conda_types::{
    GenericVirtualPackage, MatchSpec, MatchSpecCondition, ParseMatchSpecError, RepoDataRecord,
    package::{ArchiveIdentifier, CondaArchiveType, DistArchiveIdentifier},
};
use url::Url;

use super::{
    description::SolveDescription,
    location::WorkspaceRoot,
    requirement::{matches_record, matches_virtual, parse_canonical},
};
use crate::records::Records;
use crate::source::SourceRecord;

/// Why a walk cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nothing there is what a spec asks for.
    Missing { spec: String, required_by: Option<String>, found: Option<String> },
    /// A record has a dependency nobody can read.
    Unreadable { record: String, dependency: String, source: ParseMatchSpecError },
}

/// A set of records with one record of each name at most.
pub(crate) struct RecordSet<'r> {
    records: Vec<&'r RepoDataRecord>,
    by_name: HashMap<&'r str, usize>,
    virtual_packages: Vec<GenericVirtualPackage>,
}

/// A name that two records have.
#[derive(Debug)]
pub(crate) struct TwoOfOneName(pub(crate) String);

impl<'r> RecordSet<'r> {
    pub(crate) fn new(
        records: impl Iterator<Item = &'r RepoDataRecord>,
        virtual_packages: Vec<GenericVirtualPackage>,
    ) -> Result<Self, TwoOfOneName> {
        let records: Vec<&'r RepoDataRecord> = records.collect();
        let mut by_name = HashMap::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let name = record.package_record.name.as_normalized();
            if by_name.insert(name, index).is_some() {
                return Err(TwoOfOneName(name.to_owned()));
            }
        }
        Ok(Self { records, by_name, virtual_packages })
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&'r RepoDataRecord> {
        self.by_name.get(name).map(|index| self.records[*index])
    }

    /// Walks from `roots`. Returns for each record whether it was reached.
    ///
    /// `needs` is told the places of two records of which the first needs the second, also more than once. `broken` decides
    /// whether a walk that cannot go on at one place ends (`Err`) or goes on elsewhere (`Ok`).
    pub(crate) fn walk<E>(
        &self,
        roots: Vec<MatchSpec>,
        mut needs: impl FnMut(usize, usize),
        mut broken: impl FnMut(Broken) -> Result<(), E>,
    ) -> Result<Vec<bool>, E> {
        let mut reached = vec![false; self.records.len()];
        let mut extras_done: HashSet<(usize, String)> = HashSet::new();
        let mut read: HashMap<&'r str, Option<MatchSpec>> = HashMap::new();
        // A spec to satisfy, and the index of the record that asks for it.
        let mut stack: Vec<(Wanted<'r>, Option<usize>)> =
            roots.into_iter().rev().map(|spec| (Wanted::Root(Box::new(spec)), None)).collect();
        while let Some((wanted, asker)) = stack.pop() {
            let spec = match &wanted {
                Wanted::Root(spec) => spec.as_ref(),
                Wanted::Dependency(text) => {
                    if let Some(index) = self.by_name.get(*text) {
                        // A bare name, the most common dependency, needs no reading.
                        asker.into_iter().for_each(|asker| needs(asker, *index));
                        if !std::mem::replace(&mut reached[*index], true) {
                            self.push_dependencies(*index, &mut stack);
                        }
                        continue;
                    }
                    let parsed = read.entry(text).or_insert_with(|| None);
                    if parsed.is_none() {
                        match parse_canonical(text) {
                            Ok(spec) => *parsed = Some(spec),
                            Err(source) => {
                                let record = self.describe(asker).unwrap_or_default();
                                broken(Broken::Unreadable { record, dependency: (*text).to_owned(), source })?;
                                continue;
                            }
                        }
                    }
                    match parsed {
                        Some(spec) => spec,
                        None => continue,
                    }
                }
            };
            if spec.condition.as_ref().is_some_and(|condition| !self.holds(condition)) {
                continue;
            }
            let Some(index) = self.find(spec) else {
                if self.virtual_packages.iter().any(|package| matches_virtual(spec, package)) {
                    continue;
                }
                let named = spec.name.as_exact().and_then(|name| self.by_name(name.as_normalized()));
                broken(Broken::Missing {
                    spec: spec.to_string(),
                    required_by: self.describe(asker),
                    found: named.map(describe),
                })?;
                continue;
            };
            asker.into_iter().for_each(|asker| needs(asker, index));
            for extra in spec.extras.iter().flatten() {
                if extras_done.insert((index, extra.clone())) {
                    let record: &'r RepoDataRecord = self.records[index];
                    let record = &record.package_record;
                    for dependency in record.extra_depends.get(extra).into_iter().flatten() {
                        stack.push((Wanted::Dependency(dependency), Some(index)));
                    }
                }
            }
            if !std::mem::replace(&mut reached[index], true) {
                self.push_dependencies(index, &mut stack);
            }
        }
        Ok(reached)
    }

    fn push_dependencies(&self, index: usize, stack: &mut Vec<(Wanted<'r>, Option<usize>)>) {
        let record: &'r RepoDataRecord = self.records[index];
        let depends = &record.package_record.depends;
        stack.extend(depends.iter().rev().map(|text| (Wanted::Dependency(text.as_str()), Some(index))));
    }

    /// The record that is what a spec asks for.
    fn find(&self, spec: &MatchSpec) -> Option<usize> {
        match spec.name.as_exact() {
            Some(name) => {
                let index = *self.by_name.get(name.as_normalized())?;
                matches_record(spec, self.records[index]).then_some(index)
            }
            None => self.records.iter().position(|record| matches_record(spec, record)),
        }
    }

    fn holds(&self, condition: &MatchSpecCondition) -> bool {
        match condition {
            MatchSpecCondition::MatchSpec(spec) => {
                self.find(spec).is_some() || self.virtual_packages.iter().any(|package| matches_virtual(spec, package))
            }
            MatchSpecCondition::And(a, b) => self.holds(a) && self.holds(b),
            MatchSpecCondition::Or(a, b) => self.holds(a) || self.holds(b),
        }
    }

    fn describe(&self, index: Option<usize>) -> Option<String> {
        index.map(|index| describe(self.records[index]))
    }
}

/// Something to satisfy.
enum Wanted<'r> {
    Root(Box<MatchSpec>),
    Dependency(&'r str),
}

/// A record as a reader knows it: name, version and build.
pub(crate) fn describe(record: &RepoDataRecord) -> String {
    let record = &record.package_record;
    format!("{} {} {}", record.name.as_normalized(), record.version, record.build)
}

/// A record that stands for a package still to be built, where packages are compared with what is asked of them.
pub(crate) fn stand_in(source: &Arc<SourceRecord>) -> RepoDataRecord {
    let record = &source.record;
    let (name, version) = (record.name.as_normalized().to_owned(), record.version.to_string());
    let mut url = Url::parse("source://package/").expect("invariant: this is a URL");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend([name.as_str(), version.as_str(), record.build.as_str()]);
    }
    let identifier = ArchiveIdentifier { name, version, build_string: record.build.to_string() };
    RepoDataRecord {
        package_record: record.clone(),
        identifier: DistArchiveIdentifier::new(identifier, CondaArchiveType::Conda),
        url,
        channel: None,
    }
}

/// From the records of a solve, those that an environment's own requirements bring along.
///
/// For an environment of a solve group: the group is solved once, and each environment takes its part. Requirements
/// nothing matches are passed over, since a solve that answers all of them was made before.
pub fn reachable(records: &Records, needs: &SolveDescription, root: &WorkspaceRoot) -> Records {
    let Some(built) = records.sources().iter().map(Interned::at_hand).collect::<Option<Vec<_>>>() else {
        return records.clone();
    };
    let stand_ins: Vec<RepoDataRecord> = built.iter().map(stand_in).collect();
    let all = records.as_slice().iter().chain(&stand_ins);
    let Ok(set) = RecordSet::new(all, needs.generic_virtual_packages()) else {
        // Two records of one name: not the result of a solve, and no part of it can be told from another.
        return records.clone();
    };
    let required = needs.requirements.iter().filter_map(|requirement| requirement.match_spec(root).ok());
    let built = needs.sources.iter().filter_map(|requirement| parse_canonical(&requirement.spec).ok());
    let Ok(reached) = set.walk(required.chain(built).collect(), |_, _| (), |_| Ok::<(), std::convert::Infallible>(()));
    let (binary, source) = reached.split_at(records.as_slice().len());
    let binary = records.as_slice().iter().zip(binary).filter(|(_, reached)| **reached);
    let source = records.sources().iter().zip(source).filter(|(_, reached)| **reached);
    Records::with_sources(
        binary.map(|(record, _)| record.clone()).collect(),
        source.map(|(record, _)| record.clone()).collect(),
    )
}
