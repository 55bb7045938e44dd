//! The database with everything that is needed for conda work.

use std::path::{Path, PathBuf};

use doge::{Builder, Database, History, Root, Roots};
use rattler_cache::package_cache::PackageCache;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Backends, BuildBackendMetadataSpec, CallOutputsSpec, CheckoutManifestsSpec, ChosenAnew, ChosenToolSpec,
    DiscoverBackendSpec, ExecutableSpec, InstallToolSpec, InstantiateToolEnvironmentSpec, KeepToolSpec, MemoryBackends,
    ReadyPlaceSpec, SecretKey, ToolPrefixes, VariablesSpec,
};
use crate::build::{
    BackendBuildSpec, BuildAgainSpec, DevSourceMetadataSpec, MissingArtifacts, MissingArtifactsSpec,
    ReadRunExportsSpec, ResolveSourcesSpec, RunDependencySpec, SolvePixiEnvironmentSpec, SourceAsLockedSpec,
    SourceBuildSpec, SourceMetadataSpec,
};
use crate::conda::{
    Access, CachedPackagesSpec, ChannelIndexSpec, ChannelStateSpec, Channels, CutoffRankSpec, MachineSpec,
    MatchLockedRecordsSpec, NetworkError, NetworkOptions, ReadShardSpec, RecordClosureSpec, RecordTimesSpec,
    SolveCondaEnvironmentSpec, WorkspacePlaceSpec,
};
use crate::environment::{
    CheckLockSpec, InstallWorkspaceEnvironmentSpec, LockFileSpec, LockWorkspaceSpec, OfferedPackagesSpec,
    ReadManifestSpec, RememberedSolutionSpec, Solutions, SolveUnitSpec, TakeRecordsSpec, WriteLockFileSpec,
};
use crate::files::FilesSpec;
use crate::logs::Logs;
use crate::package::{FetchPackageSpec, Packages};
use crate::prefix::{InstallPixiEnvironmentSpec, LinkPrefixSpec, PrefixStateSpec};
use crate::reporters::{Dispatch, Reporters};
use crate::source::{
    ArchiveContentSpec, CheckoutGitSpec, CheckoutUrlSpec, GitReferenceSpec, Logins, ManifestsSpec, Sources, Written,
};

/// The variable that names the cache directory.
pub const CACHE_DIR: &str = "DOGE_CACHE_DIR";

/// Where things are kept between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDirs {
    /// Extracted packages. May be shared with pixi and other tools of its family.
    pub packages: PathBuf,
    /// Repodata. May be shared likewise.
    pub repodata: PathBuf,
    /// Results and their traces, and locks between processes.
    pub store: PathBuf,
    /// Solutions, below which each workspace has a directory.
    pub solutions: PathBuf,
    /// Repositories and archives with sources, and checkouts of them.
    pub sources: PathBuf,
    /// Environments of build backends, and what these keep.
    pub tools: PathBuf,
}

impl CacheDirs {
    /// Where what builds write is kept; see [`crate::logs`].
    pub fn logs(&self) -> PathBuf {
        self.store.join("logs")
    }

    /// All below one directory.
    pub fn below(root: &Path) -> Self {
        Self {
            packages: root.join("pkgs"),
            repodata: root.join("repodata"),
            store: root.join("doge"),
            solutions: root.join("doge").join("solutions"),
            sources: root.join("sources"),
            tools: root.join("tools"),
        }
    }

    /// All below the directory that the environment asks for: `DOGE_CACHE_DIR`, else what pixi would take.
    ///
    /// That is `PIXI_CACHE_DIR`, `RATTLER_CACHE_DIR`, `pixi` in `XDG_CACHE_HOME` if that is there, or `rattler/cache`
    /// in the user's cache directory. `None` if the system has no such directory.
    pub fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let pixi_of_xdg = || variable("XDG_CACHE_HOME").map(|home| home.join("pixi")).filter(|path| path.is_dir());
        let root = variable(CACHE_DIR)
            .or_else(|| variable("PIXI_CACHE_DIR"))
            .or_else(|| variable("RATTLER_CACHE_DIR"))
            .or_else(pixi_of_xdg)
            .or_else(|| rattler::default_cache_dir().ok())?;
        Some(Self::below(&std::path::absolute(&root).unwrap_or(root)))
    }

    /// Every directory with what it is for.
    pub fn all(&self) -> [(&'static str, &Path); 5] {
        [
            ("packages", &self.packages),
            ("repodata", &self.repodata),
            ("results", &self.store),
            ("sources", &self.sources),
            ("tools", &self.tools),
        ]
    }
}

/// What a database for conda work is made of.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// The root of the workspace. Its paths stand relative to it, so that a workspace can be moved.
    pub workspace: PathBuf,
    /// Where things are kept.
    pub caches: CacheDirs,
    /// How the network is used.
    pub network: NetworkOptions,
    /// Ask servers whatever they said before.
    pub refresh: bool,
    /// Keep results between runs, and use those of earlier ones.
    pub persist: bool,
    /// Which environments of build backends are chosen anew.
    pub chosen_anew: Arc<ChosenAnew>,
    /// Build backends that are parts of this program. They are asked where the overrides of a build name them.
    pub memory_backends: MemoryBackends,
    /// Who is told of operations.
    pub reporters: Reporters,
    /// How long is waited for a build backend, if not as long as usual.
    pub backend_patience: Option<Duration>,
}

impl DatabaseOptions {
    /// A database for a workspace, with these caches and otherwise as most people want it.
    pub fn new(workspace: impl Into<PathBuf>, caches: CacheDirs) -> Self {
        Self {
            workspace: workspace.into(),
            caches,
            network: NetworkOptions::default(),
            refresh: false,
            persist: true,
            chosen_anew: Arc::default(),
            memory_backends: MemoryBackends::default(),
            reporters: Reporters::default(),
            backend_patience: None,
        }
    }

