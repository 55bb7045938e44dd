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
