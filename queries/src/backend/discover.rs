//! Which backend builds what is in a directory.

use std::fmt;

use doge::{Action, ActionContext, AnyError, Db, Epoch, Failure, Halt, Intern, Interned, Query, Resource, Root, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::epoch::{CONDA_TYPES, OWN, TOML};
use crate::source::{
    CheckoutError, Manifests, ManifestsError, ManifestsSpec, PinnedSource, SourceLocation, Use, checkout_of,
    path_place, place_of, read_manifests, split_manifest, use_checkouts,
};
use crate::workspace::{
    BackendRequirement, Json, Location, ManifestError, ManifestOptions, ManifestText, PackageManifest, Requirement,
    ToolRequirement, WorkspaceRoot, parse_package,
};

/// The backend that reads `recipe.yaml`.
const RECIPE_BACKEND: &str = "pixi-build-rattler-build";
/// The backend that reads `package.xml`.
const ROS_BACKEND: &str = "pixi-build-ros";

/// Finding out which backend builds the package in a source, from the manifests there and above.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiscoverBackendSpec {
    /// Where the manifest is.
    pub manifest: PinnedSource,
}

impl fmt::Display for DiscoverBackendSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "build backend of {}", self.manifest)
    }
}

impl Spec for DiscoverBackendSpec {
    const KIND: &'static str = "discover_backend";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES, TOML]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The backend of a package, and what it is told about the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveredBackend {
    /// Which program, from which package.
    pub backend: BackendRequirement,
    /// Where the backend comes from; nothing for where the environment's packages come from.
    pub channels: Option<Vec<Location>>,
    /// The manifest, relative to the directory of the source; `.` for the directory itself.
    pub manifest: String,
    /// The directory of the source relative to that of its workspace: so many steps up.
    pub workspace: String,
    /// The package, as JSON.
    pub project_model: Option<Json>,
    /// What the manifest says to the backend, as JSON.
    pub configuration: Option<Json>,
    /// The same for some platforms only.
    pub target_configuration: Vec<(String, Json)>,
    /// Where the sources are, if not beside the manifest; as the manifest says it.
    pub build_source: Option<SourceLocation>,
    /// Variables that the backend has to see.
    pub secrets: Vec<String>,
}

impl Intern for DiscoveredBackend {
    const NAME: &'static str = "build backend";
}

/// Why there is no backend.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum DiscoverError {
    /// There is no such directory.
    #[error("there is no source at {place}")]
    #[diagnostic(help("check the path of the dependency; it is relative to the manifest that names it"))]
    NotFound {
        /// Where it should be.
        place: String,
    },
    /// There is nothing that says how to build it.
    #[error("nothing at {place} says how to build a package")]
    NoManifest {
        /// The source.
        place: String,
        /// What to do.
        #[help]
        help: String,
    },
    /// The manifest is one of a workspace only.
    #[error("the manifest `{manifest}` at {place} describes no package")]
    #[diagnostic(help("a package is described by `[package]`, with `[package.build.backend]`"))]
    NotAPackage {
        /// The source.
        place: String,
        /// The manifest.
        manifest: String,
    },
    /// Nowhere is a place for a workspace.
    #[error(transparent)]
    NoRoot(crate::workspace::RootNotAbsolute),
    /// The manifest cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(Box<ManifestError>),
    /// The manifests cannot be read.
    #[error(transparent)]
    Read(#[from] Failure<ManifestsError>),
    /// The sources are not at hand.
    #[error(transparent)]
    Checkout(#[from] Failure<CheckoutError>),
    /// The same, found while looking.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Place(#[from] CheckoutError),
    /// Something is not at hand.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

/// Reading the manifests of a checkout: those of the directory that is meant, and those of all above it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckoutManifestsSpec {
    /// The source.
    pub source: PinnedSource,
}

impl fmt::Display for CheckoutManifestsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifests of {}", self.source)
    }
}

impl Spec for CheckoutManifestsSpec {
    const KIND: &'static str = "checkout_manifests";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Action for CheckoutManifestsSpec {
    /// Those of the directory first.
    type Output = Vec<Manifests>;
    type Error = CheckoutError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<Vec<Manifests>, CheckoutError> {
        use_checkouts(ctx, [&self.source], Use::Shared).await?;
        let place = place_of(ctx, &self.source, Use::Shared).await?;
        let read = move || {
            let above = place.directory.ancestors().take_while(|directory| directory.starts_with(&place.top));
            above
                .map(|directory| read_manifests(directory).map(|(manifests, _)| manifests))
                .collect::<Result<Vec<_>, _>>()
        };
        let (path, source_name) = (std::path::PathBuf::new(), self.source.to_string());
        ctx.blocking(read).await.map_err(|error: ManifestsError| CheckoutError::Io {
            path: if error.path.as_os_str().is_empty() { path.join(source_name) } else { error.path.clone() },
            source: std::sync::Arc::new(std::io::Error::other(error)),
        })
    }
}

