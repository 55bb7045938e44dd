//! Building packages.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doge::{
    Action, ActionContext, AnyError, Change, Db, Epoch, Failure, FileRef, Fingerprint, Halt, Intern, Interned, Query,
    Resource, Root, RunId, Spec, Values,
};
use miette::Diagnostic;
use rattler_conda_types::package::{CondaArchiveIdentifier, IndexJson};
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::backend::{
    AskBuild, BackendInstance, BackendMetadata, BackendMetadataError, BuildBackendMetadataSpec, BuildOutput,
    BuildPrefix, BuildRunExports, Built, CallError, Dep, Output, PackageFormat, Question, Ready, folded, make,
};
use crate::build::context::{BuildContext, Context};
use crate::build::dependencies::{DependencyError, Needed, Said};
use crate::build::missing::{MissingArtifacts, MissingArtifactsSpec};
use crate::build::run_exports::RunExportsError;
use crate::build::solve::Nested;
use crate::build::source_metadata::{Found, Wanted, assembled, own_list, own_run_exports, pins_of};
use crate::conda::{ChannelError, workspace_root};
use crate::epoch::{CONDA_TYPES, OWN, PACKAGE_STREAMING, RATTLER, SHELL};
use crate::files::{FileIdentity, FilesSpec, GlobSet, OwnFiles};
use crate::package::{FetchPackageError, FetchPackageSpec};
use crate::prefix::{Force, LinkError, NoPython, install_here, remove_file, remove_tree};
use crate::records::Records;
use crate::source::{CheckoutError, SourceRecord, Use, changed, is_whole, written};
use crate::told::packages;

/// What builds are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildProfile {
    /// To be worked on: what is built from a directory may lead back to it.
    #[default]
    Development,
    /// To be given to others.
    Release,
}

/// A package, built from its sources and from what these are built with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceBuildSpec {
    /// The normalised name of the package, for people.
    pub package: String,
    /// The package.
    pub record: Interned<SourceRecord>,
    /// What is built for.
    pub context: Context,
    /// What for.
    pub profile: BuildProfile,
    /// Build it whatever is there already.
    pub force: Option<Force>,
}

impl fmt::Display for SourceBuildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "package {}", self.package)
    }
}

impl Spec for SourceBuildSpec {
    const KIND: &'static str = "source_build";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(format!("{self}, built"))
    }
}

/// A package that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltPackage {
    /// The archive.
    pub artifact: FileRef,
    /// The name of the archive.
    pub file_name: String,
    /// What it says of itself, with its hash and its size.
    pub record: PackageRecord,
}

impl BuiltPackage {
    /// How it differs from another one, for people.
    fn changes(&self, now: &Self) -> Vec<Change> {
        packages(std::iter::once(&self.record), std::iter::once(&now.record))
    }
}

impl Intern for BuiltPackage {
    const NAME: &'static str = "built package";
}

