//! Waiting for another process that does the same expensive work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use doge_storage::{Acquired, LockGuard, Locks};

use crate::context::Waiting;
use crate::runtime::Shared;
use crate::spec::SharedSpec;
use crate::sync::tokio;

/// How long a holder that does not move is waited for. Its result lands by rename, so working twice is only waste.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a holder shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A lock between processes, held until this is dropped.
pub struct Held {
    guard: Option<LockGuard>,
    heart: tokio::task::JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heart.abort();
        drop(self.guard.take());
    }
}

/// Takes the lock of an action, waiting for other processes that hold it.
///
/// `None` means to go on without: locks do not work here, or the holder is stopped or makes no progress.
///
/// # Cancel safety
///
/// Dropping the future leaves no lock behind.
pub(crate) async fn acquire(shared: &Arc<Shared>, locks: &Locks, spec: &SharedSpec, name: &str) -> Option<Held> {
    let runtime = shared.runtime.as_ref()?;
    let mut pause = Duration::from_millis(5);
    let mut told: Option<(String, Waiting)> = None;
    let mut still_since: Option<Instant> = None;
    loop {
        let (locks, lock, description) = (locks.clone(), name.to_owned(), spec.to_string());
        let acquired = shared.blocking(move || locks.try_acquire(&lock, &description)).await;
        match acquired {
            Ok(Acquired::Guard(guard)) => {
                let beat = guard.beat();
                let heart = runtime.spawn(async move {
                    loop {
                        tokio::time::sleep(HEARTBEAT).await;
                        beat.beat();
                    }
                });
                return Some(Held { guard: Some(guard), heart });
            }
            Ok(Acquired::Held(holder)) => {
                let who = holder.to_string();
                if told.as_ref().is_none_or(|(holder, _)| *holder != who) {
                    // Whoever was waited for before is told first.
                    drop(told.take());
                    told = Some((who.clone(), Waiting::begin(shared, spec, who)));
                    still_since = None;
                }
                if holder.stopped || holder.heartbeat_age > HEARTBEAT * 5 {
                    let since = *still_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= PATIENCE {
                        return None;
                    }
                } else {
                    still_since = None;
                }
            }
            // Without locks the work is only done twice.
            Err(_) => return None,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
