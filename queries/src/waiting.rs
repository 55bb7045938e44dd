//! Waiting: for locks that lie beside what they protect, so that everybody meets there whatever cache they use; and for the
//! clock of file times.

use std::io;
use std::path::Path;
use std::time::Duration;

use doge::ActionContext;
use doge::storage::{Acquired, LockGuard, try_acquire, try_share};

/// How often it is looked whether a lock is free.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Waits until what was written just now is older than what is done next. File times lag behind the clock, and what seems to
/// have changed while work read it is not recorded.
pub(crate) async fn file_times() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// Whether an error says that there are no locks in this place.
pub(crate) fn are_not_to_be_had(error: &io::Error) -> bool {
    // What file systems on a network say whose server keeps no locks.
    const NO_LOCKS: Option<i32> = if cfg!(target_os = "linux") {
        Some(37)
    } else if cfg!(target_os = "macos") {
        Some(77)
    } else {
        None
    };
    error.kind() == io::ErrorKind::Unsupported || NO_LOCKS.is_some_and(|code| error.raw_os_error() == Some(code))
}

/// Takes a lock, waiting for as long as it takes and saying for whom; nothing where locks do not work.
pub(crate) async fn acquire(ctx: &ActionContext, path: &Path, purpose: &str) -> io::Result<Option<LockGuard>> {
    Ok(acquire_saying(ctx, path, purpose).await?.0)
}

/// As [`acquire`]; and whether it was waited for.
pub(crate) async fn acquire_saying(
    ctx: &ActionContext,
    path: &Path,
    purpose: &str,
) -> io::Result<(Option<LockGuard>, bool)> {
    take(ctx, path, purpose, try_acquire).await
}

/// As [`acquire`], but others may share the lock.
pub(crate) async fn share(ctx: &ActionContext, path: &Path, purpose: &str) -> io::Result<Option<LockGuard>> {
    Ok(take(ctx, path, purpose, try_share).await?.0)
}

async fn take(
    ctx: &ActionContext,
    path: &Path,
    purpose: &str,
    lock: fn(&Path, &str) -> io::Result<Acquired>,
) -> io::Result<(Option<LockGuard>, bool)> {
    let mut told = None;
    loop {
        let (path, purpose) = (path.to_owned(), purpose.to_owned());
        let attempt = move || {
            // Each time: whoever has the lock may be about to remove what it lies in.
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            lock(&path, &purpose)
        };
        match ctx.blocking(attempt).await {
            Ok(Acquired::Guard(guard)) => return Ok((Some(guard), told.is_some())),
            Ok(Acquired::Held(holder)) => {
                let who = holder.to_string();
                if told.as_ref().is_none_or(|(holder, _)| *holder != who) {
                    drop(told.take());
                    told = Some((who.clone(), ctx.reporter().waiting_for(&who)));
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if are_not_to_be_had(&error) => return Ok((None, told.is_some())),
            Err(error) => return Err(error),
        }
    }
}