/// Why a package could not be built.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum SourceBuildError {
    /// The backend cannot be asked.
    #[error(transparent)]
    Backend(#[from] Failure<BackendMetadataError>),
    /// The backend offers no such package any more.
    #[error("{place} offers no `{package}` with the variant {variant}; it offers {}", offered.join("; "))]
    #[diagnostic(help("the sources changed since the environment was solved; solve it again"))]
    MissingOutput {
        /// The package.
        package: String,
        /// The source.
        place: String,
        /// The variant.
        variant: String,
        /// What there is.
        offered: Vec<String>,
    },
    /// What the backend says cannot be used.
    #[error("the backend says something about `{package}` that cannot be used: {error}")]
    #[diagnostic(forward(error))]
    Dependency {
        /// The package.
        package: String,
        /// What is wrong.
        error: DependencyError,
    },
    /// Packages that it is built with need a Python to be installed for, and there is none.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoPython(NoPython),
    /// A package that it is built with could not be built.
    #[error(transparent)]
    Dependencies(#[from] Failure<SourceBuildError>),
    /// A package that it is built with could not be fetched.
    #[error(transparent)]
    Fetch(#[from] Failure<FetchPackageError>),
    /// A package does not say what it exports.
    #[error(transparent)]
    RunExports(#[from] Failure<RunExportsError>),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] Failure<BackendBuildError>),
    /// It could not be found out what is missing.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for SourceBuildSpec {
    type Output = BuiltPackage;
    type Error = SourceBuildError;

    fn changes(&self, was: &BuiltPackage, now: &BuiltPackage, _: &Values<'_>) -> Option<Vec<Change>> {
        Some(was.changes(now))
    }

    fn compute(&self, db: &Db<'_>) -> Result<BuiltPackage, Halt<SourceBuildError>> {
        let record = db.value(&self.record)?;
        let context = db.value(&self.context)?;
        let for_build = db.intern(context.for_build())?;
        let dependency = |package: &str, record: &Interned<SourceRecord>, context: &Context| SourceBuildSpec {
            package: package.to_owned(),
            record: record.clone(),
            context: context.clone(),
            profile: self.profile,
            force: self.force.clone(),
        };
        let (build, host) =
            (Found::of(db, Arc::new(record.build.clone()))?, Found::of(db, Arc::new(record.host.clone()))?);
        for (kind, found) in [(Nested::Build, &build), (Nested::Host, &host)] {
            NoPython::check(|| format!("the {kind} environment of `{}`", self.package), found.packages())
                .map_err(|error| Halt::fail(SourceBuildError::NoPython(error)))?;
        }
        let specs = |records: &Records, found: &Found, context: &Context| -> Vec<SourceBuildSpec> {
            let both = records.sources().iter().zip(&found.built);
            both.map(|(name, record)| dependency(record.name(), name, context)).collect()
        };
        let (build_specs, host_specs) =
            (specs(&record.build, &build, &for_build), specs(&record.host, &host, &self.context));
        // What runs while this is built, and what it is built against, are built side by side.
        let (built_build, built_host) = db.join(|join| {
            let build = build_specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>();
            (build, host_specs.iter().map(|spec| join.get(spec)).collect::<Vec<_>>())
        })?;
        let metadata = db.get(&BuildBackendMetadataSpec {
            manifest: record.manifest.clone(),
            preferred_build_source: record.build_source.clone(),
            context: self.context.clone(),
        })?;
        let (output, index) = self.output(db, &metadata, &record)?;
        let question = self.question(db, &record, &output, &build, &host)?;
        let prefix = |records: &Records, built: &[Arc<BuiltPackage>]| Prefix {
            binary: records.as_slice().to_vec(),
            built: built.iter().map(|package| BuiltPackage::clone(package)).collect(),
        };
        let (build_prefix, host_prefix) = (prefix(&record.build, &built_build), prefix(&record.host, &built_host));
        let fetches: Vec<FetchPackageSpec> =
            build_prefix.binary.iter().chain(&host_prefix.binary).map(FetchPackageSpec::new).collect();
        db.join(|join| fetches.iter().map(|fetch| join.act(fetch)).collect::<Vec<_>>())?;
        let spec = BackendBuildSpec {
            package: self.package.clone(),
            instance: metadata.instance.clone(),
            output: index,
            question: db.intern(question)?,
            build_prefix: db.intern(build_prefix)?,
            host_prefix: db.intern(host_prefix)?,
            context: BuildContext::as_told(db, &self.context)?,
            profile: self.profile,
        };
        if let Some(force) = self.force.as_ref().filter(|force| force.is_for(&self.package)) {
            db.act(&BuildAgainSpec { build: spec.clone(), wish: force.wish, forced: true })?;
        }
        let built = db.act(&spec)?;
        // Whoever needed the archive did not find it.
        let missing = db.observe(&MissingArtifactsSpec)?;
        let Some(wish) = missing.get(&built.artifact.path) else { return Ok(BuiltPackage::clone(&built)) };
        db.act(&BuildAgainSpec { build: spec.clone(), wish: *wish, forced: false })?;
        Ok(BuiltPackage::clone(&*db.act(&spec)?))
    }
}

impl SourceBuildSpec {
    /// What the backend says of the package now: the output of its name whose variant says all that the record's says,
    /// and the least besides.
    fn output(
        &self,
        db: &Db<'_>,
        metadata: &BackendMetadata,
        record: &SourceRecord,
    ) -> Result<(Output, OutputName), Halt<SourceBuildError>> {
        let outputs = db.value(&metadata.outputs)?;
        let named: Vec<&Output> =
            outputs.0.iter().filter(|output| output.metadata.name.to_ascii_lowercase() == record.name()).collect();
        let says_all = |output: &&&Output| {
            record.variants.iter().all(|(name, value)| output.metadata.variant.get(name) == Some(value))
        };
        let found = named.iter().filter(says_all).min_by_key(|output| output.metadata.variant.len());
        let Some(found) = found else {
            return Err(Halt::fail(SourceBuildError::MissingOutput {
                package: self.package.clone(),
                place: record.manifest.to_string(),
                variant: written(&record.variants),
                offered: named.iter().map(|output| written(&output.metadata.variant)).collect(),
            }));
        };
        let name = OutputName {
            name: found.metadata.name.clone(),
            version: found.metadata.version.clone(),
            build: found.metadata.build.clone(),
            subdir: found.metadata.subdir.clone(),
            variant: found.metadata.variant.clone().into_iter().map(|(name, value)| (name, value.into())).collect(),
        };
        Ok(((*found).clone(), name))
    }

    /// What the backend is told of dependencies.
    fn question(
        &self,
        db: &Db<'_>,
        record: &SourceRecord,
        output: &Output,
        build: &Found,
        host: &Found,
    ) -> Result<BuildQuestion, Halt<SourceBuildError>> {
        let wrong = |error| Halt::fail(SourceBuildError::Dependency { package: self.package.clone(), error });
        let known = |kind, _: &Wanted| {
            Ok(match kind {
                Nested::Build => build.clone(),
                Nested::Host => host.clone(),
            })
        };
        let parts = assembled::<SourceBuildError>(db, output, &record.manifest, known, wrong)?;
        let deps = |needed: &[Needed]| needed.iter().map(Needed::dep).collect::<Result<Vec<Dep>, _>>();
        let limits = |constraints: &[crate::workspace::Requirement]| {
            let own = constraints.iter().map(|constraint| Needed::own(Said::Binary(constraint.clone())));
            own.map(|needed| needed.dep()).collect::<Result<Vec<Dep>, _>>()
        };
        let pins = pins_of([build, host]);
        let exports = own_run_exports(output, &pins).map_err(wrong)?;
        let mut extra = BTreeMap::new();
        for (group, named) in &output.extra_dependencies {
            let needed = own_list(named, &pins).map_err(wrong)?;
            extra.insert(group.clone(), deps(&needed).map_err(wrong)?);
        }
        Ok(BuildQuestion {
            build_dependencies: deps(&parts.build.needed).map_err(wrong)?,
            build_constraints: limits(&parts.build.constraints).map_err(wrong)?,
            host_dependencies: deps(&parts.host.needed).map_err(wrong)?,
            host_constraints: limits(&parts.host.constraints).map_err(wrong)?,
            run_dependencies: deps(&parts.run.needed).map_err(wrong)?,
            run_constraints: limits(&parts.run.constraints).map_err(wrong)?,
            weak: deps(&exports.weak).map_err(wrong)?,
            strong: deps(&exports.strong).map_err(wrong)?,
            noarch: deps(&exports.noarch).map_err(wrong)?,
            weak_constrains: limits(&exports.weak_constrains).map_err(wrong)?,
            strong_constrains: limits(&exports.strong_constrains).map_err(wrong)?,
            extra,
        })
    }
}

/// What a backend is told of dependencies when it builds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildQuestion {
    build_dependencies: Vec<Dep>,
    build_constraints: Vec<Dep>,
    host_dependencies: Vec<Dep>,
    host_constraints: Vec<Dep>,
    run_dependencies: Vec<Dep>,
    run_constraints: Vec<Dep>,
    weak: Vec<Dep>,
    strong: Vec<Dep>,
    noarch: Vec<Dep>,
    weak_constrains: Vec<Dep>,
    strong_constrains: Vec<Dep>,
    extra: BTreeMap<String, Vec<Dep>>,
}

impl Intern for BuildQuestion {
    const NAME: &'static str = "dependencies of a build";
}

/// What is installed for a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Packages of channels.
    pub binary: Vec<RepoDataRecord>,
    /// Packages that were built.
    pub built: Vec<BuiltPackage>,
}

impl Prefix {
    fn packages(&self) -> impl Iterator<Item = &PackageRecord> {
        let built = self.built.iter().map(|package| &package.record);
        self.binary.iter().map(|record| &record.package_record).chain(built)
    }
}

impl Intern for Prefix {
    const NAME: &'static str = "packages of a build";
}

/// Which package a backend is asked to build.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputName {
    name: String,
    version: String,
    build: String,
    subdir: String,
    variant: Vec<(String, Value)>,
}

