//! What a backend says can be built from a source.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doge::{
    Action, ActionContext, AnyError, Db, Epoch, Failure, Fingerprint, Halt, Intern, Interned, Query, Resource, Spec,
};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use thiserror::Error;

use crate::backend::discover::{DiscoverBackendSpec, DiscoverError, DiscoveredBackend};
use crate::backend::error::{AtSource, BackendError};
use crate::backend::executable::{ExecutableSpec, find};
use crate::backend::memory::MemoryBackend;
use crate::backend::pool::{Backends, Question, activated, passed_on};
use crate::backend::process::{Launch, Program};
use crate::backend::protocol::{AskOutputs, Initialize, Output, Outputs, folded};
use crate::backend::tool::{
    InstallToolSpec, InstantiateToolEnvironmentSpec, ReadyToolError, ToolError, ToolNeeds, ToolPrefixes, ready_tool,
};
use crate::backend::variables::{VariableValue, Variables, VariablesSpec};
use crate::build::{BuildContext, Context};
use crate::conda::{ChannelError, workspace_root};
use crate::epoch::{CONDA_TYPES, OWN, SHELL};
use crate::files::{FilesSpec, GlobSet, naming};
use crate::source::{
    CheckoutError, PinError, PinnedSource, SourcePlace, Use, checkout_of, path_place, pin, place_of, split_manifest,
    use_checkouts, written,
};
use crate::workspace::{Json, Requirement, SourceRequirement, ToolRequirement};

/// What can be built from a source, in an environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuildBackendMetadataSpec {
    /// Where the manifest is.
    pub manifest: PinnedSource,
    /// Where the sources are, if that is decided already.
    pub preferred_build_source: Option<PinnedSource>,
    /// What is built for.
    pub context: Context,
}

impl fmt::Display for BuildBackendMetadataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packages of {}", self.manifest)
    }
}

impl Spec for BuildBackendMetadataSpec {
    const KIND: &'static str = "build_backend_metadata";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(format!("packages of {}", self.manifest.location()))
    }
}

/// What can be built from a source, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendMetadata {
    /// How to ask the backend further.
    pub instance: BackendInstance,
    /// The packages.
    pub outputs: Interned<OutputList>,
}

/// A backend that is told about a package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackendInstance {
    /// Where the manifest is.
    pub manifest: PinnedSource,
    /// Where the sources are, if not beside the manifest.
    pub build_source: Option<PinnedSource>,
    /// What the manifest says.
    pub discovered: Interned<DiscoveredBackend>,
    /// Which program.
    pub program: BackendProgram,
    /// The variables it gets to see besides the usual ones, with the hashes of their values.
    pub variables: Variables,
}

/// The program of a backend, by all that can make a difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendProgram {
    /// One of the system.
    System {
        /// A path, or a name that is looked for.
        program: String,
        /// What is in it.
        content: Fingerprint,
    },
    /// One in an environment of its own.
    Environment(InstallToolSpec),
    /// A part of this program: a [`MemoryBackend`](crate::backend::MemoryBackend).
    Memory {
        /// What tells it from others of its name.
        identity: String,
    },
}

/// The packages that can be built from a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutputList(pub Vec<Output>);

impl Intern for OutputList {
    const NAME: &'static str = "packages of a source";
}

