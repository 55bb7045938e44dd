//! Evaluation: what is ready is evaluated until only running work can go on; orders, slots and cycles.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use doge_storage::{Fingerprint, Key};
use rustc_hash::{FxHashMap, FxHashSet};
use salsa::{Database as _, Durability, Setter};

use super::Planner;
use crate::answer::Answer;
use crate::evaluate::{evaluate, panic_message, slot_of};
use crate::event::Event;
use crate::failure::{EngineFailure, engine_failure};
use crate::kind::Role;
use crate::memo::{Directive, Order, Outcome, memo_of};
use crate::node::{Amend, Demand, Flag, NodeData, NodeIndex, Status};
use crate::spec::{NameInner, SpecName};

impl Planner {
    pub(super) fn drain(&mut self) {
        while let Some(node) = self.schedule.next_ready() {
            let answer = self.evaluate(node);
            if self.table().take_wide() {
                self.db_mut().renew_room();
            }
            if self.amend() {
                continue;
            }
            match answer {
                Answer::Pending => {
                    let demands = self.table().with(node, |node| node.demands().to_vec());
                    if demands.is_empty() {
                        // Salsa put "pending" in the place of an answer while it verified; the next revision runs it.
                        if !self.renew_blind() {
                            self.db_mut().synthetic_write(Durability::LOW);
                        }
                        self.schedule.want(node);
                        continue;
                    }
                    self.tell_pending(node);
                    let running = &self.running;
                    self.schedule.pend(node, &demands, |work| running.contains_key(&work));
                }
                answer => {
                    if self.pending.remove(&node) {
                        let failed = matches!(answer, Answer::Failed(_));
                        self.table().emit(|| Event::DidSettle { spec: self.table().name(node), failed });
                    }
                    self.schedule.wake(Demand::Answer(node));
                    self.deliver(node, &answer);
                    self.amend();
                }
            }
        }
    }

    /// Tells, once, that a query waits.
    fn tell_pending(&mut self, node: NodeIndex) {
        let is_query = self.table().with(node, NodeData::role) == Role::Query;
        if is_query && self.table().tells_waits() && self.pending.insert(node) {
            let parent = self.schedule.waiters_of_answer(node).first().map(|parent| self.table().name(*parent));
            // Whoever wants to know of queries wants to know which, though it may be that nobody else does.
            let spec = self.table().spec(node).map(|spec| SpecName(NameInner::Spec(spec)));
            let spec = spec.unwrap_or_else(|| self.table().name(node));
            self.table().emit(|| Event::DidPend { spec, parent });
        }
    }

    /// Whether work is under way that a query asked for in its last evaluation.
    fn is_behind_work(&self, node: NodeIndex) -> bool {
        let below = self.table().reachable(std::iter::once(node));
        !self.requests.is_empty()
            && self.running.keys().any(|work| below.get(work.as_usize()).is_some_and(|below| *below))
    }

    /// Tells of queries that nobody waits for any more, or that were answered without being asked by name.
    pub(super) fn tell_settled(&mut self) {
        let over: Vec<NodeIndex> =
            self.pending.iter().copied().filter(|node| !self.schedule.is_pending_or_ready(*node)).collect();
        self.unsettled = false;
        if over.is_empty() {
            return;
        }
        // What lies behind something that has to be made again is not waited for just now, and yet is needed.
        let live = self.table().reachable(self.requests.values().map(|live| live.node));
        for node in over {
            let status = self.table().status(node);
            let is_needed = live.get(node.as_usize()).is_some_and(|live| *live);
            if status == Status::None && (is_needed || self.is_behind_work(node)) {
                self.unsettled = true;
                continue;
            }
            self.pending.remove(&node);
            self.table().emit(|| {
                let spec = self.table().name(node);
                match status {
                    Status::None | Status::Observed => Event::DidCancel { spec },
                    Status::Verified | Status::Executed | Status::CutOff => Event::DidSettle { spec, failed: false },
                    Status::Failed => Event::DidSettle { spec, failed: true },
                }
            });
        }
    }