/// The value of a variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<rattler_lock::VariantValue> for Value {
    fn from(value: rattler_lock::VariantValue) -> Self {
        match value {
            rattler_lock::VariantValue::String(text) => Self::Text(text),
            rattler_lock::VariantValue::Int(number) => Self::Number(number),
            rattler_lock::VariantValue::Bool(flag) => Self::Flag(flag),
        }
    }
}

impl From<Value> for rattler_lock::VariantValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::String(text),
            Value::Number(number) => Self::Int(number),
            Value::Flag(flag) => Self::Bool(flag),
        }
    }
}

/// Having a backend build a package.
///
/// It is run again when anything of this changes, or a file that the backend said to have read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackendBuildSpec {
    /// The normalised name of the package.
    pub package: String,
    /// The backend.
    pub instance: BackendInstance,
    /// What is built.
    pub output: OutputName,
    /// What it needs.
    pub question: Interned<BuildQuestion>,
    /// What runs the build.
    pub build_prefix: Interned<Prefix>,
    /// What is built against.
    pub host_prefix: Interned<Prefix>,
    /// What the backend is told of what is built for.
    pub context: Context,
    /// What for.
    pub profile: BuildProfile,
}

impl fmt::Display for BackendBuildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "build {} {} {}", self.output.name, self.output.version, self.output.build)
    }
}

impl Spec for BackendBuildSpec {
    const KIND: &'static str = "backend_build";
    const EPOCH: Epoch = Epoch::new(3, &[OWN, CONDA_TYPES, RATTLER, PACKAGE_STREAMING, SHELL]);

    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let (build_prefix, host_prefix) = (was.build_prefix.clone(), was.host_prefix.clone());
        if (Self { build_prefix, host_prefix, ..now.clone() }) != *was {
            return None;
        }
        let mut changes = Vec::new();
        for (was, now) in [(&was.build_prefix, &now.build_prefix), (&was.host_prefix, &now.host_prefix)] {
            let (was, now) = (values.get(was)?, values.get(now)?);
            changes.extend(packages(was.packages(), now.packages()));
        }
        // What else may differ is told field by field.
        Some(changes).filter(|changes| !changes.is_empty())
    }

    fn label(&self) -> Option<String> {
        Some(format!("build {} of {}", self.output.name, self.instance.manifest.location()))
    }
}

