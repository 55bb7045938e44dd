//! A package as its manifest describes it, and what its build backend is told of it.
//!
//! `[package]` of a `pixi.toml` (or `[tool.pixi.package]` of a `pyproject.toml`) is read into a [`PackageManifest`]:
//! the project model in the form of the build protocol, the backend that understands it, and where the sources are.
//! Fields may be taken over from the workspace the package is in, so its manifest is asked for as well.
//!
//! **Invariant:** a [`PackageManifest`] is a function of its arguments; neither disk nor environment is asked. Paths in
//! it stay relative to the directory of the manifest, as the manifest says them. No URL in it has credentials.
//!
//! What is *not* done: whether files exist and whether licences and conditions are valid is for the backend to find
//! out. Packages described inside of a dependency (`package` beside `git`) are not read.

mod build;
mod metadata;
mod model;
mod spec;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::metadata::{Ancestry, Metadata};
use super::{
    channel::ChannelResolver,
    dependency::Scope,
    error::{ManifestError, SourceText},
    location::{Location, WorkspaceRoot},
    manifest::{ManifestOptions, PYPROJECT_TOML, parse_document},
    requirement::{Requirement, SourceRequirement},
    table::{Reading, Table},
    warning::Warning,
};
use crate::source::SourceLocation;

/// The text of a manifest and the name of its file, which decides how it is read.
#[derive(Debug, Clone, Copy)]
pub struct ManifestText<'t> {
    /// The name of the file, without directories.
    pub file_name: &'t str,
    /// What is in it.
    pub text: &'t str,
}

/// A package as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackageManifest {
    /// The name of the package. A backend may find it elsewhere if there is none here.
    pub name: Option<String>,
    /// What the backend is told, in the form of the build protocol. Whatever is not said is left out.
    pub project_model: Json,
    /// Who builds it.
    pub backend: BackendRequirement,
    /// Where the backend comes from, the most important first; `None` for the channels of the workspace.
    pub channels: Option<Vec<Location>>,
    /// What the backend is configured with.
    pub configuration: Option<Json>,
    /// What it is configured with on some platforms: selectors as the protocol writes them, in the order of the text.
    pub target_configuration: Vec<(String, Json)>,
    /// Where the sources are, if not beside the manifest. A relative path is relative to the manifest.
    pub build_source: Option<SourceLocation>,
}

/// What is installed to build a package with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BackendRequirement {
    /// The name of the backend, which is that of its program as well.
    pub name: String,
    /// The package that has the program.
    pub requirement: ToolRequirement,
    /// What is installed beside it, sorted.
    pub additional: Vec<ToolRequirement>,
}

/// A package for the environment a backend runs in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRequirement {
    /// From a channel, or an archive.
    Package(Requirement),
    /// Built from its sources. A relative path is relative to the manifest of the package.
    Source(SourceRequirement),
}

impl ToolRequirement {
    /// The normalised name of the package.
    pub fn name(&self) -> &str {
        match self {
            Self::Package(requirement) => &requirement.name,
            Self::Source(source) => &source.name,
        }
    }
}

/// A JSON value, kept as text without blanks: two of them are the same if every byte is, the order of keys included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(String);

