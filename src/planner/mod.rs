//! The planner: the one owner of the graph.
//!
//! Everything that can happen to it is a [`Message`]. It is a synchronous state machine: [`Planner::handle`] takes
//! a message in, [`Planner::advance`] evaluates what became ready, starts what is demanded and delivers what is
//! answered. A thread of its own drives it in production ([`crate::database`]); tests drive it step by step.
//!
//! **Invariant:** requests see one state of the world. What was observed stays as it was observed until
//! [`Message::Refresh`] or an effect of the engine's own changes it.

mod evaluation;
mod requests;
mod session;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use doge_storage::Fingerprint;
use futures::channel::oneshot;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio_util::sync::CancellationToken;

use crate::dry::{DryReport, DryRun};
use crate::event::Event;
use crate::failure::FailureInner;
use crate::graph::Graph;
use crate::look::Sighting;
use crate::memo::{Engine, EngineDb};
use crate::node::NodeIndex;
use crate::persist::{Persist, Write};
use crate::record::Span;
use crate::run::{Counts, RunRecord};
use crate::runtime::{Ended, Shared, Spawn};
use crate::schedule::Schedule;
use crate::spec::SharedSpec;
use crate::sync::block_on;
use crate::table::Table;
use crate::value::AnyValue;

/// How often in a row the world may move under a piece of work before its failure counts.
const MOVES: u32 = 3;

/// Identifies a request of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// Everything that can happen to the planner.
pub(crate) enum Message {
    /// Somebody wants the answer of a spec.
    Ask { id: RequestId, spec: SharedSpec, want: Want, reply: oneshot::Sender<Delivered> },
    /// They do not want it any more.
    Cancel(RequestId),
    /// A piece of work ended.
    Finished { node: NodeIndex, attempt: u64, ended: Ended },
    /// Observe everything again and begin a new session.
    Refresh(oneshot::Sender<Refreshed>),
    /// Keep a value that was interned outside of any body.
    Keep { fingerprint: Fingerprint, bytes: Vec<u8> },
    /// What would happen if this were asked?
    Dry { spec: SharedSpec, reply: oneshot::Sender<DryReport> },
    /// What is known of the graph?
    Snapshot(oneshot::Sender<Graph>),
    /// What was done in this session?
    Report(oneshot::Sender<Counts>),
    /// Write everything down and end.
    Close(oneshot::Sender<RunRecord>),
    /// The last handle is gone: as `Close`, with nobody to tell.
    Abandoned,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The value.
    Value,
    /// Only that there is one.
    Fingerprint,
}

/// What a request gets.
pub(crate) enum Delivered {
    Value { fingerprint: Fingerprint, value: Option<AnyValue> },
    Failed(Arc<FailureInner>),
}

/// What a refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Observations that were made again.
    pub observed: usize,
    /// Those that see something else now.
    pub changed: usize,
}

struct Live {
    node: NodeIndex,
    want: Want,
    reply: oneshot::Sender<Delivered>,
}

struct Running {
    attempt: u64,
    spawned: Instant,
    cancel: CancellationToken,
    /// Started by a refresh: nobody waits for it by demand, and it must not be aborted for that.
    refresh: bool,
}

struct Refreshing {
    /// What is still to be looked at; in serial mode one after the other.
    next: VecDeque<(NodeIndex, SharedSpec)>,
    /// The looks that have not ended, started or not.
    left: usize,
    observed: usize,
    seen: Vec<(NodeIndex, Sighting)>,
    reply: Vec<oneshot::Sender<Refreshed>>,
}

/// An effect that a live request had done to a target.
struct Owner {
    query: NodeIndex,
    effect: NodeIndex,
}

/// What the planner is told when it is made.
pub(crate) struct Config {
    pub(crate) table: Table,
    /// Opens the store: by whoever plans, so that who makes the engine need not wait for it.
    pub(crate) persist: Option<Box<dyn FnOnce() -> Persist + Send>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spawn: Box<dyn Spawn>,
    pub(crate) serial: bool,
    /// What is looked at as soon as there is a planner.
    pub(crate) ahead: Vec<SharedSpec>,
    pub(crate) title: String,
    pub(crate) scope: Option<String>,
    pub(crate) on_refresh: Option<Arc<dyn Fn() + Send + Sync>>,
    pub(crate) on_close: Option<Arc<dyn Fn() + Send + Sync>>,
}

