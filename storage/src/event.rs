//! What the store tells those who listen. None of it is an error: the work goes on.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Something that happened to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// An entry could not be proven whole and counts as not there.
    DidDiscard {
        /// Where it was.
        table: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// A file was put aside and a new one will be made.
    DidQuarantine {
        /// Where it is now.
        path: PathBuf,
    },
    /// The store cannot be read or written; results of this run may be lost to later ones.
    WillRunWithout {
        /// Why.
        reason: String,
    },
    /// Another process holds a lock of the store that is held for moments only; it is waited for.
    WillWait,
    /// Somebody else was writing for too long; what was to be written waits beside the store.
    DidSpill,
    /// What waited beside the store was taken in.
    DidAbsorb {
        /// How many batches.
        batches: usize,
    },
}

impl StoreEvent {
    /// Whether something was lost or may be.
    pub fn is_trouble(&self) -> bool {
        match self {
            StoreEvent::DidDiscard { .. } | StoreEvent::DidQuarantine { .. } | StoreEvent::WillRunWithout { .. } => {
                true
            }
            StoreEvent::WillWait | StoreEvent::DidSpill | StoreEvent::DidAbsorb { .. } => false,
        }
    }
}

impl fmt::Display for StoreEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreEvent::DidDiscard { table, reason } => write!(f, "discarded an entry of {table}: {reason}"),
            StoreEvent::DidQuarantine { path } => write!(f, "put a damaged store aside as {}", path.display()),
            StoreEvent::WillRunWithout { reason } => write!(f, "going on without the store: {reason}"),
            StoreEvent::WillWait => f.write_str("waiting for another process that is at the store"),
            StoreEvent::DidSpill => {
                f.write_str("the store is being written by another process; results wait beside it")
            }
            StoreEvent::DidAbsorb { batches: 1 } => f.write_str("took in a batch that waited beside the store"),
            StoreEvent::DidAbsorb { batches } => write!(f, "took in {batches} batches that waited beside the store"),
        }
    }
}

/// Whoever is told.
pub type StoreListener = Arc<dyn Fn(StoreEvent) + Send + Sync>;
