//! What is said between us and a build backend: JSON-RPC 2.0, one message a line.
//!
//! The shapes are those of pixi's build protocol in version 7. Fields we do not know are passed over; what a backend
//! leaves out means what the protocol says it means.

use std::collections::BTreeMap;

use rattler_conda_types::{Flag, NoArchType, PackageUrl};
use rattler_lock::VariantValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::GlobSet;

/// The oldest version of the protocol that is spoken.
pub const OLDEST_API: u64 = 7;
/// The version after the newest one that is spoken.
pub const BEYOND_API: u64 = 8;
/// The package whose version tells which version of the protocol a backend speaks.
pub const API_PACKAGE: &str = "pixi-build-api-version";

/// What `conda/outputs` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outputs {
    /// The packages that can be built.
    pub outputs: Vec<Output>,
    /// The files that were read, as one set of globs.
    #[serde(default)]
    pub input_globs: Vec<String>,
    /// The files that were read, as several sets.
    #[serde(default)]
    pub input_glob_sets: Option<Vec<InputGlobs>>,
}

/// A set of globs as a backend says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputGlobs {
    /// The patterns.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// Files that mark a directory.
    #[serde(default)]
    pub markers: Option<Vec<String>>,
    /// Hidden files do not count.
    #[serde(default = "yes")]
    pub exclude_hidden: bool,
    /// What the patterns are relative to.
    #[serde(default)]
    pub root: Option<String>,
}

fn yes() -> bool {
    true
}

/// All sets of globs: those of several sets, and the flat list as one more.
pub(crate) fn folded(sets: Option<&Vec<InputGlobs>>, flat: &[String]) -> Vec<GlobSet> {
    let mut folded: Vec<GlobSet> = sets
        .into_iter()
        .flatten()
        .map(|set| GlobSet {
            patterns: set.patterns.clone(),
            markers: set.markers.clone().unwrap_or_default(),
            exclude_hidden: set.exclude_hidden,
            root: set.root.clone(),
        })
        .collect();
    if !flat.is_empty() {
        folded.push(GlobSet { patterns: flat.to_vec(), markers: Vec::new(), exclude_hidden: true, root: None });
    }
    folded
}

/// A package that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// What it is.
    pub metadata: OutputMetadata,
    /// What is needed to run the build.
    #[serde(default)]
    pub build_dependencies: Option<Dependencies>,
    /// What is needed to build against.
    #[serde(default)]
    pub host_dependencies: Option<Dependencies>,
    /// What is needed to run.
    #[serde(default)]
    pub run_dependencies: Dependencies,
    /// What extras need.
    #[serde(default)]
    pub extra_dependencies: BTreeMap<String, Vec<Named<PackageSpec>>>,
    /// Run exports of others that are not heeded.
    #[serde(default)]
    pub ignore_run_exports: IgnoreRunExports,
    /// What those who build against it need to run.
    #[serde(default)]
    pub run_exports: RunExports,
}

/// What a package is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputMetadata {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its build string.
    pub build: String,
    /// Its build number.
    #[serde(default)]
    pub build_number: u64,
    /// Its subdir.
    pub subdir: String,
    /// Its license.
    #[serde(default)]
    pub license: Option<String>,
    /// The family of its license.
    #[serde(default)]
    pub license_family: Option<String>,
    /// Its flags.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// The features that it tracks.
    #[serde(default)]
    pub track_features: Vec<String>,
    /// Whether it is for all platforms.
    #[serde(default)]
    pub noarch: NoArchType,
    /// What it is called elsewhere.
    #[serde(default)]
    pub purls: Option<Vec<PackageUrl>>,
    /// Where site packages are, if it is a Python.
    #[serde(default)]
    pub python_site_packages_path: Option<String>,
    /// What tells it from other variants.
    #[serde(default)]
    pub variant: BTreeMap<String, VariantValue>,
}

/// Something with the name of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<T> {
    /// The name.
    pub name: String,
    /// What is said of it.
    #[serde(flatten)]
    pub spec: T,
}

/// Dependencies and constraints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependencies {
    /// What has to be there.
    #[serde(default)]
    pub depends: Vec<Named<PackageSpec>>,
    /// What holds for a package if it is there.
    #[serde(default)]
    pub constraints: Vec<Named<ConstraintSpec>>,
}

/// What is asked of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PackageSpec {
    /// One of a channel, or an archive.
    Binary(Box<BinarySpec>),
    /// One that is built.
    Source(Box<SourceSpec>),
    /// The version that is in the environment that was built against.
    PinCompatible(PinSpec),
    /// The version of another package of this build.
    PinSubpackage(PinSpec),
}

/// What holds for a package if it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConstraintSpec {
    /// What its record says.
    Binary(Box<BinarySpec>),
    /// The version that is in the environment that was built against.
    PinCompatible(PinSpec),
    /// The version of another package of this build.
    PinSubpackage(PinSpec),
}

/// What selects a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BinarySpec {
    /// Its version.
    pub version: Option<String>,
    /// Its build string.
    pub build: Option<String>,
    /// Its build number.
    pub build_number: Option<String>,
    /// The name of its archive.
    pub file_name: Option<String>,
    /// The extras that are wanted.
    pub extras: Option<Vec<String>>,
    /// Its flags.
    pub flags: Option<Vec<String>>,
    /// Its channel.
    pub channel: Option<String>,
    /// Its subdir.
    pub subdir: Option<String>,
    /// The MD5 of its archive.
    pub md5: Option<String>,
    /// The SHA-256 of its archive.
    pub sha256: Option<String>,
    /// Where its archive is.
    pub url: Option<String>,
    /// Its license.
    pub license: Option<String>,
    /// Under which condition it is needed.
    pub condition: Option<Value>,
}

