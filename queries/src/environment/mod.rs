//! Environments of a workspace: from a manifest and a lock file to records, and from there to a prefix.
//!
//! [`LockWorkspaceSpec`] gives the records of every environment. It goes by the lock file where that answers what the
//! manifest asks for, and then asks neither channel nor solver; where it does not, [`SolveUnitSpec`] solves, and the
//! effect [`WriteLockFileSpec`] writes down what was found. [`InstallWorkspaceEnvironmentSpec`] brings one environment
//! into the state that its records describe.
//!
//! The text of the manifest is part of the key, not observed: whoever asks has read it. The lock file is observed,
//! since it is changed on the way.

mod check;
mod context;
mod install;
mod lock;
mod lock_file;
mod manifest;
mod offered;
mod remembered;
mod solve;
mod take;

pub use check::{CheckLockError, CheckLockSpec, CheckedLock, CheckedTarget, CheckedUnit};
pub use context::BuildOptions;
pub use install::{InstallWorkspaceEnvironmentSpec, InstallWorkspaceError};
pub use lock::{LockMode, LockWorkspaceError, LockWorkspaceSpec, LockedTarget, LockedWorkspace, Only, Renewal};
pub use lock_file::{
    LockFileSpec, LockText, ReadLockFileError, SolvedTarget, WriteLockFileError, WriteLockFileSpec, WrittenLockFile,
};
pub use manifest::{BrokenTarget, ManifestText, ReadManifestError, ReadManifestSpec, WorkspaceNeeds};
pub use offered::{OfferedPackage, OfferedPackagesError, OfferedPackagesSpec};
pub use remembered::{RememberedSolutionSpec, Solutions};
pub use solve::{SolveUnitError, SolveUnitSpec, SolvedUnit};
pub use take::{TakeRecordsError, TakeRecordsSpec};