/// Why it is not known what can be built.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum BackendMetadataError {
    /// There is no backend.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Discover(#[from] DiscoverError),
    /// The sources cannot be pinned.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pin(#[from] PinError),
    /// The sources are not at hand.
    #[error(transparent)]
    Checkout(#[from] Failure<CheckoutError>),
    /// The backend has no environment.
    #[error(transparent)]
    Tool(#[from] Failure<ToolError>),
    /// The environment of the backend is not ready.
    #[error(transparent)]
    Ready(#[from] ReadyToolError),
    /// A backend of the system that is not there.
    #[error("the program `{program}` of the build backend `{name}` cannot be found")]
    #[diagnostic(help("it is looked for on the `PATH`, because an override says that it is one of the system"))]
    NoProgram {
        /// The backend.
        name: String,
        /// The program.
        program: String,
    },
    /// The path of the sources leads out of the checkout.
    #[error("`{location}` leads out of {manifest}")]
    Outside {
        /// The path.
        location: String,
        /// The manifest.
        manifest: String,
    },
    /// The backend could not tell.
    #[error(transparent)]
    Outputs(#[from] Failure<CallError>),
    /// A variable or a program could not be looked at.
    #[error(transparent)]
    Never(#[from] Failure<Infallible>),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for BuildBackendMetadataSpec {
    type Output = BackendMetadata;
    type Error = BackendMetadataError;

    fn compute(&self, db: &Db<'_>) -> Result<BackendMetadata, Halt<BackendMetadataError>> {
        // As part of this one, for there are as many of the one as of the other.
        let discover = DiscoverBackendSpec { manifest: self.manifest.clone() };
        let name = discover.compute(db).map_err(|halt| halt.map(BackendMetadataError::from))?;
        let discovered = db.value(&name)?;
        let context = db.value(&self.context)?;
        let build_source = match &discovered.build_source {
            None => None,
            Some(said) => {
                let Some(location) = said.resolved(&self.manifest) else {
                    let (location, manifest) = (said.to_string(), self.manifest.to_string());
                    return Err(Halt::fail(BackendMetadataError::Outside { location, manifest }));
                };
                let preferred = self.preferred_build_source.iter().find(|pin| location.is_pinned_by(pin));
                Some(match preferred {
                    Some(pin) => pin.clone(),
                    None => pin(db, &location).map_err(|stop| stop.map(BackendMetadataError::from))?,
                })
            }
        };
        let program = self.program(db, &discovered, &context)?;
        checkout_of(db, &self.manifest)?;
        if let Some(build_source) = &build_source {
            checkout_of(db, build_source)?;
        }
        let variables = VariablesSpec::new(&discovered.secrets, &context.pass_env);
        let variables = match variables.names.is_empty() {
            true => BTreeMap::new(),
            false => BTreeMap::clone(&*db.observe(&variables)?),
        };
        let instance =
            BackendInstance { manifest: self.manifest.clone(), build_source, discovered: name, program, variables };
        let context = BuildContext::as_told(db, &self.context)?;
        db.act(&ReadyPlaceSpec)?;
        let outputs = db.act(&CallOutputsSpec { instance: instance.clone(), context })?;
        Ok(BackendMetadata { instance, outputs: Interned::clone(&outputs) })
    }
}

impl BuildBackendMetadataSpec {
    /// A package for the environment of a backend. Where it is built from is noted.
    fn package_of(
        &self,
        tool: &ToolRequirement,
        sources: &mut Vec<SourceRequirement>,
    ) -> Result<Requirement, Halt<BackendMetadataError>> {
        let source = match tool {
            ToolRequirement::Package(requirement) => return Ok(requirement.clone()),
            ToolRequirement::Source(source) => source,
        };
        let Some(location) = source.location.resolved(&self.manifest) else {
            let (location, manifest) = (source.location.to_string(), self.manifest.to_string());
            return Err(Halt::fail(BackendMetadataError::Outside { location, manifest }));
        };
        sources.push(SourceRequirement { location, ..source.clone() });
        Ok(Requirement { name: source.name.clone(), spec: source.name.clone(), channel: None, archive: None })
    }

    fn program(
        &self,
        db: &Db<'_>,
        discovered: &DiscoveredBackend,
        context: &BuildContext,
    ) -> Result<BackendProgram, Halt<BackendMetadataError>> {
        let name = &discovered.backend.name;
        if let Some(identity) = context.overrides.memory.get(name) {
            return Ok(BackendProgram::Memory { identity: identity.clone() });
        }
        if let Some(program) = context.overrides.program(name) {
            let content = *db.observe(&ExecutableSpec { program: program.clone() })?;
            let Some(content) = content else {
                return Err(Halt::fail(BackendMetadataError::NoProgram { name: name.clone(), program }));
            };
            return Ok(BackendProgram::System { program, content });
        }
        let mut sources = Vec::new();
        let requirement = self.package_of(&discovered.backend.requirement, &mut sources)?;
        let additional = discovered.backend.additional.iter().map(|tool| self.package_of(tool, &mut sources));
        let additional = additional.collect::<Result<Vec<_>, _>>()?;
        sources.sort();
        let channels = discovered.channels.clone().unwrap_or_else(|| context.channels.clone());
        let tool_context = (!sources.is_empty()).then(|| db.intern(context.for_tool(channels.clone()))).transpose()?;
        let tool = db.get(&InstantiateToolEnvironmentSpec {
            needs: ToolNeeds {
                requirement,
                additional,
                constraints: Vec::new(),
                channels,
                platform: context.tool.clone(),
                exclude_newer: context.exclude_newer.clone(),
                sources,
            },
            context: tool_context,
            offline: context.offline,
        })?;
        let install = InstallToolSpec {
            name: name.clone(),
            records: tool.records.clone(),
            built: tool.built.clone(),
            platform: context.tool.subdir,
        };
        ready_tool(db, &install).map_err(|stop| stop.map(BackendMetadataError::from))?;
        Ok(BackendProgram::Environment(install))
    }
}

/// Asking a backend what can be built.
///
/// The files that the backend says to have read are reported as read, unless they cannot change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallOutputsSpec {
    /// The backend.
    pub instance: BackendInstance,
    /// What it is told of what is built for.
    pub context: Context,
}

impl fmt::Display for CallOutputsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask for the packages of {}", self.instance.manifest)
    }
}

impl Spec for CallOutputsSpec {
    const KIND: &'static str = "call_outputs";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES, SHELL]);

    fn label(&self) -> Option<String> {
        Some(format!("ask for the packages of {}", self.instance.manifest.location()))
    }
}

/// Why a backend could not be asked, or what came of it.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum CallError {
    /// It failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Backend(AtSource),
    /// The sources are not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Checkout(#[from] CheckoutError),
    /// A value or a resource is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAtHand(#[from] ChannelError),
    /// A directory for the backend could not be made.
    #[error("the directory `{}` for the build backend cannot be made", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Two packages cannot be told apart.
    #[error("the backend of {place} offers `{package}` several times with the same variant: {}", variants.join("; "))]
    DuplicateVariants {
        /// The source.
        place: String,
        /// The package.
        package: String,
        /// The variants that are there twice.
        variants: Vec<String>,
    },
    /// A glob cannot be used.
    #[error("the backend of {place} names files by a pattern that cannot be used: {message}")]
    Glob {
        /// The source.
        place: String,
        /// What is wrong.
        message: String,
    },
}

