//! Installing an environment of a workspace.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;

use doge::{AnyError, Change, Db, Epoch, Failure, Halt, Interned, Query, Spec, Values};
use miette::Diagnostic;
use rattler_conda_types::Subdir;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::build::{BuildProfile, Context, Found, SourceBuildError, SourceBuildSpec};
use crate::conda::{MachineError, MachineSpec, WorkspacePlaceSpec};
use crate::environment::lock::{LockWorkspaceError, LockWorkspaceSpec};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::prefix::{
    Force, InstallError, InstallPixiEnvironmentSpec, InstalledEnvironment, LinkOptions, NoPython, PrefixStateSpec,
};
use crate::records::Records;
use crate::told::{option, switch};

/// An environment of a workspace, installed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallWorkspaceEnvironmentSpec {
    /// Where the records come from.
    pub lock: LockWorkspaceSpec,
    /// The environment.
    pub environment: String,
    /// The platform, as the lock file names it.
    pub platform: String,
    /// The subdir of the platform.
    pub subdir: Subdir,
    /// Where it is installed.
    pub prefix: PrefixStateSpec,
    /// How files come into the prefix.
    pub options: LinkOptions,
    /// Whether scripts of packages are run.
    pub link_scripts: bool,
    /// Link packages anew even if they are as wanted, and build those anew that are built.
    pub force: Option<Force>,
}

impl fmt::Display for InstallWorkspaceEnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment {}@{}", self.environment, self.platform)
    }
}

impl Spec for InstallWorkspaceEnvironmentSpec {
    const KIND: &'static str = "install_workspace_environment";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let mut changes = LockWorkspaceSpec::changed(&was.lock, &now.lock, values).unwrap_or_default();
        changes.extend(option("links that are allowed", &was.options, &now.options));
        changes.extend(switch("scripts of packages are run", was.link_scripts, now.link_scripts));
        if now.force.is_some() && was.force != now.force {
            changes.push(Change::new("option", "--force", None, None));
        }
        // What else may differ is told field by field.
        Some(changes).filter(|changes| !changes.is_empty())
    }

    fn label(&self) -> Option<String> {
        Some(format!("{self} in {}", self.prefix.path))
    }
}

/// Why an environment of a workspace could not be installed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum InstallWorkspaceError {
    /// The lock file has no records for it.
    #[error("the lock file has nothing for environment `{environment}` on `{platform}`")]
    #[diagnostic(help("run without `--frozen` to bring the lock file up to date with the manifest"))]
    NotLocked {
        /// The environment.
        environment: String,
        /// The platform.
        platform: String,
    },
    /// The lock file has two packages of one name for it.
    #[error("`{path}` has two packages `{package}` for environment `{environment}`")]
    #[diagnostic(help("run without `--frozen` to have it written anew"))]
    LockedTwice {
        /// The environment.
        environment: String,
        /// The lock file.
        path: String,
        /// The package.
        package: String,
    },
    /// Its packages need what this machine does not have.
    #[error("environment `{environment}` cannot run on this machine: {}", lacking.join(", "))]
    #[diagnostic(help(
        "a variable such as `CONDA_OVERRIDE_CUDA=12.0` makes doge believe that the machine has what it does not detect"
    ))]
    CannotRun {
        /// The environment.
        environment: String,
        /// What is needed by which package.
        lacking: Vec<String>,
    },
    /// Packages need a Python to be installed for, and there is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoPython(#[from] NoPython),
    /// There are no records.
    #[error(transparent)]
    Lock(#[from] Failure<LockWorkspaceError>),
    /// It is not known what this machine has.
    #[error(transparent)]
    Machine(#[from] Failure<MachineError>),
    /// A package could not be built.
    #[error(transparent)]
    Build(#[from] Failure<SourceBuildError>),
    /// It is not known where the workspace is.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// They could not be installed.
    #[error(transparent)]
    Install(#[from] Failure<InstallError>),
    /// The records are not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for InstallWorkspaceEnvironmentSpec {
    type Output = InstalledEnvironment;
    type Error = InstallWorkspaceError;

    fn compute(&self, db: &Db<'_>) -> Result<InstalledEnvironment, Halt<InstallWorkspaceError>> {
        let (locked, machine) = db.join(|join| (join.get(&self.lock), join.observe(&MachineSpec)))?;
        let Some(target) = locked.target(&self.environment, &self.platform) else {
            let (environment, platform) = (self.environment.clone(), self.platform.clone());
            return Err(Halt::fail(InstallWorkspaceError::NotLocked { environment, platform }));
        };
        let found = Found::of(db, db.value(&target.records)?)?;
        if let Some(package) = found.twice() {
            let (environment, path) = (self.environment.clone(), self.lock.lock_file.path.clone());
            return Err(Halt::fail(InstallWorkspaceError::LockedTwice { environment, path, package }));
        }
        NoPython::check(|| format!("environment `{}`", self.environment), found.packages())
            .map_err(|error| Halt::fail(InstallWorkspaceError::NoPython(error)))?;
        let records = match &target.context {
            Some(context) => self.built(db, &target.records, context)?,
            None => target.records.clone(),
        };
        // For another platform than the machine's, what the machine has says nothing.
        if machine.subdir == Some(self.subdir) {
            let lacking = machine.lacks(db.value(&records)?.as_slice());
            if !lacking.is_empty() {
                let environment = self.environment.clone();
                return Err(Halt::fail(InstallWorkspaceError::CannotRun { environment, lacking }));
            }
        }
        let installed = db.get(&InstallPixiEnvironmentSpec {
            name: self.environment.clone(),
            prefix: self.prefix.clone(),
            records,
            platform: self.subdir,
            options: self.options,
            link_scripts: self.link_scripts,
            force: self.force.clone(),
        })?;
        Ok(InstalledEnvironment { differs: target.differs.clone(), ..InstalledEnvironment::clone(&installed) })
    }
}

impl InstallWorkspaceEnvironmentSpec {
    /// The records with those of archives in the place of those that have to be built, after these were built.
    fn built(
        &self,
        db: &Db<'_>,
        records: &Interned<Records>,
        context: &Context,
    ) -> Result<Interned<Records>, Halt<InstallWorkspaceError>> {
        let records = db.value(records)?;
        let sources = records.read_sources(db)?;
        let specs: Vec<SourceBuildSpec> = records
            .sources()
            .iter()
            .zip(&sources)
            .map(|(name, record)| SourceBuildSpec {
                package: record.name().to_owned(),
                record: name.clone(),
                context: context.clone(),
                profile: BuildProfile::Development,
                force: self.force.clone(),
            })
            .collect();
        let (built, place) = db.join(|join| {
            let built = specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>();
            (built, join.observe(&WorkspacePlaceSpec))
        })?;
        let archives = built.iter().filter_map(|package| package.repodata(Path::new(place.as_str())));
        let all = records.as_slice().iter().cloned().chain(archives).collect();
        Ok(db.intern(Records::new(all))?)
    }
}
