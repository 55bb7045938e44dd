//! Environments that tools run in: the packages of one are chosen once and kept.
//!
//! A new release of a backend must not rebuild everything when something unrelated is installed. So what was chosen is
//! written down in the workspace, and holds until the requirement or the platform changes, or somebody asks for it to
//! be chosen anew. A tool that is built follows its sources; what it is built with and what else is in its environment is
//! kept in the same way.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use doge::{
    Action, ActionContext, AnyError, Change, Db, Effect, Epoch, Failure, Fingerprint, Halt, Intern, Interned, Last,
    Observation, ObserveContext, Query, Resource, Root, Roots, Seen, Spec, Stop, Values,
};
use miette::Diagnostic;
use rattler_conda_types::{RepoDataRecord, Subdir};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use thiserror::Error;

use crate::backend::protocol::{API_PACKAGE, BEYOND_API, OLDEST_API};
use crate::build::{
    BuildContext, BuildPlatform, BuildProfile, BuiltPackage, Context, SolvePixiEnvironmentSpec, SolvePixiError,
    SourceBuildError, SourceBuildSpec,
};
use crate::conda::workspace_root;
use crate::environment::{SolveUnitError, SolveUnitSpec};
use crate::epoch::{CONDA_TYPES, OWN, RATTLER};
use crate::file_stamp::FileStamp;
use crate::package::{FetchPackageError, FetchPackageSpec};
use crate::prefix::{LinkError, NoPython, install_here, remove_tree};
use crate::records::Records;
use crate::source::{LockedPackages, LockedSource, SourceRecord};
use crate::told::{of_archives, packages, records};
use crate::workspace::{ExcludeNewer, Location, Requirement, SolveDescription, SourceRequirement};

/// An environment with a tool in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstantiateToolEnvironmentSpec {
    /// What is needed.
    pub needs: ToolNeeds,
    /// What those packages of it are built for that have to be built, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Nothing may be downloaded.
    pub offline: bool,
}

/// What a tool needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolNeeds {
    /// The tool.
    pub requirement: Requirement,
    /// What has to be there besides.
    pub additional: Vec<Requirement>,
    /// What holds for packages if they are there.
    pub constraints: Vec<Requirement>,
    /// Where packages come from.
    pub channels: Vec<Location>,
    /// The platform that it runs on.
    pub platform: BuildPlatform,
    /// What is too new.
    pub exclude_newer: Option<ExcludeNewer>,
    /// Those of all that are built from their sources, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceRequirement>,
}

impl fmt::Display for InstantiateToolEnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment of the tool {}", self.needs.requirement)
    }
}

impl Spec for InstantiateToolEnvironmentSpec {
    const KIND: &'static str = "instantiate_tool_environment";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(format!("environment of the tool {}", self.needs.requirement.name))
    }
}

/// The packages of a tool's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolEnvironment {
    /// The packages of channels.
    pub records: Interned<Records>,
    /// Those that were built.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub built: Vec<Interned<BuiltPackage>>,
    /// The version of the tool.
    pub version: String,
    /// The version of the build protocol that it speaks.
    pub api: u64,
}

