//! Solving environments with packages that are built.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use doge::{AnyError, Change, Db, Epoch, Failure, Halt, Interned, Query, Spec, Values};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::build::context::Context;
use crate::build::places::{Pins, Places, TwoPlaces, is_ambiguous};
use crate::build::source_metadata::{SourceMetadataError, SourceMetadataSpec};
use crate::conda::WorkspacePlaceSpec;
use crate::environment::{RememberedSolutionSpec, SolveUnitError, SolveUnitSpec};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::records::Records;
use crate::source::{LockedPackages, LockedSource, PinError, PinnedSource, SourceLocation, SourceRecord, pin};
use crate::told::records;
use crate::workspace::lock::kept;
use crate::workspace::{
    Requirement, RootNotAbsolute, SolveDescription, SourceRequirement, WorkspaceRoot, parse_canonical,
};

/// An environment that exists for the build of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nested {
    /// The one that runs the build.
    Build,
    /// The one that is built against.
    Host,
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Host => "host",
        })
    }
}

/// The records of an environment, of which some may still have to be built.
///
/// What is built is asked of its backend; what is locked stays where it can. Only what then is not decided is solved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolvePixiEnvironmentSpec {
    /// The environment, for people.
    pub name: String,
    /// What is needed.
    pub needs: SolveDescription,
    /// What is locked.
    pub locked: Option<Interned<LockedPackages>>,
    /// Records of channels that are taken if they can be, if not those that are locked.
    pub hints: Option<Interned<Records>>,
    /// The names that are chosen anew all the same.
    pub renewed: BTreeSet<String>,
    /// Whether what is locked is taken, without asking a channel, if it is what is needed.
    pub keep: bool,
    /// Whether channels are asked again for what its packages are built in, too.
    pub asks: bool,
    /// Whether what was found for the same question before is taken.
    pub recall: bool,
    /// What is built for.
    pub context: Context,
}

impl fmt::Display for SolvePixiEnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Spec for SolvePixiEnvironmentSpec {
    const KIND: &'static str = "solve_pixi_environment";
    const EPOCH: Epoch = Epoch::new(2, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(format!("records for {self} on {}", self.needs.subdir))
    }
}

/// The records of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SolvedEnvironment {
    /// The records.
    pub records: Interned<Records>,
    /// What a solver was asked, in which nothing moves; nothing if none was.
    pub question: Option<RememberedSolutionSpec>,
}

/// Why there are no records for an environment.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SolvePixiError {
    /// A source gives no record.
    #[error("the package `{package}` at {location} cannot be resolved")]
    Source {
        /// The package.
        package: String,
        /// Where it is.
        location: String,
        /// Why not.
        #[source]
        failure: Failure<SourceMetadataError>,
    },
    /// A source cannot be pinned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pin(#[from] PinError),
    /// It cannot be solved.
    #[error(transparent)]
    Solve(#[from] Failure<SolveUnitError>),
    /// It is not known where the workspace is.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// The workspace is nowhere.
    #[error(transparent)]
    NoRoot(#[from] RootNotAbsolute),
    /// A path leads out of a checkout.
    #[error("the package `{package}` says that `{dependency}` is at `{location}`, which is outside of its checkout")]
    Outside {
        /// The package.
        package: String,
        /// What it needs.
        dependency: String,
        /// Where that would be.
        location: String,
    },
    /// A package would have to come from two places.
    #[error(transparent)]
    #[diagnostic(transparent)]
    TwoPlaces(Box<TwoPlaces>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

/// A package that another one, of an environment's records, needs to run.
///
/// It is the same as the package; it exists so that a ring of packages that need each other shows who needs whom for
/// what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunDependencySpec {
    /// Who needs it.
    pub parent: String,
    /// The package.
    pub wanted: SourceMetadataSpec,
}

impl fmt::Display for RunDependencySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, which needs `{}` to run", self.parent, self.wanted.package)
    }
}

