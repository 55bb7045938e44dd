//! The records of all environments of a workspace.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use doge::{AnyError, Change, Db, Epoch, Failure, Halt, Interned, Query, Spec, Values};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::build::{
    Context, DevSourceMetadataError, DevSourceMetadataSpec, DevSourceRecord, ResolveSourcesSpec,
    SolvePixiEnvironmentSpec, SolvePixiError, SourceAsLockedSpec, SourceMetadataError,
};
use crate::conda::{ChannelError, CutoffRankSpec, MachineError, WorkspacePlaceSpec, is_same_record};
use crate::environment::check::{CheckLockError, CheckLockSpec, CheckedLock};
use crate::environment::context::{BuildOptions, contexts};
use crate::environment::lock_file::{
    LockFileSpec, LockText, ReadLockFileError, SolvedTarget, WriteLockFileError, WriteLockFileSpec,
};
use crate::environment::manifest::{ManifestText, ReadManifestError, ReadManifestSpec, WorkspaceNeeds};
use crate::environment::remembered::RememberedSolutionSpec;
use crate::environment::solve::{SolveUnitError, SolveUnitSpec};
use crate::environment::take::{TakeRecordsError, TakeRecordsSpec};
use crate::epoch::{LOCK, OWN};
use crate::files::FilesError;
use crate::records::Records;
use crate::told::{option, records, switch};
use crate::workspace::SourceRequirement;

/// The records of the environments of a workspace, and a lock file that holds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockWorkspaceSpec {
    /// The text of the manifest.
    pub manifest: Interned<ManifestText>,
    /// The lock file.
    pub lock_file: LockFileSpec,
    /// How far the lock file counts.
    pub mode: LockMode,
    /// Only these environments are looked at, on these platforms; all if none are named.
    pub only: Only,
    /// Only what is in the cache is looked at.
    pub offline: bool,
    /// How packages are built that have to be.
    pub build: BuildOptions,
}

/// Part of a workspace. An empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Only {
    /// The environments.
    pub environments: BTreeSet<String>,
    /// The platforms.
    pub platforms: BTreeSet<String>,
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match (self.environments.is_empty(), self.platforms.is_empty()) {
            (true, true) => f.write_str("everything"),
            (true, false) => f.write_str(&names(&self.platforms)),
            (false, true) => f.write_str(&names(&self.environments)),
            (false, false) => write!(f, "{} on {}", names(&self.environments), names(&self.platforms)),
        }
    }
}

impl Only {
    fn is_everything(&self) -> bool {
        self.environments.is_empty() && self.platforms.is_empty()
    }

    fn has(&self, environments: &[String], platform: &str) -> bool {
        let of_these = |name: &String| self.environments.contains(name);
        (self.environments.is_empty() || environments.iter().any(of_these))
            && (self.platforms.is_empty() || self.platforms.contains(platform))
    }
}

/// How far a lock file counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// It is taken as it is.
    Frozen,
    /// It is taken if it is what the manifest asks for, and never changed.
    Locked,
    /// It is taken as far as it is what the manifest asks for; the rest is solved and written into it.
    Satisfy,
    /// Everything is asked of the channels again.
    Renew(Renewal),
}

/// What is chosen anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// Nothing that is locked and still possible.
    Nothing,
    /// Everything.
    Everything,
    /// Packages of these names.
    Packages {
        /// The names, normalised.
        names: BTreeSet<String>,
        /// The lock file that the others are taken from: what it said when this was asked for, so that writing the
        /// answer down does not change the question.
        instead_of: Option<Interned<LockText>>,
    },
}

impl fmt::Display for LockMode {
    /// What becomes of a lock file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockMode::Frozen => "taken as it is (--frozen)",
            LockMode::Locked => "taken if it is up to date (--locked)",
            LockMode::Satisfy => "kept as far as it is up to date",
            LockMode::Renew(Renewal::Nothing) => "kept, and the channels asked again",
            LockMode::Renew(Renewal::Everything) => "made anew (--update)",
            LockMode::Renew(Renewal::Packages { names, .. }) => {
                let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
                return write!(f, "kept but for some packages (--update={names})");
            }
        })
    }
}

