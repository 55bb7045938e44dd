//! Recording how an evaluation ended: the world it held in, its place in the run, and what is to be persisted.

use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Answer, Found};
use crate::db::Asked;
use crate::event::Event;
use crate::failure::{EngineFailure, FailureInner, chain, engine_failure};
use crate::memo::Engine;
use crate::node::{NodeIndex, Status, World};
use crate::table::Table;
use crate::value::{AnyValue, Cell};

/// A trace held; its value is the answer.
pub(super) fn verified(db: &dyn Engine, node: NodeIndex, world: World) -> Answer {
    let table = db.table();
    let height = table.height_above(&world.deps);
    let cell = world.cell.clone();
    let first = table.change(node, |node| {
        node.remember(world);
        node.height = height;
        node.set_demands(Vec::new());
        node.set_stale(None);
        let first = node.status() == Status::None;
        if first {
            node.set_status(Status::Verified);
        }
        first
    });
    if first {
        table.tally.borrow_mut().verified += 1;
        table.emit(|| Event::DidVerify { spec: table.name(node) });
    }
    Answer::Value(Found::new(cell))
}

/// A body ran to a value.
pub(super) fn executed(db: &dyn Engine, node: NodeIndex, asked: Asked, value: AnyValue, cost: Duration) -> Answer {
    let table = db.table();
    let (kind, before) = table.with(node, |node| (node.kind, node.newest_value()));
    let (fingerprint, bytes) = match table.encode(kind, &value) {
        Ok(encoded) => encoded,
        Err(error) => {
            let spec = table.name(node);
            let message = error.to_string().into();
            let failure = engine_failure(spec.clone(), EngineFailure::NotEncodable { spec, message });
            return failed(db, node, &asked, failure, cost);
        }
    };
    let height = table.height_above(&asked.deps);
    if height as usize > table.depth_limit {
        super::heed_attempts(db);
        let name = table.name(node);
        let failure = engine_failure(
            name.clone(),
            EngineFailure::TooDeep { limit: table.depth_limit, top: name.clone(), bottom: name },
        );
        return failed(db, node, &asked, failure, cost);
    }
    let cell = Cell::new(fingerprint, value);
    let cut_off = before == Some(fingerprint);
    let tainted = asked.tainted;
    let world = (!tainted).then(|| World { deps: asked.deps.as_slice().into(), cell: cell.clone(), cost });
    if let Some(world) = &world {
        table.keep(node, world, bytes);
    }
    table.change(node, |node| {
        node.set_demands(Vec::new());
        match world {
            Some(world) => node.remember(world),
            None => {
                node.stand_on(asked.nodes());
                node.came_to(Some(fingerprint), cost);
            }
        }
        node.height = height;
        node.set_status(if cut_off { Status::CutOff } else { Status::Executed });
        node.set_ordered(false);
    });
    table.spare(asked);
    table.tally.borrow_mut().executed(kind, cut_off);
    table.emit(|| Event::DidExecute { spec: table.name(node), cut_off, cost });
    Answer::Value(Found { cell, tainted })
}

/// A body ended without a value. Nothing of it outlives the requests that see it.
pub(super) fn failed(
    db: &dyn Engine,
    node: NodeIndex,
    asked: &Asked,
    failure: Arc<FailureInner>,
    cost: Duration,
) -> Answer {
    let table = db.table();
    table.change(node, |node| {
        node.set_demands(Vec::new());
        node.stand_on(asked.nodes());
        let value = node.value();
        node.came_to(value, cost);
    });
    table.fail(node, &failure);
    Answer::Failed(failure)
}

impl Table {
    /// Counts and tells a failure.
    pub(crate) fn fail(&self, node: NodeIndex, failure: &Arc<FailureInner>) {
        self.change(node, |node| {
            node.set_status(Status::Failed);
            node.set_failure(failure.clone());
        });
        self.tally.borrow_mut().failed += 1;
        self.emit(|| Event::DidFail { spec: self.name(node), message: chain(failure) });
    }
}

/// The work of an action came to a value that is certain to belong to its reads: the world it was made in.
pub(crate) fn record_action(table: &Table, node: NodeIndex, world: World, bytes: Option<Arc<[u8]>>) {
    table.keep(node, &world, bytes);
    table.change(node, |node| node.remember(world));
}