/// Why there is no environment for a tool.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ToolError {
    /// Nothing in it speaks our protocol.
    #[error("the build backend `{name}` does not say which version of the build protocol it speaks")]
    #[diagnostic(help(
        "its package has to depend on `{API_PACKAGE}`; this program speaks versions {OLDEST_API} up to, not including, \
         {BEYOND_API}"
    ))]
    NoMatchingBackend {
        /// The backend.
        name: String,
    },
    /// Packages need a Python to be installed for, and there is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoPython(NoPython),
    /// Its packages cannot be chosen.
    #[error(transparent)]
    Solve(#[from] Failure<SolveUnitError>),
    /// Its packages cannot be chosen, of which some are to be built.
    #[error(transparent)]
    Sources(#[from] Failure<SolvePixiError>),
    /// One of its packages cannot be built.
    #[error(transparent)]
    Build(#[from] Failure<SourceBuildError>),
    /// What was chosen cannot be kept or read.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for InstantiateToolEnvironmentSpec {
    type Output = ToolEnvironment;
    type Error = ToolError;

    fn changes(&self, was: &ToolEnvironment, now: &ToolEnvironment, values: &Values<'_>) -> Option<Vec<Change>> {
        let mut changes = records(&*values.get(&was.records)?, &*values.get(&now.records)?, values)?;
        for change in changes.iter_mut().filter(|change| change.path == self.needs.requirement.name) {
            change.what = "backend".to_owned();
        }
        Some(changes)
    }

    fn compute(&self, db: &Db<'_>) -> Result<ToolEnvironment, Halt<ToolError>> {
        let context = self.context.as_ref().map(|context| BuildContext::as_asked(db, context)).transpose()?;
        let chosen = ChosenToolSpec { needs: self.needs.clone(), context };
        let kept = db.observe(&chosen)?;
        let (records, built) = match (&self.context, kept.as_ref()) {
            (Some(context), kept) => self.with_sources(db, &chosen, kept.as_ref(), context)?,
            (None, Some(kept)) => (db.intern(Records::new(kept.binary.clone()))?, Vec::new()),
            (None, None) => {
                let none = db.intern(Records::default())?;
                let solved = db.get(&SolveUnitSpec {
                    name: self.to_string(),
                    needs: self.needs.description(),
                    enough: None,
                    hints: none.clone(),
                    renewed: Default::default(),
                    recall: false,
                    offline: self.offline,
                    sources: none,
                })?;
                // What happened to be in the cache is not to hold for later.
                if !self.offline {
                    let packages = ChosenPackages::of(db, &*db.value(&solved.records)?)?;
                    db.effect(&KeepToolSpec { chosen, packages: db.intern(packages)? })?;
                }
                // Where it cannot be kept it serves all the same.
                (solved.records.clone(), Vec::new())
            }
        };
        let (packages, own) =
            (db.value(&records)?, built.iter().map(|built| db.value(built)).collect::<Result<Vec<_>, _>>()?);
        let all = || {
            let binary = packages.as_slice().iter().map(|record| &record.package_record);
            binary.chain(own.iter().map(|built| &built.record))
        };
        let version_of =
            |name: &str| all().find(|record| record.name.as_normalized() == name).map(|record| record.version.clone());
        let api = version_of(API_PACKAGE).and_then(|version| {
            let major = version.segments().next()?.components().next()?.as_number()?;
            (OLDEST_API..BEYOND_API).contains(&major).then_some(major)
        });
        let name = self.needs.requirement.name.clone();
        let Some(api) = api else { return Err(Halt::fail(ToolError::NoMatchingBackend { name })) };
        NoPython::check(|| format!("the environment of the build backend `{name}`"), all())
            .map_err(|error| Halt::fail(ToolError::NoPython(error)))?;
        let version = version_of(&name).map(|version| version.to_string()).unwrap_or_default();
        Ok(ToolEnvironment { records, built, version, api })
    }
}

/// Packages of channels, and those that were built.
type Packages = (Interned<Records>, Vec<Interned<BuiltPackage>>);

impl InstantiateToolEnvironmentSpec {
    /// The packages, those built that have to be.
    fn with_sources(
        &self,
        db: &Db<'_>,
        chosen: &ChosenToolSpec,
        kept: Option<&ChosenPackages>,
        context: &Context,
    ) -> Result<Packages, Halt<ToolError>> {
        let locked = kept.map(|kept| kept.locked(db)).transpose()?;
        let solved = db.get(&SolvePixiEnvironmentSpec {
            name: format!("the {self}"),
            needs: self.needs.description(),
            locked: locked.map(|locked| db.intern(locked)).transpose()?,
            hints: None,
            renewed: BTreeSet::new(),
            keep: true,
            asks: false,
            recall: false,
            context: context.clone(),
        })?;
        let records = db.value(&solved.records)?;
        let now = ChosenPackages::of(db, &records)?;
        if !self.offline && !kept.is_some_and(|kept| kept.is_written_as(&now)) {
            db.effect(&KeepToolSpec { chosen: chosen.clone(), packages: db.intern(now)? })?;
        }
        let sources = records.read_sources(db)?;
        let named = records.sources().iter().zip(&sources);
        let builds: Vec<SourceBuildSpec> = named
            .map(|(name, record)| SourceBuildSpec {
                package: record.name().to_owned(),
                record: name.clone(),
                context: context.clone(),
                // It is installed away from its sources.
                profile: BuildProfile::Release,
                force: None,
            })
            .collect();
        let built = db.join(|join| builds.iter().map(|build| join.get(build)).collect::<Vec<_>>())?;
        let built = built.iter().map(|built| db.intern(BuiltPackage::clone(built))).collect::<Result<_, _>>()?;
        Ok((db.intern(Records::new(records.as_slice().to_vec()))?, built))
    }
}

/// The packages of a tool that were chosen, down to those that others are built with: it is kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenPackages {
    binary: Vec<RepoDataRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<ChosenSource>,
}

/// A package that is built, and what it is built with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChosenSource {
    itself: LockedSource,
    build: ChosenPackages,
    host: ChosenPackages,
}

