//! Solving what is solved at once: an environment, or a group of them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use doge::{AnyError, Db, Epoch, Failure, Halt, Interned, Query, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conda::{
    CachedPackagesError, CachedPackagesSpec, ChannelError, Closure, ClosureError, CutoffRankSpec,
    MatchLockedRecordsSpec, RecordClosureSpec, RecordTimesSpec, SolveCondaEnvironmentSpec, SolveError,
    WorkspacePlaceSpec,
};
use crate::environment::remembered::RememberedSolutionSpec;
use crate::epoch::OWN;
use crate::records::Records;
use crate::source::SourceRecord;
use crate::workspace::{Cutoff, ExcludeNewer, SolveDescription};

/// The records for what is needed, as the channels have them now.
///
/// Where what is locked is enough and the channels still have it, no solver is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolveUnitSpec {
    /// What is solved, for people.
    pub name: String,
    /// What is needed.
    pub needs: SolveDescription,
    /// Locked records that answer all that is needed.
    pub enough: Option<Interned<Records>>,
    /// Locked records that are taken if they can be.
    pub hints: Interned<Records>,
    /// The names that are chosen anew all the same.
    pub renewed: BTreeSet<String>,
    /// Whether what was found for the same question before is taken.
    pub recall: bool,
    /// Only what is in the cache is looked at.
    pub offline: bool,
    /// Packages that are built. Their names come from nowhere else.
    pub sources: Interned<Records>,
}

impl fmt::Display for SolveUnitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records for {}", self.name)
    }
}

impl Spec for SolveUnitSpec {
    const KIND: &'static str = "solve_unit";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What was found, and for which question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SolvedUnit {
    /// The records.
    pub records: Interned<Records>,
    /// The question, in which nothing moves.
    pub question: RememberedSolutionSpec,
}

/// Why something could not be solved.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SolveUnitError {
    /// The channels cannot be read.
    #[error(transparent)]
    Closure(#[from] Failure<ClosureError>),
    /// A channel cannot be read.
    #[error(transparent)]
    Channel(#[from] Failure<ChannelError>),
    /// There is no solution.
    #[error(transparent)]
    Solve(#[from] Failure<SolveError>),
    /// The package cache cannot be listed.
    #[error(transparent)]
    Cached(#[from] Failure<CachedPackagesError>),
    /// The clock or the cache of solutions could not be read.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for SolveUnitSpec {
    type Output = SolvedUnit;
    type Error = SolveUnitError;

    fn compute(&self, db: &Db<'_>) -> Result<SolvedUnit, Halt<SolveUnitError>> {
        let sources = db.value(&self.sources)?;
        let built = sources.read_sources(db)?;
        let closure = db.get(&RecordClosureSpec {
            channels: self.needs.channels.clone(),
            subdir: self.needs.subdir,
            roots: self.roots(&built),
        })?;
        let closure = Interned::clone(&closure);
        let needs = match &self.needs.exclude_newer {
            Some(exclude) if exclude.is_relative() => {
                self.needs.with_exclude_newer(Some(standing_still(db, &closure, exclude)?))
            }
            _ => self.needs.clone(),
        };
        let place = match self.needs.is_placed() {
            true => Some(db.observe(&WorkspacePlaceSpec)?.as_ref().clone()),
            false => None,
        };
        let question = RememberedSolutionSpec { needs, closure, offline: self.offline };
        let found = |records: &Interned<Records>| SolvedUnit { records: records.clone(), question: question.clone() };
        let matching = |locked: &Interned<Records>, except: &BTreeSet<String>| MatchLockedRecordsSpec {
            closure: question.closure.clone(),
            locked: locked.clone(),
            place: place.clone(),
            except: except.clone(),
        };
        if let Some(enough) = self.enough.as_ref().filter(|_| self.renewed.is_empty()) {
            let matched = db.act(&matching(enough, &BTreeSet::new()))?;
            if matched.is_unchanged() {
                return Ok(found(&matched.found));
            }
        }
        // What could be had without a network depends on more than the question.
        // A file cannot name what is built.
        if self.recall && !self.offline && sources.is_empty() {
            let remembered = db.observe(&question)?;
            if let Some(records) = &*remembered {
                return Ok(found(&db.intern(records.clone())?));
            }
        }
        let none = db.intern(Records::default())?;
        let preferred =
            if self.hints == none { none } else { db.act(&matching(&self.hints, &self.renewed))?.found.clone() };
        let cached =
            if self.offline { Some(db.intern(db.observe(&CachedPackagesSpec)?.as_ref().clone())?) } else { None };
        let solution = db.act(&SolveCondaEnvironmentSpec {
            name: self.name.clone(),
            needs: question.needs.clone(),
            closure: question.closure.clone(),
            preferred,
            offline: self.offline,
            place: place.clone(),
            cached,
            sources: (!sources.is_empty()).then(|| self.sources.clone()),
        })?;
        Ok(found(&solution.records))
    }
}

impl SolveUnitSpec {
    /// The names that are looked for in channels, sorted.
    fn roots(&self, built: &[Arc<SourceRecord>]) -> Vec<String> {
        let provided: BTreeSet<&str> = built.iter().map(|record| record.name()).collect();
        let depends = built
            .iter()
            .flat_map(|record| record.record.depends.iter().chain(record.record.extra_depends.values().flatten()));
        let names = depends.filter_map(|text| crate::build::name_in(text)).chain(self.needs.roots());
        let names: BTreeSet<String> = names.filter(|name| !provided.contains(name.as_str())).collect();
        names.into_iter().collect()
    }
}

/// The same cutoffs as moments: each the newest record that is old enough.
fn standing_still(
    db: &Db<'_>,
    closure: &Interned<Closure>,
    exclude: &ExcludeNewer,
) -> Result<ExcludeNewer, Halt<SolveUnitError>> {
    let times = db.act(&RecordTimesSpec { closure: closure.clone() })?;
    let mut still = exclude.clone();
    let packages = still.packages.iter_mut().map(|(_, cutoff)| cutoff);
    let channels = still.channels.iter_mut().map(|(_, cutoff)| cutoff);
    for cutoff in still.cutoff.iter_mut().chain(packages).chain(channels) {
        if let Cutoff::Before(before) = *cutoff {
            let newest = db.observe(&CutoffRankSpec { times: times.to_vec(), before })?;
            // Before all records there is no moment but the beginning of time.
            *cutoff = Cutoff::At(newest.unwrap_or(-1));
        }
    }
    Ok(still)
}