/// The manifests of a directory, and of one above it at a time.
enum Above {
    Observed { root: Root, directory: String },
    Read { all: std::sync::Arc<Vec<Manifests>>, at: usize },
}

impl Above {
    fn here(&self, db: &Db<'_>) -> Result<Manifests, Halt<DiscoverError>> {
        match self {
            Self::Observed { root, directory } => {
                let observed = ManifestsSpec { root: root.clone(), directory: directory.clone() };
                Ok(Manifests::clone(&*db.observe(&observed)?))
            }
            Self::Read { all, at } => Ok(all.get(*at).cloned().unwrap_or_default()),
        }
    }

    /// One directory up; nothing beyond the workspace, the checkout or the file system.
    fn up(self) -> Option<Self> {
        match self {
            Self::Observed { root, directory } if directory != "." && directory != "/" => {
                // What `..` is called is not known, so from outside of the workspace the way is not upwards by name.
                let directory = if directory.ends_with("..") {
                    return None;
                } else {
                    crate::source::normalized(&format!("{directory}/.."))
                };
                (!directory.starts_with("..")).then_some(Self::Observed { root, directory })
            }
            Self::Read { all, at } if at + 1 < all.len() => Some(Self::Read { all, at: at + 1 }),
            _ => None,
        }
    }
}

impl Query for DiscoverBackendSpec {
    type Output = Interned<DiscoveredBackend>;
    type Error = DiscoverError;

    fn compute(&self, db: &Db<'_>) -> Result<Interned<DiscoveredBackend>, Halt<DiscoverError>> {
        let (above, named) = match &self.manifest {
            PinnedSource::Path { path } => {
                let (directory, named) = split_manifest(path);
                let (root, directory) =
                    path_place(&directory).map_err(|error| Halt::fail(DiscoverError::Place(error)))?;
                (Above::Observed { root, directory }, named)
            }
            PinnedSource::Git { subdirectory, .. } | PinnedSource::Url { subdirectory, .. } => {
                checkout_of(db, &self.manifest)?;
                let all = db.act(&CheckoutManifestsSpec { source: self.manifest.clone() })?;
                (Above::Read { all, at: 0 }, split_manifest(subdirectory).1)
            }
        };
        let here = above.here(db)?;
        let place = || self.manifest.to_string();
        if !here.is_there {
            return Err(Halt::fail(DiscoverError::NotFound { place: place() }));
        }
        if let Some(recipe) = named.as_deref().filter(|named| named.starts_with("recipe.")) {
            return self.recipe(db, recipe, above);
        }
        if named.as_deref() == Some("package.xml") {
            return self.other(db, ROS_BACKEND, ".", true, above);
        }
        let candidates: Vec<(String, String)> = match &named {
            Some(named) => {
                let text = here.text(named).ok_or_else(|| Halt::fail(DiscoverError::NotFound { place: place() }))?;
                vec![(named.clone(), text.to_owned())]
            }
            None => here.manifests.clone(),
        };
        let mut described_none = None;
        for (name, text) in candidates {
            // A `pyproject.toml` may well say nothing of pixi.
            if named.is_none() && name == "pyproject.toml" && !text.contains("tool.pixi") {
                continue;
            }
            let (workspace, steps) = self.workspace(db, &name, &text, Above::start(&self.manifest, db)?)?;
            let own = ManifestText { file_name: &name, text: &text };
            let other = workspace.as_ref().map(|(name, text)| ManifestText { file_name: name, text });
            let root = anywhere().map_err(|error| Halt::fail(DiscoverError::NoRoot(error)))?;
            let way = self.way(steps);
            let parsed = parse_package(own, other.filter(|_| steps > 0), &root, &way, &ManifestOptions::default())
                .map_err(|error| Halt::fail(DiscoverError::Manifest(Box::new(error))))?;
            match parsed {
                Some(package) => return Ok(db.intern(described(package, name, steps))?),
                None => described_none = Some(name),
            }
            break;
        }
        let above = Above::start(&self.manifest, db)?;
        if let Some(recipe) = here.recipes.iter().find(|name| name.contains("recipe.")).filter(|_| named.is_none()) {
            return self.recipe(db, recipe, above);
        }
        if let Some(manifest) = described_none {
            return Err(Halt::fail(DiscoverError::NotAPackage { place: place(), manifest }));
        }
        let help = match here.recipes.iter().any(|name| name == "package.xml") {
            true => format!("to build the ROS package there, name its manifest: `{}/package.xml`", place()),
            false => "looked for `pixi.toml`, `pyproject.toml`, `mojoproject.toml` and `recipe.yaml`".to_owned(),
        };
        Err(Halt::fail(DiscoverError::NoManifest { place: place(), help }))
    }
}