impl Intern for ChosenPackages {
    const NAME: &'static str = "packages chosen for a tool";
}

impl ChosenPackages {
    fn of(db: &Db<'_>, records: &Records) -> Result<Self, Stop<Failure<AnyError>>> {
        let of_source = |record: &Arc<SourceRecord>| {
            Ok(ChosenSource {
                itself: LockedSource::of(record, LockedPackages::default(), LockedPackages::default()),
                build: Self::of(db, &record.build)?,
                host: Self::of(db, &record.host)?,
            })
        };
        let source = records.read_sources(db)?.iter().map(of_source).collect::<Result<_, _>>()?;
        Ok(Self { binary: records.as_slice().to_vec(), source })
    }

    /// The same as a lock file has it.
    fn locked(&self, db: &Db<'_>) -> Result<LockedPackages, Stop<Failure<AnyError>>> {
        let of_source = |source: &ChosenSource| {
            let (build, host) = (source.build.locked(db)?, source.host.locked(db)?);
            db.intern(LockedSource { build, host, ..source.itself.clone() })
        };
        let source = self.source.iter().map(of_source).collect::<Result<_, _>>()?;
        Ok(LockedPackages::new(self.binary.clone(), source))
    }

    /// Whether a file would say the same of both.
    fn is_written_as(&self, other: &Self) -> bool {
        let written = |packages: &Self| serde_json::to_vec(packages).ok();
        written(self) == written(other)
    }
}

impl ToolNeeds {
    fn description(&self) -> SolveDescription {
        let mut requirements: Vec<Requirement> =
            std::iter::once(&self.requirement).chain(&self.additional).cloned().collect();
        // Whoever does not need it gets a backend that says nothing; that is told in words of ours, not the solver's.
        requirements.sort();
        requirements.dedup();
        let mut constraints = self.constraints.clone();
        constraints.push(Requirement {
            name: API_PACKAGE.to_owned(),
            spec: format!("{API_PACKAGE}[version=\">={OLDEST_API},<{BEYOND_API}\"]"),
            channel: None,
            archive: None,
        });
        constraints.sort();
        SolveDescription {
            subdir: self.platform.subdir,
            virtual_packages: self.platform.virtual_packages.clone(),
            channels: self.channels.clone(),
            channel_priority: Default::default(),
            strategy: Default::default(),
            requirements,
            constraints,
            sources: self.sources.clone(),
            dev: Vec::new(),
            exclude_newer: self.exclude_newer.clone(),
        }
    }
}

/// What was chosen for a tool in this workspace, and still holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChosenToolSpec {
    /// What was needed.
    pub needs: ToolNeeds,
    /// What those packages of it were built for that have to be built, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
}

impl fmt::Display for ChosenToolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packages chosen for the tool {}", self.needs.requirement)
    }
}

impl Spec for ChosenToolSpec {
    const KIND: &'static str = "chosen_tool";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(format!("packages chosen for the tool {}", self.needs.requirement.name))
    }
}

/// The wish to have the environments of tools chosen anew. A resource of the database.
///
/// Such a wish is no part of any spec: what is chosen anew is found under the name of what was chosen before.
#[derive(Debug, Default)]
pub struct ChosenAnew {
    /// Of which tools; all if none are named.
    names: Option<BTreeSet<String>>,
    done: Mutex<HashSet<ChosenToolSpec>>,
}

impl ChosenAnew {
    /// Those of these tools, or of all if none are named.
    pub fn of(names: BTreeSet<String>) -> Self {
        Self { names: Some(names), done: Mutex::default() }
    }

    /// Whether what was chosen counts no more.
    fn is_due(&self, chosen: &ChosenToolSpec) -> bool {
        let is_meant = |names: &BTreeSet<String>| names.is_empty() || names.contains(&chosen.needs.requirement.name);
        self.names.as_ref().is_some_and(is_meant)
            && !self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(chosen)
    }

    fn is_done(&self, chosen: &ChosenToolSpec) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(chosen.clone());
    }

    /// The names of which nothing was chosen, sorted.
    pub fn unmet(&self) -> Vec<String> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unmet = |name: &&String| done.iter().all(|chosen| chosen.needs.requirement.name != **name);
        self.names.iter().flatten().filter(is_unmet).cloned().collect()
    }
}