/// A backend, ready to be asked.
pub(crate) struct Ready {
    pub(crate) backends: Arc<Backends>,
    pub(crate) launch: Launch,
    pub(crate) initialize: Initialize,
    /// What the manifest says.
    pub(crate) discovered: Arc<DiscoveredBackend>,
    /// Where the manifest is.
    pub(crate) manifest: SourcePlace,
    /// Where the sources are.
    pub(crate) sources: PathBuf,
}

impl BackendInstance {
    /// What is built may be another thing tomorrow.
    pub(crate) fn is_mutable(&self) -> bool {
        !self.sources().is_immutable() || !self.manifest.is_immutable()
    }

    /// Where the sources are.
    pub(crate) fn sources(&self) -> &PinnedSource {
        self.build_source.as_ref().unwrap_or(&self.manifest)
    }

    /// Where manifest and sources are.
    pub(crate) fn places(&self) -> impl Iterator<Item = &PinnedSource> {
        std::iter::once(&self.manifest).chain(&self.build_source)
    }

    /// Finds everything that the backend has to be told. Its checkouts are used in this way until the work has ended.
    pub(crate) async fn ready(&self, ctx: &ActionContext, by: Use) -> Result<Ready, CallError> {
        let gone = |what| CallError::NotAtHand(ChannelError::NotAtHand { what });
        let backends = ctx.resource::<Backends>().ok_or_else(|| gone("the access to build backends"))?;
        let discovered = ctx.value(&self.discovered).await.ok_or_else(|| gone("the build backend"))?;
        use_checkouts(ctx, self.places(), by).await?;
        let manifest = place_of(ctx, &self.manifest, by).await?;
        let build_source = match &self.build_source {
            Some(build_source) => Some(place_of(ctx, build_source, by).await?),
            None => None,
        };
        let sources = build_source.as_ref().unwrap_or(&manifest).directory.clone();
        let root = workspace_root(ctx)?;
        let scratch = root.path().join(SCRATCH);
        if !scratch.is_dir() {
            ctx.remake(&ReadyPlaceSpec);
            return Err(gone("the place of builds"));
        }
        make(&backends.cache)?;
        let names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
        // What is not kept of variables is not shown of output either.
        let hidden = self.variables.iter().filter(|(_, value)| matches!(value, VariableValue::Hidden(_)));
        let mut secrets: Vec<String> = hidden.filter_map(|(name, _)| std::env::var(name).ok()).collect();
        // Of an address with a login in it, the password is the secret, wherever it stands.
        let passwords = secrets.iter().filter_map(|value| Some(url::Url::parse(value).ok()?.password()?.to_owned()));
        secrets.extend(passwords.collect::<Vec<_>>());
        let name = discovered.backend.name.clone();
        let (program, environment) = match &self.program {
            BackendProgram::System { program, .. } => {
                let mut environment = passed_on(names.into_iter().chain(["PATH"]));
                environment.entry("PATH".to_owned()).or_default();
                let missing = || BackendError::Missing { name: name.clone(), program: program.clone() };
                let path = find(program, std::env::var_os("PATH").as_deref());
                let path = path.ok_or_else(|| self.failed(missing()))?;
                (Program::File(std::path::absolute(&path).unwrap_or(path)), environment)
            }
            BackendProgram::Memory { identity } => {
                let is_meant = |backend: &Arc<dyn MemoryBackend>| backend.identity() == *identity;
                let backend = backends.memory.get(&name).filter(is_meant);
                let missing = || BackendError::Missing { name: name.clone(), program: format!("memory:{name}") };
                (Program::Memory(backend.ok_or_else(|| self.failed(missing()))?), BTreeMap::new())
            }
            BackendProgram::Environment(install) => {
                let prefixes = ctx.resource::<ToolPrefixes>().ok_or_else(|| gone("the place of tools"))?;
                let prefix = prefixes.prefix(install);
                if !ToolPrefixes::is_complete(&prefix) {
                    ctx.remake(install);
                    return Err(gone("the environment of the build backend"));
                }
                let (base, platform) = (passed_on(names), install.platform);
                let inside = prefix.clone();
                let activated = ctx.blocking(move || activated(&inside, platform, &base)).await;
                let environment = activated
                    .map_err(|message| self.failed(BackendError::Activation { name: name.clone(), message }))?;
                let path = environment.get("PATH").map(std::ffi::OsString::from);
                let found = find(&name, path.as_deref()).filter(|program| program.starts_with(&prefix));
                let Some(found) = found else {
                    // Somebody may have damaged it. If it is no better when it is made anew, this is what is wrong.
                    ToolPrefixes::distrust(&prefix);
                    ctx.remake(install);
                    let program = prefix.join("bin").join(&name).display().to_string();
                    return Err(self.failed(BackendError::Missing { name, program }));
                };
                (Program::File(found), environment)
            }
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let json = |text: &Json| text.value().ok();
        let targets: serde_json::Map<String, serde_json::Value> = discovered
            .target_configuration
            .iter()
            .filter_map(|(target, text)| Some((target.clone(), json(text)?)))
            .collect();
        let initialize = Initialize {
            manifest_path: text(&manifest.directory.join(match discovered.manifest.as_str() {
                "." => "",
                name => name,
            }))
            .trim_end_matches('/')
            .to_owned(),
            source_directory: text(&sources),
            workspace_directory: text(&normalized(&manifest.directory.join(&discovered.workspace))),
            checkout_root: self.manifest.is_immutable().then(|| text(&manifest.top)),
            cache_directory: text(&backends.cache),
            workspace_scratch_directory: text(&scratch),
            project_model: discovered.project_model.as_ref().and_then(json),
            configuration: discovered.configuration.as_ref().and_then(json),
            target_configuration: Some(targets).filter(|targets| !targets.is_empty()),
        };
        let directory = if sources.is_dir() { sources.clone() } else { root.path().to_owned() };
        // A process that is kept knows the checkout it was told about, and none that was made in its place.
        let made = (manifest.made, build_source.as_ref().and_then(|place| place.made));
        let identity = Fingerprint::of(&rmp_serde::to_vec_named(&(&self.program, made)).unwrap_or_default());
        let lasting = !self.is_mutable();
        let launch = Launch { name, program, identity, environment, directory, secrets, lasting };
        Ok(Ready { backends, launch, initialize, discovered, manifest, sources })
    }

    /// Tells the engine which program was run, if it may have been replaced meanwhile.
    pub(crate) fn report_program(&self, ctx: &ActionContext) {
        if let BackendProgram::System { program, .. } = &self.program {
            ctx.report_read(&ExecutableSpec { program: program.clone() });
        }
    }

    /// An error of the backend, with the source it is about.
    pub(crate) fn failed(&self, error: BackendError) -> CallError {
        CallError::Backend(AtSource { place: self.manifest.to_string(), error: Arc::new(error) })
    }

    /// The files that these globs match among the sources, and the manifest, if they can change.
    pub(crate) fn reads(&self, discovered: &DiscoveredBackend, globs: &[GlobSet]) -> Result<Vec<FilesSpec>, CallError> {
        let mut reads = Vec::new();
        if let PinnedSource::Path { path } = self.sources()
            && !globs.is_empty()
        {
            let (root, directory) = path_place(&split_manifest(path).0)?;
            reads.push(FilesSpec { root, directory, globs: globs.to_vec(), own: None });
        }
        // What a manifest of pixi says is known already; of others only the backend knows what it reads, and where the
        // manifest is not beside the sources its globs do not reach it.
        let manifest = match discovered.manifest.as_str() {
            "." => Some("package.xml"),
            manifest => Some(manifest).filter(|_| discovered.project_model.is_none()),
        };
        if let PinnedSource::Path { path } = &self.manifest
            && let Some(manifest) = manifest
        {
            let (root, directory) = path_place(&split_manifest(path).0)?;
            let patterns = vec![naming(manifest)];
            let globs = vec![GlobSet { patterns, markers: Vec::new(), exclude_hidden: false, root: None }];
            reads.push(FilesSpec { root, directory, globs, own: None });
        }
        Ok(reads)
    }
}

fn normalized(path: &Path) -> PathBuf {
    PathBuf::from(crate::source::normalized(&path.to_string_lossy()))
}

/// Where backends work while they tell what can be built, in the workspace.
pub(crate) const QUESTIONS: &str = ".pixi/doge/work";
/// Where backends may keep things for a workspace.
const SCRATCH: &str = ".pixi/doge/scratch";

/// Making the directories of the workspace that builds need.
///
/// It is done before any backend is asked. The directory of the workspace may be one that a backend looks at, and if it
/// changed meanwhile, what was made of it could not be used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadyPlaceSpec;

impl fmt::Display for ReadyPlaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("make the place of builds")
    }
}

