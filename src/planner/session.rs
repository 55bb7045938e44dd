//! Sessions: what was seen in them, how the next one begins, and the record at the end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doge_storage::Key;
use futures::channel::oneshot;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Message, Planner, Refreshed, Refreshing};
use crate::answer::Answer;
use crate::event::Event;
use crate::kind::Role;
use crate::look::{Sighting, stamp_key};
use crate::memo::{Engine, EngineDb, Order, Outcome};
use crate::node::{NodeData, NodeIndex, Status};
use crate::persist::{Persist, Write};
use crate::run::{RecordedWait, RunRecord};
use crate::runtime::observing;
use crate::sync::block_on;

impl Planner {
    /// Counts an observation and keeps what it saw for later runs.
    pub(super) fn observed(&self, node: NodeIndex, sighting: &Sighting) {
        let table = self.table();
        let before = self.shared.sighting(table.with(node, |node| node.key));
        let changed = before.as_ref().is_some_and(|before| before.fingerprint() != sighting.fingerprint());
        table.change(node, |node| {
            node.set_status(Status::Observed);
            node.came_to(sighting.fingerprint(), Duration::ZERO);
        });
        table.tally.borrow_mut().observed += 1;
        table.emit(|| Event::DidObserve { spec: table.name(node), by_stamp: sighting.by_stamp.is_some(), changed });
        if let Answer::Failed(failure) = &sighting.answer {
            table.fail(node, failure);
        }
    }

    /// What this session sees from now on; for an observation that nobody has an answer of yet.
    pub(super) fn see(&mut self, node: NodeIndex, sighting: Sighting) {
        self.keep_sighting(node, &sighting);
        let answer = sighting.answer.clone();
        let key = self.table().with(node, |node| node.key);
        self.shared.note_sighting(key, &sighting);
        self.fill_slot(node, Outcome { answer, reads: Vec::new() });
    }

    pub(super) fn keep_sighting(&self, node: NodeIndex, sighting: &Sighting) {
        let table = self.table();
        let Some(spec) = table.with(node, |node| node.spec.clone()) else { return };
        let key = table.with(node, |node| node.key);
        if let Some(persist) = table.persist.borrow_mut().as_mut() {
            persist.keep_sighting(stamp_key(&self.shared, &spec, key), sighting);
        }
    }

    /// Gives the store all that this session stands on once more, if the file of the store was replaced meanwhile: what was
    /// found in the old one is not in the new one. Whether it was.
    fn keep_all_again(&self) -> bool {
        let table = self.table();
        if !table.persist.borrow_mut().as_mut().is_some_and(Persist::has_lost_its_file) {
            return false;
        }
        table.keep_all(self.recent.iter().copied());
        for node in table.indices().filter(|node| table.with(*node, NodeData::role) == Role::Observation) {
            let (key, kind) = table.with(node, |node| (node.key, node.kind));
            let Some(sighting) = self.shared.sighting(key) else { continue };
            let mut sighting = Sighting { by_stamp: None, ..Sighting::clone(&sighting) };
            if let (None, Answer::Value(found)) = (&sighting.bytes, &sighting.answer) {
                sighting.bytes = table.bytes_of(kind, &found.cell);
            }
            self.keep_sighting(node, &sighting);
        }
        true
    }

