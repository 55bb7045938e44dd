//! A manifest, read: `pixi.toml`, or `[tool.pixi]` of a `pyproject.toml`.
//!
//! Reading is a function of the text, the name of the file and the root directory: neither disk nor environment nor
//! clock is asked. What is wrong for every environment is an error here; what is wrong for one environment is an error
//! when that one is described ([`Workspace::describe`]).

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

use indexmap::IndexMap;
use rattler_conda_types::{ParseStrictness, Subdir, VersionSpec};
use rattler_lock::VariantValue;
use toml::{Spanned, de::DeTable};
use url::Url;

use super::{
    channel::{ChannelResolver, ListedChannel, in_order},
    dependency::{Dependencies, DependencyKind, Scope, read_dependencies, read_name, read_spec, why_no_version},
    environment::Environment,
    error::{ManifestError, ManifestErrorKind, SourceText},
    exclude_newer::{Cutoff, ExcludeNewer},
    feature::{DEFAULT_FEATURE, Feature, check_feature_name, read_channel_priority, read_solve_strategy},
    location::{Location, WorkspaceRoot},
    platform::{ListedPlatform, Platform, read_listed_platform},
    pyproject::PyProject,
    table::{Reading, Table},
    variants::Variants,
    warning::{Warning, WarningKind},
};

/// The name of the manifest that is nothing else.
pub const PIXI_TOML: &str = "pixi.toml";
/// The name of the manifest of a Python project.
pub const PYPROJECT_TOML: &str = "pyproject.toml";
/// The name of the lock file beside a manifest.
pub const LOCK_FILE: &str = "pixi.lock";

/// What is not in the manifest but decides how it is read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ManifestOptions {
    /// What stands before the name of a channel. By default what conda uses.
    pub channel_alias: Option<Url>,
}

impl ManifestOptions {
    /// Sets what stands before the name of a channel.
    #[must_use]
    pub fn with_channel_alias(self, alias: Url) -> Self {
        Self { channel_alias: Some(alias) }
    }
}

