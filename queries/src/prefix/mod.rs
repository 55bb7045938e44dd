//! Prefixes: what is installed at a place, and making it what is wanted.
//!
//! A prefix is observed by one pass over its `conda-meta` folder, whose cost grows with the number of packages and
//! not with the number of their files. A query compares that with the records that are wanted. When they differ, an
//! effect changes the prefix and it is observed again.
//!
//! Doge and pixi share prefixes. Three files in `conda-meta` are ours: the *ledger*, which says what a prefix looked
//! like when we left it, the *inventory*, which says once more what files the packages brought, and the *journal*, which
//! exists only while the prefix is being changed and says how to clean up if that is never finished. pixi's files are
//! kept from claiming what is not so.

mod change;
mod difference;
mod files;
mod here;
mod install;
mod inventory;
mod journal;
mod ledger;
mod link;
mod python;
mod reports;
mod state;
mod threads;

pub use difference::{Difference, differences};
pub(crate) use files::{remove as remove_file, remove_tree};
pub(crate) use here::install_here;
pub use install::{Force, InstallError, InstallPixiEnvironmentSpec, InstalledEnvironment};
pub use ledger::was_left_by_us;
pub use link::{LinkError, LinkOptions, LinkPrefixSpec, LinkSummary, Relink};
pub use python::NoPython;
pub use state::{InstalledPackage, PackageIdentity, PrefixError, PrefixState, PrefixStateSpec, PrefixValue};
pub use threads::is_inside_installer;
