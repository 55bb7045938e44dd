//! Work: starting what is demanded, taking in how it ended.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use salsa::{Durability, Setter};
use thin_vec::ThinVec;
use tokio_util::sync::CancellationToken;

use super::{MOVES, Owner, Planner, Running};
use crate::answer::Answer;
use crate::context::Remake;
use crate::evaluate::{record_action, slot_of};
use crate::event::{Event, Retreat};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::{Ops, Role};
use crate::look::{KnownLast, Sighting, stamp_key};
use crate::memo::Outcome;
use crate::node::{Demand, Dep, Flag, NodeData, NodeIndex, Stale, Status, World};
use crate::record::Span;
use crate::runtime::{Answered, Ended, Known, Shared, Task, observing, working};
use crate::spec::SharedSpec;
use crate::value::Cell;

impl Planner {
    pub(super) fn start(&mut self) {
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

    pub(super) fn start_node(&mut self, node: NodeIndex) {
        let Some(spec) = self.table().spec_to_run(node) else {
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

    pub(super) fn spawn_action(&mut self, node: NodeIndex, spec: SharedSpec) {
        self.table().emit(|| {
            // An action waits for its own run, and others wait for its answer.
            let waiters = self.schedule.waiters_of_run(node).iter().chain(self.schedule.waiters_of_answer(node));
            let parent = waiters.copied().find(|waiter| *waiter != node).map(|parent| self.table().name(parent));
            Event::WillRun { spec: self.table().name(node), parent }
        });
        let key = self.table().with(node, |node| node.key);
        let expensive = matches!(spec.kind().ops(), Ops::Action(ops) if ops.expensive());
        let known = if self.table().with(node, NodeData::is_ordered) {
            Known::Forced
        } else if expensive {
            let mut persist = self.table().persist.borrow_mut();
            let traces = persist.as_mut().map(|persist| persist.traces(key)).unwrap_or_default();
            let label = spec.label().filter(|_| traces.is_empty());
            if let (Some(persist), Some(label)) = (persist.as_mut(), label)
                && persist.had(&label, key)
            {
                self.table().change(node, |node| node.set_stale(Some(Stale::Collected)));
            }
            Known::Traces(traces.iter().map(|trace| trace.fingerprint()).collect())
        } else {
            Known::Traces(Vec::new())
        };
        self.spawn_work(node, false, |shared, cancel| working(shared, spec, key, known, cancel));
    }

    pub(super) fn spawn_work(
        &mut self,
        node: NodeIndex,
        refresh: bool,
        work: impl FnOnce(Arc<Shared>, CancellationToken) -> futures::future::BoxFuture<'static, Ended>,
    ) {
        self.attempts += 1;
        let attempt = self.attempts;
        let cancel = CancellationToken::new();
        self.running.insert(node, Running { attempt, spawned: Instant::now(), cancel: cancel.clone(), refresh });
        let work = work(self.shared.clone(), cancel.clone());
        self.spawn.spawn(Task { node, attempt, cancel, work });
    }

    /// What a look may go by: what this session saw, else what the store remembers.
    pub(super) fn last_look(&self, node: NodeIndex, spec: &SharedSpec) -> Option<KnownLast> {
        let (key, lost) = self.table().with(node, |node| (node.key, matches!(node.stale(), Some(Stale::Lost { .. }))));
        if lost {
            // The stamp would say that the value is the one that nobody has any more.
            return None;
        }
        let stamp_key = || stamp_key(&self.shared, spec, key);
        if let Some(sighting) = self.shared.sighting(key) {
            return sighting.as_last(stamp_key());
        }
        let mut persist = self.table().persist.borrow_mut();
        let persist = persist.as_mut()?;
        let key = stamp_key();
        let stamp = persist.stamp(key)?;
        Some(KnownLast { key, stamp: stamp.detail.into(), cell: Cell::stored(stamp.value), bytes: None })
    }

    pub(super) fn start_observation(&mut self, node: NodeIndex) {
        match self.table().spec_to_run(node) {
            Some(spec) => {
                let last = self.last_look(node, &spec);
                self.spawn_work(node, false, |shared, cancel| observing(shared, spec, cancel, last));
            }
            None => self.lost(node),
        }
    }

    /// Somebody needs this node to run, and its spec is nowhere to be found.
    pub(super) fn lost(&mut self, node: NodeIndex) {
        let failure = self.table().lose(node);
        self.fill_slot(node, Outcome { answer: Answer::Failed(failure), reads: Vec::new() });
        self.schedule.wake(Demand::Run(node));
        self.drain();
    }

    /// Fails an effect on a target that a live request of another query is changing in another way.
    pub(super) fn refuse_conflict(&mut self, effect: NodeIndex, target: SharedSpec) -> bool {
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
    pub(super) fn abort_unwanted(&mut self) {
        let is_asked_for = |node: NodeIndex| self.schedule.is_waited_for(Demand::Run(node));
        let not_asked_for = self.running.iter().filter(|(node, running)| !running.refresh && !is_asked_for(**node));
        let mut unwanted: Vec<NodeIndex> = not_asked_for.map(|(node, _)| *node).collect();
        if unwanted.is_empty() {
            return;
        }
        let needed_behind = self.table().needed_behind(|node| self.schedule.is_pending_or_ready(node));
        unwanted.retain(|node| !needed_behind[node.as_usize()]);
        for node in unwanted {
            self.abort(node);
        }
    }

    /// How long work went on that is not done.
    pub(super) fn span_until_now(&self, start: SystemTime) -> Option<Span> {
        Some(Span::of(self.began, start, self.shared.now().duration_since(start).ok()?))
    }

    /// Ends the work for a node, if there is any.
    pub(super) fn abort(&mut self, node: NodeIndex) {
        let Some(running) = self.running.remove(&node) else { return };
        running.cancel.cancel();
        self.spawn.abort(node, running.attempt);
        let key = self.table().with(node, |node| node.key);
        if let Some(span) = self.shared.at_work().remove(&key).and_then(|start| self.span_until_now(start)) {
            self.spans.insert(node, span);
        }
        self.table().emit(|| Event::DidCancel { spec: self.table().name(node) });
    }

    pub(super) fn finished(&mut self, node: NodeIndex, attempt: u64, ended: Ended) {
        if self.running.get(&node).is_none_or(|running| running.attempt != attempt) {
            return;
        }
        let Some(Running { refresh, spawned, .. }) = self.running.remove(&node) else { return };
        match ended {
            Ended::Observed(sighting) if refresh => self.refreshed_one(node, sighting),
            // Whoever needs it looks again: a refresh was asked for since.
            Ended::Observed(sighting) if sighting.at < self.since => self.rebuild(),
            Ended::Observed(sighting) => {
                self.spans.insert(node, Span::of(self.began, sighting.began, sighting.took));
                self.observed(node, &sighting);
                self.see(node, sighting);
                self.schedule.wake(Demand::Run(node));
            }
            Ended::Answered(answered) => self.answered(node, *answered, spawned),
            Ended::FoundInStore | Ended::BeginAgain => {
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
    pub(super) fn poke(&mut self, node: NodeIndex) {
        let slot = slot_of(self.db(), node);
        slot.set_outcome(self.db_mut()).with_durability(Durability::LOW).to(None);
    }

    pub(super) fn answered(&mut self, node: NodeIndex, answered: Answered, spawned: Instant) {
        let Answered { answer, reads, mut certain, start, cost, bytes, interned, committed, target } = answered;
        self.moves.remove(&node);
        self.remakes.remove(&node);
        self.answers += u64::from(!self.remade.contains(&node));
        self.spans.insert(node, Span::of(self.began, start, cost));
        let mut world = Vec::with_capacity(reads.len());
        for read in reads {
            let index = self.table().intern_shared(read.spec);
            let saw = read.sighting.fingerprint();
            // What the action saw first is what this session saw, unless somebody is looking right now.
            let is_of_session = read.sighting.at >= self.since;
            if is_of_session && !self.slot_is_full(index) && !self.running.contains_key(&index) {
                self.observed(index, &read.sighting);
                self.see(index, read.sighting);
                self.schedule.wake(Demand::Run(index));
            }
            // If this session saw something else, the result serves it all the same, and only it.
            let stands = self.seen(index).unwrap_or(saw);
            certain &= stands == saw;
            world.extend(stands.map(|fingerprint| (index, fingerprint)));
        }
        let role = self.table().with(node, NodeData::role);
        if role == Role::Action && !certain && spawned < self.since {
            // It may have read what was there before the refresh, and whoever asked since must not get that.
            let spec = self.table().name(node);
            self.table().emit(|| Event::DidRetreat { spec, reason: Retreat::WorldMoved });
            self.rebuild();
            return;
        }
        if let Some(persist) = self.table().persist.borrow_mut().as_mut() {
            for (fingerprint, bytes) in interned {
                persist.keep_value(fingerprint, bytes.into());
            }
        }
        match &answer {
            Answer::Value(found) => {
                let kind = self.table().with(node, |node| node.kind);
                let before = self.table().with(node, NodeData::newest_value);
                let cut_off = role == Role::Action && before == Some(found.fingerprint());
                let mut deps: ThinVec<Dep> = world.iter().map(|(read, value)| Dep::new(*read, *value)).collect();
                if let Some(last) = deps.last_mut() {
                    last.end_group();
                }
                let height = self.table().height_above(&deps);
                self.table().change(node, |node| {
                    node.set_status(if cut_off { Status::CutOff } else { Status::Executed });
                    node.set_ordered(false);
                    node.height = height;
                });
                self.table().tally.borrow_mut().executed(kind, cut_off);
                self.table().emit(|| Event::DidRun { spec: self.table().name(node), cut_off, certain, cost });
                let recorded = World { deps, cell: found.cell.clone(), cost };
                if role == Role::Action && certain {
                    if committed {
                        self.note_committed(node, &recorded);
                        self.table().change(node, |node| node.remember(recorded));
                    } else {
                        record_action(self.table(), node, recorded, bytes);
                    }
                } else {
                    self.table().change(node, |node| {
                        node.stand_on(world.iter().map(|(index, _)| *index).collect());
                        node.came_to(Some(found.fingerprint()), cost);
                    });
                    self.session_only.insert(node);
                }
            }
            Answer::Failed(failure) => {
                self.table().change(node, |node| node.stand_on(world.iter().map(|(index, _)| *index).collect()));
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
                        self.table().effects_done.borrow_mut().entry(query).or_default().insert(target, node);
                    }
                }
                if self.see_again(vec![(target, sighting)]) == 0 {
                    self.schedule.wake(Demand::Run(node));
                }
            }
            None => self.schedule.wake(Demand::Run(node)),
        }
    }

    pub(super) fn note_committed(&self, node: NodeIndex, world: &World) {
        let table = self.table();
        for index in world.deps.iter().map(Dep::node).chain([node]) {
            table.change(index, |node| node.set(Flag::Kept, true));
        }
        let (key, spec) = table.with(node, |node| (node.key, node.spec.clone()));
        if let Some(persist) = table.persist.borrow_mut().as_mut() {
            persist.note_committed([world.cell.fingerprint()]);
            if let Some(spec) = spec {
                persist.keep_label(key, &spec);
            }
        }
    }

    /// The world moved under a piece of work: what it saw now is what this session sees.
    pub(super) fn observe_again(
        &mut self,
        node: NodeIndex,
        seen: Vec<(SharedSpec, Sighting)>,
        otherwise: Arc<FailureInner>,
    ) {
        let seen: Vec<_> = seen.into_iter().filter(|(_, sighting)| sighting.at >= self.since).collect();
        // The work is usually asked for under another spec the next time, so what counts is what moved.
        let mut counted = Vec::new();
        let mut note = |(spec, sighting): (SharedSpec, Sighting)| {
            let moves_freely = matches!(spec.kind().ops(), Ops::Observation(ops) if ops.moves_freely());
            let index = self.table().intern_shared(spec);
            if !moves_freely && !counted.contains(&index) {
                counted.push(index);
            }
            (index, sighting)
        };
        let seen: Vec<(NodeIndex, Sighting)> = seen.into_iter().map(&mut note).collect();
        if !counted.is_empty() {
            counted.push(node);
        }
        let mut worn_out = false;
        for counted in counted {
            let moves = self.moves.entry(counted).or_default();
            *moves += 1;
            worn_out |= *moves >= MOVES;
        }
        if worn_out {
            self.fail_work(node, otherwise);
            return;
        }
        if self.see_again(seen) == 0 {
            self.rebuild();
        }
    }

    pub(super) fn remake(&mut self, node: NodeIndex, actions: Vec<Remake>, otherwise: Arc<FailureInner>) {
        // Several that share what somebody damages may find it so in turn, as long as each time one of them gets on.
        let remakes = self.remakes.entry(node).or_default();
        remakes.count = if remakes.answers == self.answers { remakes.count + 1 } else { 1 };
        remakes.answers = self.answers;
        if remakes.count >= MOVES {
            self.fail_work(node, otherwise);
            return;
        }
        for Remake { spec, forced } in actions {
            let action = self.table().intern_shared(spec);
            self.remade.insert(action);
            self.order_to_run(action, if forced { Stale::Forced } else { Stale::Lost { by: Some(node) } });
        }
        self.invalidated();
    }

    pub(super) fn fail_work(&mut self, node: NodeIndex, failure: Arc<FailureInner>) {
        self.moves.remove(&node);
        self.remakes.remove(&node);
        self.table().fail(node, &failure);
        self.fill_slot(node, Outcome { answer: Answer::Failed(failure), reads: Vec::new() });
        self.schedule.wake(Demand::Run(node));
    }
}
