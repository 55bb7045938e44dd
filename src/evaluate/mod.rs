//! Evaluation: the one tracked function, and how one spec asks another.
//!
//! To evaluate a query: fail if the planner found it to be part of a cycle; answer from a trace that holds
//! ([`verify`]); else run the body ([`execute`]) and record what it asked ([`record`]). An action is the same with
//! the end of its work in the place of a body.
//!
//! **Invariant:** a finished answer never depends on a pending one. A run that met an answer which is not there
//! yet is discarded as a whole, whatever its body made of it.

mod execute;
mod record;
mod verify;

use std::sync::Arc;

use salsa::Durability;

use crate::answer::{Answer, Found};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::Role;
use crate::memo::{Attempt, Directive, Engine, Memo, Order, Slot, memo_of};
use crate::node::{Amend, Demand, Flag, NodeData, NodeIndex, Stale};
use crate::table::Table;

pub use execute::panic_message;
pub(crate) use record::record_action;

/// What asking a node yields to whoever asks: its own pending demands are not the asker's business.
pub(crate) enum Reply {
    Value(Found),
    Failed(Arc<FailureInner>),
    Pending(Demand),
}

/// The answer of a query or an action.
#[salsa::tracked(returns(ref), cycle_result = met_cycle)]
pub(crate) fn evaluate(db: &dyn Engine, memo: Memo) -> Answer {
    let node = memo.node(db);
    let table = db.table();
    let forced = match order(db, node) {
        Order::Cycle(ring) => return cycle_failure(table, node, ring),
        // The order stands for the rest of the session, and is carried out once.
        Order::Run => table.with(node, NodeData::is_ordered),
        Order::Free => false,
    };
    let active = Active::enter(table, node);
    let outer = table.blind.replace(false);
    let answer = match active.role {
        Role::Query => query(db, node, forced),
        Role::Action => action(db, node, forced),
        Role::Effect | Role::Observation => slot(db, node),
    };
    if table.blind.replace(outer) {
        table.note_blind(node);
    }
    answer
}

/// What is being evaluated will end as pending, and salsa cannot see on what.
pub(crate) fn go_blind(db: &dyn Engine) {
    db.report_untracked_read();
    db.table().blind.set(true);
}

/// The answer of an effect or observation. They have no traces of their own; askers read their slots.
#[inline(never)]
fn slot(db: &dyn Engine, node: NodeIndex) -> Answer {
    match read_slot(db, node) {
        Reply::Value(found) => Answer::Value(found),
        Reply::Failed(failure) => Answer::Failed(failure),
        Reply::Pending(demand) => db.table().pend(node, vec![demand]),
    }
}

/// What salsa puts in place of the answer of a spec that it finds in a cycle while verifying.
///
/// It is never a failure: whether a cycle is real is for the planner to say, once nothing else can help. A
/// failure from here would depend on the order of asking and would outlive the cycle.
fn met_cycle(db: &dyn Engine, _id: salsa::Id, memo: Memo) -> Answer {
    let node = memo.node(db);
    db.table().suspect.set(true);
    db.report_untracked_read();
    db.table().note_blind(node);
    match order(db, node) {
        Order::Cycle(ring) => cycle_failure(db.table(), node, ring),
        Order::Free | Order::Run => Answer::Pending,
    }
}

#[inline(never)]
fn cycle_failure(table: &Table, node: NodeIndex, ring: Arc<[crate::spec::SpecName]>) -> Answer {
    table.change(node, |node| {
        node.stand_on(Vec::new());
        node.set_demands(Vec::new());
    });
    Answer::Failed(engine_failure(table.name(node), EngineFailure::Cycle { ring }))
}

#[inline(never)]
fn order(db: &dyn Engine, node: NodeIndex) -> Order {
    match db.table().with(node, NodeData::directive) {
        Some(directive) => directive.order(db).clone(),
        None => Order::Free,
    }
}

/// Makes the present evaluation depend on what the planner may order this node later.
///
/// The directive is created with high durability, so that a finished answer stays finished when work ends
/// elsewhere.
fn heed(db: &dyn Engine, node: NodeIndex) {
    let table = db.table();
    let directive = match table.with(node, NodeData::directive) {
        Some(directive) => directive,
        None => {
            let directive = Directive::builder(Order::Free).durability(Durability::HIGH).new(db);
            table.change(node, |node| node.set_directive(directive));
            directive
        }
    };
    directive.order(db);
}

/// Makes the present evaluation one that the next attempt repeats.
pub(crate) fn heed_attempts(db: &dyn Engine) {
    db.table().loose.set(true);
    if let Some(attempt) = Attempt::try_get(db) {
        attempt.number(db);
    }
}

/// The slot of a node, created empty and with low durability if it has none.
pub(crate) fn slot_of(db: &dyn Engine, node: NodeIndex) -> Slot {
    let table = db.table();
    match table.with(node, NodeData::slot) {
        Some(slot) => slot,
        None => {
            let slot = Slot::builder(None).durability(Durability::LOW).new(db);
            table.change(node, |node| node.set_slot(slot));
            slot
        }
    }
}

#[inline(never)]
fn read_slot(db: &dyn Engine, node: NodeIndex) -> Reply {
    match slot_of(db, node).outcome(db) {
        Some(outcome) => match &outcome.answer {
            Answer::Value(found) => Reply::Value(found.clone()),
            Answer::Failed(failure) => Reply::Failed(failure.clone()),
            Answer::Pending => Reply::Pending(Demand::Run(node)),
        },
        None => Reply::Pending(Demand::Run(node)),
    }
}

