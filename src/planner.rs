//! The planner: the one owner of the graph.
//!
//! Everything that can happen to it is a [`Message`]. It is a synchronous state machine: [`Planner::handle`] takes
//! a message in, [`Planner::advance`] evaluates what became ready, starts what is demanded and delivers what is
//! answered. A thread of its own drives it in production ([`crate::database`]); tests drive it step by step.
//!
//! **Invariant:** requests see one state of the world. What was observed stays as it was observed until
//! [`Message::Refresh`] or an effect of the engine's own changes it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use doge_storage::{Fingerprint, Key};
use futures::channel::oneshot;
use rustc_hash::{FxHashMap, FxHashSet};
use salsa::{Database as _, Durability, Setter};
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::dry::{DryReport, DryRun};
use crate::evaluate::{evaluate, panic_message, record_action, slot_of};
use crate::event::Event;
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::graph::Graph;
use crate::kind::{Ops, Role};
use crate::look::{KnownLast, Sighting, stamp_key};
use crate::memo::{Attempt, Directive, Engine, EngineDb, Order, Outcome, memo_of};
use crate::persist::{Persist, Write};
use crate::run::{Counts, RunRecord};
use crate::runtime::{Answered, Ended, Known, Shared, Spawn, Task, observing, working};
use crate::schedule::Schedule;
use crate::spec::{SharedSpec, SpecName};
use crate::table::{Amend, Demand, NodeIndex, Status, Table, World};
use crate::value::{AnyValue, Cell};

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
    pub(crate) shared: Arc<Shared>,
    pub(crate) spawn: Box<dyn Spawn>,
    pub(crate) serial: bool,
    pub(crate) title: String,
    pub(crate) scope: Option<String>,
    pub(crate) on_refresh: Option<Arc<dyn Fn() + Send + Sync>>,
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
    refreshing: Option<Refreshing>,
    /// What arrived while a refresh was under way.
    held_back: Vec<Message>,
    dry: Vec<DryRun>,
    /// What was asked since the last refresh.
    recent: Vec<NodeIndex>,
    title: String,
    scope: Option<String>,
    began: std::time::SystemTime,
    clock: Instant,
    on_refresh: Option<Arc<dyn Fn() + Send + Sync>>,
    closed: bool,
}