/// Having a package built again, whatever is known of it. Each wish is granted once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuildAgainSpec {
    /// The build.
    pub build: BackendBuildSpec,
    /// The wish.
    pub wish: RunId,
    /// Whether it is somebody's wish, or one of those who did not find the package.
    pub forced: bool,
}

impl fmt::Display for BuildAgainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} again", self.build)
    }
}

impl Spec for BuildAgainSpec {
    const KIND: &'static str = "build_again";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Action for BuildAgainSpec {
    type Output = ();
    type Error = BackendBuildError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<(), BackendBuildError> {
        let granted = ctx.resource::<MissingArtifacts>().is_none_or(|wishes| wishes.grant(self));
        if granted {
            // It is run again, and then this is.
            if self.forced {
                let gone = |what| BackendBuildError::NotAtHand(ChannelError::NotAtHand { what });
                let context = ctx.value(&self.build.context).await.ok_or_else(|| gone("what is built for"))?;
                let note = self.build.work(workspace_root(ctx)?.path(), &context).join(MADE_WITH);
                // It begins from nothing.
                remove_file(&note).map_err(|error| self.build.io(&note, error))?;
                ctx.remake_by_force(&self.build)
            } else {
                ctx.remake(&self.build)
            }
            return Err(BackendBuildError::NotAtHand(ChannelError::NotAtHand { what: "the build" }));
        }
        Ok(())
    }
}