pub(crate) struct Planner {
    /// Taken only while the database is replaced by a smaller one.
    db: Option<EngineDb>,
    schedule: Schedule,
    shared: Arc<Shared>,
    spawn: Box<dyn Spawn>,
    serial: bool,
    requests: FxHashMap<RequestId, Live>,
    roots: FxHashMap<NodeIndex, Vec<RequestId>>,
    /// The order in which requests arrived, so that walking from them is deterministic.
    order: VecDeque<RequestId>,
    running: FxHashMap<NodeIndex, Running>,
    attempts: u64,
    /// Slots that hold a failure.
    failed: FxHashSet<NodeIndex>,
    /// Slots whose result is right for this session only, and actions whose order is to run.
    session_only: FxHashSet<NodeIndex>,
    verdicts: Vec<NodeIndex>,
    effects: FxHashSet<NodeIndex>,
    owners: FxHashMap<NodeIndex, Owner>,
    /// How often in a row work for a node was undone by a moving world.
    moves: FxHashMap<NodeIndex, u32>,
    /// What has work to be done again on its behalf, and how often in a row without anything else getting done.
    remakes: FxHashMap<NodeIndex, Remakes>,
    /// Work that was ordered to be done again for others.
    remade: FxHashSet<NodeIndex>,
    /// How often work came to an answer that was not only done again for others.
    answers: u64,
    refreshing: Option<Refreshing>,
    /// What arrived while a refresh was under way, and what came after another refresh was asked for.
    held_back: Vec<Message>,
    /// When this session's refresh was asked for: what was looked at before is of an earlier one.
    since: Instant,
    dry: Vec<DryRun>,
    /// What was asked since the last refresh.
    recent: Vec<NodeIndex>,
    title: String,
    scope: Option<String>,
    began: std::time::SystemTime,
    clock: Instant,
    /// Queries of which it was told that they wait.
    pending: FxHashSet<NodeIndex>,
    /// Whether some of them may be over without having been answered by name: only then are they gone through.
    unsettled: bool,
    /// When work was done and looks were made in this session.
    spans: FxHashMap<NodeIndex, Span>,
    on_refresh: Option<Arc<dyn Fn() + Send + Sync>>,
    on_close: Option<Arc<dyn Fn() + Send + Sync>>,
    closed: bool,
}

/// How often in a row something had work done again.
#[derive(Default)]
struct Remakes {
    count: u32,
    /// [`Planner::answers`] at the last time.
    answers: u64,
}

impl Planner {
    pub(crate) fn new(config: Config) -> Self {
        let began = config.shared.now();
        config.table.persist.replace(config.persist.map(|open| open()));
        let mut planner = Self {
            db: Some(EngineDb::new(config.table)),
            schedule: Schedule::default(),
            shared: config.shared,
            spawn: config.spawn,
            serial: config.serial,
            requests: FxHashMap::default(),
            roots: FxHashMap::default(),
            order: VecDeque::new(),
            running: FxHashMap::default(),
            attempts: 0,
            failed: FxHashSet::default(),
            session_only: FxHashSet::default(),
            verdicts: Vec::new(),
            effects: FxHashSet::default(),
            owners: FxHashMap::default(),
            moves: FxHashMap::default(),
            remakes: FxHashMap::default(),
            remade: FxHashSet::default(),
            answers: 0,
            refreshing: None,
            held_back: Vec::new(),
            since: Instant::now(),
            dry: Vec::new(),
            recent: Vec::new(),
            title: config.title,
            scope: config.scope,
            began,
            clock: Instant::now(),
            pending: FxHashSet::default(),
            unsettled: false,
            spans: FxHashMap::default(),
            on_refresh: config.on_refresh,
            on_close: config.on_close,
            closed: false,
        };
        planner.tell_run();
        planner.look_ahead(config.ahead);
        planner
    }