impl LockMode {
    fn is_frozen(&self) -> bool {
        *self == LockMode::Frozen
    }
}

/// How a lock file counts, if that is not as it was.
fn how(was: &LockMode, now: &LockMode) -> Option<Change> {
    (was != now).then(|| Change::new("lock file", "", Some(was.to_string()), Some(now.to_string())))
}

impl fmt::Display for LockWorkspaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mode {
            LockMode::Frozen => f.write_str("records as locked"),
            LockMode::Locked | LockMode::Satisfy => f.write_str("records of the workspace"),
            LockMode::Renew(_) => f.write_str("new records of the workspace"),
        }
    }
}

impl Spec for LockWorkspaceSpec {
    const KIND: &'static str = "lock_workspace";
    const EPOCH: Epoch = Epoch::new(2, &[OWN, LOCK]);

    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        if was.manifest != now.manifest {
            let (was, now) = (values.get(&was.manifest)?, values.get(&now.manifest)?);
            changes.extend(was.changes(&now));
        }
        changes.extend(
            [
                how(&was.mode, &now.mode),
                switch("--offline", was.offline, now.offline),
                option("place of the lock file", &was.lock_file, &now.lock_file),
                option("pass-env", &was.build.pass_env.join(", "), &now.build.pass_env.join(", ")),
                option("overridden backends", &was.build.overrides, &now.build.overrides),
                // Of a lock file that is taken as it is no more is read than what is installed.
                option("what is asked for", &was.only, &now.only)
                    .filter(|_| !was.mode.is_frozen() && !now.mode.is_frozen()),
            ]
            .into_iter()
            .flatten(),
        );
        // What else may differ is told field by field.
        Some(changes).filter(|changes| !changes.is_empty())
    }

    fn label(&self) -> Option<String> {
        Some("records of the workspace".to_owned())
    }
}

/// The records of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedWorkspace {
    /// Those of each environment and platform that was looked at.
    pub targets: Vec<LockedTarget>,
}

/// The records of an environment on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedTarget {
    /// The environment.
    pub environment: String,
    /// The platform.
    pub platform: String,
    /// The records.
    pub records: Interned<Records>,
    /// What its packages are built for, if some have to be.
    pub context: Option<Context>,
    /// In what packages that are built are not what their sources want by now, where the lock file is taken as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

impl LockedWorkspace {
    /// An environment on a platform.
    pub fn target(&self, environment: &str, platform: &str) -> Option<&LockedTarget> {
        let is_meant = |target: &&LockedTarget| target.environment == environment && target.platform == platform;
        self.targets.iter().find(is_meant)
    }
}