impl Planner {
    pub(crate) fn new(config: Config) -> Self {
        let began = config.shared.now();
        Self {
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
            refreshing: None,
            held_back: Vec::new(),
            dry: Vec::new(),
            recent: Vec::new(),
            title: config.title,
            scope: config.scope,
            began,
            clock: Instant::now(),
            on_refresh: config.on_refresh,
            closed: false,
        }
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
        if self.refreshing.is_some() && matches!(message, Message::Ask { .. } | Message::Dry { .. }) {
            self.held_back.push(message);
            return;
        }
        match message {
            Message::Ask { id, spec, want, reply } => self.ask(id, spec, want, reply),
            Message::Cancel(id) => self.cancel(id),
            Message::Finished { node, attempt, ended } => self.finished(node, attempt, ended),
            Message::Refresh(reply) => self.refresh(reply),
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
        if self.closed || self.refreshing.is_some() {
            return;
        }
        loop {
            self.drain();
            self.start();
            self.advance_dry();
            if !self.schedule.has_waiting() {
                break;
            }
            let suspect = self.table().suspect.replace(false);
            if !(suspect || self.running.is_empty()) || !self.settle_cycles() {
                break;
            }
        }
        if self.has_requests() && self.table().persist.borrow().as_ref().is_some_and(|persist| persist.is_full()) {
            drop(self.flush(Write::Commit));
        }
    }

    // Requests.

    fn ask(&mut self, id: RequestId, spec: SharedSpec, want: Want, reply: oneshot::Sender<Delivered>) {
        self.take_back_failures();
        let node = self.table().intern_shared(spec);
        if matches!(self.table().with(node, |node| node.status), Status::Verified | Status::Executed | Status::CutOff) {
            self.table().tally.borrow_mut().reused += 1;
        }
        self.recent.push(node);
        self.requests.insert(id, Live { node, want, reply });
        self.roots.entry(node).or_default().push(id);
        self.order.push_back(id);
        self.schedule.want(node);
    }

    fn cancel(&mut self, id: RequestId) {
        self.held_back.retain(|message| !matches!(message, Message::Ask { id: other, .. } if *other == id));
        let Some(live) = self.requests.remove(&id) else { return };
        self.order.retain(|other| *other != id);
        if let Some(ids) = self.roots.get_mut(&live.node) {
            ids.retain(|other| *other != id);
            if !ids.is_empty() {
                return;
            }
            self.roots.remove(&live.node);
        }
        self.rebuild();
        self.drain();
        self.abort_unwanted();
    }

    fn deliver(&mut self, node: NodeIndex, answer: &Answer) {
        let Some(ids) = self.roots.remove(&node) else { return };
        let mut unreadable = Vec::new();
        for id in ids {
            let Some(live) = self.requests.remove(&id) else { continue };
            let delivered = match answer {
                Answer::Failed(failure) => Delivered::Failed(failure.clone()),
                Answer::Value(found) => {
                    let fingerprint = found.fingerprint();
                    let value = match live.want {
                        Want::Fingerprint => None,
                        Want::Value => self.table().read(node, &found.cell),
                    };
                    if live.want == Want::Value && value.is_none() {
                        self.requests.insert(id, live);
                        unreadable.push(id);
                        continue;
                    }
                    Delivered::Value { fingerprint, value }
                }
                Answer::Pending => {
                    self.requests.insert(id, live);
                    unreadable.push(id);
                    continue;
                }
            };
            self.order.retain(|other| *other != id);
            // Whoever asked may have gone without having been able to say so yet.
            let _ = live.reply.send(delivered);
        }
        if !unreadable.is_empty() {
            self.roots.insert(node, unreadable);
            self.table().amend.borrow_mut().push((node, Amend::Run));
        }
        if self.requests.is_empty() {
            self.end_effects();
        }
    }

    /// Between requests nothing of an effect is remembered: the next one that asks for it has it done again.
    fn end_effects(&mut self) {
        self.table().effects_done.borrow_mut().clear();
        self.owners.clear();
        self.moves.clear();
        for node in std::mem::take(&mut self.effects) {
            self.empty_slot(node);
        }
    }

    /// What failed is tried again by the next request, unless a request that is still alive saw it fail.
    fn take_back_failures(&mut self) {
        if self.failed.is_empty() && self.verdicts.is_empty() && !self.table().loose.get() {
            return;
        }
        let in_use = if self.requests.is_empty() {
            None
        } else {
            Some(self.table().reachable(self.requests.values().map(|live| live.node)))
        };
        let is_free = |node: &NodeIndex| {
            in_use.as_ref().is_none_or(|in_use| !in_use.get(node.as_usize()).is_some_and(|used| *used))
        };
        let free: Vec<NodeIndex> = self.failed.iter().copied().filter(is_free).collect();
        if in_use.is_some() && free.is_empty() {
            return;
        }
        if in_use.is_none() && self.table().loose.take() {
            self.next_attempt();
        }
        for node in free {
            self.failed.remove(&node);
            self.empty_slot(node);
        }
        self.invalidated();
    }

    fn next_attempt(&mut self) {
        let db = self.db_mut();
        if let Some(attempt) = Attempt::try_get(db) {
            let number = attempt.number(db) + 1;
            attempt.set_number(db).with_durability(Durability::HIGH).to(number);
        }
    }

    // Evaluation.

    /// Something that answers stand on has changed: verdicts on cycles may be wrong, and waiters outdated.
    fn invalidated(&mut self) {
        for node in std::mem::take(&mut self.verdicts) {
            self.set_order(node, Order::Free);
        }
        self.rebuild();
    }

    /// Finds out anew who waits for what, by walking from the live requests. Running work goes on.
    fn rebuild(&mut self) {
        self.schedule.clear();
        let wanted: Vec<NodeIndex> =
            self.order.iter().filter_map(|id| self.requests.get(id)).map(|live| live.node).collect();
        for node in wanted {
            self.schedule.want(node);
        }
    }

    fn drain(&mut self) {
        while let Some(node) = self.schedule.next_ready() {
            let answer = self.evaluate(node);
            if self.amend() {
                continue;
            }
            match answer {
                Answer::Pending => {
                    let demands = self.table().with(node, |node| node.demands.clone());
                    if demands.is_empty() {
                        // Salsa put "pending" in the place of an answer while it verified; the next revision runs it.
                        self.db_mut().synthetic_write(Durability::LOW);
                        self.schedule.want(node);
                        continue;
                    }
                    let running = &self.running;
                    self.schedule.pend(node, &demands, |work| running.contains_key(&work));
                }
                answer => {
                    self.schedule.wake(Demand::Answer(node));
                    self.deliver(node, &answer);
                    self.amend();
                }
            }
        }
    }

    /// Evaluates one node. A panic that gets here is a bug of the engine; it fails the node and nothing else.
    fn evaluate(&mut self, node: NodeIndex) -> Answer {
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let db = self.db();
            evaluate(db, memo_of(db, node)).clone()
        }));
        match evaluated {
            Ok(answer) => answer,
            Err(payload) => {
                let message = panic_message(payload.as_ref());
                tracing::error!(%message, "internal error while evaluating");
                // What unwound through salsa poisons its revision.
                self.db_mut().synthetic_write(Durability::LOW);
                let table = self.table();
                table.loose.set(true);
                table.depth.set(0);
                for index in table.indices() {
                    table.change(index, |node| node.active = false);
                }
                let spec = table.name(node);
                let failure = EngineFailure::Panicked { spec: spec.clone(), message: message.into() };
                Answer::Failed(engine_failure(spec, failure))
            }
        }
    }

    /// Makes the changes of inputs that evaluation asked for; whether there were any.
    fn amend(&mut self) -> bool {
        let amends = self.table().amend.take();
        if amends.is_empty() {
            return false;
        }
        for (node, amend) in amends {
            match amend {
                Amend::Outdated => self.empty_slot(node),
                Amend::Run => self.order_to_run(node, crate::table::Stale::Lost),
            }
        }
        self.invalidated();
        true
    }

    /// The node runs again, whatever its traces say.
    fn order_to_run(&mut self, node: NodeIndex, why: crate::table::Stale) {
        self.table().change(node, |node| node.stale = Some(Box::new(why)));
        match self.table().with(node, |node| node.role) {
            Role::Query => self.set_order(node, Order::Run),
            Role::Action => {
                self.set_order(node, Order::Run);
                self.empty_slot(node);
            }
            Role::Effect | Role::Observation => self.empty_slot(node),
        }
        self.session_only.insert(node);
    }

    fn set_order(&mut self, node: NodeIndex, order: Order) {
        let directive = match self.table().with(node, |node| node.directive) {
            Some(directive) => directive,
            None => {
                let directive = Directive::builder(Order::Free).durability(Durability::HIGH).new(self.db());
                self.table().change(node, |node| node.directive = Some(directive));
                directive
            }
        };
        directive.set_order(self.db_mut()).with_durability(Durability::HIGH).to(order);
    }

    fn empty_slot(&mut self, node: NodeIndex) {
        self.failed.remove(&node);
        if let Some(slot) = self.table().with(node, |node| node.slot)
            && slot.outcome(self.db()).is_some()
        {
            slot.set_outcome(self.db_mut()).with_durability(Durability::LOW).to(None);
        }
    }

    fn fill_slot(&mut self, node: NodeIndex, outcome: Outcome) {
        if matches!(outcome.answer, Answer::Failed(_)) {
            self.failed.insert(node);
        } else {
            self.failed.remove(&node);
        }
        let slot = slot_of(self.db(), node);
        slot.set_outcome(self.db_mut()).with_durability(Durability::HIGH).to(Some(Arc::new(outcome)));
    }

    /// What this session saw: nothing yet, a failure, or a value.
    fn seen(&self, node: NodeIndex) -> Option<Option<Fingerprint>> {
        let outcome = self.table().with(node, |node| node.slot)?.outcome(self.db()).clone()?;
        match &outcome.answer {
            Answer::Value(found) => Some(Some(found.fingerprint())),
            Answer::Failed(_) | Answer::Pending => Some(None),
        }
    }

    fn slot_is_full(&self, node: NodeIndex) -> bool {
        self.table().with(node, |node| node.slot).is_some_and(|slot| slot.outcome(self.db()).is_some())
    }

    // Cycles.

    /// Nothing is ready. Finds what can never become ready, and fails it; whether there was any.
    ///
    /// The answer is the least fixpoint of "waits for something that is in a cycle or waits for one", so it does not
    /// depend on the order in which anything was asked or ended.
    fn settle_cycles(&mut self) -> bool {
        self.rebuild();
        self.drain();
        self.start();
        let cycles = self.schedule.cycles();
        for members in &cycles {
            let ring = self.ring(members);
            for node in members {
                self.set_order(*node, Order::Cycle(ring.clone()));
                self.verdicts.push(*node);
                let failure = EngineFailure::Cycle { ring: ring.clone() };
                self.table().fail(*node, &engine_failure(self.table().name(*node), failure));
            }
        }
        if cycles.is_empty() {
            return false;
        }
        self.rebuild();
        true
    }

    /// The shortest ring through the member with the smallest name, by names where there are several.
    fn ring(&self, members: &[NodeIndex]) -> Arc<[SpecName]> {
        let table = self.table();
        let mut named: Vec<(String, Key, NodeIndex)> = members
            .iter()
            .map(|node| (table.name(*node).to_string(), table.with(*node, |node| node.key), *node))
            .collect();
        named.sort();
        let rank: FxHashMap<NodeIndex, usize> = named.iter().enumerate().map(|(rank, named)| (named.2, rank)).collect();
        let set: FxHashSet<NodeIndex> = members.iter().copied().collect();
        let mut edges = self.schedule.edges_within(&set);
        for next in edges.values_mut() {
            next.sort_by_key(|node| rank[node]);
        }
        let Some(start) = named.first().map(|named| named.2) else { return Arc::from([]) };
        let mut came_from: FxHashMap<NodeIndex, NodeIndex> = FxHashMap::default();
        let mut todo = VecDeque::from([start]);
        let mut last = start;
        'search: while let Some(node) = todo.pop_front() {
            for next in edges.get(&node).into_iter().flatten() {
                if *next == start {
                    last = node;
                    break 'search;
                }
                if !came_from.contains_key(next) {
                    came_from.insert(*next, node);
                    todo.push_back(*next);
                }
            }
        }
        let mut ring = vec![table.name(last)];
        while last != start {
            last = came_from[&last];
            ring.push(table.name(last));
        }
        ring.reverse();
        ring.into()
    }

    // Work.

    fn start(&mut self) {
        while !self.serial || self.running.is_empty() {
            let Some(node) = self.schedule.next_start() else { return };
            if self.running.contains_key(&node) || !self.schedule.is_waited_for(Demand::Run(node)) {
                continue;
            }
            if self.slot_is_full(node) {
                self.schedule.wake(Demand::Run(node));
                self.drain();
                continue;
            }
            self.start_node(node);
        }
    }

    fn start_node(&mut self, node: NodeIndex) {
        let Some(spec) = self.table().spec(node) else {
            self.lost(node);
            return;
        };
        match spec.kind().ops() {
            Ops::Observation(_) => {
                let last = self.last_look(node, &spec);
                self.spawn_work(node, false, |shared, cancel| observing(shared, spec, cancel, last));
            }
            Ops::Effect(ops) => {
                if let Some(target) = ops.target(&spec)
                    && self.refuse_conflict(node, target)
                {
                    return;
                }
                self.effects.insert(node);
                self.spawn_action(node, spec);
            }
            Ops::Action(_) => self.spawn_action(node, spec),
            // A query is never demanded to run; it is evaluated.
            Ops::Query(_) => self.lost(node),
        }
    }

    fn spawn_action(&mut self, node: NodeIndex, spec: SharedSpec) {
        self.table().emit(|| Event::WillRun { spec: self.table().name(node) });
        let key = self.table().with(node, |node| node.key);
        let expensive = matches!(spec.kind().ops(), Ops::Action(ops) if ops.expensive());
        let ordered = self
            .table()
            .with(node, |node| node.directive)
            .is_some_and(|directive| matches!(directive.order(self.db()), Order::Run));
        let known = if ordered {
            Known::Forced
        } else if expensive {
            let mut persist = self.table().persist.borrow_mut();
            Known::Traces(
                persist
                    .as_mut()
                    .map(|persist| persist.traces(key))
                    .unwrap_or_default()
                    .iter()
                    .map(|trace| trace.fingerprint())
                    .collect(),
            )
        } else {
            Known::Traces(Vec::new())
        };
        self.spawn_work(node, false, |shared, cancel| working(shared, spec, key, known, cancel));
    }

    fn spawn_work(
        &mut self,
        node: NodeIndex,
        refresh: bool,
        work: impl FnOnce(Arc<Shared>, CancellationToken) -> futures::future::BoxFuture<'static, Ended>,
    ) {
        self.attempts += 1;
        let attempt = self.attempts;
        let cancel = CancellationToken::new();
        self.running.insert(node, Running { attempt, cancel: cancel.clone(), refresh });
        let work = work(self.shared.clone(), cancel.clone());
        self.spawn.spawn(Task { node, attempt, cancel, work });
    }

    /// What a look may go by: what this session saw, else what the store remembers.
    fn last_look(&self, node: NodeIndex, spec: &SharedSpec) -> Option<KnownLast> {
        let key = self.table().with(node, |node| node.key);
        if let Some(sighting) = self.shared.sighting(key) {
            return sighting.as_last();
        }
        let mut persist = self.table().persist.borrow_mut();
        let persist = persist.as_mut()?;
        let stamp = persist.stamp(stamp_key(&self.shared, spec, key))?;
        Some(KnownLast { stamp: stamp.detail.into(), cell: Cell::stored(stamp.value), bytes: None })
    }

    /// Somebody needs this node to run, and its spec is nowhere to be found.
    fn lost(&mut self, node: NodeIndex) {
        self.table().change(node, |node| node.lost = true);
        let name = self.table().name(node);
        let failure = engine_failure(name.clone(), EngineFailure::Lost { spec: name });
        self.fill_slot(node, Outcome { answer: Answer::Failed(failure), reads: Vec::new() });
        self.schedule.wake(Demand::Run(node));
        self.drain();
    }

    /// Fails an effect on a target that a live request of another query is changing in another way.
    fn refuse_conflict(&mut self, effect: NodeIndex, target: SharedSpec) -> bool {
        let target = self.table().intern_shared(target);
        let Some(query) = self.schedule.waiters_of_run(effect).first().copied() else { return false };
        let other = self.owners.get(&target).filter(|owner| owner.query != query && owner.effect != effect);
        if let Some(owner) = other {
            let live = self.table().reachable(self.requests.values().map(|live| live.node));
            if live.get(owner.query.as_usize()).is_some_and(|live| *live) {
                let table = self.table();
                let failure = EngineFailure::Conflict {
                    target: table.name(target),
                    first: table.name(owner.effect),
                    second: table.name(effect),
                };
                let failure = engine_failure(table.name(effect), failure);
                self.fill_slot(effect, Outcome { answer: Answer::Failed(failure), reads: Vec::new() });
                self.effects.insert(effect);
                self.schedule.wake(Demand::Run(effect));
                self.drain();
                return true;
            }
        }
        self.owners.insert(target, Owner { query, effect });
        false
    }

    /// Ends work that nobody waits for any more.
    fn abort_unwanted(&mut self) {
        let unwanted: Vec<NodeIndex> = self
            .running
            .iter()
            .filter(|(node, running)| !running.refresh && !self.schedule.is_waited_for(Demand::Run(**node)))
            .map(|(node, _)| *node)
            .collect();
        for node in unwanted {
            self.abort(node);
        }
    }

    /// Ends the work for a node, if there is any; whether it was a look of a refresh.
    fn abort(&mut self, node: NodeIndex) -> bool {
        let Some(running) = self.running.remove(&node) else { return false };
        running.cancel.cancel();
        self.spawn.abort(node, running.attempt);
        self.table().emit(|| Event::DidCancel { spec: self.table().name(node) });
        running.refresh
    }

    fn finished(&mut self, node: NodeIndex, attempt: u64, ended: Ended) {
        if self.running.get(&node).is_none_or(|running| running.attempt != attempt) {
            return;
        }
        let refresh = self.running.remove(&node).is_some_and(|running| running.refresh);
        match ended {
            Ended::Observed(sighting) if refresh => self.refreshed_one(node, sighting),
            Ended::Observed(sighting) => {
                self.observed(node, &sighting);
                self.see(node, sighting);
                self.schedule.wake(Demand::Run(node));
            }
            Ended::Answered(answered) => self.answered(node, *answered),
            Ended::FoundInStore => {
                if let Some(persist) = self.table().persist.borrow_mut().as_mut() {
                    persist.renew();
                }
                self.table().forget_loaded(node);
                self.poke(node);
                self.schedule.wake(Demand::Run(node));
            }
            Ended::ObserveAgain { seen, otherwise } => self.observe_again(node, seen, otherwise),
            Ended::Remake { actions, otherwise } => self.remake(node, actions, otherwise),
            Ended::Cancelled if refresh => self.refresh_lost_one(),
            Ended::Cancelled => self.rebuild(),
        }
    }

    /// Makes a pending action be evaluated again although its slot is still empty.
    fn poke(&mut self, node: NodeIndex) {
        let slot = slot_of(self.db(), node);
        slot.set_outcome(self.db_mut()).with_durability(Durability::LOW).to(None);
    }

    fn answered(&mut self, node: NodeIndex, answered: Answered) {
        let Answered { answer, reads, mut certain, cost, bytes, interned, committed, target } = answered;
        self.moves.remove(&node);
        let mut world = Vec::with_capacity(reads.len());
        for read in reads {
            let index = self.table().intern_shared(read.spec);
            let saw = read.sighting.fingerprint();
            // What the action saw first is what this session saw, unless somebody is looking right now.
            if !self.slot_is_full(index) && !self.running.contains_key(&index) {
                self.observed(index, &read.sighting);
                self.see(index, read.sighting);
                self.schedule.wake(Demand::Run(index));
            }
            // If this session saw something else, the result serves it all the same, and only it.
            let stands = self.seen(index).unwrap_or(saw);
            certain &= stands == saw;
            world.extend(stands.map(|fingerprint| (index, fingerprint)));
        }
        if let Some(persist) = self.table().persist.borrow_mut().as_mut() {
            for (fingerprint, bytes) in interned {
                persist.keep_value(fingerprint, bytes.into());
            }
        }
        let role = self.table().with(node, |node| node.role);
        match &answer {
            Answer::Value(found) => {
                let kind = self.table().with(node, |node| node.kind);
                let cut_off = role == Role::Action
                    && self.table().with(node, |node| {
                        node.worlds.first().is_some_and(|world| world.cell.fingerprint() == found.fingerprint())
                    });
                let height = self.table().height_above(world.iter().map(|(index, _)| *index));
                self.table().change(node, |node| {
                    node.status = if cut_off { Status::CutOff } else { Status::Executed };
                    node.cost = cost;
                    node.height = height;
                    node.value = Some(found.fingerprint());
                });
                self.table().tally.borrow_mut().executed(kind, cut_off);
                self.table().emit(|| Event::DidRun { spec: self.table().name(node), cut_off, certain, cost });
                let ends = if world.is_empty() { Vec::new() } else { vec![world.len() as u32] };
                let recorded = World { deps: world.clone().into(), ends: ends.into(), cell: found.cell.clone(), cost };
                if role == Role::Action && certain {
                    if committed {
                        self.note_committed(node, &recorded);
                        self.table().remember(node, recorded);
                    } else {
                        record_action(self.table(), node, recorded, bytes);
                    }
                } else {
                    self.table().stand_on(node, world.iter().map(|(index, _)| *index).collect());
                    self.session_only.insert(node);
                }
            }
            Answer::Failed(failure) => {
                self.table().stand_on(node, world.iter().map(|(index, _)| *index).collect());
                self.table().fail(node, failure);
            }
            Answer::Pending => {}
        }
        let done = matches!(answer, Answer::Value(_));
        self.fill_slot(node, Outcome { answer, reads: world });
        match target {
            Some((target, sighting)) => {
                let target = self.table().intern_shared(target);
                if done {
                    for query in self.schedule.waiters_of_run(node).to_vec() {
                        self.table().effects_done.borrow_mut().entry(query).or_default().push(target);
                    }
                }
                self.observed(target, &sighting);
                if self.see_again(vec![(target, sighting)]) == 0 {
                    self.schedule.wake(Demand::Run(node));
                }
            }
            None => self.schedule.wake(Demand::Run(node)),
        }
    }

    fn note_committed(&self, node: NodeIndex, world: &World) {
        let table = self.table();
        table.change(node, |node| node.kept = true);
        for (index, _) in world.deps.iter() {
            table.change(*index, |node| node.kept = true);
        }
        if let Some(persist) = table.persist.borrow_mut().as_mut() {
            persist.note_committed([world.cell.fingerprint()]);
        }
    }

    /// The world moved under a piece of work: what it saw now is what this session sees.
    fn observe_again(&mut self, node: NodeIndex, seen: Vec<(SharedSpec, Sighting)>, otherwise: Arc<FailureInner>) {
        let seen: Vec<(NodeIndex, Sighting)> =
            seen.into_iter().map(|(spec, sighting)| (self.table().intern_shared(spec), sighting)).collect();
        // The work is usually asked for under another spec the next time, so what counts is what moved.
        let mut worn_out = false;
        for counted in seen.iter().map(|(node, _)| *node).chain([node]).collect::<Vec<_>>() {
            let moves = self.moves.entry(counted).or_default();
            *moves += 1;
            worn_out |= *moves >= MOVES;
        }
        if worn_out {
            self.fail_work(node, otherwise);
            return;
        }
        for (node, sighting) in &seen {
            self.observed(*node, sighting);
        }
        if self.see_again(seen) == 0 {
            self.rebuild();
        }
    }

    fn remake(&mut self, node: NodeIndex, actions: Vec<SharedSpec>, otherwise: Arc<FailureInner>) {
        let moves = self.moves.entry(node).or_default();
        *moves += 1;
        if *moves >= MOVES {
            self.fail_work(node, otherwise);
            return;
        }
        for spec in actions {
            let action = self.table().intern_shared(spec);
            self.order_to_run(action, crate::table::Stale::Lost);
        }
        self.invalidated();
    }

    fn fail_work(&mut self, node: NodeIndex, failure: Arc<FailureInner>) {
        self.moves.remove(&node);
        self.table().fail(node, &failure);
        self.fill_slot(node, Outcome { answer: Answer::Failed(failure), reads: Vec::new() });
        self.schedule.wake(Demand::Run(node));
    }

    // Observations.

    /// Counts an observation and keeps what it saw for later runs.
    fn observed(&self, node: NodeIndex, sighting: &Sighting) {
        let table = self.table();
        let before = self.shared.sighting(table.with(node, |node| node.key));
        let changed = before.as_ref().is_some_and(|before| before.fingerprint() != sighting.fingerprint());
        table.change(node, |node| {
            node.status = Status::Observed;
            node.value = sighting.fingerprint();
        });
        table.tally.borrow_mut().observed += 1;
        table.emit(|| Event::DidObserve { spec: table.name(node), by_stamp: sighting.by_stamp, changed });
        if let Answer::Failed(failure) = &sighting.answer {
            table.fail(node, failure);
        }
    }

    /// What this session sees from now on; for an observation that nobody has an answer of yet.
    fn see(&mut self, node: NodeIndex, sighting: Sighting) {
        self.keep_sighting(node, &sighting);
        let answer = sighting.answer.clone();
        let key = self.table().with(node, |node| node.key);
        self.shared.note_sighting(key, &sighting);
        self.fill_slot(node, Outcome { answer, reads: Vec::new() });
    }

    fn keep_sighting(&self, node: NodeIndex, sighting: &Sighting) {
        let table = self.table();
        let Some(spec) = table.with(node, |node| node.spec.clone()) else { return };
        let key = table.with(node, |node| node.key);
        if let Some(persist) = table.persist.borrow_mut().as_mut() {
            persist.keep_sighting(stamp_key(&self.shared, &spec, key), sighting);
        }
    }

    /// Replaces what this session saw where it differs now, in one batch; how much did.
    fn see_again(&mut self, seen: Vec<(NodeIndex, Sighting)>) -> usize {
        let mut changed = FxHashSet::default();
        let mut refreshed = 0;
        for (node, sighting) in seen {
            let key = self.table().with(node, |node| node.key);
            let before = self.shared.sighting(key);
            let same = before
                .as_ref()
                .is_some_and(|before| before.fingerprint().is_some() && before.fingerprint() == sighting.fingerprint());
            if same && self.slot_is_full(node) {
                // The value stands; its stamp may be newer, or settled only now.
                self.keep_sighting(node, &sighting);
                self.shared.note_sighting(key, &sighting);
            } else {
                // A look that began earlier could only see less.
                if self.abort(node)
                    && let Some(refreshing) = &mut self.refreshing
                {
                    refreshing.seen.push((node, sighting.clone()));
                    refreshed += 1;
                }
                self.see(node, sighting);
                changed.insert(node);
            }
        }
        if changed.is_empty() {
            return 0;
        }
        let outdated: Vec<NodeIndex> = self
            .table()
            .indices()
            .filter(|node| self.table().with(*node, |node| node.role) == Role::Action)
            .filter(|node| {
                let slot = self.table().with(*node, |node| node.slot);
                slot.and_then(|slot| slot.outcome(self.db()).clone())
                    .is_some_and(|outcome| outcome.reads.iter().any(|(read, _)| changed.contains(read)))
            })
            .collect();
        for node in outdated {
            self.empty_slot(node);
        }
        self.invalidated();
        for _ in 0..refreshed {
            self.refresh_lost_one();
        }
        changed.len()
    }

    // Sessions.

    fn refresh(&mut self, reply: oneshot::Sender<Refreshed>) {
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.reply.push(reply);
            return;
        }
        if let Some(hook) = &self.on_refresh {
            hook();
        }
        let known: Vec<NodeIndex> = self
            .table()
            .indices()
            .filter(|node| self.table().with(*node, |node| node.role) == Role::Observation)
            .filter(|node| self.slot_is_full(*node))
            .collect();
        let observed = known.len();
        let next: VecDeque<_> = known.into_iter().filter_map(|node| Some((node, self.table().spec(node)?))).collect();
        self.refreshing = Some(Refreshing { left: next.len(), next, observed, seen: Vec::new(), reply: vec![reply] });
        self.look_again();
        self.end_refresh();
    }

    /// Starts the looks of a refresh.
    fn look_again(&mut self) {
        while !self.serial || self.running.is_empty() {
            let next = self.refreshing.as_mut().and_then(|refreshing| refreshing.next.pop_front());
            let Some((node, spec)) = next else { return };
            let last = self.last_look(node, &spec);
            self.spawn_work(node, true, |shared, cancel| observing(shared, spec, cancel, last));
        }
    }

    fn refreshed_one(&mut self, node: NodeIndex, sighting: Sighting) {
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.seen.push((node, sighting));
        }
        self.refresh_lost_one();
    }

    fn refresh_lost_one(&mut self) {
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.left -= 1;
        }
        self.end_refresh();
    }

    /// Begins the new session once everything was observed again.
    fn end_refresh(&mut self) {
        if self.refreshing.as_ref().is_none_or(|refreshing| refreshing.left > 0) {
            return;
        }
        let Some(Refreshing { observed, mut seen, reply, .. }) = self.refreshing.take() else { return };
        self.log_run();
        if self.has_requests() {
            drop(self.flush(Write::Commit));
        }
        seen.sort_by_key(|(node, _)| *node);

        // Nothing of the old session stays that was right for it only.
        for node in self.failed.iter().copied().collect::<Vec<_>>() {
            if self.table().with(node, |node| node.role) != Role::Observation {
                self.empty_slot(node);
            }
        }
        for node in std::mem::take(&mut self.session_only) {
            self.empty_slot(node);
            if self.table().with(node, |node| node.directive).is_some() {
                self.set_order(node, Order::Free);
            }
        }
        self.end_effects();
        if self.table().loose.take() {
            self.next_attempt();
        }
        self.begin_session();
        for (node, sighting) in &seen {
            self.observed(*node, sighting);
        }
        let changed = self.see_again(seen);
        self.invalidated();
        self.shrink();
        // Whoever still waits is answered in the new session.
        self.recent = self.order.iter().filter_map(|id| self.requests.get(id)).map(|live| live.node).collect();
        self.table().emit(|| Event::DidRefresh { changed });
        for reply in reply {
            // Whoever asked may have gone.
            let _ = reply.send(Refreshed { observed, changed });
        }
        for message in std::mem::take(&mut self.held_back) {
            self.handle(message);
        }
    }

    fn begin_session(&mut self) {
        for node in self.table().indices() {
            self.table().change(node, |node| {
                node.status = Status::None;
                node.earlier.clear();
                node.stale = None;
            });
        }
        self.began = self.shared.now();
        self.clock = Instant::now();
        self.table().tally.take();
        if let Some(persist) = self.table().persist.borrow_mut().as_mut() {
            persist.begin_run();
        }
    }

    /// Starts anew with a smaller graph when more than half of this one is out of reach.
    ///
    /// What is in reach keeps its worlds and what was observed; the memos of salsa are found again by checking
    /// them. Nothing else is lost, for everything that matters is in the store.
    fn shrink(&mut self) {
        if !self.running.is_empty() || !self.dry.is_empty() {
            return;
        }
        let roots: Vec<NodeIndex> =
            self.recent.iter().copied().chain(self.requests.values().map(|live| live.node)).collect();
        let keep = self.table().reachable(roots);
        let kept = keep.iter().filter(|keep| **keep).count();
        if keep.len() < 64 || kept * 2 >= keep.len() {
            return;
        }
        let Some(db) = self.db.take() else { return };
        let observed: FxHashMap<NodeIndex, Arc<Outcome>> = db
            .table()
            .indices()
            .filter(|node| keep[node.as_usize()])
            .filter(|node| db.table().with(*node, |node| node.role) == Role::Observation)
            .filter_map(|node| Some((node, db.table().with(node, |node| node.slot)?.outcome(&db).clone()?)))
            .collect();
        let (table, moved) = db.into_table().shrunk(&keep);
        self.db = Some(EngineDb::new(table));
        self.failed.clear();
        let mut observed: Vec<_> = observed.into_iter().collect();
        observed.sort_by_key(|(node, _)| *node);
        for (node, outcome) in observed {
            let node = moved[&node];
            self.fill_slot(node, Outcome { answer: outcome.answer.clone(), reads: Vec::new() });
        }
        let known: FxHashSet<Key> =
            self.table().indices().map(|node| self.table().with(node, |node| node.key)).collect();
        self.shared
            .sightings
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|key, _| known.contains(key));
        for live in self.requests.values_mut() {
            live.node = moved[&live.node];
        }
        self.roots = std::mem::take(&mut self.roots).into_iter().map(|(node, ids)| (moved[&node], ids)).collect();
        self.rebuild();
    }

    // Dry evaluation.

    fn advance_dry(&mut self) {
        let runs = std::mem::take(&mut self.dry);
        for mut run in runs {
            match run.advance(self.db()) {
                Some(()) => {}
                None => {
                    for node in run.wanted() {
                        if self.serial && !self.running.is_empty() {
                            break;
                        }
                        if !self.running.contains_key(&node) && !self.slot_is_full(node) {
                            self.start_observation(node);
                        }
                    }
                    self.dry.push(run);
                }
            }
        }
    }

    fn start_observation(&mut self, node: NodeIndex) {
        match self.table().spec(node) {
            Some(spec) => {
                let last = self.last_look(node, &spec);
                self.spawn_work(node, false, |shared, cancel| observing(shared, spec, cancel, last));
            }
            None => self.lost(node),
        }
    }

    // The end.

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

    /// Puts the record of the session where the next run finds it, if anything was asked in it.
    fn log_run(&self) -> RunRecord {
        let executed = self.table().tally.borrow().anything_executed();
        let record = crate::record::of_session(
            self.table(),
            crate::record::Session {
                title: &self.title,
                scope: self.scope.as_deref(),
                began: self.began,
                duration: self.clock.elapsed(),
                requests: &self.recent,
                counts: self.counts(),
                whole: executed || self.table().tally.borrow().failed > 0,
            },
        );
        let mut persist = self.table().persist.borrow_mut();
        if let Some(persist) = persist.as_mut().filter(|_| self.has_requests()) {
            crate::record::keep(&record, persist, executed);
            let verified: Vec<Key> = self
                .table()
                .indices()
                .filter_map(|node| {
                    self.table().with(node, |node| (node.status == Status::Verified).then_some(node.key))
                })
                .collect();
            persist.touch(&verified, executed);
        }
        record
    }

    fn close(&mut self) -> RunRecord {
        let nodes: Vec<NodeIndex> = self.running.keys().copied().collect();
        for node in nodes {
            self.abort(node);
        }
        let record = self.log_run();
        if self.has_requests() {
            // A run that executed nothing has at most stamps to keep, and does not wait for the lease to do so.
            let write = if self.table().tally.borrow().anything_executed() { Write::Commit } else { Write::Spill };
            drop(self.flush(write));
        }
        if let Some(written) = self.table().persist.borrow().as_ref().and_then(Persist::all_written) {
            // The writer thread answers or dies; both end the wait.
            let _ = futures::executor::block_on(written);
        }
        self.requests.clear();
        self.closed = true;
        record
    }
}