/// A workspace as its manifest describes it.
///
/// Immutable. Cheap to ask; [`describe`](Self::describe) composes anew each time, in microseconds.
#[derive(Clone)]
pub struct Workspace {
    pub(crate) root: WorkspaceRoot,
    manifest_path: PathBuf,
    name: String,
    requires_pixi: Option<String>,
    pub(crate) source: SourceText,
    warnings: Vec<Warning>,
    pub(crate) channels: Vec<ListedChannel>,
    pub(crate) exclude_newer: ExcludeNewer,
    platforms: Vec<ListedPlatform>,
    pub(crate) features: IndexMap<String, Feature>,
    pub(crate) environments: IndexMap<String, Environment>,
    variants: Variants,
    has_package: bool,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("name", &self.name)
            .field("manifest_path", &self.manifest_path)
            .field("environments", &self.environments.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Workspace {
    /// Reads a manifest.
    ///
    /// `manifest_path` is the absolute path of the file; its directory is the root of the workspace. A file called
    /// `pyproject.toml` is read as one.
    ///
    /// # Errors
    ///
    /// The first thing in the text that makes it unusable for every environment, with its place.
    pub fn parse(text: &str, manifest_path: &Path, options: &ManifestOptions) -> Result<Self, ManifestError> {
        let file_name =
            manifest_path.file_name().map_or_else(|| PIXI_TOML.to_owned(), |name| name.to_string_lossy().into_owned());
        let source = SourceText::new(&file_name, text);
        let root = manifest_path.parent().unwrap_or(manifest_path);
        let root = WorkspaceRoot::new(root).map_err(|error| {
            let kind = ManifestErrorKind::BadValue {
                value: manifest_path.display().to_string(),
                expected: "the path of a manifest",
                message: error.to_string(),
            };
            source.error(kind).done()
        })?;
        let document = parse_document(&source)?;
        let reading = Reading::new(source.clone());
        let top = Table::root(&reading, &document);
        let channels = ChannelResolver::new(&root, options.channel_alias.clone());
        let mut draft = if file_name == PYPROJECT_TOML {
            let project = PyProject::read(&top)?;
            let Some(pixi) = top.table("tool")?.map(|tool| tool.table("pixi")).transpose()?.flatten() else {
                let help = format!("add `[tool.pixi.workspace]`, or describe the workspace in a {PIXI_TOML}");
                return Err(source.error(ManifestErrorKind::NoPixiTable).help(help).done());
            };
            Draft::read(pixi, &channels, Some(project))?
        } else {
            Draft::read(top, &channels, None)?
        };
        super::environment::settle(&reading, &mut draft)?;
        drop(document);
        let (source, warnings) = reading.into_warnings();
        let name = draft.name.unwrap_or_else(|| {
            root.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        });
        Ok(Self {
            manifest_path: root.path().join(&file_name),
            root,
            name,
            requires_pixi: draft.requires_pixi,
            source,
            warnings,
            channels: draft.channels,
            exclude_newer: draft.exclude_newer,
            platforms: draft.platforms,
            features: draft.features,
            environments: draft.environments,
            variants: draft.variants,
            has_package: draft.has_package,
        })
    }

    /// The directory of the workspace.
    pub fn root(&self) -> &WorkspaceRoot {
        &self.root
    }

    /// The manifest this was read from.
    pub fn manifest_path(&self) -> &Path {
        &self.manifest_path
    }

    /// Where the lock file is, or will be.
    pub fn lock_file_path(&self) -> PathBuf {
        self.root.path().join(LOCK_FILE)
    }

    /// The name of the workspace; that of its directory if the manifest gives none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of pixi the manifest asks for. Nothing here checks it.
    pub fn requires_pixi(&self) -> Option<&str> {
        self.requires_pixi.as_deref()
    }

    /// The environments in the order of the manifest. `default` is always there.
    pub fn environments(&self) -> impl ExactSizeIterator<Item = &Environment> {
        self.environments.values()
    }

    /// The platforms the workspace lists, in the order of the manifest.
    pub fn platforms(&self) -> impl ExactSizeIterator<Item = &Platform> {
        self.platforms.iter().map(|listed| &listed.platform)
    }

    /// The channels of the workspace itself, the most important first. Features may have others.
    pub fn channels(&self) -> Vec<Location> {
        in_order(&self.channels).into_iter().map(|channel| channel.location.clone()).collect()
    }

    /// What packages are built for on a platform: of each variant its values. What a target says of a variant replaces
    /// what was said before.
    pub fn variants(&self, platform: &Platform) -> BTreeMap<String, Vec<VariantValue>> {
        self.variants.on(platform)
    }

    /// Files with further variants, the most important first. Relative ones are relative to the workspace.
    pub fn variant_files(&self) -> Vec<String> {
        self.variants.files.clone()
    }

    /// Whether the manifest describes a package as well.
    pub fn has_package(&self) -> bool {
        self.has_package
    }

    /// What the manifest says that is not acted on, in the order of the text.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// A manifest half read: everything is there, nothing is checked against each other.
pub(crate) struct Draft {
    name: Option<String>,
    requires_pixi: Option<String>,
    pub(crate) channels: Vec<ListedChannel>,
    pub(crate) exclude_newer: ExcludeNewer,
    pub(crate) platforms: Vec<ListedPlatform>,
    pub(crate) platforms_span: Range<usize>,
    pub(crate) features: IndexMap<String, Feature>,
    pub(crate) environments: IndexMap<String, Environment>,
    pub(crate) variants: Variants,
    has_package: bool,
}

impl Draft {
    fn read(
        table: Table<'_, '_>,
        channels: &ChannelResolver,
        project: Option<PyProject>,
    ) -> Result<Self, ManifestError> {
        let workspace = match table.table("workspace")? {
            Some(workspace) => workspace,
            None => match table.get("project") {
                Some(entry) => {
                    entry.warn(WarningKind::Deprecated { instead: "`[workspace]`" });
                    entry.table()?
                }
                None => {
                    let kind = ManifestErrorKind::NoWorkspaceTable;
                    let help = "a workspace needs at least `[workspace]` with `channels` and `platforms`";
                    return Err(table.source().error(kind).help(help).done());
                }
            },
        };
        let shared = workspace.table("dependencies")?;
        let scope = Scope { shared: shared.as_ref(), ..Scope::of(channels) };
        for entry in shared.iter().flat_map(Table::entries) {
            read_spec(&entry, &read_name(&entry)?, Scope::of(channels))?;
        }
        let mut default = Feature::read_tables(&table, scope)?;
        default.channel_priority = read_channel_priority(&workspace)?;
        default.solve_strategy = read_solve_strategy(&workspace)?;
        let mut draft = Self::read_workspace(&workspace, channels)?;
        workspace.finish();

        if let Some(overrides) = table.table("exclude-newer")? {
            for entry in overrides.entries() {
                let (text, _) = entry.string()?;
                let cutoff = text.parse::<Cutoff>().map_err(|error| entry.bad_value("a cutoff", error))?;
                let name = read_name(&entry)?;
                draft.exclude_newer.packages.push((name.as_normalized().to_owned(), cutoff));
            }
            draft.exclude_newer.packages.sort();
        }
        // A package is read when it is to be built; what is wrong with it does not concern environments.
        draft.has_package = table.table("package")?.is_some();

        draft.features.insert(DEFAULT_FEATURE.to_owned(), default);
        if let Some(features) = table.table("feature")? {
            for entry in features.entries() {
                check_feature_name(&entry, entry.key)?;
                let feature_table = entry.table()?;
                let feature = Feature::read(&feature_table, scope)?;
                feature_table.finish();
                draft.features.insert(entry.key.to_owned(), feature);
            }
        }
        if let Some(environments) = table.table("environments")? {
            for entry in environments.entries() {
                let environment = Environment::read(&entry)?;
                draft.environments.insert(entry.key.to_owned(), environment);
            }
        }
        // `tool` belongs to others; the rest of these concern packages of the Python index, about which the
        // dependencies themselves say enough.
        table.ignore(&["$schema", "tool", "pypi-exclude-newer", "workspace", "project"]);
        let reading = table.reading();
        table.finish();
        if let Some(project) = project {
            project.add_to(&mut draft.features, &draft.environments, reading);
            draft.name = draft.name.or(project.name);
        }
        Ok(draft)
    }

    fn read_workspace(table: &Table<'_, '_>, channels: &ChannelResolver) -> Result<Self, ManifestError> {
        let missing = |key: &str, help: &str| {
            let kind = ManifestErrorKind::MissingKey { key: format!("{}.{key}", table.path()) };
            table.source().error(kind).at(table.span()).help(help).done()
        };
        let Some(listed) = table.get("channels") else {
            return Err(missing("channels", "list where packages come from, as in `channels = [\"conda-forge\"]`"));
        };
        let listed: Result<Vec<_>, _> = listed.array()?.iter().map(|item| channels.read_listed(item)).collect();
        let Some(platforms_entry) = table.get("platforms") else {
            return Err(missing("platforms", "list what to solve for, as in `platforms = [\"linux-64\"]`"));
        };
        let mut platforms: Vec<ListedPlatform> = Vec::new();
        for item in platforms_entry.array()? {
            let platform = read_listed_platform(&item)?;
            if let Some(first) = platforms.iter().find(|other| other.platform.name == platform.platform.name) {
                let kind = ManifestErrorKind::Duplicate { what: "the platform", name: platform.platform.name.clone() };
                return Err(table.source().error(kind).at_with(&first.span, "first here").at(&platform.span).done());
            }
            platforms.push(platform);
        }
        let name = table.string("name")?.map(|(name, _)| name.to_owned());
        let requires_pixi = match table.get("requires-pixi") {
            Some(entry) => {
                let (text, _) = entry.string()?;
                VersionSpec::from_str(text, ParseStrictness::Lenient)
                    .map_err(|error| entry.bad_value("a version requirement", why_no_version(&error)))?;
                Some(text.to_owned())
            }
            None => None,
        };
        let exclude_newer = read_exclude_newer(table, channels)?;
        let variants = Variants::read(table)?;
        table.not_handled("s3-options", "channels on S3 are reached with the settings of this machine");
        table.not_handled("conda-pypi-map", "the lock file gets no names of the Python index");
        table.not_handled("audit", "nothing is audited");
        if let Some(options) = table.get("pypi-options")
            && !options.table()?.is_empty()
        {
            options.warn(WarningKind::PypiNotInstalled { packages: Vec::new() });
        }
        table.ignore(&[
            "version",
            "description",
            "authors",
            "license",
            "license-file",
            "readme",
            "homepage",
            "repository",
            "documentation",
            "preview",
            "pypi-exclude-newer",
        ]);
        Ok(Self {
            name,
            requires_pixi,
            channels: listed?,
            exclude_newer,
            platforms,
            platforms_span: platforms_entry.value_span(),
            features: IndexMap::new(),
            environments: IndexMap::new(),
            variants,
            has_package: false,
        })
    }
}

/// Reads the text as TOML.
pub(crate) fn parse_document(source: &SourceText) -> Result<Spanned<DeTable<'_>>, ManifestError> {
    DeTable::parse(source.text()).map_err(|error| {
        let kind = ManifestErrorKind::Syntax { message: error.message().trim().to_owned() };
        let builder = source.error(kind);
        match error.span() {
            Some(span) => builder.at(&span).done(),
            None => builder.done(),
        }
    })
}

/// Reads `workspace.exclude-newer`: a cutoff, or a table of a cutoff and exemptions.
fn read_exclude_newer(table: &Table<'_, '_>, channels: &ChannelResolver) -> Result<ExcludeNewer, ManifestError> {
    let mut exclude = ExcludeNewer::default();
    let Some(entry) = table.get("exclude-newer") else {
        return Ok(exclude);
    };
    let cutoff = |entry: &super::table::Entry<'_, '_>| {
        let (text, _) = entry.string()?;
        text.parse::<Cutoff>().map_err(|error| entry.bad_value("a cutoff", error))
    };
    if !entry.is_table() {
        exclude.cutoff = Some(cutoff(&entry)?);
        return Ok(exclude);
    }
    let settings = entry.table()?;
    exclude.cutoff = settings.get("cutoff").map(|entry| cutoff(&entry)).transpose()?;
    if let Some(exemptions) = settings.table("exemptions")? {
        let dependencies: Dependencies = read_dependencies(&exemptions, Scope::of(channels))?;
        for (name, dependency) in dependencies {
            match dependency.kind {
                DependencyKind::Package(requirement) if requirement.archive.is_none() => {
                    exclude.exemptions.push(*requirement);
                }
                _ => {
                    let kind = ManifestErrorKind::BadRequirement {
                        dependency: name,
                        message: "an exemption is a version, or a table of fields that select packages".to_owned(),
                    };
                    return Err(entry.source().error(kind).at(&dependency.value_span).done());
                }
            }
        }
        exclude.exemptions.sort();
    }
    settings.finish();
    Ok(exclude)
}

/// The subdirs that can be meant by a platform name.
pub(crate) fn subdir_named(name: &str) -> Option<Subdir> {
    Subdir::from_str(name).ok().filter(|subdir| *subdir != Subdir::NoArch)
}