/// Why a build failed.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum BackendBuildError {
    /// The backend failed, or could not be asked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Call(#[from] CallError),
    /// The backend built something else.
    #[error("the backend was asked for {wanted} and built {found}")]
    #[diagnostic(help("this is a defect of the backend, or its sources changed while it built"))]
    UnexpectedPackage {
        /// What it was asked for.
        wanted: String,
        /// What it says to have built.
        found: String,
    },
    /// What it names is not there, or no package.
    #[error("the backend says to have built `{path}`, which is no package: {message}")]
    Artifact {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The environments of the build could not be installed.
    #[error("the {kind} environment of the build of `{package}` cannot be installed")]
    Install {
        /// The package.
        package: String,
        /// Which environment.
        kind: &'static str,
        /// What went wrong.
        #[source]
        error: Arc<LinkError>,
    },
    /// A directory or file of ours could not be written.
    #[error("the build of `{package}` cannot be kept at `{}`", path.display())]
    #[diagnostic(help("check that the folder belongs to you and that the disk is not full"))]
    Io {
        /// The package.
        package: String,
        /// The place.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The path of the workspace leaves no room.
    #[error("the path of the workspace is too long to build `{package}` in it: {}", path.display())]
    #[diagnostic(help("a prefix has to be 255 bytes long at most; move the workspace to a shorter path"))]
    PathTooLong {
        /// The package.
        package: String,
        /// The directory of the build.
        path: PathBuf,
    },
    /// A package that was built before is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(Arc<FetchPackageError>),
    /// A value or a resource is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAtHand(#[from] ChannelError),
}

/// What lines begin with that are ours and not the backend's.
pub const NOTE: &str = "note: ";

/// Where artifacts are kept, in the workspace.
pub(crate) const ARTIFACTS: &str = ".pixi/doge/artifacts";
/// Where builds are made, in the workspace: not where pixi makes its own, which are none of ours. The name is short because
/// paths are.
pub(crate) const BUILDS: &str = ".pixi/doge/bld";
/// How long the path of a prefix is that is built against.
const PREFIX_LENGTH: usize = 255;

impl Action for BackendBuildSpec {
    type Output = BuiltPackage;
    type Error = BackendBuildError;

    fn changes(&self, was: &BuiltPackage, now: &BuiltPackage, _: &Values<'_>) -> Option<Vec<Change>> {
        Some(was.changes(now))
    }
    const RESOURCE: Resource = Resource::Build;
    const EXPENSIVE: bool = true;

    async fn run(&self, ctx: &ActionContext) -> Result<BuiltPackage, BackendBuildError> {
        let gone = |what| BackendBuildError::NotAtHand(ChannelError::NotAtHand { what });
        let context = ctx.value(&self.context).await.ok_or_else(|| gone("what is built for"))?;
        let question = ctx.value(&self.question).await.ok_or_else(|| gone("what the build needs"))?;
        let build = ctx.value(&self.build_prefix).await.ok_or_else(|| gone("the packages of the build"))?;
        let host = ctx.value(&self.host_prefix).await.ok_or_else(|| gone("the packages of the build"))?;
        let root = workspace_root(ctx)?.path().to_owned();
        let work = self.work(&root, &context);
        make(&work)?;
        // Whoever else builds the same here, with whatever cache, waits.
        let lock = crate::waiting::acquire_saying(ctx, &work.join(".lock"), "building").await;
        let (lock, has_waited) = lock.map_err(|source| self.io(&work, source))?;
        if has_waited && ctx.begin_again() {
            return Err(gone("what another process builds"));
        }
        ctx.hold(lock);
        let alone = work.join(ALONE);
        let by = if alone.is_file() { Use::Alone } else { Use::Shared };
        let ready = self.instance.ready(ctx, by).await;
        if by == Use::Shared && matches!(ready, Err(CallError::Checkout(CheckoutError::Gone { .. }))) {
            // Others write there. Whoever waits for it to be as it was, and then shares it again, may wait for ever.
            std::fs::write(&alone, b"").map_err(|source| self.io(&alone, source))?;
        }
        let ready = ready?;
        // Whoever had it and was killed may have left a backend that goes on in it.
        ready.backends.end_orphans().await;
        self.go_on_in(ctx, &work).await?;
        let build_path = work.join("bld");
        let host_path = self.padded(&work, &context)?;
        // What an earlier build left there is none of this one's packages.
        self.clear(ctx, &build_path).await?;
        self.clear(ctx, &host_path).await?;
        self.install(ctx, "build", &build_path, &build, &context.for_build()).await?;
        self.install(ctx, "host", &host_path, &host, &context).await?;

        let told = context.told(ctx)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let packages = |prefix: &Prefix| -> Vec<serde_json::Value> {
            let records = prefix.records(&root);
            records.iter().filter_map(|record| serde_json::to_value(record).ok()).collect()
        };
        let output_directory = work.join("out");
        self.clear(ctx, &output_directory).await?;
        make(&output_directory)?;
        let ask = AskBuild {
            channels: told.channels,
            build_prefix: Some(BuildPrefix {
                prefix: text(&build_path),
                platform: context.build.subdir.as_str().to_owned(),
                dependencies: question.build_dependencies.clone(),
                constraints: question.build_constraints.clone(),
                packages: packages(&build),
            }),
            host_prefix: Some(BuildPrefix {
                prefix: text(&host_path),
                platform: context.host.subdir.as_str().to_owned(),
                dependencies: question.host_dependencies.clone(),
                constraints: question.host_constraints.clone(),
                packages: packages(&host),
            }),
            run_dependencies: question.run_dependencies.clone(),
            run_constraints: question.run_constraints.clone(),
            run_exports: BuildRunExports {
                weak: question.weak.clone(),
                strong: question.strong.clone(),
                noarch: question.noarch.clone(),
                weak_constrains: question.weak_constrains.clone(),
                strong_constrains: question.strong_constrains.clone(),
            },
            extra_dependencies: question.extra.clone(),
            output: BuildOutput {
                name: self.output.name.clone(),
                version: Some(self.output.version.clone()),
                build: Some(self.output.build.clone()),
                subdir: self.output.subdir.clone(),
                variant: self.output.variant.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            },
            work_directory: text(&work),
            output_directory: Some(text(&output_directory)),
            editable: Some(self.profile == BuildProfile::Development && self.instance.is_mutable()),
            package_format: Some(PackageFormat {
                archive_type: ".conda".to_owned(),
                compression_level: if self.profile == BuildProfile::Release { "default" } else { "lowest" }.to_owned(),
            }),
        };
        let earlier = self.earlier(ctx, work.join(WRITTEN), &ready).await?;
        let patience = ready.backends.build_patience;
        let question = Question { method: "conda/build_v1", params: &ask, patience };
        // File times may lag behind the clock.
        let began = SystemTime::now() - Duration::from_millis(20);
        let built: Built = ready
            .backends
            .call(ctx, &ready.launch, &ready.initialize, question)
            .await
            .map_err(|error| self.instance.failed(error.with_text_from(&ready.manifest.directory)))?;
        self.as_asked(&built)?;
        self.undisturbed(ctx, &alone, by).await?;
        let globs = folded(built.input_glob_sets.as_ref(), &built.input_globs);
        self.instance.report_program(ctx);
        context.report_variant_files(ctx);
        let mut reads = self.instance.reads(&ready.discovered, &globs)?;
        let places = places_of(ctx, &ready.sources, &reads);
        for (directory, globs) in &places {
            crate::files::check(globs, directory).map_err(|error| CallError::Glob {
                place: self.instance.manifest.to_string(),
                message: error.to_string(),
            })?;
        }
        self.written_again(ctx, places, globs, &mut reads, earlier, began).await;
        for read in &reads {
            ctx.report_read(read);
        }
        let kept = self.keep(ctx, &root, &work, &built).await;
        // The archive is kept elsewhere; what else the backend wrote is its own.
        self.clear(ctx, &output_directory).await?;
        kept
    }
}

impl Prefix {
    /// The records of all packages, those that were built as they lie in the workspace.
    pub(crate) fn records(&self, root: &Path) -> Vec<RepoDataRecord> {
        let built = self.built.iter().filter_map(|package| package.repodata(root));
        self.binary.iter().cloned().chain(built).collect()
    }
}

impl BuiltPackage {
    /// The record of the archive where it is kept; nothing if its path is none.
    pub fn repodata(&self, root: &Path) -> Option<RepoDataRecord> {
        let url = Url::from_file_path(root.join(&self.artifact.path)).ok()?;
        Some(RepoDataRecord {
            package_record: self.record.clone(),
            identifier: CondaArchiveIdentifier::try_from_filename(&self.file_name)?.into(),
            url,
            channel: None,
        })
    }
}

impl BackendBuildSpec {
    fn io(&self, path: &Path, source: std::io::Error) -> BackendBuildError {
        BackendBuildError::Io { package: self.package.clone(), path: path.to_owned(), source: Arc::new(source) }
    }

    async fn clear(&self, ctx: &ActionContext, directory: &Path) -> Result<(), BackendBuildError> {
        let path = directory.to_owned();
        ctx.blocking(move || remove_tree(&path)).await.map_err(|error| self.io(directory, error))
    }

    /// The directory that is built in.
    fn work(&self, root: &Path, context: &BuildContext) -> PathBuf {
        root.join(BUILDS).join(&self.package).join(self.work_key(context))
    }

    /// Has the build go on from what the last one left, if that was made by the same backend and with the same packages.
    /// Those of channels bear the times of when they were made, so what was made of others would seem to be newer.
    async fn go_on_in(&self, ctx: &ActionContext, work: &Path) -> Result<(), BackendBuildError> {
        let made_with = (&self.instance.program, &self.build_prefix, &self.host_prefix);
        let made_with = Fingerprint::of(&rmp_serde::to_vec_named(&made_with).unwrap_or_default()).to_hex();
        let directory = work.to_owned();
        let begin = move || -> std::io::Result<()> {
            let note = directory.join(MADE_WITH);
            if std::fs::read_to_string(&note).is_ok_and(|said| said == made_with) {
                return Ok(());
            }
            // First, for whoever is killed has removed a part.
            remove_file(&note)?;
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    _ if OURS.iter().any(|ours| entry.file_name() == *ours) => {}
                    true => remove_tree(&entry.path())?,
                    false => remove_file(&entry.path())?,
                }
            }
            crate::whole::write_whole(&note, made_with.as_bytes())
        };
        ctx.blocking(begin).await.map_err(|error| self.io(work, error))
    }

    /// What tells a directory that is built in from others. It stays when only the sources change, so that a build can go
    /// on from what the last one left.
    fn work_key(&self, context: &BuildContext) -> String {
        let identity = (
            &self.instance.manifest,
            &self.instance.build_source,
            &self.output.name,
            &self.output.variant,
            (context.host.subdir, context.build.subdir),
            self.profile,
        );
        Fingerprint::of(&rmp_serde::to_vec_named(&identity).unwrap_or_default()).to_hex()[..12].to_owned()
    }

    /// The prefix that is built against. Its path is as long as can be, so that it can be replaced by any other.
    fn padded(&self, work: &Path, context: &BuildContext) -> Result<PathBuf, BackendBuildError> {
        if context.host.subdir.is_windows() {
            return Ok(work.join("host"));
        }
        const PADDING: &str = "_placehold";
        let begin = work.join("host");
        let length = begin.as_os_str().len();
        let Some(missing) = PREFIX_LENGTH.checked_sub(length) else {
            return Err(BackendBuildError::PathTooLong { package: self.package.clone(), path: work.to_owned() });
        };
        let padding: String = PADDING.chars().cycle().take(missing).collect();
        Ok(work.join(format!("host{padding}")))
    }

    async fn install(
        &self,
        ctx: &ActionContext,
        kind: &'static str,
        path: &Path,
        prefix: &Prefix,
        context: &BuildContext,
    ) -> Result<(), BackendBuildError> {
        make(path)?;
        let root = workspace_root(ctx)?.path().to_owned();
        let mut lost = None;
        for package in &prefix.built {
            // Those that are gone are built again together, and then this one.
            let record = package.repodata(&root).ok_or(ChannelError::NotAtHand { what: "a package that was built" })?;
            if let Err(error) = FetchPackageSpec::new(&record).run(ctx).await {
                lost.get_or_insert(BackendBuildError::Fetch(Arc::new(error)));
            }
        }
        if let Some(error) = lost {
            return Err(error);
        }
        let records = ctx
            .intern(Records::new(prefix.records(&root)))
            .map_err(|_| ChannelError::NotAtHand { what: "the packages of the build" })?;
        install_here(ctx, path, &records, context.host.subdir).await.map_err(|error| BackendBuildError::Install {
            package: self.package.clone(),
            kind,
            error: Arc::new(error),
        })
    }

    /// Sees to it that nobody else wrote into the checkouts that were built from. If somebody did, who may have been this
    /// build, it is made once more, alone with them.
    async fn undisturbed(&self, ctx: &ActionContext, alone: &Path, by: Use) -> Result<(), BackendBuildError> {
        let mut written = Vec::new();
        for pin in self.instance.places() {
            if !is_whole(ctx, pin).await.map_err(CallError::from)? {
                written.push(pin);
            }
        }
        match by {
            Use::Alone if written.is_empty() => {
                // It writes nothing there itself. If this cannot be removed it is alone the next time, too.
                let _ = std::fs::remove_file(alone);
            }
            Use::Shared if !written.is_empty() => {
                std::fs::write(alone, b"").map_err(|source| self.io(alone, source))?;
                let line = format!(
                    "{NOTE}the sources of `{}` were changed while it was built; it is built again, alone with them",
                    self.package
                );
                ctx.reporter().output_line(line);
                let changed: Vec<CheckoutError> = written.into_iter().map(|pin| changed(ctx, pin)).collect();
                return changed.into_iter().next().map_or(Ok(()), |error| Err(CallError::from(error).into()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses another package than the one that was asked for.
    fn as_asked(&self, built: &Built) -> Result<(), BackendBuildError> {
        let wanted = [&self.output.name, &self.output.version, &self.output.build, &self.output.subdir];
        let found = [&built.name, &built.version, &built.build, &built.subdir];
        if wanted == found {
            return Ok(());
        }
        let told = |parts: [&String; 4]| format!("`{}` {} {} for {}", parts[0], parts[1], parts[2], parts[3]);
        Err(BackendBuildError::UnexpectedPackage { wanted: told(wanted), found: told(found) })
    }

    /// What is known of the builds that were made here before, and what there is now of their inputs if they wrote into them.
    async fn earlier(&self, ctx: &ActionContext, list: PathBuf, ready: &Ready) -> Result<Earlier, CallError> {
        let written: Written =
            std::fs::read(&list).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let Some(ended) = written.ended.filter(|_| written.is_any()) else {
            return Ok(Earlier { list, written, there: Vec::new(), is_quiet: false });
        };
        let places = Arc::new(places_of(ctx, &ready.sources, &self.instance.reads(&ready.discovered, &written.globs)?));
        let files = written.files.iter().map(|files| files.keys().cloned().collect()).collect();
        let there = Inputs::of(ctx, &places, files).await;
        let is_quiet = written_since(ctx, &places, ended).await.iter().all(Vec::is_empty);
        Ok(Earlier { list, written, there, is_quiet })
    }

    /// Finds the files among its inputs that the build writes each time, see [`Written`]. If something was taken away from
    /// beside them it is built again to see, for that shows in nothing but the folder that they are written to.
    async fn written_again(
        &self,
        ctx: &ActionContext,
        places: Vec<Place>,
        globs: Vec<GlobSet>,
        reads: &mut [FilesSpec],
        earlier: Earlier,
        began: SystemTime,
    ) {
        let places = Arc::new(places);
        let written = written_since(ctx, &places, began).await;
        let mut list = Written { globs, files: vec![BTreeMap::new(); places.len()], ended: None };
        if written.iter().any(|files| !files.is_empty()) {
            let now = Inputs::of(ctx, &places, written).await;
            let is_comparable = list.globs == earlier.written.globs;
            for (place, now) in now.into_iter().enumerate() {
                let before = earlier.there.get(place).filter(|_| is_comparable);
                let known = earlier.written.files.get(place).filter(|_| is_comparable);
                let mut own = BTreeMap::new();
                for (path, identity) in now.files {
                    let is_same = before.is_some_and(|before| before.files.get(&path) == Some(&identity));
                    let count = known.and_then(|known| known.get(&path)).copied();
                    let count = match count {
                        Some(count) if is_same || count >= PROVEN => count,
                        Some(count) if earlier.is_quiet => count + 1,
                        _ => 1,
                    };
                    list.files[place].insert(path.clone(), count);
                    if is_same || count >= PROVEN {
                        own.insert(path, identity);
                    }
                }
                let is_all_there = before.is_some_and(|before| before.names.is_subset(&now.names));
                if own.is_empty() || !is_all_there {
                    continue;
                }
                for path in own.keys() {
                    let line = format!(
                        "{NOTE}the build of `{}` writes `{path}`, which it also reads; that it does says nothing",
                        self.package
                    );
                    ctx.reporter().output_line(line);
                }
                let names = crate::files::fingerprint_of(&now.names);
                reads[place].own = Some(OwnFiles { writer: RunId::new(), files: own, names });
            }
            list.ended = Some(SystemTime::now());
        }
        if list.is_any() || earlier.written.is_any() {
            // Without the list it is built once more.
            let _ = std::fs::write(earlier.list, serde_json::to_vec(&list).unwrap_or_default());
        }
    }

    /// Keeps what was built, by its content.
    async fn keep(
        &self,
        ctx: &ActionContext,
        root: &Path,
        work: &Path,
        built: &Built,
    ) -> Result<BuiltPackage, BackendBuildError> {
        let path = work.join(&built.output_file);
        let bad = |message: String| BackendBuildError::Artifact { path: built.output_file.clone(), message };
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if CondaArchiveIdentifier::try_from_filename(&file_name).is_none() {
            return Err(bad("its name is not one of a package".to_owned()));
        }
        let artifacts = root.join(ARTIFACTS);
        let (from, name) = (path, file_name.clone());
        let kept = ctx
            .blocking(move || -> Result<(FileRef, PackageRecord), Kept> {
                let bytes = std::fs::read(&from).map_err(Kept::Read)?;
                let content = Fingerprint::of(&bytes);
                let sha256 = rattler_digest::compute_bytes_digest::<rattler_digest::Sha256>(&bytes);
                let md5 = rattler_digest::compute_bytes_digest::<rattler_digest::Md5>(&bytes);
                let index: IndexJson = rattler_package_streaming::seek::read_package_file(&from)
                    .map_err(|error| Kept::Bad(error.to_string()))?;
                let run_exports = rattler_package_streaming::seek::read_package_file(&from).ok();
                let hex = content.to_hex();
                let directory = artifacts.join(&hex[..2]).join(&hex[2..18]);
                let place = directory.join(&name);
                // Also if it is there already: it may be damaged.
                std::fs::create_dir_all(&directory)
                    .and_then(|()| crate::whole::write_whole(&place, &bytes))
                    .map_err(|error| Kept::Write(place.clone(), error))?;
                let path = format!("{ARTIFACTS}/{}/{}/{name}", &hex[..2], &hex[2..18]);
                let size = bytes.len() as u64;
                let record = PackageRecord::from_index_json(index, Some(size), Some(sha256), Some(md5))
                    .map_err(|error| Kept::Bad(error.to_string()))?;
                let record = PackageRecord { run_exports, ..record };
                Ok((FileRef { root: Root::Workspace, path, size, content }, record))
            })
            .await;
        let (artifact, record) = kept.map_err(|error| match error {
            Kept::Read(error) => bad(error.to_string()),
            Kept::Bad(message) => bad(message),
            Kept::Write(path, error) => self.io(&path, error),
        })?;
        let says = [
            record.name.as_source().to_ascii_lowercase(),
            record.version.to_string(),
            record.build.to_string(),
            record.subdir.clone(),
        ];
        let wanted = [
            self.output.name.to_ascii_lowercase(),
            self.output.version.clone(),
            self.output.build.clone(),
            self.output.subdir.clone(),
        ];
        if says != wanted {
            let told = |parts: &[String; 4]| format!("`{}` {} {} for {}", parts[0], parts[1], parts[2], parts[3]);
            return Err(BackendBuildError::UnexpectedPackage { wanted: told(&wanted), found: told(&says) });
        }
        Ok(BuiltPackage { artifact, file_name, record })
    }
}

/// What says, in its directory, that a build has to be alone with the checkouts that it is made from.
const ALONE: &str = ".alone";

/// Where it is written down which of its inputs a build wrote, in its directory.
const WRITTEN: &str = ".written";

/// Which of its inputs a build wrote, as far as can be told: whoever edits a source while it is built writes it, too.
///
/// A file that is after a build what it was before it says nothing, whoever wrote it. One that is another after each build is
/// taken for what the build makes of it when that was so [`PROVEN`] times in a row, while nothing else happened in between.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Written {
    /// The globs of the inputs.
    globs: Vec<GlobSet>,
    /// The files, for each look at inputs in turn; and how many builds in a row made something else of each.
    files: Vec<BTreeMap<String, usize>>,
    /// When it was written down.
    ended: Option<SystemTime>,
}

/// How often a file has to be changed by builds alone to be taken for one that they change.
const PROVEN: usize = 3;

impl Written {
    fn is_any(&self) -> bool {
        self.files.iter().any(|files| !files.is_empty())
    }
}

/// Where it is written down what the builds in a directory are made with, so that what they left can be used.
const MADE_WITH: &str = ".made-with";

/// What is in the directory of a build that is none of the backend's.
const OURS: [&str; 4] = [".lock", ALONE, WRITTEN, MADE_WITH];

/// What there was before a build.
struct Earlier {
    /// Where it is written down.
    list: PathBuf,
    written: Written,
    /// The inputs, for each look in turn; nothing if none of them was written.
    there: Vec<Inputs>,
    /// Nothing was written there since.
    is_quiet: bool,
}

/// Where a look is made, and at what.
type Place = (PathBuf, Vec<GlobSet>);

fn places_of(ctx: &ActionContext, sources: &Path, reads: &[FilesSpec]) -> Vec<Place> {
    let base = |read: &FilesSpec| read.base(ctx.roots()).unwrap_or_else(|| sources.to_owned());
    reads.iter().map(|read| (base(read), read.globs.clone())).collect()
}

/// The files that were written since a moment, for each look in turn.
async fn written_since(ctx: &ActionContext, places: &Arc<Vec<Place>>, moment: SystemTime) -> Vec<Vec<String>> {
    let places = places.clone();
    let of_place = move |(base, globs): &Place| crate::files::written_since(base, globs, moment);
    ctx.blocking(move || places.iter().map(of_place).collect()).await
}

/// What is looked at.
struct Inputs {
    /// The names of everything.
    names: BTreeSet<String>,
    /// What is in some of the files.
    files: BTreeMap<String, FileIdentity>,
}

impl Inputs {
    /// What there is in each place, and what is in these files.
    async fn of(ctx: &ActionContext, places: &Arc<Vec<Place>>, files: Vec<Vec<String>>) -> Vec<Self> {
        let places = places.clone();
        let of_place = |((base, globs), files): (&Place, &Vec<String>)| Self {
            names: crate::files::names(base, globs),
            files: crate::files::identities(base, files.iter()),
        };
        ctx.blocking(move || places.iter().zip(&files).map(of_place).collect()).await
    }
}

/// What hindered keeping an artifact.
enum Kept {
    Read(std::io::Error),
    Bad(String),
    Write(PathBuf, std::io::Error),
}
