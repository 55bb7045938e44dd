//! What stops threads: what the standard library offers, or, with `--cfg shuttle`, shuttle's in its place.
//!
//! Shuttle runs a test of the engine in one order of steps after the other. A call of redb is one step, for it returns
//! without waiting for another thread of this process.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard},
    thread,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard},
    thread,
};
