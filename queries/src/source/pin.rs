//! Pinning sources: what a location stands for now.

use doge::{Db, Failure, Stop};
use miette::Diagnostic;
use thiserror::Error;

use crate::source::checkout::{ArchiveContentSpec, CheckoutError, CheckoutUrlSpec, GitReferenceSpec, checkout_git};
use crate::source::git::Reference as GitReference;
use crate::source::location::{PinnedSource, SourceLocation};

/// Why a location cannot be pinned.
#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub struct PinError(#[from] pub(crate) Failure<CheckoutError>);

/// What a location stands for now. Who knows a pin of it asks nobody.
pub(crate) fn pin(db: &Db<'_>, location: &SourceLocation) -> Result<PinnedSource, Stop<PinError>> {
    let stopped = |stop: Stop<Failure<CheckoutError>>| stop.map(PinError);
    Ok(match location {
        SourceLocation::Path { path } => PinnedSource::Path { path: path.clone() },
        SourceLocation::Git { url, reference, subdirectory, lfs } => PinnedSource::Git {
            url: url.clone(),
            commit: match reference {
                GitReference::Rev(rev) if rev.len() == 40 && rev.chars().all(|c| c.is_ascii_hexdigit()) => {
                    rev.to_ascii_lowercase()
                }
                reference => {
                    let asked = GitReferenceSpec { url: url.clone(), reference: reference.clone() };
                    String::clone(&*db.observe(&asked).map_err(stopped)?)
                }
            },
            reference: reference.clone(),
            subdirectory: subdirectory.clone(),
            lfs: *lfs,
        },
        SourceLocation::Url { url, sha256, md5, subdirectory } => PinnedSource::Url {
            url: url.clone(),
            sha256: match sha256 {
                Some(sha256) => sha256.to_ascii_lowercase(),
                None => String::clone(&*db.observe(&ArchiveContentSpec { url: url.clone() }).map_err(stopped)?),
            },
            md5: md5.as_ref().map(|md5| md5.to_ascii_lowercase()),
            subdirectory: subdirectory.clone(),
        },
    })
}

/// Has the files of a source brought into the cache, if they are of a kind that lies there.
pub(crate) fn checkout_of(db: &Db<'_>, pin: &PinnedSource) -> Result<(), Stop<Failure<CheckoutError>>> {
    match pin {
        PinnedSource::Path { .. } => {}
        PinnedSource::Git { url, commit, lfs, .. } => {
            db.act(&checkout_git(url, commit, *lfs))?;
        }
        PinnedSource::Url { url, sha256, md5, .. } => {
            db.act(&CheckoutUrlSpec { url: url.clone(), sha256: sha256.clone(), md5: md5.clone() })?;
        }
    }
    Ok(())
}