/// Asks a node on behalf of the one that is being evaluated.
pub(crate) fn ask(db: &dyn Engine, node: NodeIndex) -> Reply {
    let table = db.table();
    let (role, active) = table.with(node, |node| (node.role(), node.is(Flag::Active)));
    if matches!(role, Role::Observation | Role::Effect) {
        return read_slot(db, node);
    }
    if active {
        // It needs its own result, or seems to. Entering salsa here would let salsa decide what that means.
        table.suspect.set(true);
        go_blind(db);
        return Reply::Pending(Demand::Answer(node));
    }
    if table.depth.get() >= table.depth_limit {
        return Reply::Failed(too_deep(db, node));
    }
    match evaluate(db, memo_of(db, node)) {
        Answer::Value(found) => Reply::Value(found.clone()),
        Answer::Failed(failure) => Reply::Failed(failure.clone()),
        Answer::Pending => Reply::Pending(Demand::Answer(node)),
    }
}

/// Salsa verifies without passing through our code, at about a kilobyte of stack a level: the limit on how deep
/// asking nests is also one on how high a finished node may stand.
#[inline(never)]
fn too_deep(db: &dyn Engine, node: NodeIndex) -> Arc<FailureInner> {
    let table = db.table();
    heed_attempts(db);
    let top = table.indices().find(|index| table.with(*index, |node| node.is(Flag::Active))).unwrap_or(node);
    let name = table.name(node);
    engine_failure(
        name.clone(),
        EngineFailure::TooDeep { limit: table.depth_limit, top: table.name(top), bottom: name },
    )
}

fn query(db: &dyn Engine, node: NodeIndex, forced: bool) -> Answer {
    match restore(db, node, forced) {
        Restored::Answer(answer) => answer,
        Restored::Not(stale) => execute::execute(db, node, stale),
    }
}

#[inline(never)]
fn action(db: &dyn Engine, node: NodeIndex, forced: bool) -> Answer {
    let table = db.table();
    let done = table.with(node, NodeData::slot).and_then(|slot| slot.outcome(db).clone());
    if let Some(outcome) = done {
        table.note_width(outcome.reads.len());
        let mut demands = Vec::new();
        let mut outdated = false;
        for (read, was) in &outcome.reads {
            match ask(db, *read) {
                Reply::Value(found) => outdated |= found.fingerprint() != *was,
                Reply::Failed(_) => outdated = true,
                Reply::Pending(demand) => demands.push(demand),
            }
        }
        if !demands.is_empty() {
            return table.pend(node, demands);
        }
        if outdated {
            table.amend.borrow_mut().push((node, Amend::Outdated));
            return table.pend(node, vec![Demand::Run(node)]);
        }
        table.change(node, |node| node.set_demands(Vec::new()));
        return outcome.answer.clone();
    }
    match restore(db, node, forced) {
        Restored::Answer(answer) => answer,
        Restored::Not(stale) => {
            table.change(node, |node| node.set_stale(Some(stale)));
            let slot = slot_of(db, node);
            slot.outcome(db);
            table.pend(node, vec![Demand::Run(node)])
        }
    }
}

enum Restored {
    Answer(Answer),
    Not(Stale),
}

/// The answer from a trace that holds, if one does.
#[inline(never)]
fn restore(db: &dyn Engine, node: NodeIndex, forced: bool) -> Restored {
    let table = db.table();
    if forced {
        // Whoever gave the order has noted why.
        let why = table.with(node, |node| node.stale());
        return Restored::Not(why.unwrap_or(Stale::Forced));
    }
    table.load_newest(node);
    if !table.with(node, NodeData::has_worlds) {
        return Restored::Not(Stale::Missing);
    }
    // They are put back below. Nobody looks at the worlds of a node that is being evaluated.
    let mut worlds = table.change(node, NodeData::take_worlds);
    let mut first = None;
    let mut ended = None;
    for place in 0.. {
        if place == worlds.len() && !table.with(node, |node| node.is(Flag::Loaded)) {
            // The newest trace does not hold, so the older ones are read: they come after those that are known.
            table.change(node, |node| node.put_worlds(worlds));
            table.load_worlds(node);
            worlds = table.change(node, NodeData::take_worlds);
        }
        let Some(world) = worlds.get(place) else { break };
        match verify::check(db, world) {
            verify::Check::Holds => {
                ended = Some(Ok(place));
                break;
            }
            verify::Check::Pending(demands) => {
                ended = Some(Err(demands));
                break;
            }
            verify::Check::Stale(stale) => {
                first.get_or_insert(stale);
            }
        }
    }
    if let Some(Ok(place)) = ended {
        let world = worlds.remove(place);
        table.change(node, |node| node.put_worlds(worlds));
        if world.cell.get().is_none() {
            heed(db, node);
        }
        return Restored::Answer(record::verified(db, node, world));
    }
    if !worlds.is_empty() {
        table.change(node, |node| node.put_worlds(worlds));
    }
    match ended {
        Some(Err(demands)) => Restored::Answer(table.pend(node, demands)),
        _ => Restored::Not(first.unwrap_or(Stale::Missing)),
    }
}

/// A node on the stack of active specs; leaves it when dropped, also by unwinding.
struct Active<'a> {
    table: &'a Table,
    node: NodeIndex,
    role: Role,
}

impl<'a> Active<'a> {
    fn enter(table: &'a Table, node: NodeIndex) -> Self {
        let role = table.change(node, |node| {
            node.set(Flag::Active, true);
            node.role()
        });
        table.depth.set(table.depth.get() + 1);
        Self { table, node, role }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.table.change(self.node, |node| node.set(Flag::Active, false));
        self.table.depth.set(self.table.depth.get() - 1);
    }
}