impl Spec for ReadyPlaceSpec {
    const KIND: &'static str = "ready_place";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Action for ReadyPlaceSpec {
    type Output = ();
    type Error = CallError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<(), CallError> {
        let scratch = workspace_root(ctx)?.path().join(SCRATCH);
        if !scratch.is_dir() {
            make(&scratch)?;
            crate::waiting::file_times().await;
        }
        Ok(())
    }
}

/// Makes a directory.
pub(crate) fn make(directory: &Path) -> Result<(), CallError> {
    std::fs::create_dir_all(directory)
        .map_err(|source| CallError::Directory { path: directory.to_owned(), source: Arc::new(source) })
}

/// What is said to a backend of a context: channels, and where the variants are.
pub(crate) struct Told {
    pub(crate) channels: Vec<String>,
    pub(crate) variant_files: Vec<String>,
}

impl BuildContext {
    pub(crate) fn told(&self, ctx: &ActionContext) -> Result<Told, CallError> {
        let root = workspace_root(ctx)?;
        let channels = self.channels.iter().map(|channel| channel.directory_url(&root).to_string()).collect();
        let file = |(path, _): &(String, _)| normalized(&root.path().join(path)).to_string_lossy().into_owned();
        Ok(Told { channels, variant_files: self.variant_files.iter().map(file).collect() })
    }
}