/// Where choices are kept, in the workspace.
const CHOICES: &str = ".pixi/doge/backends";

impl ChosenToolSpec {
    fn file(&self, roots: &Roots) -> Option<PathBuf> {
        // Whatever reads it, it is the question that counts, not the version of who asks.
        let question = rmp_serde::to_vec_named(self).ok()?;
        let name = format!("{}-{}.json", self.needs.requirement.name, &Fingerprint::of(&question).to_hex()[..16]);
        roots.resolve(&Root::Workspace, Path::new(CHOICES).join(name))
    }
}

impl Observation for ChosenToolSpec {
    type Output = Option<ChosenPackages>;
    type Error = Infallible;
    type Stamp = Option<FileStamp>;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        self.file(roots)
    }

    fn changes(
        &self,
        was: &Option<ChosenPackages>,
        now: &Option<ChosenPackages>,
        _: &Values<'_>,
    ) -> Option<Vec<Change>> {
        let records = |chosen: &ChosenPackages| Records::new(chosen.binary.clone());
        match (was, now) {
            (Some(was), Some(now)) => Some(packages(of_archives(&records(was)), of_archives(&records(now)))),
            // It is chosen anew; what came of that tells more.
            _ => Some(Vec::new()),
        }
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        if ctx.resource::<ChosenAnew>().is_some_and(|anew| anew.is_due(self)) {
            return Ok(Seen::New { value: None, stamp: None, newest: Some(SystemTime::now()) });
        }
        let path = self.file(ctx.roots());
        Ok(ctx
            .blocking(move || {
                // What cannot be read or understood is chosen again.
                let stamp = path.as_ref().and_then(|path| FileStamp::of(path).ok().flatten());
                if last.is_some_and(|last| last.is(&stamp)) {
                    return Seen::Same;
                }
                let value = path.and_then(|path| serde_json::from_slice(&fs::read(path).ok()?).ok());
                Seen::New { value, newest: stamp.as_ref().map(FileStamp::newest), stamp }
            })
            .await)
    }
}

/// Keeping what was chosen for a tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeepToolSpec {
    /// What was asked.
    pub chosen: ChosenToolSpec,
    /// What was chosen.
    pub packages: Interned<ChosenPackages>,
}

impl fmt::Display for KeepToolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep {}", self.chosen)
    }
}

impl Spec for KeepToolSpec {
    const KIND: &'static str = "keep_tool";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Effect for KeepToolSpec {
    type Output = bool;
    type Error = Infallible;
    type Target = ChosenToolSpec;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> ChosenToolSpec {
        self.chosen.clone()
    }

    async fn run(&self, ctx: &ActionContext) -> Result<bool, Infallible> {
        let Some(packages) = ctx.value(&self.packages).await else { return Ok(false) };
        let Some(path) = self.chosen.file(ctx.roots()) else { return Ok(false) };
        if let Some(anew) = ctx.resource::<ChosenAnew>() {
            anew.is_done(&self.chosen);
        }
        let keep = move || -> Option<()> {
            let directory = path.parent()?;
            fs::create_dir_all(directory).ok()?;
            crate::whole::write_whole(&path, &serde_json::to_vec(&*packages).ok()?).ok()
        };
        Ok(ctx.blocking(keep).await.is_some())
    }
}

/// Installing the environment of a tool, where nothing else is installed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallToolSpec {
    /// The tool, for people.
    pub name: String,
    /// The packages of channels.
    pub records: Interned<Records>,
    /// Those that were built.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub built: Vec<Interned<BuiltPackage>>,
    /// The platform that it runs on. What the machine has there decided which packages were chosen, and nothing else.
    pub platform: Subdir,
}

impl fmt::Display for InstallToolSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install the tool {}", self.name)
    }
}

impl Spec for InstallToolSpec {
    const KIND: &'static str = "install_tool";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, RATTLER, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What is written last into the environment of a tool: it is whole.
const COMPLETE: &str = "conda-meta/doge-complete";

/// Where environments of tools are installed. A resource of the database.
#[derive(Clone, Debug)]
pub struct ToolPrefixes {
    /// The directory.
    pub directory: PathBuf,
}

impl ToolPrefixes {
    /// Where the environment of a tool is.
    pub(crate) fn prefix(&self, tool: &InstallToolSpec) -> PathBuf {
        self.directory.join(format!("{}-{}", tool.name, &tool.packages().to_hex()[..16]))
    }