impl Above {
    fn start(manifest: &PinnedSource, db: &Db<'_>) -> Result<Self, Halt<DiscoverError>> {
        Ok(match manifest {
            PinnedSource::Path { path } => {
                let (root, directory) =
                    path_place(&split_manifest(path).0).map_err(|error| Halt::fail(DiscoverError::Place(error)))?;
                Self::Observed { root, directory }
            }
            _ => Self::Read { all: db.act(&CheckoutManifestsSpec { source: manifest.clone() })?, at: 0 },
        })
    }
}

fn described(package: PackageManifest, manifest: String, steps: usize) -> DiscoveredBackend {
    let model = package.project_model.value().ok();
    let secrets =
        model.and_then(|model| serde_json::from_value(model.get("secrets")?.clone()).ok()).unwrap_or_default();
    DiscoveredBackend {
        backend: package.backend,
        channels: package.channels,
        manifest,
        workspace: up(steps),
        project_model: Some(package.project_model),
        configuration: package.configuration,
        target_configuration: package.target_configuration,
        build_source: package.build_source,
        secrets,
    }
}

/// A place for a workspace of which only matters what lies where in it.
fn anywhere() -> Result<WorkspaceRoot, crate::workspace::RootNotAbsolute> {
    WorkspaceRoot::new(if cfg!(windows) { "C:\\workspace" } else { "/workspace" })
}

fn up(steps: usize) -> String {
    if steps == 0 { ".".to_owned() } else { vec![".."; steps].join("/") }
}

/// Whether a manifest describes a workspace.
fn has_workspace(name: &str, text: &str) -> bool {
    // What cannot be read is told by whoever reads all of it.
    let Ok(table) = text.parse::<toml::Table>() else { return false };
    let of = |table: &toml::Table| table.contains_key("workspace") || table.contains_key("project");
    if name != "pyproject.toml" {
        return of(&table);
    }
    let pixi = table.get("tool").and_then(|tool| tool.get("pixi")).and_then(toml::Value::as_table);
    pixi.is_some_and(of)
}

/// The text of a manifest, with its name.
type Text = (String, String);

impl DiscoverBackendSpec {
    /// The way from so many directories further up to the directory of the manifest.
    fn way(&self, steps: usize) -> String {
        let (PinnedSource::Path { path }
        | PinnedSource::Git { subdirectory: path, .. }
        | PinnedSource::Url { subdirectory: path, .. }) = &self.manifest;
        let directory = split_manifest(path).0;
        let parts: Vec<&str> = directory.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let way = parts[parts.len().saturating_sub(steps)..].join("/");
        if way.is_empty() { ".".to_owned() } else { way }
    }

    /// The manifest of the workspace that a package belongs to, and how many directories further up it is.
    fn workspace(
        &self,
        db: &Db<'_>,
        name: &str,
        text: &str,
        above: Above,
    ) -> Result<(Option<Text>, usize), Halt<DiscoverError>> {
        if has_workspace(name, text) {
            return Ok((Some((name.to_owned(), text.to_owned())), 0));
        }
        let mut steps = 0;
        let mut above = above.up();
        while let Some(directory) = above {
            steps += 1;
            let manifests = directory.here(db)?;
            let found = manifests.manifests.iter().find(|(name, text)| has_workspace(name, text));
            if let Some(found) = found {
                return Ok((Some(found.clone()), steps));
            }
            above = directory.up();
        }
        Ok((None, 0))
    }

    fn recipe(
        &self,
        db: &Db<'_>,
        recipe: &str,
        above: Above,
    ) -> Result<Interned<DiscoveredBackend>, Halt<DiscoverError>> {
        self.other(db, RECIPE_BACKEND, recipe, false, above)
    }

    /// A package that is described by something else than a manifest of pixi.
    fn other(
        &self,
        db: &Db<'_>,
        backend: &str,
        manifest: &str,
        model: bool,
        above: Above,
    ) -> Result<Interned<DiscoveredBackend>, Halt<DiscoverError>> {
        // Only the ROS backend is told where the workspace is.
        let steps = if model { self.workspace(db, "", "", above)?.1 } else { 0 };
        Ok(db.intern(DiscoveredBackend {
            backend: BackendRequirement {
                name: backend.to_owned(),
                requirement: ToolRequirement::Package(Requirement {
                    name: backend.to_owned(),
                    spec: backend.to_owned(),
                    channel: None,
                    archive: None,
                }),
                additional: Vec::new(),
            },
            channels: None,
            manifest: manifest.to_owned(),
            workspace: up(steps),
            project_model: model.then(|| Json::from(&serde_json::json!({}))),
            configuration: None,
            target_configuration: Vec::new(),
            build_source: None,
            secrets: Vec::new(),
        })?)
    }
}