    /// What tells the workspace from others in a store that they share.
    pub fn scope(&self) -> String {
        self.workspace.display().to_string()
    }

    /// A builder that knows all kinds of this crate and what they use.
    ///
    /// # Errors
    ///
    /// If a file with credentials was named and cannot be read.
    pub fn builder(&self) -> Result<Builder, NetworkError> {
        let client = self.network.client()?;
        let access = match (self.network.offline, self.refresh) {
            (true, _) => Access::Offline,
            (false, true) => Access::Refresh,
            (false, false) => Access::Online,
        };
        let channels = Arc::new(Channels::new(client.clone(), &self.caches.repodata, access));
        let packages = Packages {
            cache: PackageCache::new(&self.caches.packages),
            directory: self.caches.packages.clone(),
            client,
            offline: self.network.offline,
        };
        let written = Written::default();
        written.look_in(&self.workspace);
        let sources = Sources {
            directory: self.caches.sources.clone(),
            client: packages.client.clone(),
            offline: packages.offline,
            logins: Logins::new(self.network.clone(), written.clone()),
            written,
        };
        let mut backends = Backends::new(self.caches.tools.join("cache"), &self.workspace);
        backends.memory = self.memory_backends.clone();
        if let Some(patience) = self.backend_patience {
            backends.patience = patience;
            backends.build_patience = patience;
        }
        let backends = Arc::new(backends);
        let roots = Roots::default().with(Root::Workspace, &self.workspace).with(Root::Cache, &self.caches.packages);
        let forget = Arc::clone(&channels);
        let mut builder = kinds(Database::builder())
            .roots(roots)
            .scope(self.scope())
            .resource(packages)
            .resource(sources)
            .resource_shared(backends.clone())
            .resource(ToolPrefixes { directory: self.caches.tools.join("envs") })
            .resource(SecretKey { path: self.caches.store.join("secret-key") })
            .resource(MissingArtifacts::default())
            .resource_shared(self.chosen_anew.clone())
            .resource_shared(channels)
            .locks(self.caches.store.join("locks"))
            .on_refresh(move || forget.forget())
            .on_close(move || backends.end_idle());
        if let Some(dispatch) = Dispatch::to(&self.reporters) {
            builder = builder.tells_waits().listener(move |event| dispatch.hear(event));
        }
        if self.persist {
            let workspace = blake3::hash(self.workspace.as_os_str().as_encoded_bytes()).to_hex();
            let logs = Logs::in_directory(self.caches.logs());
            builder = builder
                .store(&self.caches.store)
                .listener(move |event| logs.hear(event))
                .resource(Solutions { directory: self.caches.solutions.join(&workspace[..16]) });
        }
        Ok(builder)
    }
}

/// What a store remembers of earlier runs, told in the words of conda. Nothing is written.
pub fn history(caches: &CacheDirs) -> History {
    kinds(Database::builder()).history(&caches.store)
}

/// Makes all kinds of this crate known.
pub fn kinds(builder: Builder) -> Builder {
    builder
        .observation::<ArchiveContentSpec>()
        .observation::<CachedPackagesSpec>()
        .observation::<ChannelStateSpec>()
        .observation::<ChosenToolSpec>()
        .observation::<CutoffRankSpec>()
        .observation::<ExecutableSpec>()
        .observation::<FilesSpec>()
        .observation::<GitReferenceSpec>()
        .observation::<LockFileSpec>()
        .observation::<MachineSpec>()
        .observation::<ManifestsSpec>()
        .observation::<MissingArtifactsSpec>()
        .observation::<PrefixStateSpec>()
        .observation::<RememberedSolutionSpec>()
        .observation::<VariablesSpec>()
        .observation::<WorkspacePlaceSpec>()
        .action::<BackendBuildSpec>()
        .action::<BuildAgainSpec>()
        .action::<CallOutputsSpec>()
        .action::<ReadyPlaceSpec>()
        .action::<CheckoutGitSpec>()
        .action::<CheckoutManifestsSpec>()
        .action::<CheckoutUrlSpec>()
        .action::<InstallToolSpec>()
        .action::<ReadRunExportsSpec>()
        .action::<ChannelIndexSpec>()
        .action::<CheckLockSpec>()
        .action::<FetchPackageSpec>()
        .action::<MatchLockedRecordsSpec>()
        .action::<ReadManifestSpec>()
        .action::<ReadShardSpec>()
        .action::<RecordTimesSpec>()
        .action::<SolveCondaEnvironmentSpec>()
        .action::<TakeRecordsSpec>()
        .query::<BuildBackendMetadataSpec>()
        .query::<DevSourceMetadataSpec>()
        .query::<DiscoverBackendSpec>()
        .query::<InstallPixiEnvironmentSpec>()
        .query::<InstantiateToolEnvironmentSpec>()
        .query::<InstallWorkspaceEnvironmentSpec>()
        .query::<LockWorkspaceSpec>()
        .query::<OfferedPackagesSpec>()
        .query::<RecordClosureSpec>()
        .query::<ResolveSourcesSpec>()
        .query::<RunDependencySpec>()
        .query::<SolvePixiEnvironmentSpec>()
        .query::<SolveUnitSpec>()
        .query::<SourceAsLockedSpec>()
        .query::<SourceBuildSpec>()
        .query::<SourceMetadataSpec>()
        .effect::<KeepToolSpec>()
        .effect::<LinkPrefixSpec>()
        .effect::<WriteLockFileSpec>()
}