impl Action for CallOutputsSpec {
    type Output = Interned<OutputList>;
    type Error = CallError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Interned<OutputList>, CallError> {
        let gone = |what| CallError::NotAtHand(ChannelError::NotAtHand { what });
        let context = ctx.value(&self.context).await.ok_or_else(|| gone("what is built for"))?;
        let work = self.work_directory(ctx)?;
        make(&work)?;
        // Whoever else asks the same here waits, and nobody collects the directory meanwhile.
        let lock = crate::waiting::acquire(ctx, &work.join(".lock"), "asking a build backend").await;
        ctx.hold(lock.map_err(|source| CallError::Directory { path: work.clone(), source: Arc::new(source) })?);
        let ready = self.instance.ready(ctx, Use::Shared).await?;
        let told = context.told(ctx)?;
        let ask = AskOutputs {
            channels: told.channels,
            host_platform: context.host.subdir.as_str().to_owned(),
            build_platform: context.build.subdir.as_str().to_owned(),
            variant_configuration: Some(context.variants.clone()),
            variant_files: Some(told.variant_files),
            work_directory: work.to_string_lossy().into_owned(),
        };
        let patience = ready.backends.patience;
        let question = Question { method: "conda/outputs", params: &ask, patience };
        let answer: Outputs = ready
            .backends
            .call(ctx, &ready.launch, &ready.initialize, question)
            .await
            .map_err(|error| self.instance.failed(error.with_text_from(&ready.manifest.directory)))?;
        self.distinct(&answer.outputs)?;
        let globs = folded(answer.input_glob_sets.as_ref(), &answer.input_globs);
        self.instance.report_program(ctx);
        context.report_variant_files(ctx);
        for read in self.instance.reads(&ready.discovered, &globs)? {
            crate::files::check(&read.globs, &ready.sources).map_err(|error| CallError::Glob {
                place: self.instance.manifest.to_string(),
                message: error.to_string(),
            })?;
            ctx.report_read(&read);
        }
        ctx.intern(OutputList(answer.outputs)).map_err(|_| gone("the list of packages"))
    }
}

impl CallOutputsSpec {
    /// Where the backend may work while it tells what can be built: where no other question is answered at the same time.
    fn work_directory(&self, ctx: &ActionContext) -> Result<PathBuf, CallError> {
        let identity = rmp_serde::to_vec_named(self).unwrap_or_default();
        let name = format!("{}-{}", self.instance.manifest.human_name(), &Fingerprint::of(&identity).to_hex()[..16]);
        Ok(workspace_root(ctx)?.path().join(QUESTIONS).join(name))
    }

    /// Packages of one name have to be told apart by their variants.
    fn distinct(&self, outputs: &[Output]) -> Result<(), CallError> {
        let mut seen: BTreeMap<(&str, &BTreeMap<String, rattler_lock::VariantValue>), usize> = BTreeMap::new();
        for output in outputs {
            *seen.entry((&output.metadata.name, &output.metadata.variant)).or_default() += 1;
        }
        let twice: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect();
        let Some((package, _)) = twice.first() else { return Ok(()) };
        let variants = twice.iter().filter(|(name, _)| name == package).map(|(_, variant)| written(variant)).collect();
        let place = self.instance.manifest.to_string();
        Err(CallError::DuplicateVariants { place, package: (*package).to_owned(), variants })
    }
}