    /// Evaluates one node. A panic that gets here is a bug of the engine; it fails the node and nothing else.
    pub(super) fn evaluate(&mut self, node: NodeIndex) -> Answer {
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
                    table.change(index, |node| node.set(Flag::Active, false));
                }
                let spec = table.name(node);
                let failure = EngineFailure::Panicked { spec: spec.clone(), message: message.into() };
                Answer::Failed(engine_failure(spec, failure))
            }
        }
    }

    /// Makes the changes of inputs that evaluation asked for; whether there were any.
    pub(super) fn amend(&mut self) -> bool {
        let amends = self.table().amend.take();
        if amends.is_empty() {
            return false;
        }
        self.renew_blind();
        for (node, amend) in amends {
            match amend {
                Amend::Outdated => self.empty_slot(node),
                Amend::Run => self.order_to_run(node, crate::node::Stale::Lost { by: None }),
            }
        }
        self.invalidated();
        true
    }

    /// Gives what salsa could not see the reason of a new date, in a new revision; whether there was any.
    ///
    /// Salsa dates an answer by the inputs that it stands on. Those may all be older than the "pending" that was told
    /// before, and whoever was told that would never hear of the answer.
    fn renew_blind(&mut self) -> bool {
        let blinded = self.table().blinded.take();
        let is_any = !blinded.is_empty();
        for node in blinded {
            let order =
                self.table().with(node, NodeData::directive).map(|directive| directive.order(self.db()).clone());
            self.set_order(node, order.unwrap_or(Order::Free));
        }
        is_any
    }

    /// The node runs again, whatever its traces say.
    pub(super) fn order_to_run(&mut self, node: NodeIndex, why: crate::node::Stale) {
        let is_made = matches!(self.table().with(node, NodeData::role), Role::Query | Role::Action);
        self.table().change(node, |node| {
            node.set_stale(Some(why));
            node.set_ordered(is_made);
        });
        match self.table().with(node, NodeData::role) {
            Role::Query => self.set_order(node, Order::Run),
            Role::Action => {
                self.set_order(node, Order::Run);
                self.empty_slot(node);
            }
            Role::Effect | Role::Observation => self.empty_slot(node),
        }
        self.session_only.insert(node);
    }

    pub(super) fn set_order(&mut self, node: NodeIndex, order: Order) {
        let directive = match self.table().with(node, NodeData::directive) {
            Some(directive) => directive,
            None => {
                let directive = Directive::builder(Order::Free).durability(Durability::HIGH).new(self.db());
                self.table().change(node, |node| node.set_directive(directive));
                directive
            }
        };
        directive.set_order(self.db_mut()).with_durability(Durability::HIGH).to(order);
    }

    pub(super) fn empty_slot(&mut self, node: NodeIndex) {
        self.failed.remove(&node);
        if let Some(slot) = self.table().with(node, NodeData::slot)
            && slot.outcome(self.db()).is_some()
        {
            slot.set_outcome(self.db_mut()).with_durability(Durability::LOW).to(None);
        }
    }

    pub(super) fn fill_slot(&mut self, node: NodeIndex, outcome: Outcome) {
        if matches!(outcome.answer, Answer::Failed(_)) {
            self.failed.insert(node);
        } else {
            self.failed.remove(&node);
        }
        let slot = slot_of(self.db(), node);
        slot.set_outcome(self.db_mut()).with_durability(Durability::HIGH).to(Some(Arc::new(outcome)));
    }

    /// What this session saw: nothing yet, a failure, or a value.
    pub(super) fn seen(&self, node: NodeIndex) -> Option<Option<Fingerprint>> {
        let outcome = self.table().with(node, NodeData::slot)?.outcome(self.db()).clone()?;
        match &outcome.answer {
            Answer::Value(found) => Some(Some(found.fingerprint())),
            Answer::Failed(_) | Answer::Pending => Some(None),
        }
    }

    pub(super) fn slot_is_full(&self, node: NodeIndex) -> bool {
        self.table().with(node, NodeData::slot).is_some_and(|slot| slot.outcome(self.db()).is_some())
    }

    /// Nothing is ready. Finds what can never become ready, and fails it; whether there was any.
    ///
    /// The answer is the least fixpoint of "waits for something that is in a cycle or waits for one", so it does not
    /// depend on the order in which anything was asked or ended.
    pub(super) fn settle_cycles(&mut self) -> bool {
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
    pub(super) fn ring(&self, members: &[NodeIndex]) -> Arc<[SpecName]> {
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
}