impl Spec for RunDependencySpec {
    const KIND: &'static str = "run_dependency";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Query for RunDependencySpec {
    type Output = Interned<Records>;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<Interned<Records>, Halt<AnyError>> {
        Ok(Interned::clone(&*db.get(&self.wanted)?))
    }
}

/// The records of all packages of an environment that are built: those that are asked for, and what these need in turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResolveSourcesSpec {
    /// The environment, for people.
    pub name: String,
    /// What is asked for.
    pub sources: Vec<SourceRequirement>,
    /// What is locked.
    pub locked: Option<Interned<LockedPackages>>,
    /// The names that are pinned and chosen anew all the same, in environments of builds, too.
    pub renewed: BTreeSet<String>,
    /// Whether channels are asked again for environments of builds.
    pub asks: bool,
    /// What is built for.
    pub context: Context,
}

impl fmt::Display for ResolveSourcesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packages to be built for {}", self.name)
    }
}

impl Spec for ResolveSourcesSpec {
    const KIND: &'static str = "resolve_sources";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Query for ResolveSourcesSpec {
    /// Records of sources only, in all their variants.
    type Output = Interned<Records>;
    type Error = SolvePixiError;

    fn changes(&self, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        records(&*values.get(was)?, &*values.get(now)?, values)
    }

    fn compute(&self, db: &Db<'_>) -> Ended<Interned<Records>> {
        let locked = self.locked.as_ref().map(|locked| db.value(locked)).transpose()?;
        Ok(db.intern(Records::with_sources(Vec::new(), self.all(db, locked.as_deref())?.0))?)
    }
}

type Ended<T> = Result<T, Halt<SolvePixiError>>;

/// A package to be looked at, and who needs it to run, if it is not asked for directly.
struct Pending {
    name: String,
    location: SourceLocation,
    parent: Option<String>,
}

impl Query for SolvePixiEnvironmentSpec {
    type Output = SolvedEnvironment;
    type Error = SolvePixiError;

    fn compute(&self, db: &Db<'_>) -> Ended<SolvedEnvironment> {
        let locked = self.locked.as_ref().map(|locked| db.value(locked)).transpose()?;
        // The ring of a cycle shows this and not what only passes on, so it is asked here and not by another query.
        let resolve = ResolveSourcesSpec {
            name: self.name.clone(),
            sources: self.needs.sources.clone(),
            locked: self.locked.clone(),
            renewed: self.renewed.clone(),
            asks: self.asks,
            context: self.context.clone(),
        };
        let (names, pins) = resolve.all(db, locked.as_deref())?;
        let offered: Vec<Arc<SourceRecord>> = names.iter().map(|source| db.value(source)).collect::<Result<_, _>>()?;
        let among = |names| self.among(db, locked.as_deref(), db.intern(Records::with_sources(Vec::new(), names))?);
        if !is_ambiguous(&offered) {
            return among(names);
        }
        let places = Places::certain(&self.name, &pins, &self.needs.sources, &offered).map_err(Halt::fail)?;
        let mut sources: Vec<(Interned<SourceRecord>, Arc<SourceRecord>)> = names.into_iter().zip(offered).collect();
        sources.retain(|(_, record)| places.has_exactly(record));
        loop {
            let found = among(sources.iter().map(|(name, _)| name.clone()).collect())?;
            let records = db.value(&found.records)?;
            let chosen = records.read_sources(db)?;
            let places = Places::of_chosen(&self.name, &pins, &self.needs, &records, &chosen).map_err(Halt::fail)?;
            // What only variants need that were not taken may have been taken all the same; it is left out then.
            let misplaced = |record: &SourceRecord| {
                chosen.iter().any(|other| other.name() == record.name() && other.manifest == record.manifest)
                    && !places.has(record)
            };
            let before = sources.len();
            sources.retain(|(_, record)| !misplaced(record));
            if sources.len() == before {
                return Ok(found);
            }
        }
    }
}