    /// Replaces what this session saw where it differs now, in one batch; how much did. Of two looks the one that began
    /// later counts.
    pub(super) fn see_again(&mut self, seen: Vec<(NodeIndex, Sighting)>) -> usize {
        let mut changed = FxHashSet::default();
        for (node, sighting) in seen {
            let key = self.table().with(node, |node| node.key);
            let before = self.shared.sighting(key);
            if before.as_ref().is_some_and(|before| before.at > sighting.at) {
                continue;
            }
            self.observed(node, &sighting);
            let same = before
                .as_ref()
                .is_some_and(|before| before.fingerprint().is_some() && before.fingerprint() == sighting.fingerprint());
            if same && self.slot_is_full(node) {
                // The value stands; its stamp may be newer, or settled only now.
                self.keep_sighting(node, &sighting);
                self.shared.note_sighting(key, &sighting);
            } else {
                // A look that began earlier could only see less. That of a refresh may have begun later.
                if self.running.get(&node).is_some_and(|running| !running.refresh) {
                    self.abort(node);
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
            .filter(|node| self.table().with(*node, NodeData::role) == Role::Action)
            .filter(|node| {
                let slot = self.table().with(*node, NodeData::slot);
                slot.and_then(|slot| slot.outcome(self.db()).clone())
                    .is_some_and(|outcome| outcome.reads.iter().any(|(read, _)| changed.contains(read)))
            })
            .collect();
        for node in outdated {
            self.empty_slot(node);
        }
        self.invalidated();
        changed.len()
    }

    pub(super) fn refresh(&mut self, reply: Vec<oneshot::Sender<Refreshed>>) {
        self.since = Instant::now();
        if let Some(hook) = &self.on_refresh {
            hook();
        }
        let known: Vec<NodeIndex> = self
            .table()
            .indices()
            .filter(|node| self.table().with(*node, NodeData::role) == Role::Observation)
            .filter(|node| self.slot_is_full(*node))
            .collect();
        let observed = known.len();
        let next: VecDeque<_> = known.into_iter().filter_map(|node| Some((node, self.table().spec(node)?))).collect();
        self.refreshing = Some(Refreshing { left: next.len(), next, observed, seen: Vec::new(), reply });
        self.look_again();
        self.end_refresh();
    }

    /// Starts the looks of a refresh.
    pub(super) fn look_again(&mut self) {
        while !self.serial || self.running.is_empty() {
            let next = self.refreshing.as_mut().and_then(|refreshing| refreshing.next.pop_front());
            let Some((node, spec)) = next else { return };
            let last = self.last_look(node, &spec);
            self.spawn_work(node, true, |shared, cancel| observing(shared, spec, cancel, last));
        }
    }

    pub(super) fn refreshed_one(&mut self, node: NodeIndex, sighting: Sighting) {
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.seen.push((node, sighting));
        }
        self.refresh_lost_one();
    }

    pub(super) fn refresh_lost_one(&mut self) {
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.left -= 1;
        }
        self.end_refresh();
    }

    /// Begins the new session once everything was observed again.
    pub(super) fn end_refresh(&mut self) {
        if self.refreshing.as_ref().is_none_or(|refreshing| refreshing.left > 0) {
            return;
        }
        let Some(Refreshing { observed, mut seen, reply, .. }) = self.refreshing.take() else { return };
        // The record of a session that nobody can look up is not made.
        if self.has_requests() && self.table().persist.borrow().is_some() {
            self.keep_all_again();
            self.log_run();
            drop(self.flush(Write::Commit));
        }
        seen.sort_by_key(|(node, _)| *node);

        // Nothing of the old session stays that was right for it only.
        for node in self.failed.iter().copied().collect::<Vec<_>>() {
            if self.table().with(node, NodeData::role) != Role::Observation {
                self.empty_slot(node);
            }
        }
        for node in std::mem::take(&mut self.session_only) {
            self.empty_slot(node);
            if self.table().with(node, NodeData::directive).is_some() {
                self.set_order(node, Order::Free);
                self.table().change(node, |node| node.set_ordered(false));
            }
        }
        self.end_effects();
        if self.table().loose.take() {
            self.next_attempt();
        }
        self.begin_session();
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
        // What came after another refresh was asked for waits for that one.
        let next = self.held_back.iter().position(|message| matches!(message, Message::Refresh(_)));
        let mut messages = std::mem::take(&mut self.held_back);
        let later = messages.split_off(next.unwrap_or(messages.len()));
        for message in messages {
            self.handle(message);
        }
        self.held_back = later;
    }

    /// Refreshes once more for all who asked for it while a refresh was under way, for that one may have looked before they
    /// asked; whether it has ended already.
    pub(super) fn refresh_for_those_held_back(&mut self) -> bool {
        if self.closed || self.refreshing.is_some() || self.held_back.is_empty() {
            return false;
        }
        let mut reply = Vec::new();
        for message in std::mem::take(&mut self.held_back) {
            match message {
                Message::Refresh(next) => reply.push(next),
                other => self.held_back.push(other),
            }
        }
        self.refresh(reply);
        self.refreshing.is_none()
    }

    pub(super) fn begin_session(&mut self) {
        self.table().begin_session();
        self.began = self.shared.now();
        self.clock = Instant::now();
        self.spans.clear();
        self.shared.forget_remarks();
        self.table().tally.take();
        if let Some(persist) = self.table().persist.borrow_mut().as_mut() {
            persist.begin_run();
        }
        self.tell_run();
    }

    /// Tells which run this is.
    pub(super) fn tell_run(&self) {
        let run = self.table().persist.borrow().as_ref().map(|persist| persist.run);
        if let Some(run) = run {
            self.table().emit(|| Event::DidBegin { run });
        }
    }

    /// Starts anew with a smaller graph when more than half of this one is out of reach.
    ///
    /// What is in reach keeps its worlds and what was observed; the memos of salsa are found again by checking
    /// them. Nothing else is lost, for everything that matters is in the store.
    pub(super) fn shrink(&mut self) {
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
        self.tell_settled();
        let Some(db) = self.db.take() else { return };
        let observed: FxHashMap<NodeIndex, Arc<Outcome>> = db
            .table()
            .indices()
            .filter(|node| keep[node.as_usize()])
            .filter(|node| db.table().with(*node, NodeData::role) == Role::Observation)
            .filter_map(|node| Some((node, db.table().with(node, NodeData::slot)?.outcome(&db).clone()?)))
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
        // What a request that is alive waits for is kept, so nothing that is pending is lost here.
        self.pending = self.pending.iter().filter_map(|node| moved.get(node).copied()).collect();
        self.spans = self.spans.drain().filter_map(|(node, span)| Some((*moved.get(&node)?, span))).collect();
        self.remakes.clear();
        self.remade.clear();
        for live in self.requests.values_mut() {
            live.node = moved[&live.node];
        }
        self.roots = std::mem::take(&mut self.roots).into_iter().map(|(node, ids)| (moved[&node], ids)).collect();
        self.rebuild();
    }

    /// Puts the record of the session where the next run finds it, if anything was asked in it.
    pub(super) fn log_run(&self) -> RunRecord {
        let executed = self.table().tally.borrow().anything_executed();
        // What was not answered cannot be put together from traces.
        let is_open = self.recent.iter().any(|node| self.table().with(*node, NodeData::value).is_none());
        let mut spans = Cow::Borrowed(&self.spans);
        for node in self.running.keys() {
            let start = self.shared.at_work().get(&self.table().with(*node, |node| node.key)).copied();
            let span = start.and_then(|start| self.span_until_now(start));
            spans.to_mut().extend(span.map(|span| (*node, span)));
        }
        let record = crate::record::of_session(
            self.table(),
            crate::record::Session {
                title: &self.title,
                scope: self.scope.as_deref(),
                began: self.began,
                duration: self.clock.elapsed(),
                requests: &self.recent,
                counts: self.counts(),
                whole: executed || self.table().tally.borrow().failed > 0 || is_open,
                spans: &spans,
                waits: self.waits(),
                remarks: self.shared.remarks(),
            },
        );
        let mut persist = self.table().persist.borrow_mut();
        if let Some(persist) = persist.as_mut().filter(|_| self.has_requests()) {
            crate::record::keep(&record, persist, executed);
            persist.touch(&self.used(), executed);
        }
        record
    }

    /// Who was waited for in this session.
    fn waits(&self) -> Vec<RecordedWait> {
        let waits = self.shared.waits();
        let recorded = waits.iter().map(|wait| RecordedWait {
            name: wait.name.clone(),
            holder: wait.holder.clone(),
            started_us: wait.began.duration_since(self.began).unwrap_or_default().as_micros() as u64,
            took_us: wait.took.as_micros() as u64,
        });
        recorded.collect()
    }

    /// What of the store served this session: keys whose traces held, and stamps that were believed.
    fn used(&self) -> Vec<Key> {
        let table = self.table();
        let used = table.indices().filter_map(|index| {
            let (status, key) = table.with(index, |node| (node.status(), node.key));
            match status {
                Status::Verified => Some(key),
                Status::Observed => self.shared.sighting(key)?.by_stamp,
                _ => None,
            }
        });
        used.collect()
    }

    fn wait_for_the_writer(&self) {
        if let Some(written) = self.table().persist.borrow().as_ref().and_then(Persist::all_written) {
            // The writer thread answers or dies; both end the wait.
            let _ = block_on(written);
        }
    }

    pub(super) fn close(&mut self) -> RunRecord {
        let nodes: Vec<NodeIndex> = self.running.keys().copied().collect();
        for node in nodes {
            self.abort(node);
        }
        self.schedule.clear();
        self.tell_settled();
        let record = self.log_run();
        if self.has_requests() {
            // A run that executed nothing has at most stamps to keep, and does not wait for the lease to do so.
            let write = if self.table().tally.borrow().anything_executed() { Write::Commit } else { Write::Spill };
            drop(self.flush(write));
        }
        self.wait_for_the_writer();
        if self.has_requests() && self.keep_all_again() {
            drop(self.flush(Write::Commit));
            self.wait_for_the_writer();
        }
        // Work that was stopped may have had something written at its end.
        if let Some(persist) = self.table().persist.borrow().as_ref() {
            let _ = persist.end().map(block_on);
            persist.store().release();
        }
        self.requests.clear();
        self.refreshing = None;
        if let Some(hook) = self.on_close.take() {
            hook();
        }
        self.closed = true;
        record
    }
}