impl Json {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value, with its keys in the order of the text.
    ///
    /// # Errors
    ///
    /// Only if the text did not come from a value.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the package that a manifest describes; `None` if it describes none.
///
/// `workspace` is the manifest of the workspace the package is in, if that is another file. It is found by walking up;
/// a manifest that is a workspace itself is its own, and `workspace` is then not looked at. `root` is the directory of
/// the workspace, or that of the manifest if there is no workspace, and `directory` is the way from there to the
/// directory of the manifest, `.` if they are the same.
///
/// Costs some microseconds. The disk is not asked.
///
/// # Errors
///
/// The first thing in one of the texts that makes the package unusable, with its place.
pub fn parse_package(
    manifest: ManifestText<'_>,
    workspace: Option<ManifestText<'_>>,
    root: &WorkspaceRoot,
    directory: &str,
    options: &ManifestOptions,
) -> Result<Option<PackageManifest>, ManifestError> {
    Ok(read(manifest, workspace, root, directory, options)?.map(|(package, _)| package))
}

/// What a manifest says of its package that is not acted on, in the order of the text.
///
/// Kept apart from the package, which does not change with the lines of its text.
///
/// # Errors
///
/// As [`parse_package`].
pub fn package_warnings(
    manifest: ManifestText<'_>,
    workspace: Option<ManifestText<'_>>,
    root: &WorkspaceRoot,
    directory: &str,
    options: &ManifestOptions,
) -> Result<Vec<Warning>, ManifestError> {
    Ok(read(manifest, workspace, root, directory, options)?.map(|(_, warnings)| warnings).unwrap_or_default())
}

fn read(
    manifest: ManifestText<'_>,
    workspace: Option<ManifestText<'_>>,
    root: &WorkspaceRoot,
    directory: &str,
    options: &ManifestOptions,
) -> Result<Option<(PackageManifest, Vec<Warning>)>, ManifestError> {
    let source = SourceText::new(manifest.file_name, manifest.text);
    let document = parse_document(&source)?;
    let reading = Reading::new(source.clone());
    let own = Tables::of(manifest.file_name, Table::root(&reading, &document))?;
    let Some(package) = own.pixi.as_ref().map(|pixi| pixi.table("package")).transpose()?.flatten() else {
        return Ok(None);
    };

    // What is odd about the workspace is said where the workspace is read.
    let source = workspace.map(|text| SourceText::new(text.file_name, text.text));
    let document = source.as_ref().map(parse_document).transpose()?;
    let other_reading = source.as_ref().map(|source| Reading::new(source.clone()));
    let other = match (workspace, &other_reading, &document) {
        (Some(text), Some(reading), Some(document)) => {
            Some(Tables::of(text.file_name, Table::root(reading, document))?)
        }
        _ => None,
    };

    let channels = ChannelResolver::new(root, options.channel_alias.clone());
    let own_workspace = own.workspace()?;
    let (workspace, workspace_project) = match (own_workspace, &other) {
        (Some(workspace), _) => (Some(workspace), own.project()?),
        (None, Some(other)) => (other.workspace()?, other.project()?),
        (None, None) => (None, None),
    };
    let shared = workspace.as_ref().map(|workspace| workspace.table("dependencies")).transpose()?.flatten();
    let scope = Scope { channels: &channels, shared: shared.as_ref(), directory };
    let project = own.project()?;
    let ancestry = Ancestry {
        workspace: workspace.as_ref(),
        workspace_project: workspace_project.as_ref(),
        project: project.as_ref(),
        directory,
    };
    let package = read_package(package, &ancestry, scope)?;
    drop((own, project, workspace, workspace_project, shared, other));
    let (_, warnings) = reading.into_warnings();
    Ok(Some((package, warnings)))
}

fn read_package<'a, 'i>(
    table: Table<'a, 'i>,
    ancestry: &Ancestry<'_, 'a, 'i>,
    scope: Scope<'_, 'a, 'i>,
) -> Result<PackageManifest, ManifestError> {
    let metadata = Metadata::read(&table, ancestry)?;
    let build = build::Build::read(&table, scope)?;
    let targets = model::read_targets(&table, metadata.name(), scope)?;
    table.finish();
    let project_model = model::project_model(&metadata, &build, targets);
    Ok(PackageManifest {
        name: metadata.name().map(str::to_owned),
        project_model: Json::from(&project_model),
        backend: build.backend,
        channels: build.channels,
        configuration: build.configuration,
        target_configuration: build.target_configuration,
        build_source: build.source,
    })
}

/// The tables of a manifest that matter to packages.
struct Tables<'a, 'i> {
    top: Table<'a, 'i>,
    /// The table that says what a `pixi.toml` says.
    pixi: Option<Table<'a, 'i>>,
    is_pyproject: bool,
}

impl<'a, 'i> Tables<'a, 'i> {
    fn of(file_name: &str, top: Table<'a, 'i>) -> Result<Self, ManifestError> {
        let is_pyproject = file_name == PYPROJECT_TOML;
        let pixi = if is_pyproject {
            top.table("tool")?.map(|tool| tool.table("pixi")).transpose()?.flatten()
        } else {
            Some(top.clone())
        };
        Ok(Self { top, pixi, is_pyproject })
    }

    fn workspace(&self) -> Result<Option<Table<'a, 'i>>, ManifestError> {
        let Some(pixi) = &self.pixi else { return Ok(None) };
        Ok(match pixi.table("workspace")? {
            Some(workspace) => Some(workspace),
            None => pixi.table("project")?,
        })
    }

    /// `[project]` as other tools of Python read it.
    fn project(&self) -> Result<Option<Table<'a, 'i>>, ManifestError> {
        if self.is_pyproject { self.top.table("project") } else { Ok(None) }
    }
}
