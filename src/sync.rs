//! What threads and tasks are made of: what the standard library, tokio and rayon offer, or shuttle's in their place.
//!
//! With `--cfg shuttle` every lock, channel, thread and task of the engine is one of shuttle's, which runs a test in one
//! order of steps after the other (`tests/shuttle`, `docs/reliability.md`). Everything else stays what it is and counts as
//! one step: an `Arc`, a `OnceLock`, an atomic number, a oneshot channel, a semaphore and a token make nobody wait by
//! stopping a thread. So do salsa's locks, for one thread owns the graph and nobody else comes near them.
//!
//! **Invariant:** whatever may stop a thread, or start one, is named through this module.

#[cfg(not(shuttle))]
pub(crate) use ::{
    futures::executor::block_on,
    rayon,
    std::{
        sync::{Mutex, MutexGuard, mpsc},
        thread,
    },
    tokio,
};

#[cfg(shuttle)]
pub(crate) use shuttle::{
    future::block_on,
    sync::{Mutex, MutexGuard, mpsc},
    thread,
};

/// As much of rayon as the engine uses.
#[cfg(shuttle)]
pub(crate) mod rayon {
    pub(crate) fn spawn(job: impl FnOnce() + Send + 'static) {
        shuttle::thread::spawn(job);
    }
}

/// As much of tokio as the engine uses.
#[cfg(shuttle)]
pub(crate) mod tokio {
    pub(crate) use ::tokio::sync;

    pub(crate) mod runtime {
        /// A task or a thread of shuttle's for each of tokio's.
        #[derive(Clone)]
        pub struct Handle(());

        impl Handle {
            pub(crate) fn current() -> Self {
                Self(())
            }

            pub(crate) fn spawn<F>(&self, future: F) -> super::task::JoinHandle<F::Output>
            where
                F: Future + Send + 'static,
                F::Output: Send + 'static,
            {
                shuttle::future::spawn(future)
            }

            pub(crate) fn spawn_blocking(&self, job: impl FnOnce() + Send + 'static) {
                shuttle::thread::spawn(job);
            }
        }
    }

    pub(crate) mod task {
        pub(crate) use shuttle::future::{AbortHandle, JoinHandle};
    }

    pub(crate) mod time {
        /// There is no time: whoever sleeps lets others go first.
        pub(crate) async fn sleep(_time: std::time::Duration) {
            shuttle::future::yield_now().await;
        }
    }
}
