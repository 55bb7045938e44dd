//! Comparing a lock file with what environments need.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use doge::{Action, ActionContext, Epoch, Interned, Resource, Root, Spec};
use miette::Diagnostic;
use rattler_conda_types::RepoDataRecord;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conda::{ChannelError, Placed, workspace_root};
use crate::environment::lock_file::{LockFileSpec, LockText};
use crate::environment::manifest::WorkspaceNeeds;
use crate::epoch::{CONDA_TYPES, LOCK, OWN};
use crate::records::Records;
use crate::source::LockedPackages;
use crate::workspace::lock::{
    LockFileError, LockedFile, Update, locked_hints, locked_sources, satisfies, satisfies_together, unchecked,
};
use crate::workspace::{EnvironmentDescription, SolveDescription, SolveUnit, WorkspaceRoot, reachable};

/// Comparing a lock file with what environments need. Asks no channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckLockSpec {
    /// What is needed.
    pub needs: Interned<WorkspaceNeeds>,
    /// What is locked.
    pub lock: Interned<LockText>,
    /// Where that stands, for people.
    pub lock_file: LockFileSpec,
    /// Where the workspace is, if a channel or a locked package is inside of it.
    pub place: Placed,
    /// For each unit in turn what sources make of the packages it may need from source, in all their variants. Nothing
    /// at all if no unit needs any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Option<Interned<Records>>>,
}

impl fmt::Display for CheckLockSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check {}", self.lock_file)
    }
}

impl Spec for CheckLockSpec {
    const KIND: &'static str = "check_lock";
    const EPOCH: Epoch = Epoch::new(3, &[OWN, LOCK, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A lock file beside what is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedLock {
    /// The format version of the file.
    pub version: u16,
    /// For each target in turn what the file says.
    pub targets: Vec<CheckedTarget>,
    /// For each unit in turn what a solve can start from.
    pub units: Vec<CheckedUnit>,
    /// What the file has beyond what is needed.
    pub surplus: Vec<String>,
}

/// What is locked for an environment on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedTarget {
    /// The locked records of channels; `None` if the file has no such environment on such a platform.
    pub records: Option<Interned<Records>>,
    /// What the target gets, with sources as they are now, whether that is what is needed or not; `None` if a package
    /// that is locked is not offered any more.
    pub current: Option<Interned<Records>>,
    /// Why what is locked is not what is needed; `None` if it is.
    pub unsatisfied: Option<String>,
}

/// What is locked for what is solved at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedUnit {
    /// Why what is locked is not what is needed; `None` if it is.
    pub unsatisfied: Option<String>,
    /// If what is locked is too new before a certain moment: that moment, in milliseconds since 1970.
    pub not_before: Option<i64>,
    /// What is locked, of channels that are still there.
    pub hints: Interned<Records>,
    /// What is locked of packages that are built from source.
    pub locked: Option<Interned<LockedPackages>>,
    /// The part of it that answers all that is needed, if there is one. Where such a part is, a solve that keeps what
    /// is locked comes to the same.
    pub enough: Option<Interned<Records>>,
}

/// Why a lock file cannot be compared with anything.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum CheckLockError {
    /// It cannot be understood.
    #[error(transparent)]
    #[diagnostic(transparent)]
    LockFile(Arc<LockFileError>),
    /// A value or a resource is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAtHand(#[from] ChannelError),
}

/// What was found, before it has a name.
struct Found {
    version: u16,
    targets: Vec<FoundTarget>,
    units: Vec<FoundUnit>,
    surplus: Vec<String>,
}

struct FoundTarget {
    packages: Option<LockedPackages>,
    current: Option<Records>,
    unsatisfied: Option<String>,
}

struct FoundUnit {
    unsatisfied: Option<String>,
    not_before: Option<i64>,
    hints: Vec<RepoDataRecord>,
    locked: LockedPackages,
    enough: Option<Records>,
}

