//! The store of Doge: results and what they were made from, kept between runs and shared between processes.
//!
//! It knows bytes and names of 32 bytes, not what they mean. A [`Batch`] of traces, specs, values, stamps, labels and
//! records of runs is [committed](Store::commit) as a whole; a [`Snapshot`] is what was committed, and what waits to
//! be, at one moment.
//!
//! * Any number of processes use one store. Reading never waits. One process writes at a time, for as long as one
//!   transaction takes; who waits too long for it puts its batch beside the store, where all see it.
//! * No entry that cannot be proven whole is ever returned. Damage is a miss and an event, never an error.
//! * Nothing that was committed is lost by a killed process, and nothing that was spilled either.
//!
//! ```
//! use std::sync::Arc;
//! use doge_storage::{Batch, Committed, Fingerprint, Key, Store, StoreOptions, Trace};
//!
//! # fn main() -> Result<(), std::io::Error> {
//! let directory = tempfile::tempdir()?;
//! let store = Store::open(StoreOptions::new(directory.path()));
//!
//! let key = Key::from_bytes([1; 32]);
//! let value: Arc<[u8]> = Arc::from(b"the result".as_slice());
//! let mut batch = Batch::default();
//! batch.traces.push((key, Trace {
//!     groups: Vec::new(),
//!     value: Fingerprint::of(&value),
//!     cost: std::time::Duration::from_millis(3),
//!     scope: 0,
//!     recorded: 0,
//! }));
//! batch.values.insert(Fingerprint::of(&value), value);
//! assert_eq!(store.commit(batch), Committed::Stored);
//!
//! // Another process, later.
//! let snapshot = Store::open(StoreOptions::new(directory.path())).snapshot();
//! let trace = &snapshot.traces(key)[0];
//! assert_eq!(snapshot.value(trace.value).as_deref(), Some(b"the result".as_slice()));
//! # Ok(()) }
//! ```
//!
//! The layout on disk is told in `docs/format.md`.
//!
//! A file-size limit kills a process that does not ignore `SIGXFSZ`; ignoring it is the binary's business.

mod backend;
mod codec;
mod collect;
mod event;
mod files;
mod format;
mod in_use;
mod keys;
mod locks;
mod logs;
mod medium;
mod pending;
mod snapshot;
mod store;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod verify;

pub use crate::backend::is_inside_store;
pub use crate::collect::{Amount, Amounts, Collected, Collection, Kept};
pub use crate::event::{StoreEvent, StoreListener};
pub use crate::files::FileId;
pub use crate::keys::{Fingerprint, Key, NotAName, RunId};
pub use crate::locks::{Acquired, Beat, Holder, LockGuard, Locks, process_stat, try_acquire, try_share};
pub use crate::snapshot::Snapshot;
pub use crate::store::{Committed, Names, Store, StoreInfo, StoreOptions};
pub use crate::trace::{Batch, Dependency, LabelEntry, RunEntry, Stamp, StoredSpec, Trace};
pub use crate::verify::{Finding, Verified};
