//! Recording how an evaluation ended: the world it held in, its place in the run, and what is to be persisted.

use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Answer, Found};
use crate::db::Asked;
use crate::event::Event;
use crate::failure::{EngineFailure, FailureInner, chain, engine_failure};
use crate::memo::Engine;
use crate::table::{NodeIndex, Status, Table, World};
use crate::value::{AnyValue, Cell};

/// A trace held; its value is the answer.
pub(super) fn verified(db: &dyn Engine, node: NodeIndex, world: World) -> Answer {
    let table = db.table();
    let height = table.height_above(world.deps.iter().map(|(index, _)| *index));
    let cell = world.cell.clone();
    table.remember(node, world);
    let first = table.change(node, |node| {
        node.height = height;
        node.demands.clear();
        node.stale = None;
        node.value = Some(cell.fingerprint());
        let first = node.status == Status::None;
        if first {
            node.status = Status::Verified;
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
    let kind = table.with(node, |node| node.kind);
    let (fingerprint, bytes) = match table.encode(kind, &value) {
        Ok(encoded) => encoded,
        Err(error) => {
            let spec = table.name(node);
            let message = error.to_string().into();
            let failure = engine_failure(spec.clone(), EngineFailure::NotEncodable { spec, message });
            return failed(db, node, asked, failure);
        }
    };
    let height = table.height_above(asked.deps.iter().map(|(index, _)| *index));
    if height as usize > table.depth_limit {
        super::heed_attempts(db);
        let name = table.name(node);
        let failure = engine_failure(
            name.clone(),
            EngineFailure::TooDeep { limit: table.depth_limit, top: name.clone(), bottom: name },
        );
        return failed(db, node, asked, failure);
    }
    let cell = Cell::new(fingerprint, value);
    let cut_off =
        table.with(node, |node| node.worlds.first().is_some_and(|world| world.cell.fingerprint() == fingerprint));
    let tainted = asked.tainted;
    if tainted {
        table.stand_on(node, asked.nodes());
    } else {
        let world = World { deps: asked.deps.into(), ends: asked.ends.into(), cell: cell.clone(), cost };
        table.keep(node, &world, bytes);
        table.remember(node, world);
    }
    table.change(node, |node| {
        node.height = height;
        node.value = Some(fingerprint);
        node.status = if cut_off { Status::CutOff } else { Status::Executed };
    });
    table.tally.borrow_mut().executed(kind, cut_off);
    table.emit(|| Event::DidExecute { spec: table.name(node), cut_off, cost });
    Answer::Value(Found { cell, tainted })
}

/// A body ended without a value. Nothing of it outlives the requests that see it.
pub(super) fn failed(db: &dyn Engine, node: NodeIndex, asked: Asked, failure: Arc<FailureInner>) -> Answer {
    let table = db.table();
    table.stand_on(node, asked.nodes());
    table.fail(node, &failure);
    Answer::Failed(failure)
}

impl Table {
    /// Counts and tells a failure.
    pub(crate) fn fail(&self, node: NodeIndex, failure: &Arc<FailureInner>) {
        self.change(node, |node| {
            node.status = Status::Failed;
            node.failure = Some(failure.clone());
        });
        self.tally.borrow_mut().failed += 1;
        self.emit(|| Event::DidFail { spec: self.name(node), message: chain(failure) });
    }
}

/// The work of an action came to a value that is certain to belong to its reads: the world it was made in.
pub(crate) fn record_action(table: &Table, node: NodeIndex, world: World, bytes: Option<Arc<[u8]>>) {
    table.keep(node, &world, bytes);
    table.remember(node, world);
}
