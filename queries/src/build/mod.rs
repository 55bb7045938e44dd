//! Packages that are built: their records, environments with them, and building them.
//!
//! What a source offers is asked of its backend; with what is built in turn it makes records ([`SourceMetadataSpec`]),
//! among which an environment is solved ([`SolvePixiEnvironmentSpec`]) as among those of channels. A package is built by
//! [`SourceBuildSpec`], after the packages that it is built with. Everything is the same in another place: no key holds an
//! absolute path.

mod as_locked;
// The module of the same name is where it happens.
#[expect(clippy::module_inception, reason = "building is what `build.rs` does, and what this folder is about")]
mod build;
mod context;
mod dependencies;
mod dev;
mod missing;
mod places;
mod run_exports;
mod solve;
mod source_metadata;

pub use as_locked::{SourceAsLocked, SourceAsLockedSpec};
pub(crate) use build::{ARTIFACTS, BUILDS};
pub use build::{
    BackendBuildError, BackendBuildSpec, BuildAgainSpec, BuildProfile, BuildQuestion, BuiltPackage, NOTE, OutputName,
    Prefix, SourceBuildError, SourceBuildSpec, Value,
};
pub use context::{BackendOverrides, BuildContext, BuildPlatform, Context, NotAnOverride};
pub use dependencies::DependencyError;
pub use dev::{DevSourceMetadataError, DevSourceMetadataSpec, DevSourceRecord};
pub(crate) use missing::make_again;
pub use missing::{MissingArtifacts, MissingArtifactsSpec};
pub use places::TwoPlaces;
pub use run_exports::{ReadRunExportsSpec, RunExportsError};
pub(crate) use solve::name_in;
pub use solve::{
    Nested, ResolveSourcesSpec, RunDependencySpec, SolvePixiEnvironmentSpec, SolvePixiError, SolvedEnvironment,
};
pub(crate) use source_metadata::Found;
pub use source_metadata::{SourceMetadataError, SourceMetadataSpec};