impl Action for CheckLockSpec {
    type Output = CheckedLock;
    type Error = CheckLockError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<CheckedLock, CheckLockError> {
        let gone = |what| CheckLockError::NotAtHand(ChannelError::NotAtHand { what });
        let root = workspace_root(ctx)?;
        let needs = ctx.value(&self.needs).await.ok_or_else(|| gone("the list of needs"))?;
        let lock = ctx.value(&self.lock).await.ok_or_else(|| gone("the text of the lock file"))?;
        let mut sources = Vec::new();
        for records in &self.sources {
            sources.push(match records {
                Some(records) => {
                    let records = ctx.value(records).await.ok_or_else(|| gone("the records of sources"))?;
                    records.bring(ctx).await.ok_or_else(|| gone("the records of sources"))?;
                    Some(records)
                }
                None => None,
            });
        }
        let path = ctx.roots().resolve(&Root::Workspace, &self.lock_file.path).unwrap_or_default();
        let work = move || {
            let locked = LockedFile::parse(lock.as_str(), &path, &root)?;
            compare(&needs, &locked, &sources, &root)
        };
        let found = ctx.cpu(work).await.map_err(|error| CheckLockError::LockFile(Arc::new(error)))?;
        let intern = |records| ctx.intern(records).map_err(|_| gone("the list of locked records"));
        let mut targets = Vec::new();
        for target in found.targets {
            let records = target.packages.map(|packages| intern(Records::new(packages.binary))).transpose()?;
            let current = target.current.map(intern).transpose()?;
            targets.push(CheckedTarget { records, current, unsatisfied: target.unsatisfied });
        }
        let mut units = Vec::new();
        for unit in found.units {
            let locked = match unit.locked.source.is_empty() {
                true => None,
                false => {
                    unit.locked.keep(ctx).map_err(|_| gone("what is locked"))?;
                    Some(ctx.intern(unit.locked).map_err(|_| gone("what is locked"))?)
                }
            };
            units.push(CheckedUnit {
                unsatisfied: unit.unsatisfied,
                not_before: unit.not_before,
                hints: intern(Records::new(unit.hints))?,
                locked,
                enough: unit.enough.map(intern).transpose()?,
            });
        }
        Ok(CheckedLock { version: found.version, targets, units, surplus: found.surplus })
    }
}

fn compare(
    needs: &WorkspaceNeeds,
    locked: &LockedFile,
    sources: &[Option<Arc<Records>>],
    root: &WorkspaceRoot,
) -> Result<Found, LockFileError> {
    // Far in the future nothing is too new for a cutoff that moves along; the time comes in by `not_before`.
    let far = UNIX_EPOCH + Duration::from_secs(1 << 36);
    let is_member = |target: &EnvironmentDescription, unit: &SolveUnit| {
        target.platform == unit.platform && unit.environments.contains(&target.environment)
    };
    let none = Records::default();
    let current = |place: Option<usize>| place.and_then(|place| sources.get(place)?.as_deref()).unwrap_or(&none);
    let target = |target: &EnvironmentDescription| {
        let packages = locked.packages_of(&target.environment, &target.platform()).transpose()?;
        let unit = needs.units.iter().position(|unit| is_member(target, unit));
        let (current, unsatisfied) = match satisfies(target, locked, current(unit), far) {
            Ok(records) => (Some(records), None),
            Err(reason) => {
                let locked = packages.as_ref().and_then(|packages| Some((&packages.binary, packages.sources()?)));
                let anyway = locked.and_then(|(binary, built)| unchecked(binary, &built, current(unit)));
                (anyway, Some(reason.to_string()))
            }
        };
        Ok(FoundTarget { packages, current, unsatisfied })
    };
    let unit = |(place, unit): (usize, &SolveUnit)| {
        let members: Vec<EnvironmentDescription> =
            needs.targets.iter().filter(|target| is_member(target, unit)).cloned().collect();
        let current = current(Some(place));
        let together = satisfies_together(&members, locked, current, far);
        let hints = locked_hints(locked, unit, &Update::Nothing);
        let all = LockedPackages::new(hints.clone(), locked_sources(locked, unit));
        let records = together.iter().flatten().flat_map(Records::as_slice);
        let not_before = records.filter_map(|record| old_enough_from(record, &unit.needs, root)).max();
        let is_built = !unit.needs.sources.is_empty() || !unit.needs.dev.is_empty() || !current.is_empty();
        let enough = match (&unit.needs.exclude_newer, &together) {
            // What may be chosen is then for the solver to say, as it is where sources decide what there is.
            (Some(_), _) => None,
            _ if is_built => None,
            (None, Ok(_)) => Some(Records::new(hints.clone())),
            (None, Err(_)) => enough(&members, unit, locked, &hints, root),
        };
        let unsatisfied = together.err().map(|reason| reason.to_string());
        FoundUnit { unsatisfied, not_before, hints, locked: all, enough }
    };
    let (targets, (units, surplus)) = rayon::join(
        || needs.targets.par_iter().map(target).collect::<Vec<Result<_, LockFileError>>>(),
        || rayon::join(|| needs.units.par_iter().enumerate().map(unit).collect(), || surplus(needs, locked)),
    );
    // Of several errors the first is told, whichever was found first.
    let targets = targets.into_iter().collect::<Result<_, _>>()?;
    Ok(Found { version: locked.version(), targets, units, surplus })
}

