//! Requests: taking them in, giving answers out, withdrawing them.

use futures::channel::oneshot;
use salsa::{Durability, Setter};

use super::{Delivered, Live, Message, Planner, RequestId, Want};
use crate::answer::Answer;
use crate::dry::Step;
use crate::kind::Role;
use crate::memo::{Attempt, Order};
use crate::node::{Amend, NodeData, NodeIndex, Status};
use crate::spec::SharedSpec;

impl Planner {
    pub(super) fn ask(&mut self, id: RequestId, spec: SharedSpec, want: Want, reply: oneshot::Sender<Delivered>) {
        self.take_back_failures();
        let node = self.table().intern_shared(spec);
        if matches!(self.table().status(node), Status::Verified | Status::Executed | Status::CutOff) {
            self.table().tally.borrow_mut().reused += 1;
        }
        self.recent.push(node);
        self.requests.insert(id, Live { node, want, reply });
        self.roots.entry(node).or_default().push(id);
        self.order.push_back(id);
        self.schedule.want(node);
    }

    /// Begins looks that nobody waits for; not in serial mode, where nothing is begun before its time.
    pub(super) fn look_ahead(&mut self, specs: Vec<SharedSpec>) {
        if self.serial {
            return;
        }
        let nodes: Vec<NodeIndex> = specs.into_iter().map(|spec| self.table().intern_shared(spec)).collect();
        self.look_for(&nodes);
    }

    pub(super) fn cancel(&mut self, id: RequestId) {
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
        self.tell_settled();
    }

    pub(super) fn deliver(&mut self, node: NodeIndex, answer: &Answer) {
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
    pub(super) fn end_effects(&mut self) {
        self.table().effects_done.borrow_mut().clear();
        self.owners.clear();
        self.moves.clear();
        self.remakes.clear();
        self.remade.clear();
        for node in std::mem::take(&mut self.effects) {
            self.empty_slot(node);
        }
    }

    /// What failed is tried again by the next request, unless a request that is still alive saw it fail.
    pub(super) fn take_back_failures(&mut self) {
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

    pub(super) fn next_attempt(&mut self) {
        let db = self.db_mut();
        if let Some(attempt) = Attempt::try_get(db) {
            let number = attempt.number(db) + 1;
            attempt.set_number(db).with_durability(Durability::HIGH).to(number);
        }
    }

    /// Something that answers stand on has changed: verdicts on cycles may be wrong, and waiters outdated.
    pub(super) fn invalidated(&mut self) {
        for node in std::mem::take(&mut self.verdicts) {
            self.set_order(node, Order::Free);
        }
        self.rebuild();
    }

    /// Finds out anew who waits for what, by walking from the live requests. Running work goes on.
    pub(super) fn rebuild(&mut self) {
        self.schedule.clear();
        self.unsettled = true;
        let wanted: Vec<NodeIndex> =
            self.order.iter().filter_map(|id| self.requests.get(id)).map(|live| live.node).collect();
        for node in wanted {
            self.schedule.want(node);
        }
    }

    /// Takes dry evaluations as far as they come without waiting; whether requests can go on for it.
    pub(super) fn advance_dry(&mut self) -> bool {
        let mut moved = false;
        for mut run in std::mem::take(&mut self.dry) {
            loop {
                let step = run.advance(self.db());
                // What the pass met in a state that only a change of inputs puts right, it has not seen as it is. Each
                // change brings a spec or a value back, so there is an end to them.
                if self.amend() {
                    moved = true;
                    continue;
                }
                match step {
                    Step::Again => {}
                    // It goes on when they have ended.
                    Step::Done(_) if run.misses_values() && self.is_looking() => {
                        self.dry.push(run);
                        break;
                    }
                    Step::Done(report) => {
                        run.answer(report);
                        break;
                    }
                    Step::Wants(wanted) if self.look_for(&wanted) => moved = true,
                    Step::Wants(_) => {
                        self.dry.push(run);
                        break;
                    }
                }
            }
        }
        moved
    }

    /// Whether a look is under way.
    fn is_looking(&self) -> bool {
        self.running.keys().any(|node| self.table().with(*node, NodeData::role) == Role::Observation)
    }

    /// Begins the looks that are wanted and were not made; whether some of them are over at once.
    fn look_for(&mut self, wanted: &[NodeIndex]) -> bool {
        let mut at_once = false;
        for node in wanted.iter().copied() {
            if self.serial && !self.running.is_empty() {
                break;
            }
            if !self.running.contains_key(&node) && !self.slot_is_full(node) {
                self.start_observation(node);
                at_once |= self.slot_is_full(node);
            }
        }
        at_once
    }
}
