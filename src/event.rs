//! Events: what happens while it happens, for progress, logs and tests.
//!
//! Listeners are called on the planner thread and from tasks; they must be quick and must not call back into the
//! database and wait. Names are written out only if a listener does so.

use std::sync::Arc;
use std::time::Duration;

use doge_storage::RunId;

use crate::spec::SpecName;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A body of a query ran to a value.
    DidExecute {
        /// The query.
        spec: SpecName,
        /// It has the value it had before, so what depends on it still holds.
        cut_off: bool,
        /// How long the body ran.
        cost: Duration,
    },
    /// A trace was checked and holds.
    DidVerify {
        /// The query or action.
        spec: SpecName,
    },
    /// A query, action, effect or observation failed.
    DidFail {
        /// Which.
        spec: SpecName,
        /// The error and its sources.
        message: String,
    },
    /// A query waits, for the first time, for something that is not there. It ends with [`Event::DidSettle`] or
    /// [`Event::DidCancel`].
    DidPend {
        /// The query.
        spec: SpecName,
        /// Who asked for it first; nobody if it is a request.
        parent: Option<SpecName>,
    },
    /// A query that waited has an answer.
    DidSettle {
        /// The query.
        spec: SpecName,
        /// It failed.
        failed: bool,
    },
    /// An action or effect was demanded; it starts when it has its locks and permits. It ends with [`Event::DidRun`],
    /// [`Event::DidFail`], [`Event::DidRetreat`] or [`Event::DidCancel`].
    WillRun {
        /// Which.
        spec: SpecName,
        /// Who asked for it first.
        parent: Option<SpecName>,
    },
    /// An action or effect has its locks and permits and begins.
    DidStart {
        /// Which.
        spec: SpecName,
    },
    /// An action or effect ended with a result.
    DidRun {
        /// Which.
        spec: SpecName,
        /// An action has the value it had before.
        cut_off: bool,
        /// Whether the result may be found again by later runs: its inputs held still while it was made.
        certain: bool,
        /// How long it ran, without waiting.
        cost: Duration,
    },
    /// An action ended because the world moved, because another process had made its result, or because a file it
    /// needed was gone. It is asked for again if it is still needed.
    DidRetreat {
        /// Which.
        spec: SpecName,
        /// Why.
        reason: Retreat,
    },
    /// An action or effect ended, or a query that waited, because nobody needs it any more.
    DidCancel {
        /// Which.
        spec: SpecName,
    },
    /// An observation is made.
    WillObserve {
        /// Which.
        spec: SpecName,
    },
    /// An observation was made.
    DidObserve {
        /// Which.
        spec: SpecName,
        /// Its stamp said that nothing changed, so nothing was read.
        by_stamp: bool,
        /// It differs from what was seen last in this process.
        changed: bool,
    },
    /// Another process does the same work, or holds what it needs.
    WillWait {
        /// What waits.
        spec: SpecName,
        /// Who is waited for.
        holder: String,
    },
    /// An action reports how far it is.
    Progress {
        /// Which.
        spec: SpecName,
        /// How far.
        progress: Progress,
    },
    /// An action passes on a line that a program wrote.
    OutputLine {
        /// Which.
        spec: SpecName,
        /// The line, without its end.
        line: String,
    },
    /// More was made than the disk takes: nothing goes on until what waits to be written is written.
    WillWaitForStore {
        /// How much waits.
        bytes: usize,
    },
    /// The store has something to say.
    Store(doge_storage::StoreEvent),
    /// A session begins whose results are kept.
    DidBegin {
        /// The id of its run.
        run: RunId,
    },
    /// A new session began.
    DidRefresh {
        /// The observations that see something else now.
        changed: usize,
    },
}

/// Why an action ended without a result and without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retreat {
    /// What it was asked to work on is not what is there any more.
    WorldMoved,
    /// Another process recorded a result meanwhile.
    FoundInStore,
    /// It waited for somebody who may have done it by now.
    Waited,
    /// Something it needs must be made again first.
    NeedsRemake,
}

/// How far an action is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, in a few words.
    pub message: Option<String>,
    /// How much is done.
    pub done: u64,
    /// How much there is in all, if known.
    pub total: Option<u64>,
    /// Whether `done` and `total` count bytes; else they count things.
    pub bytes: bool,
}

/// Whoever is told of events.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;