/// What is built, and what selects one of the packages that come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceSpec {
    /// An archive.
    pub url: Option<Value>,
    /// A repository.
    pub git: Option<Value>,
    /// A directory.
    pub path: Option<Value>,
    /// The branch.
    pub branch: Option<String>,
    /// The tag.
    pub tag: Option<String>,
    /// The commit; or, as some say it, any of the three as a table.
    pub rev: Option<Value>,
    /// The directory in a repository or an archive.
    pub subdirectory: Option<String>,
    /// Whether files of git LFS are wanted.
    pub lfs: Option<bool>,
    /// The MD5 of the archive.
    pub md5: Option<String>,
    /// The SHA-256 of the archive.
    pub sha256: Option<String>,
    /// The version of the package.
    pub version: Option<String>,
    /// Its build string.
    pub build: Option<String>,
    /// Its build number.
    pub build_number: Option<String>,
    /// The extras that are wanted.
    pub extras: Option<Vec<String>>,
    /// Its flags.
    pub flags: Option<Vec<String>>,
    /// Its subdir.
    pub subdir: Option<String>,
    /// Its license.
    pub license: Option<String>,
    /// Under which condition it is needed.
    pub condition: Option<Value>,
}

/// A pin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PinSpec {
    /// From which version on.
    pub lower_bound: Option<PinBound>,
    /// Up to which version.
    pub upper_bound: Option<PinBound>,
    /// Just that version and build.
    pub exact: bool,
    /// The build string.
    pub build: Option<String>,
}

/// A bound of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PinBound {
    /// So many parts of the version, as `x.x`.
    Expression(String),
    /// A version.
    Version(String),
}

/// Run exports that are not heeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IgnoreRunExports {
    /// Those that name these packages.
    pub by_name: Vec<String>,
    /// Those of these packages.
    pub from_package: Vec<String>,
}

/// What those who build against a package need to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunExports {
    /// If it was in the environment that was built against.
    pub weak: Vec<Named<PackageSpec>>,
    /// If it was in that or in the one that ran the build.
    pub strong: Vec<Named<PackageSpec>>,
    /// For packages that are for all platforms.
    pub noarch: Vec<Named<PackageSpec>>,
    /// As `weak`, for constraints.
    pub weak_constrains: Vec<Named<ConstraintSpec>>,
    /// As `strong`, for constraints.
    pub strong_constrains: Vec<Named<ConstraintSpec>>,
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Capabilities {
    pub(crate) provides_conda_outputs: Option<bool>,
    pub(crate) provides_conda_build_v1: Option<bool>,
}

/// What `negotiateCapabilities` answers.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Negotiated {
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
}

/// What is said to `initialize`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Initialize {
    pub(crate) manifest_path: String,
    pub(crate) source_directory: String,
    pub(crate) workspace_directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkout_root: Option<String>,
    pub(crate) cache_directory: String,
    pub(crate) workspace_scratch_directory: String,
    pub(crate) project_model: Option<Value>,
    pub(crate) configuration: Option<Value>,
    pub(crate) target_configuration: Option<serde_json::Map<String, Value>>,
}

/// What is said to `conda/outputs`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskOutputs {
    pub(crate) channels: Vec<String>,
    pub(crate) host_platform: String,
    pub(crate) build_platform: String,
    pub(crate) variant_configuration: Option<BTreeMap<String, Vec<VariantValue>>>,
    pub(crate) variant_files: Option<Vec<String>>,
    pub(crate) work_directory: String,
}

/// What is said to `conda/build_v1`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskBuild {
    pub(crate) channels: Vec<String>,
    pub(crate) build_prefix: Option<BuildPrefix>,
    pub(crate) host_prefix: Option<BuildPrefix>,
    pub(crate) run_dependencies: Vec<Dep>,
    pub(crate) run_constraints: Vec<Dep>,
    pub(crate) run_exports: BuildRunExports,
    pub(crate) extra_dependencies: BTreeMap<String, Vec<Dep>>,
    pub(crate) output: BuildOutput,
    pub(crate) work_directory: String,
    pub(crate) output_directory: Option<String>,
    pub(crate) editable: Option<bool>,
    pub(crate) package_format: Option<PackageFormat>,
}

/// A prefix that was installed for a build.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuildPrefix {
    pub(crate) prefix: String,
    pub(crate) platform: String,
    pub(crate) dependencies: Vec<Dep>,
    pub(crate) constraints: Vec<Dep>,
    pub(crate) packages: Vec<Value>,
}

/// A dependency of a build, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dep {
    /// What is needed: a structured match spec, as JSON.
    pub spec: Value,
    /// Where that comes from, if it was not said by the package itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DepSource>,
}

/// Where a dependency comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DepSource {
    /// From what another package exports.
    RunExport {
        /// The environment that it is in.
        from: String,
        /// The package.
        run_export: String,
    },
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuildRunExports {
    pub(crate) weak: Vec<Dep>,
    pub(crate) strong: Vec<Dep>,
    pub(crate) noarch: Vec<Dep>,
    pub(crate) weak_constrains: Vec<Dep>,
    pub(crate) strong_constrains: Vec<Dep>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BuildOutput {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) build: Option<String>,
    pub(crate) subdir: String,
    pub(crate) variant: BTreeMap<String, VariantValue>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PackageFormat {
    pub(crate) archive_type: String,
    pub(crate) compression_level: String,
}

/// What `conda/build_v1` answers. The names of its fields have underscores.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Built {
    pub(crate) output_file: String,
    #[serde(default)]
    pub(crate) input_globs: Vec<String>,
    #[serde(default)]
    pub(crate) input_glob_sets: Option<Vec<InputGlobs>>,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) build: String,
    pub(crate) subdir: String,
}