/// From when on a record is old enough for a cutoff that moves along; nothing if that does not move.
fn old_enough_from(record: &RepoDataRecord, needs: &SolveDescription, root: &WorkspaceRoot) -> Option<i64> {
    let exclude = needs.exclude_newer.as_ref().filter(|exclude| exclude.is_relative())?;
    let package = &record.package_record;
    let made = package.indexed_timestamp.as_ref().or(package.timestamp.as_ref())?.timestamp_millis();
    let (then, later) = (exclude.cutoff_for(record, root, 0)?, exclude.cutoff_for(record, root, 1)?);
    (then != later).then(|| made.saturating_sub(then))
}

/// The locked records that are needed and that answer all needs, though more may be locked.
fn enough(
    members: &[EnvironmentDescription],
    unit: &SolveUnit,
    locked: &LockedFile,
    hints: &[RepoDataRecord],
    root: &WorkspaceRoot,
) -> Option<Records> {
    let needed = reachable(&Records::new(hints.to_vec()), &unit.needs, root);
    // Whether they would be taken is asked of the rules for lock files, of one that has just these.
    let whole = EnvironmentDescription {
        environment: unit.environments.first()?.clone(),
        platform: unit.platform.clone(),
        solve_group: None,
        has_pypi: members.iter().any(|member| member.has_pypi),
        needs: unit.needs.clone(),
    };
    // What was chosen under other options is not what would be chosen now.
    members.iter().all(|member| locked.has_options_of(member)).then_some(())?;
    crate::workspace::lock::holds_together(&whole, &needed, &Records::default(), root).ok()?;
    Some(needed)
}

fn surplus(needs: &WorkspaceNeeds, locked: &LockedFile) -> Vec<String> {
    let mut wanted: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for target in &needs.targets {
        wanted.entry(&target.environment).or_default().insert(&target.platform);
    }
    for target in &needs.broken {
        wanted.entry(&target.environment).or_default().insert(&target.platform);
    }
    let mut surplus = Vec::new();
    for (environment, platforms) in locked.entries() {
        match wanted.get(environment) {
            None => surplus.push(format!("environment `{environment}`")),
            Some(wanted) => surplus.extend(
                platforms
                    .iter()
                    .filter(|platform| !wanted.contains(platform.as_str()))
                    .map(|platform| format!("platform `{platform}` of environment `{environment}`")),
            ),
        }
    }
    surplus
}