    pub(crate) fn db(&self) -> &EngineDb {
        self.db.as_ref().expect("invariant: the database is taken only while it is replaced")
    }

    fn db_mut(&mut self) -> &mut EngineDb {
        self.db.as_mut().expect("invariant: the database is taken only while it is replaced")
    }

    pub(crate) fn table(&self) -> &Table {
        self.db().table()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes a message in. What follows from it happens in [`Planner::advance`].
    pub(crate) fn handle(&mut self, message: Message) {
        if self.closed {
            // Whoever closed it may be collecting by now; nothing touches the store again. Who asks hears that it is closed.
            return;
        }
        let is_held_back = self.refreshing.is_some() || !self.held_back.is_empty();
        if is_held_back && matches!(message, Message::Ask { .. } | Message::Dry { .. } | Message::Refresh(_)) {
            self.held_back.push(message);
            return;
        }
        match message {
            Message::Ask { id, spec, want, reply } => self.ask(id, spec, want, reply),
            Message::Cancel(id) => self.cancel(id),
            Message::Finished { node, attempt, ended } => self.finished(node, attempt, ended),
            Message::Refresh(reply) => self.refresh(vec![reply]),
            Message::Keep { fingerprint, bytes } => self.table().keep_value(fingerprint, bytes),
            Message::Dry { spec, reply } => {
                // What failed is tried again, as it would be by a request.
                self.take_back_failures();
                let node = self.table().intern_shared(spec);
                self.dry.push(DryRun::new(node, reply));
            }
            Message::Snapshot(reply) => {
                let graph = crate::record::graph(self.table());
                // Whoever asked may have gone.
                let _ = reply.send(graph);
            }
            Message::Report(reply) => {
                let _ = reply.send(self.counts());
            }
            Message::Close(reply) => {
                let record = self.close();
                self.spawn.wait();
                let _ = reply.send(record);
            }
            Message::Abandoned => {
                self.close();
            }
        }
        self.look_again();
    }

    /// Evaluates what is ready, starts what is demanded, settles cycles, until only running work can go on.
    pub(crate) fn advance(&mut self) {
        loop {
            self.go_on();
            if !self.refresh_for_those_held_back() {
                break;
            }
        }
        self.let_the_writer_catch_up();
    }

    fn go_on(&mut self) {
        if self.closed || self.refreshing.is_some() {
            return;
        }
        loop {
            self.drain();
            self.start();
            if self.advance_dry() {
                continue;
            }
            if !self.schedule.has_waiting() {
                break;
            }
            let suspect = self.table().suspect.replace(false);
            if !(suspect || self.running.is_empty()) || !self.settle_cycles() {
                break;
            }
        }
        if self.unsettled {
            self.tell_settled();
        }
        if self.has_requests() && self.table().persist.borrow().as_ref().is_some_and(Persist::is_full) {
            drop(self.flush(Write::Commit));
        }
    }

    /// Waits for the writer where more was made than the disk takes: until then nothing is evaluated and nothing started, so
    /// what waits to be written stays bounded. The writer waits for nobody but other processes, and two seconds for those.
    fn let_the_writer_catch_up(&self) {
        let backlog = self.table().persist.borrow().as_ref().and_then(Persist::backlog);
        if let Some((bytes, written)) = backlog {
            self.table().emit(|| Event::WillWaitForStore { bytes });
            // It answers or dies; both end the wait.
            let _ = block_on(written);
        }
    }

    fn counts(&self) -> Counts {
        self.table().tally.borrow().counts(&self.table().registry())
    }

    fn flush(&self, write: Write) -> Option<oneshot::Receiver<()>> {
        self.table().persist.borrow_mut().as_mut()?.flush(write)
    }

    /// Whether anything was asked in this session. What was only looked at, for a dry evaluation, is not written.
    fn has_requests(&self) -> bool {
        !self.recent.is_empty()
    }
}
