//! What a workspace asks for, and what its lock file says.
//!
//! A manifest (`pixi.toml`, or `[tool.pixi]` of a `pyproject.toml`) is read into a [`Workspace`]. Of each environment
//! and platform it gives a description of what a solve needs; the descriptions are plain data and can be the keys of
//! cached solves. The rules are those of pixi: which features make an environment, in which order channels count,
//! what a target table replaces, which virtual packages are assumed.
//!
//! Nothing here asks the disk, the environment or the clock, except the functions in [`discovery`] that say so. So the
//! same text at the same place always means the same, and the caller decides what has to be observed.
//!
//! A manifest may also describe a package ([`parse_package`]): what its build backend is told, and which backend that
//! is.
//!
//! What is *not* done: installing packages of the Python index, running tasks. Whatever a manifest says about these is
//! reported as a [`Warning`] or, where an environment could not be had without it, as an error of that environment.

mod channel;
mod closure;
mod dependency;
mod description;
pub mod discovery;
mod environment;
mod error;
mod exclude_newer;
mod feature;
mod location;
pub mod lock;
mod manifest;
mod package;
mod platform;
mod pyproject;
mod requirement;
mod system_requirements;
mod table;
#[cfg(test)]
mod tests;
mod variants;
mod warning;

pub use closure::reachable;
pub(crate) use closure::{RecordSet, stand_in};
pub use description::{EnvironmentDescription, SolveDescription, SolveUnit};
pub use environment::{DEFAULT_ENVIRONMENT, Environment};
pub use error::{ManifestError, ManifestErrorKind};
pub(crate) use exclude_newer::milliseconds;
pub use exclude_newer::{Cutoff, ExcludeNewer, NotACutoff};
pub use location::{Location, NotALocation, RootNotAbsolute, WorkspaceRoot};
pub use manifest::{LOCK_FILE, ManifestOptions, PIXI_TOML, PYPROJECT_TOML, Workspace};
pub use package::{
    BackendRequirement, Json, ManifestText, PackageManifest, ToolRequirement, package_warnings, parse_package,
};
pub(crate) use platform::parse_virtual_package;
pub use platform::{Platform, default_virtual_packages};
pub use requirement::{Requirement, SourceRequirement};
pub(crate) use requirement::{matches_virtual, parse_canonical};
pub use warning::{Warning, WarningKind};
