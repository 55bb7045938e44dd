//! One at a time on a database, and none in a checkout that is replaced: threads and processes.

use std::fs;
use std::path::Path;

use doge::storage::{Acquired, LockGuard, try_acquire};

use super::error::GitError;
use super::url::RepositoryUrl;
use super::{Places, Session};
use crate::waiting::{PAUSE, are_not_to_be_had};

/// Takes the lock of a repository, waiting for as long as it takes and saying for whom.
///
/// The system takes the lock from a holder that dies. One that is stopped keeps it: what it has begun would be swept
/// away under it. `None` where there are no locks; two that work on one database then may fail, and a database that
/// they damage is made anew by whoever notices.
pub(super) fn acquire(
    session: Session<'_>,
    url: &RepositoryUrl,
    places: &Places,
) -> Result<Option<LockGuard>, GitError> {
    wait_for(session, &places.lock(url), &format!("fetching {url}"))
}

/// Takes the lock of a checkout, waiting for all who use it.
pub(super) fn acquire_checkout(
    session: Session<'_>,
    path: &Path,
    url: &RepositoryUrl,
) -> Result<Option<LockGuard>, GitError> {
    wait_for(session, path, &format!("checking out {url}"))
}

fn wait_for(session: Session<'_>, path: &Path, purpose: &str) -> Result<Option<LockGuard>, GitError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(GitError::io(directory, "created"))?;
    }
    let mut told = None;
    loop {
        session.go_on()?;
        match try_acquire(path, purpose) {
            Ok(Acquired::Guard(guard)) => return Ok(Some(guard)),
            Ok(Acquired::Held(holder)) => {
                let who = holder.to_string();
                // It may have been stopped meanwhile, which is worth another word.
                if told.as_ref() != Some(&who) {
                    session.options.waiting_for(&who);
                    told = Some(who);
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) if are_not_to_be_had(&error) => return Ok(None),
            Err(error) => return Err(GitError::io(path, "locked")(error)),
        }
    }
}
