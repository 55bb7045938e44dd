//! The lock file: what was solved, so that it need not be solved again.
//!
//! A text is parsed into a [`LockedFile`]; [`satisfies`] tells whether it still answers what an environment needs, or
//! names the first reason why not; [`render`] makes the text of a file with new solves in it. Both directions keep
//! packages and channels inside the workspace relative to it. Packages that are built from source are in it with where
//! their sources are and what they are built with; whether they still are what their sources make of them is for the
//! caller to find out, who brings the records of now. Only [`load`] and [`write_if_changed`] touch the disk.
//!
//! rattler's library writes format version 7 and reads all before it. An older file that satisfies stays as it is; one
//! that has to change becomes version 7, and [`Written::Updated`] tells the version it had.

mod error;
mod file;
mod hints;
mod pin;
mod render;
mod satisfy;
mod sources;
mod unsatisfied;
mod write;

#[cfg(test)]
mod tests;

pub use error::LockFileError;
pub(crate) use file::NEWEST_VERSION;
pub use file::{LockedFile, Surplus, load};
pub use hints::{Update, locked_hints, locked_sources};
pub use pin::SourceFormError;
pub use render::{RenderError, Solved, render};
pub(crate) use satisfy::{holds_together, kept, meets, unchecked, variant_of};
pub use satisfy::{satisfies, satisfies_together};
pub(crate) use sources::Comparison;
pub use unsatisfied::Unsatisfied;
pub use write::{WriteError, Written, write_if_changed};
