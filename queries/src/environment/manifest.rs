//! Reading a manifest.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use doge::{Action, ActionContext, Change, Epoch, Intern, Interned, Resource, Spec, Values};
use miette::Diagnostic;
use rattler_lock::VariantValue;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::conda::{ChannelError, workspace_root};
use crate::epoch::{CONDA_TYPES, OWN, TOML};
use crate::redact::text_without_credentials;
use crate::told::lines;
use crate::workspace::{EnvironmentDescription, ManifestError, ManifestOptions, SolveUnit, Workspace, WorkspaceRoot};

/// The text of a manifest without credentials, and what else decides how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestText {
    file_name: String,
    text: String,
    channel_alias: Option<Url>,
}

impl Intern for ManifestText {
    const NAME: &'static str = "manifest";
}

impl ManifestText {
    /// The text of the file of this name, which lies in the root of the workspace.
    ///
    /// User names, passwords and tokens in URLs are left out: the text is kept between runs, and they have no effect.
    pub fn new(file_name: impl Into<String>, text: &str, options: &ManifestOptions) -> Self {
        Self {
            file_name: file_name.into(),
            text: text_without_credentials(text).into_owned(),
            channel_alias: options.channel_alias.clone(),
        }
    }

    /// Reads the text as the manifest of a workspace.
    ///
    /// # Errors
    ///
    /// If it cannot be used.
    pub fn parse(&self, root: &WorkspaceRoot) -> Result<Workspace, Box<ManifestError>> {
        let options = ManifestOptions { channel_alias: self.channel_alias.clone() };
        Workspace::parse(&self.text, &root.path().join(&self.file_name), &options).map_err(Box::new)
    }

    /// How its lines differ from those that it has now.
    pub(crate) fn changes(&self, now: &Self) -> Vec<Change> {
        lines(&now.file_name, &self.text, &now.text)
    }
}

/// Reading from a manifest what has to be solved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadManifestSpec {
    /// The text.
    pub manifest: Interned<ManifestText>,
}

impl fmt::Display for ReadManifestSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("manifest")
    }
}

impl Spec for ReadManifestSpec {
    const KIND: &'static str = "read_manifest";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES, TOML]);

    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let (was, now) = (values.get(&was.manifest)?, values.get(&now.manifest)?);
        // What else may differ is told field by field.
        Some(was.changes(&now)).filter(|changes| !changes.is_empty())
    }

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What the environments of a workspace need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceNeeds {
    /// Every environment on every platform it has, in the order of the manifest.
    pub targets: Vec<EnvironmentDescription>,
    /// What is solved at once. Each target is part of one of them.
    pub units: Vec<SolveUnit>,
    /// For each unit in turn the values that variants of packages which are built are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<BTreeMap<String, Vec<VariantValue>>>,
    /// Files with further values, as paths in the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variant_files: Vec<String>,
    /// Those that cannot be solved, whatever channels and lock file say.
    pub broken: Vec<BrokenTarget>,
}

/// An environment that cannot be solved on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenTarget {
    /// The environment.
    pub environment: String,
    /// The platform.
    pub platform: String,
    /// Why not.
    pub message: String,
}

impl Intern for WorkspaceNeeds {
    const NAME: &'static str = "what a workspace needs";
}

impl WorkspaceNeeds {
    /// What the environments of a workspace need.
    pub fn of(workspace: &Workspace) -> Self {
        let mut needs = Self {
            targets: Vec::new(),
            units: Vec::new(),
            variants: Vec::new(),
            variant_files: workspace.variant_files(),
            broken: Vec::new(),
        };
        let mut known = HashSet::new();
        for (environment, platform) in workspace.targets() {
            let variants = workspace.variants(platform);
            let (environment, platform) = (environment.name.as_str(), platform.name.as_str());
            let described = workspace
                .describe(environment, platform)
                .and_then(|target| Ok((target, workspace.solve_unit(environment, platform)?)));
            match described {
                Ok((target, unit)) => {
                    needs.targets.push(target);
                    if known.insert((unit.environments.clone(), unit.platform.clone())) {
                        needs.units.push(unit);
                        needs.variants.push(variants);
                    }
                }
                Err(error) => needs.broken.push(BrokenTarget {
                    environment: environment.to_owned(),
                    platform: platform.to_owned(),
                    message: error.to_string(),
                }),
            }
        }
        needs
    }

    /// Whether packages of a unit have to be built.
    pub(crate) fn is_built(&self, unit: usize) -> bool {
        let needs = &self.units[unit].needs;
        !needs.sources.is_empty() || !needs.dev.is_empty()
    }

    /// The place of a target.
    pub(crate) fn target(&self, environment: &str, platform: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.environment == environment && target.platform == platform)
    }
}

/// Why a manifest cannot be used.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ReadManifestError {
    /// What it says cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(Box<ManifestError>),
    /// A value or a resource is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAtHand(#[from] ChannelError),
}

impl Action for ReadManifestSpec {
    type Output = Interned<WorkspaceNeeds>;
    type Error = ReadManifestError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Interned<WorkspaceNeeds>, ReadManifestError> {
        let gone = ChannelError::NotAtHand { what: "the text of the manifest" };
        let manifest = ctx.value(&self.manifest).await.ok_or_else(|| gone.clone())?;
        let workspace = manifest.parse(&workspace_root(ctx)?).map_err(ReadManifestError::Manifest)?;
        ctx.intern(WorkspaceNeeds::of(&workspace)).map_err(|_| gone.into())
    }
}