/// Why there are no records for a workspace.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum LockWorkspaceError {
    /// There is no lock file, and none may be made.
    #[error("there is no lock file `{path}`")]
    #[diagnostic(help(
        "run once without `--locked` and `--frozen`, or take the lock file from where the manifest is from"
    ))]
    NoLockFile {
        /// Where it should be.
        path: String,
    },
    /// The lock file is not what the manifest asks for, and may not be changed.
    #[error("the lock file `{path}` is not up to date with the manifest: {reason}")]
    #[diagnostic(help("run without `--locked` to bring it up to date"))]
    OutOfDate {
        /// The lock file.
        path: String,
        /// What is not up to date.
        reason: String,
    },
    /// A package cannot be built with what is locked.
    #[error("`{package}` cannot be built as it is locked in `{path}`: {}", reasons.join("; "))]
    #[diagnostic(help("run without `--frozen` to bring the lock file up to date"))]
    NotAsLocked {
        /// The lock file.
        path: String,
        /// The package.
        package: String,
        /// In what it is not what is locked.
        reasons: Vec<String>,
    },
    /// The lock file was just written, and still is not what the manifest asks for.
    #[error("what was solved is not taken for what the manifest asks for: {reason}")]
    #[diagnostic(help("somebody else may be writing `{path}`; if not, this is a defect of doge"))]
    NotSettled {
        /// The lock file.
        path: String,
        /// What is not as it should be.
        reason: String,
    },
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] Failure<ReadManifestError>),
    /// The lock file cannot be read.
    #[error(transparent)]
    Read(#[from] Failure<ReadLockFileError>),
    /// The lock file cannot be understood.
    #[error(transparent)]
    Check(#[from] Failure<CheckLockError>),
    /// Something cannot be solved.
    #[error(transparent)]
    Solve(#[from] Failure<SolveUnitError>),
    /// A part of a solution could not be taken.
    #[error(transparent)]
    Take(#[from] Failure<TakeRecordsError>),
    /// The lock file cannot be written.
    #[error(transparent)]
    Write(#[from] Failure<WriteLockFileError>),
    /// It is not known what a package is that is locked.
    #[error("the package `{package}`, which `{path}` has from {place}, cannot be resolved")]
    AsLocked {
        /// The package.
        package: String,
        /// The lock file.
        path: String,
        /// Where it is locked from.
        place: String,
        /// Why not.
        #[source]
        failure: Failure<SourceMetadataError>,
    },
    /// A package that has to be built cannot be resolved.
    #[error(transparent)]
    Sources(#[from] Failure<SolvePixiError>),
    /// It is not known what it takes to work on a package.
    #[error(transparent)]
    Dev(#[from] Failure<DevSourceMetadataError>),
    /// It is not known what this machine is.
    #[error(transparent)]
    Machine(#[from] Failure<MachineError>),
    /// The files with variants cannot be read.
    #[error(transparent)]
    Files(#[from] Failure<FilesError>),
    /// The clock cannot be read.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
    /// Something is not at hand.
    #[error(transparent)]
    NotAtHand(#[from] ChannelError),
}

type Ended<T> = Result<T, Halt<LockWorkspaceError>>;

/// A workspace beside its lock file.
struct Compared {
    needs: Arc<WorkspaceNeeds>,
    interned_needs: Interned<WorkspaceNeeds>,
    lock: Option<Interned<LockText>>,
    checked: Option<Arc<CheckedLock>>,
    /// For each unit in turn what its packages are built for, and which there are; nothing if none have to be built.
    built: Vec<Option<BuiltUnit>>,
}

/// What is built in a unit.
#[derive(Clone)]
struct BuiltUnit {
    context: Context,
    sources: Interned<Records>,
    /// In what they are not what their sources want by now.
    differs: Vec<String>,
}

impl Query for LockWorkspaceSpec {
    type Output = LockedWorkspace;
    type Error = LockWorkspaceError;

    fn changes(&self, was: &LockedWorkspace, now: &LockedWorkspace, values: &Values<'_>) -> Option<Vec<Change>> {
        let mut changes: Vec<Change> = Vec::new();
        for target in &now.targets {
            let Some(was) = was.target(&target.environment, &target.platform) else { continue };
            let of_target = records(&*values.get(&was.records)?, &*values.get(&target.records)?, values)?;
            // What is the same on several platforms is said once.
            of_target.into_iter().for_each(|change| {
                if !changes.contains(&change) {
                    changes.push(change)
                }
            });
        }
        // What else may differ is told field by field.
        Some(changes).filter(|changes| !changes.is_empty())
    }

    fn compute(&self, db: &Db<'_>) -> Ended<LockedWorkspace> {
        let (interned_needs, lock) = db.join(|join| {
            let manifest = ReadManifestSpec { manifest: self.manifest.clone() };
            (join.act(&manifest), join.observe(&self.lock_file))
        })?;
        let interned_needs = Interned::clone(&interned_needs);
        let needs = db.value(&interned_needs)?;
        let lock = lock.as_ref().clone().map(|text| db.intern(text)).transpose()?;
        let path = || self.lock_file.path.clone();
        let compared = match (&self.mode, lock) {
            (LockMode::Frozen | LockMode::Locked, None) => {
                return Err(Halt::fail(LockWorkspaceError::NoLockFile { path: path() }));
            }
            (LockMode::Frozen | LockMode::Locked, Some(lock)) => self.as_locked(db, needs, interned_needs, lock)?,
            (_, lock) => self.compare(db, needs, interned_needs, lock)?,
        };
        match &self.mode {
            LockMode::Frozen => Ok(compared.locked(&self.only)),
            LockMode::Locked => {
                let differs = compared.built.iter().flatten().find_map(|built| built.differs.first().cloned());
                let reason = match differs {
                    Some(reason) => Some(reason),
                    None => self.unsatisfied(db, &compared)?.into_iter().next().map(|(_, reason)| reason),
                };
                match reason {
                    Some(reason) => Err(Halt::fail(LockWorkspaceError::OutOfDate { path: path(), reason })),
                    None => Ok(compared.locked(&self.only)),
                }
            }
            LockMode::Satisfy => {
                let unsatisfied = self.unsatisfied(db, &compared)?;
                let Some((_, reason)) = unsatisfied.first().cloned() else { return Ok(compared.locked(&self.only)) };
                let units = unsatisfied.into_iter().map(|(unit, _)| unit).collect();
                let solved = self.solve(db, &compared, units)?;
                self.write(db, &compared, solved, reason)
            }
            LockMode::Renew(_) => {
                let units = compared.units(&self.only).collect();
                let unsatisfied = self.unsatisfied(db, &compared)?;
                let solved = self.solve(db, &compared, units)?;
                let reason = match unsatisfied.into_iter().next() {
                    Some((_, reason)) => Some(reason),
                    None => self.news(db, &compared, &solved)?,
                };
                match reason {
                    None => Ok(compared.locked(&self.only)),
                    Some(reason) => self.write(db, &compared, solved, reason),
                }
            }
        }
    }
}

/// What was solved for a unit.
struct SolvedPart {
    question: Option<RememberedSolutionSpec>,
    whole: Interned<Records>,
    targets: Vec<(usize, Interned<Records>)>,
}

impl LockWorkspaceSpec {
    /// Whether channels are asked although what is locked would do.
    fn asks(&self) -> bool {
        matches!(self.mode, LockMode::Renew(_))
    }

    /// Looks at what is needed and at what is locked. Where packages have to be built, it takes what is locked to know
    /// which, and then both are compared.
    fn compare(
        &self,
        db: &Db<'_>,
        needs: Arc<WorkspaceNeeds>,
        interned_needs: Interned<WorkspaceNeeds>,
        lock: Option<Interned<LockText>>,
    ) -> Ended<Compared> {
        let check = |needs: &WorkspaceNeeds, name: &Interned<WorkspaceNeeds>, sources| {
            lock.as_ref().map(|lock| self.check(db, needs, name, lock, sources)).transpose()
        };
        let checked = check(&needs, &interned_needs, Vec::new())?;
        let units = needs.units.iter().enumerate();
        let is_built: Vec<bool> = units
            .map(|(place, unit)| needs.is_built(place) && self.only.has(&unit.environments, &unit.platform))
            .collect();
        if !is_built.contains(&true) {
            let built = vec![None; needs.units.len()];
            return Ok(Compared { needs, interned_needs, lock, checked, built });
        }
        let contexts = contexts::<LockWorkspaceError>(db, &needs, &is_built, &self.build, self.offline)?;
        let (needs, interned_needs) = self.with_dev(db, needs, interned_needs, &contexts)?;
        let renewed = match &self.mode {
            LockMode::Renew(Renewal::Packages { names, .. }) => names.clone(),
            _ => BTreeSet::new(),
        };
        let mut resolves = Vec::new();
        for (place, context) in contexts.iter().enumerate() {
            let Some(context) = context else { continue };
            let unit = checked.as_ref().map(|checked| &checked.units[place]);
            let forgets = matches!(self.mode, LockMode::Renew(Renewal::Everything));
            resolves.push(ResolveSourcesSpec {
                name: needs.units[place].to_string(),
                sources: needs.units[place].needs.sources.clone(),
                locked: unit.and_then(|unit| unit.locked.clone()).filter(|_| !forgets),
                renewed: renewed.clone(),
                asks: self.asks(),
                context: context.clone(),
            });
        }
        let resolved = db.join(|join| resolves.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())?;
        let mut resolved = resolved.into_iter();
        let built: Vec<Option<BuiltUnit>> = contexts
            .into_iter()
            .map(|context| {
                let context = context?;
                Some(BuiltUnit { sources: Interned::clone(&*resolved.next()?), context, differs: Vec::new() })
            })
            .collect();
        let sources = built.iter().map(|built| built.as_ref().map(|built| built.sources.clone())).collect();
        let check =
            |sources| lock.as_ref().map(|lock| self.check(db, &needs, &interned_needs, lock, sources)).transpose();
        let checked = check(sources)?;
        Ok(Compared { needs, interned_needs, lock, checked, built })
    }

    /// Looks at what is locked, with packages that are built with just what is locked. Nothing is solved.
    fn as_locked(
        &self,
        db: &Db<'_>,
        needs: Arc<WorkspaceNeeds>,
        interned_needs: Interned<WorkspaceNeeds>,
        lock: Interned<LockText>,
    ) -> Ended<Compared> {
        let is_unchecked = self.mode == LockMode::Frozen;
        let checked = self.check(db, &needs, &interned_needs, &lock, Vec::new())?;
        let units = needs.units.iter().zip(&checked.units).enumerate();
        let is_built: Vec<bool> = units
            .map(|(place, (unit, checked))| {
                let is_needed = !is_unchecked && needs.is_built(place);
                self.only.has(&unit.environments, &unit.platform) && (is_needed || checked.locked.is_some())
            })
            .collect();
        if !is_built.contains(&true) {
            let built = vec![None; needs.units.len()];
            return Ok(Compared { needs, interned_needs, lock: Some(lock), checked: Some(checked), built });
        }
        let contexts = contexts::<LockWorkspaceError>(db, &needs, &is_built, &self.build, self.offline)?;
        let (needs, interned_needs) = match is_unchecked {
            true => (needs, interned_needs),
            false => self.with_dev(db, needs, interned_needs, &contexts)?,
        };
        let mut specs = Vec::new();
        for (checked, context) in checked.units.iter().zip(&contexts) {
            let Some(context) = context else { continue };
            let locked = checked.locked.as_ref().map(|locked| db.value(locked)).transpose()?;
            let sources = locked.iter().flat_map(|locked| &locked.source);
            let of_unit = sources.map(|source| SourceAsLockedSpec::of(db, source, context));
            specs.push((context, of_unit.collect::<Result<Vec<_>, _>>()?));
        }
        let found = db.join(|join| {
            let of_unit =
                |(_, specs): &(_, Vec<_>)| specs.iter().map(|spec| join.get_settled(spec)).collect::<Vec<_>>();
            specs.iter().map(of_unit).collect::<Vec<_>>()
        });
        let found = found.map_err(|stop| stop.map(|never| -> LockWorkspaceError { match never {} }))?;
        let mut units = Vec::new();
        for ((context, specs), found) in specs.iter().zip(found) {
            let (mut sources, mut differs) = (Vec::new(), Vec::new());
            for (spec, found) in specs.iter().zip(found) {
                let found = match found {
                    Ok(found) => found,
                    Err(failure) => {
                        let (package, path) = (spec.package.clone(), self.lock_file.path.clone());
                        let place = db.value(&spec.locked)?.manifest.to_string();
                        return Err(Halt::fail(LockWorkspaceError::AsLocked { package, path, place, failure }));
                    }
                };
                differs.extend(found.differs.iter().cloned());
                match &found.record {
                    Some(record) => sources.push(record.clone()),
                    None if is_unchecked => {
                        let (path, package) = (self.lock_file.path.clone(), spec.package.clone());
                        let reasons = found.differs.clone();
                        return Err(Halt::fail(LockWorkspaceError::NotAsLocked { path, package, reasons }));
                    }
                    None => {}
                }
            }
            let sources = db.intern(Records::with_sources(Vec::new(), sources))?;
            units.push(BuiltUnit { context: Context::clone(context), sources, differs });
        }
        let mut units = units.into_iter();
        let built: Vec<Option<BuiltUnit>> =
            contexts.iter().map(|context| context.as_ref().and_then(|_| units.next())).collect();
        let sources = built.iter().map(|built| built.as_ref().map(|built| built.sources.clone())).collect();
        let checked = self.check(db, &needs, &interned_needs, &lock, sources)?;
        Ok(Compared { needs, interned_needs, lock: Some(lock), checked: Some(checked), built })
    }

    /// The needs with what it takes to work on packages in their place.
    fn with_dev(
        &self,
        db: &Db<'_>,
        needs: Arc<WorkspaceNeeds>,
        interned_needs: Interned<WorkspaceNeeds>,
        contexts: &[Option<Context>],
    ) -> Ended<(Arc<WorkspaceNeeds>, Interned<WorkspaceNeeds>)> {
        let mut all = WorkspaceNeeds::clone(&needs);
        for (unit, context) in needs.units.iter().zip(contexts) {
            let Some(context) = context.as_ref().filter(|_| !unit.needs.dev.is_empty()) else { continue };
            let specs: Vec<DevSourceMetadataSpec> = unit
                .needs
                .dev
                .iter()
                .map(|package| DevSourceMetadataSpec { package: package.clone(), context: context.clone() })
                .collect();
            let found = db.join(|join| specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())?;
            // Of several variants the one that the backend names first is worked on.
            let known: Vec<(SourceRequirement, DevSourceRecord)> = specs
                .iter()
                .zip(&found)
                .filter_map(|(spec, records)| Some((spec.package.clone(), records.first()?.clone())))
                .collect();
            for target in &mut all.targets {
                if target.platform == unit.platform && unit.environments.contains(&target.environment) {
                    target.needs = target.needs.with_dev(&known);
                }
            }
            for own in all.units.iter_mut().filter(|own| *own == unit) {
                own.needs = own.needs.with_dev(&known);
            }
        }
        if all == *needs {
            return Ok((needs, interned_needs));
        }
        let name = db.intern(all)?;
        Ok((db.value(&name)?, name))
    }

    fn check(
        &self,
        db: &Db<'_>,
        needs: &WorkspaceNeeds,
        interned_needs: &Interned<WorkspaceNeeds>,
        lock: &Interned<LockText>,
        sources: Vec<Option<Interned<Records>>>,
    ) -> Ended<Arc<CheckedLock>> {
        let is_placed = needs.units.iter().any(|unit| unit.needs.is_placed()) || db.value(lock)?.is_placed();
        let place = if is_placed { Some(db.observe(&WorkspacePlaceSpec)?.as_ref().clone()) } else { None };
        let (needs, lock, lock_file) = (interned_needs.clone(), lock.clone(), self.lock_file.clone());
        Ok(db.act(&CheckLockSpec { needs, lock, lock_file, place, sources })?)
    }

    /// The units whose part of the lock file is not what they need, with the reason.
    fn unsatisfied(&self, db: &Db<'_>, compared: &Compared) -> Ended<Vec<(usize, String)>> {
        let Some(checked) = &compared.checked else {
            let all = compared.units(&self.only);
            return Ok(all.map(|unit| (unit, format!("there is no `{}`", self.lock_file))).collect());
        };
        let mut unsatisfied = Vec::new();
        for unit in compared.units(&self.only) {
            if let Some(reason) = &checked.units[unit].unsatisfied {
                unsatisfied.push((unit, reason.clone()));
            } else if let Some(moment) = checked.units[unit].not_before {
                let reached = db.observe(&CutoffRankSpec { times: vec![moment], before: 0 })?;
                if reached.is_none() {
                    unsatisfied.push((unit, "a locked package is too new (`exclude-newer`)".to_owned()));
                }
            }
        }
        Ok(unsatisfied)
    }

    fn solve(&self, db: &Db<'_>, compared: &Compared, units: Vec<usize>) -> Ended<Vec<SolvedPart>> {
        let none = db.intern(Records::default())?;
        let (hints_of, renewed) = match &self.mode {
            LockMode::Renew(Renewal::Everything) => (None, BTreeSet::new()),
            LockMode::Renew(Renewal::Packages { names, instead_of }) => {
                let check = |lock| self.check(db, &compared.needs, &compared.interned_needs, lock, Vec::new());
                let checked = instead_of.as_ref().map(check).transpose()?;
                (checked, names.clone())
            }
            _ => (compared.checked.clone(), BTreeSet::new()),
        };
        let (mut specs, mut with_sources) = (Vec::new(), Vec::new());
        for unit in &units {
            let checked = hints_of.as_ref().map(|checked| &checked.units[*unit]);
            let (name, needs) = (compared.needs.units[*unit].to_string(), compared.needs.units[*unit].needs.clone());
            match &compared.built[*unit] {
                Some(built) => with_sources.push(SolvePixiEnvironmentSpec {
                    name,
                    needs,
                    locked: checked.and_then(|checked| checked.locked.clone()),
                    hints: checked.map(|checked| checked.hints.clone()),
                    renewed: renewed.clone(),
                    keep: false,
                    asks: self.asks(),
                    recall: false,
                    context: built.context.clone(),
                }),
                None => specs.push(SolveUnitSpec {
                    name,
                    needs,
                    enough: checked.and_then(|checked| checked.enough.clone()),
                    hints: checked.map_or_else(|| none.clone(), |checked| checked.hints.clone()),
                    renewed: renewed.clone(),
                    recall: self.mode == LockMode::Satisfy,
                    offline: self.offline,
                    sources: none.clone(),
                }),
            }
        }
        let (plain, built) = db.join(|join| {
            let plain = specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>();
            (plain, with_sources.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())
        })?;
        let (mut plain, mut built) = (plain.into_iter(), built.into_iter());
        let mut all = Vec::new();
        for unit in &units {
            let solved = match &compared.built[*unit] {
                Some(_) => built.next().map(|solved| (solved.records.clone(), None)),
                None => plain.next().map(|solved| (solved.records.clone(), Some(solved.question.clone()))),
            };
            all.extend(solved);
        }
        let mut parts = Vec::new();
        for (unit, (records, question)) in units.into_iter().zip(all) {
            let members = compared.members(unit);
            let targets = if compared.needs.units[unit].environments.len() == 1 {
                members.iter().map(|target| (*target, records.clone())).collect()
            } else {
                let take = |target: &usize| TakeRecordsSpec {
                    records: records.clone(),
                    needs: compared.needs.targets[*target].needs.clone(),
                };
                let takes: Vec<TakeRecordsSpec> = members.iter().map(take).collect();
                let taken = db.join(|join| takes.iter().map(|take| join.act(take)).collect::<Vec<_>>())?;
                members.iter().copied().zip(taken.iter().map(|records| Interned::clone(records))).collect()
            };
            parts.push(SolvedPart { question, whole: records, targets });
        }
        Ok(parts)
    }

    /// What the lock file would say differently, though what it says is not wrong.
    fn news(&self, db: &Db<'_>, compared: &Compared, solved: &[SolvedPart]) -> Ended<Option<String>> {
        let Some(checked) = &compared.checked else { return Ok(Some("there is no lock file".to_owned())) };
        for (target, records) in solved.iter().flat_map(|part| &part.targets) {
            let Some(locked) = &checked.targets[*target].current else {
                return Ok(Some(format!("{} is not locked", compared.needs.targets[*target])));
            };
            let (locked, now) = (db.value(locked)?, db.value(records)?);
            let is_same = locked.as_slice().len() == now.as_slice().len()
                && locked.sources() == now.sources()
                && locked.as_slice().iter().zip(now.as_slice()).all(|(locked, now)| {
                    locked.url == now.url && is_same_record(&locked.package_record, &now.package_record)
                });
            if !is_same {
                return Ok(Some(format!("there are other packages for {}", compared.needs.targets[*target])));
            }
        }
        if self.only.is_everything() && !checked.surplus.is_empty() {
            return Ok(Some(format!("nothing asks for {}", checked.surplus.join(", "))));
        }
        Ok(None)
    }

    fn write(
        &self,
        db: &Db<'_>,
        compared: &Compared,
        solved: Vec<SolvedPart>,
        reason: String,
    ) -> Ended<LockedWorkspace> {
        let solved_target = |(target, records): &(usize, Interned<Records>)| SolvedTarget {
            description: compared.needs.targets[*target].clone(),
            records: records.clone(),
        };
        db.effect(&WriteLockFileSpec {
            lock_file: self.lock_file.clone(),
            manifest: self.manifest.clone(),
            seen: compared.lock.clone(),
            reason: reason.clone(),
            solved: solved.iter().flat_map(|part| part.targets.iter().map(solved_target)).collect(),
            remember: solved
                .into_iter()
                .filter_map(|part| Some((part.question?, part.whole)))
                .filter(|_| !self.offline)
                .collect(),
        })?;
        // The file was written and observed again, and that was not enough.
        Err(Halt::fail(LockWorkspaceError::NotSettled { path: self.lock_file.path.clone(), reason }))
    }
}

impl Compared {
    /// What the lock file says.
    fn locked(&self, only: &Only) -> LockedWorkspace {
        let Some(checked) = &self.checked else { return LockedWorkspace { targets: Vec::new() } };
        let targets = self.needs.targets.iter().zip(&checked.targets).enumerate();
        let targets = targets.filter_map(|(place, (target, checked))| {
            let is_meant = only.has(std::slice::from_ref(&target.environment), &target.platform);
            let unit = (0..self.needs.units.len()).find(|unit| self.members(*unit).contains(&place));
            let built = unit.and_then(|unit| self.built[unit].as_ref());
            let records = if built.is_some() { &checked.current } else { &checked.records };
            Some(LockedTarget {
                environment: target.environment.clone(),
                platform: target.platform.clone(),
                records: records.clone().filter(|_| is_meant)?,
                context: built.map(|built| built.context.clone()),
                differs: built.map(|built| built.differs.clone()).unwrap_or_default(),
            })
        });
        LockedWorkspace { targets: targets.collect() }
    }

    /// The places of the units that are looked at.
    fn units(&self, only: &Only) -> impl Iterator<Item = usize> {
        let units = self.needs.units.iter().enumerate();
        units.filter(|(_, unit)| only.has(&unit.environments, &unit.platform)).map(|(place, _)| place)
    }

    /// The places of the targets of a unit.
    fn members(&self, unit: usize) -> Vec<usize> {
        let unit = &self.needs.units[unit];
        let member = |environment: &String| self.needs.target(environment, &unit.platform);
        unit.environments.iter().filter_map(member).collect()
    }
}