impl SolvePixiEnvironmentSpec {
    /// The records, if these are all that can be had of packages that are built.
    fn among(
        &self,
        db: &Db<'_>,
        locked: Option<&LockedPackages>,
        sources: Interned<Records>,
    ) -> Ended<SolvedEnvironment> {
        if let Some(locked) = locked.filter(|_| self.keep && self.renewed.is_empty())
            && let Some(records) = self.kept(db, locked, &sources)?
        {
            return Ok(SolvedEnvironment { records: db.intern(records)?, question: None });
        }
        let hints = match &self.hints {
            Some(hints) => hints.clone(),
            None => db.intern(Records::new(locked.map(|locked| locked.binary.clone()).unwrap_or_default()))?,
        };
        let context = db.value(&self.context)?;
        let solved = db.get(&SolveUnitSpec {
            name: self.name.clone(),
            needs: self.needs.clone(),
            enough: None,
            hints,
            renewed: self.renewed.clone(),
            recall: self.recall,
            offline: context.offline,
            sources,
        })?;
        Ok(SolvedEnvironment { records: solved.records.clone(), question: Some(solved.question.clone()) })
    }

    /// What is locked, with the packages that are built as they are now, if that is what is needed.
    fn kept(&self, db: &Db<'_>, locked: &LockedPackages, sources: &Interned<Records>) -> Ended<Option<Records>> {
        let needs = &self.needs;
        let is_placed =
            needs.is_placed() || needs.requirements.iter().chain(&needs.constraints).any(Requirement::is_placed);
        let place = if is_placed { db.observe(&WorkspacePlaceSpec)?.as_ref().clone() } else { "/".to_owned() };
        let root = WorkspaceRoot::new(place).map_err(|error| Halt::fail(SolvePixiError::NoRoot(error)))?;
        let sources = db.value(sources)?;
        sources.read_sources(db)?;
        let wanted: Vec<Arc<LockedSource>> =
            locked.source.iter().map(|source| db.value(source)).collect::<Result<_, _>>()?;
        Ok(kept(needs, &locked.binary, &wanted, &sources, &root))
    }
}

impl ResolveSourcesSpec {
    /// All records, and what the places stand for that they were looked for at.
    fn all(&self, db: &Db<'_>, locked: Option<&LockedPackages>) -> Ended<(Vec<Interned<SourceRecord>>, Pins)> {
        let asked = self.sources.iter();
        let mut wave: Vec<Pending> = asked
            .map(|source| Pending { name: source.name.clone(), location: source.location.clone(), parent: None })
            .collect();
        let mut seen: BTreeSet<(String, SourceLocation)> = BTreeSet::new();
        let hints: Vec<Arc<LockedSource>> =
            locked.iter().flat_map(|locked| &locked.source).map(|source| db.value(source)).collect::<Result<_, _>>()?;
        let mut records: BTreeMap<(String, PinnedSource, String), Interned<SourceRecord>> = BTreeMap::new();
        let mut pins = Pins::new();
        while !wave.is_empty() {
            wave.retain(|pending| seen.insert((pending.name.clone(), pending.location.clone())));
            let mut specs = Vec::new();
            for pending in &wave {
                let spec = self.metadata_of(db, pending, &hints)?;
                pins.insert((pending.name.clone(), pending.location.clone()), spec.manifest.clone());
                specs.push(spec);
            }
            // All of a wave are asked before any is waited for. Those that run with another one go by another name.
            let direct: Vec<&SourceMetadataSpec> =
                specs.iter().zip(&wave).filter(|(_, pending)| pending.parent.is_none()).map(|(spec, _)| spec).collect();
            let along: Vec<RunDependencySpec> = specs
                .iter()
                .zip(&wave)
                .filter_map(|(spec, pending)| {
                    Some(RunDependencySpec { parent: pending.parent.clone()?, wanted: spec.clone() })
                })
                .collect();
            let (direct, along) = db.join(|join| {
                let direct = direct.iter().map(|spec| join.get_settled(*spec)).collect::<Vec<_>>();
                let along = along.iter().map(|spec| join.get_settled(spec)).collect::<Vec<_>>();
                (direct, along)
            })?;
            let mut direct = direct.into_iter();
            let mut along = along.into_iter();
            let mut found = Vec::new();
            for pending in &wave {
                let failed = |failure: Failure<SourceMetadataError>| {
                    Halt::fail(SolvePixiError::Source {
                        package: pending.name.clone(),
                        location: pending.location.to_string(),
                        failure,
                    })
                };
                let answer = if pending.parent.is_none() {
                    direct.next().map(|answer| answer.map_err(failed))
                } else {
                    along.next().map(|answer| answer.map_err(|failure| Halt::fail(SolvePixiError::Engine(failure))))
                };
                if let Some(answer) = answer {
                    found.push(db.value(&*answer?)?);
                }
            }
            let mut next = Vec::new();
            for of_package in found {
                for name in of_package.sources() {
                    let record = db.value(name)?;
                    next.extend(children(&record)?);
                    let variant = crate::source::written(&record.variants);
                    records.insert((record.name().to_owned(), record.manifest.clone(), variant), name.clone());
                }
            }
            wave = next;
        }
        Ok((records.into_values().collect(), pins))
    }

