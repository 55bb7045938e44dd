//! The files that a build backend names by globs.
//!
//! A backend says what it read as sets of globs ([`GlobSet`]), for it does not know which files will be added. So
//! these have to be looked up again before what it made may be used again. `walk` does that, and tells with the
//! files what else its answer rests on: each folder it listed, and each path it found nothing at. While none of these
//! has another stamp, another walk finds the same names.
//!
//! Whether the *content* of a file changed is not known here.

mod observe;
mod patterns;
#[cfg(test)]
mod tests;
mod walk;

pub use observe::{FileIdentity, Files, FilesError, FilesSpec, FilesStamp, OwnFiles};
pub(crate) use observe::{fingerprint_of, identities, names, written_since};
pub(crate) use patterns::naming;
pub use patterns::{GlobError, GlobSet};
pub(crate) use walk::walk;

/// Looks whether sets of globs can be used below a directory.
pub(crate) fn check(sets: &[GlobSet], base: &std::path::Path) -> Result<(), GlobError> {
    sets.iter().try_for_each(|set| patterns::Matcher::new(set, base).map(drop))
}
