//! Threads for one piece of work, which is at its end when they are.
//!
//! The installer links packages on the threads of rayon and forgets them when it meets an error, or when nobody waits
//! for it any more: they would go on writing to the prefix while somebody else, or the next attempt, changes it. So it
//! gets threads of its own, and what protects the prefix is kept until the last of them has ended.
//!
//! It also panics when somebody changes the prefix under it. That ends here, too, as an error.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use doge::panic_message;
use rayon::ThreadPoolBuilder;
use tokio::sync::oneshot;

/// What the names of the threads begin with.
const NAME: &str = "doge-install-";

/// Whether this thread is one whose panics are caught and told as errors.
pub fn is_inside_installer() -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with(NAME))
}

/// Why work did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// There are no threads to be had.
    #[error(transparent)]
    Threads(#[from] io::Error),
    /// It panicked, and said this.
    #[error("{0}")]
    Panicked(String),
}

/// Does the work; `rayon::spawn` in it uses threads that have all ended when this does.
///
/// # Cancel safety
///
/// When the future is dropped, the work is, too. `hold` is kept until everything that it had begun has ended.
pub(crate) async fn on_its_own<T: Send + 'static>(
    hold: Arc<impl Send + Sync + 'static>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, NotDone> {
    let (alive, ended) = oneshot::channel::<()>();
    let panicked = Arc::new(Mutex::new(None));
    let note = {
        let panicked = panicked.clone();
        move |payload: Box<dyn Any + Send>| {
            panicked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| panic_message(payload.as_ref()));
        }
    };
    // What a pool is built with goes when its last thread has ended.
    let kept = (alive, hold);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = ThreadPoolBuilder::new()
        // One does nothing but drive the work.
        .num_threads(threads + 1)
        .thread_name(|number| format!("{NAME}{number}"))
        .exit_handler(move |_| {
            let _ = &kept;
        })
        .panic_handler(note.clone())
        .build()
        .map_err(io::Error::other)?;
    let (mut done, result) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    pool.spawn(move || {
        let work = async {
            tokio::select! {
                result = work => Some(result),
                () = done.closed() => None,
            }
        };
        match catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))) {
            // Nobody may wait any more.
            Ok(Some(result)) => drop(done.send(result)),
            Ok(None) => {}
            Err(payload) => note(payload),
        }
    });
    drop(pool);
    let result = result.await;
    drop(ended.await);
    match panicked.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(message) => Err(NotDone::Panicked(message)),
        None => Ok(result.map_err(io::Error::other)?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Work that begins something which goes on until it is told to end, and says when it has begun.
    fn begin() -> (impl FnOnce() + Send, Receiver<()>, Sender<()>) {
        let ((begun, has_begun), (end, told)) = (channel(), channel());
        let begin = move || {
            rayon::spawn_fifo(move || {
                begun.send(()).expect("somebody waits");
                let _ = told.recv();
            });
        };
        (begin, has_begun, end)
    }

    #[tokio::test]
    async fn work_that_fails_is_at_its_end_when_all_that_it_began_is() {
        let (begin, has_begun, end) = begin();
        let mut work = Box::pin(on_its_own(Arc::new(()), async move {
            begin();
            Err::<(), _>("failed")
        }));
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut work).await;
        assert!(waited.is_err(), "what it began still runs");
        has_begun.recv().expect("it begins");
        drop(end);
        assert_eq!(work.await.expect("there are threads"), Err("failed"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_wherever_it_happens() {
        let here = on_its_own(Arc::new(()), async { panic!("it drives the work") });
        let elsewhere = on_its_own(Arc::new(()), async {
            let (done, ended) = oneshot::channel::<()>();
            rayon::spawn_fifo(move || {
                let _done = done;
                panic!("it does a part of it");
            });
            drop(ended.await);
        });
        let said = |ended: Result<(), NotDone>| ended.expect_err("it panicked").to_string();
        assert_eq!(said(here.await), "it drives the work");
        assert_eq!(said(elsewhere.await), "it does a part of it");
    }

    #[tokio::test]
    async fn what_protects_work_that_nobody_waits_for_is_kept_until_it_has_ended() {
        let (begin, has_begun, end) = begin();
        let hold = Arc::new(());
        let held = Arc::downgrade(&hold);
        let work = on_its_own(hold, async move {
            begin();
            std::future::pending::<()>().await;
        });
        let waited = tokio::time::timeout(Duration::from_millis(100), work).await;
        assert!(waited.is_err());
        has_begun.recv().expect("it begins");
        assert!(held.upgrade().is_some(), "somebody still writes");
        drop(end);
        while held.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
