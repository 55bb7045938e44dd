//! Running the body of a query.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::answer::{Answer, StopInner};
use crate::db::{Db, Frame};
use crate::evaluate::{heed, heed_attempts, record};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::{Ops, Role};
use crate::memo::Engine;
use crate::table::{Demand, NodeIndex, Stale};

pub(super) fn execute(db: &dyn Engine, node: NodeIndex, stale: Stale) -> Answer {
    let table = db.table();
    table.change(node, |node| {
        // After an effect of its own, what it did itself is not why it ran.
        if node.earlier.is_empty() {
            node.stale = Some(Box::new(stale));
        }
    });
    let Some(spec) = table.spec_to_run(node) else { return lost(db, node) };
    let Ops::Query(ops) = spec.kind().ops() else { return lost(db, node) };

    let frame = Frame::new(node);
    let began = Instant::now();
    // A panic that unwinds through salsa poisons its revision, so it ends here.
    let ended = catch_unwind(AssertUnwindSafe(|| ops.compute(&spec, &Db::new(db, &frame))));
    let cost = began.elapsed();
    let asked = frame.into_asked();

    // Nothing that a body makes of an answer which is not there counts, not even that it gave up.
    if !asked.demands.is_empty() {
        let asks_for_effect = |demand: &Demand| table.with(demand.node(), |node| node.role == Role::Effect);
        if asked.demands.iter().any(asks_for_effect) {
            let mut earlier = asked.nodes();
            earlier.extend(asked.demands.iter().map(|demand| demand.node()));
            table.change(node, |node| {
                earlier.retain(|asked| !node.earlier.contains(asked));
                node.earlier.extend(earlier);
            });
        }
        table.stand_on(node, asked.nodes());
        return table.pend(node, asked.demands);
    }
    table.change(node, |node| {
        node.demands.clear();
        node.cost = cost;
    });
    match ended {
        Ok(Ok(value)) => record::executed(db, node, asked, value, cost),
        Ok(Err(StopInner::Failed(failure))) => record::failed(db, node, asked, failure),
        Ok(Err(StopInner::Pending)) => {
            // The only way to be pending without a demand is to make one up; there is nothing to wait for.
            record::failed(db, node, asked, panicked(db, node, "a body ended as pending without having asked anything"))
        }
        Err(payload) => {
            let message = panic_message(payload.as_ref());
            record::failed(db, node, asked, panicked(db, node, &message))
        }
    }
}

/// The body has to run and nobody knows the spec: it was read from a trace, and the store has lost it.
///
/// Whoever asked by that trace takes it for stale, runs its own body and asks with the spec in hand; then the
/// node comes back to life.
fn lost(db: &dyn Engine, node: NodeIndex) -> Answer {
    let table = db.table();
    heed(db, node);
    table.change(node, |node| node.lost = true);
    let name = table.name(node);
    let failure = engine_failure(name.clone(), EngineFailure::Lost { spec: name });
    table.stand_on(node, Vec::new());
    Answer::Failed(failure)
}

fn panicked(db: &dyn Engine, node: NodeIndex, message: &str) -> Arc<FailureInner> {
    heed_attempts(db);
    let spec = db.table().name(node);
    engine_failure(spec.clone(), EngineFailure::Panicked { spec, message: message.into() })
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic".to_owned()
    }
}