    /// Whether the environment there is whole, as far as it says itself.
    pub(crate) fn is_complete(prefix: &Path) -> bool {
        prefix.join(COMPLETE).is_file()
    }

    /// Has the environment there made anew by whoever installs it next.
    pub(crate) fn distrust(prefix: &Path) {
        // If it cannot be removed the environment stays as it is, and so does the error that led here.
        let _ = std::fs::remove_file(prefix.join(COMPLETE));
    }
}

/// Why the environment of a tool could not be installed.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum InstallToolError {
    /// It could not be linked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Link(Arc<LinkError>),
    /// A package that was built is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(Arc<FetchPackageError>),
    /// Its directory cannot be written.
    #[error("the environment of the tool cannot be made at `{}`", path.display())]
    #[diagnostic(help("check that the directory is writable and that the disk is not full"))]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Something is not at hand.
    #[error("{what} is not at hand")]
    NotAtHand {
        /// What.
        what: &'static str,
    },
}

impl Action for InstallToolSpec {
    /// The name of its directory.
    type Output = String;
    type Error = InstallToolError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<String, InstallToolError> {
        let gone = |what| InstallToolError::NotAtHand { what };
        let prefixes = ctx.resource::<ToolPrefixes>().ok_or(gone("the place of tools"))?;
        let prefix = prefixes.prefix(self);
        let _lock = ctx.lock(&format!("tool-{}", self.packages())).await;
        let file_name = prefix.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Whoever was waited for may have done it.
        if prefix.join(COMPLETE).is_file() {
            return Ok(file_name);
        }
        let io = |source| InstallToolError::Io { path: prefix.clone(), source: Arc::new(source) };
        let records = self.all(ctx).await?;
        let half = prefix.clone();
        // What is half there, or damaged, is made from the beginning.
        ctx.blocking(move || remove_tree(&half)).await.map_err(io)?;
        install_here(ctx, &prefix, &records, self.platform)
            .await
            .map_err(|error| InstallToolError::Link(Arc::new(error)))?;
        std::fs::write(prefix.join(COMPLETE), b"").map_err(io)?;
        Ok(file_name)
    }
}

impl InstallToolSpec {
    /// What tells its packages from others.
    fn packages(&self) -> Fingerprint {
        if self.built.is_empty() {
            return self.records.fingerprint();
        }
        Fingerprint::of(&rmp_serde::to_vec_named(&(&self.records, &self.built)).unwrap_or_default())
    }

    /// The records of all packages, after those that were built came into the cache.
    async fn all(&self, ctx: &ActionContext) -> Result<Interned<Records>, InstallToolError> {
        if self.built.is_empty() {
            return Ok(self.records.clone());
        }
        let gone = |what| InstallToolError::NotAtHand { what };
        let root = workspace_root(ctx).map_err(|_| gone("the workspace"))?;
        let binary = ctx.value(&self.records).await.ok_or(gone("the list of packages"))?;
        let mut all = binary.as_slice().to_vec();
        let mut lost = None;
        for built in &self.built {
            let package = ctx.value(built).await.ok_or(gone("a package that was built"))?;
            let record = package.repodata(root.path()).ok_or(gone("a package that was built"))?;
            // Those that are gone are built again together, and then this is done.
            if let Err(error) = FetchPackageSpec::new(&record).run(ctx).await {
                lost.get_or_insert(InstallToolError::Fetch(Arc::new(error)));
            }
            all.push(record);
        }
        match lost {
            Some(error) => Err(error),
            None => ctx.intern(Records::new(all)).map_err(|_| gone("the list of packages")),
        }
    }
}

/// Why a tool is not ready to be run.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ReadyToolError {
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] Failure<FetchPackageError>),
    /// It could not be installed.
    #[error(transparent)]
    Install(#[from] Failure<InstallToolError>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

/// Has the environment of a tool installed, after its packages were fetched side by side.
pub(crate) fn ready_tool(db: &Db<'_>, install: &InstallToolSpec) -> Result<(), Stop<ReadyToolError>> {
    let packages = db.value(&install.records).map_err(|stop| stop.map(ReadyToolError::from))?;
    let fetches: Vec<FetchPackageSpec> = packages.as_slice().iter().map(FetchPackageSpec::new).collect();
    db.join(|join| fetches.iter().map(|fetch| join.act(fetch)).collect::<Vec<_>>())
        .map_err(|stop| stop.map(ReadyToolError::from))?;
    db.act(install).map_err(|stop| stop.map(ReadyToolError::from))?;
    Ok(())
}