    fn metadata_of(&self, db: &Db<'_>, pending: &Pending, hints: &[Arc<LockedSource>]) -> Ended<SourceMetadataSpec> {
        let is_meant =
            |hint: &&Arc<LockedSource>| hint.name() == pending.name && pending.location.is_pinned_by(&hint.manifest);
        let hint = hints.iter().find(is_meant).filter(|_| !self.renewed.contains(&pending.name));
        let manifest = match hint {
            Some(hint) => hint.manifest.clone(),
            None => pin(db, &pending.location).map_err(|stop| stop.map(SolvePixiError::from))?,
        };
        let hint = hint.filter(|hint| hint.build_source.is_some() || !hint.build.is_empty() || !hint.host.is_empty());
        Ok(SourceMetadataSpec {
            package: pending.name.clone(),
            manifest,
            locked: hint.map(|hint| db.intern(LockedSource::clone(hint))).transpose()?,
            renewed: self.renewed.clone(),
            asks: self.asks,
            context: self.context.clone(),
        })
    }
}

/// What a record needs that is built, too.
fn children(record: &SourceRecord) -> Ended<Vec<Pending>> {
    let package = &record.record;
    let all = package.depends.iter().chain(package.extra_depends.values().flatten());
    let places = places_of(record, all).map_err(Halt::fail)?;
    let parent = || Some(record.name().to_owned());
    Ok(places.into_iter().map(|(name, location)| Pending { name, location, parent: parent() }).collect())
}

/// Which of these dependencies of a record are built, too, and from where.
pub(crate) fn places_of<'a>(
    record: &SourceRecord,
    depends: impl Iterator<Item = &'a String>,
) -> Result<Vec<(String, SourceLocation)>, SolvePixiError> {
    let mut places = Vec::new();
    if record.sources.is_empty() {
        return Ok(places);
    }
    for name in depends.filter_map(|text| name_in(text)) {
        let Some(said) = record.sources.get(&name) else { continue };
        let Some(location) = said.resolved(&record.manifest) else {
            return Err(SolvePixiError::Outside {
                package: record.name().to_owned(),
                dependency: name,
                location: said.to_string(),
            });
        };
        places.push((name, location));
    }
    Ok(places)
}

/// The name of the package that a dependency is about.
pub(crate) fn name_in(depends: &str) -> Option<String> {
    Some(parse_canonical(depends).ok()?.name.as_exact()?.as_normalized().to_owned())
}
