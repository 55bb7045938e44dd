//! Threads for one piece of work, which is at its end when they are.
//!
//! The installer links packages on the threads of rayon and forgets them when it meets an error, or when nobody waits
//! for it any more: they would go on writing to the prefix while somebody else, or the next attempt, changes it. So it
//! gets threads of its own, and what protects the prefix is kept until the last of them has ended.

use std::io;
use std::sync::Arc;

use rayon::ThreadPoolBuilder;
use tokio::sync::oneshot;

/// Does the work; `rayon::spawn` in it uses threads that have all ended when this does.
///
/// # Cancel safety
///
/// When the future is dropped, the work is, too. `hold` is kept until everything that it had begun has ended.
pub(crate) async fn on_its_own<T: Send + 'static>(
    hold: Arc<impl Send + Sync + 'static>,
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let (alive, ended) = oneshot::channel::<()>();
    // What a pool is built with goes when its last thread has ended.
    let kept = (alive, hold);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = ThreadPoolBuilder::new()
        // One does nothing but drive the work.
        .num_threads(threads + 1)
        .exit_handler(move |_| {
            let _ = &kept;
        })
        .build()
        .map_err(io::Error::other)?;
    let (mut done, result) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    pool.spawn(move || {
        let result = runtime.block_on(async {
            tokio::select! {
                result = work => Some(result),
                () = done.closed() => None,
            }
        });
        if let Some(result) = result {
            // Nobody waits any more.
            drop(done.send(result));
        }
    });
    drop(pool);
    let result = result.await;
    drop(ended.await);
    result.map_err(io::Error::other)
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
