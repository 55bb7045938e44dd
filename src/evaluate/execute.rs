//! Running the body of a query.
//!
//! What a body asks is evaluated inside of its run, so a chain of queries stacks these functions up, and each page of
//! stack that is touched for the first time costs more than a link of the chain does. What comes before and after the
//! run therefore stands in functions of its own, which do not wait on the stack ([`prepare`], [`finish`]).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::answer::{Answer, StopInner};
use crate::db::{Asked, Db, Frame};
use crate::evaluate::{heed, heed_attempts, record};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::{Ops, QueryOps, Role, Stopped};
use crate::memo::Engine;
use crate::node::{Demand, NodeIndex, Stale};
use crate::run::Outcome;
use crate::spec::SharedSpec;
use crate::value::AnyValue;

pub(super) fn execute(db: &dyn Engine, node: NodeIndex, stale: Stale) -> Answer {
    if tracing::enabled!(target: crate::SPANS, tracing::Level::TRACE) {
        return in_span(db, node, stale);
    }
    run(db, node, stale)
}

/// The same within a span.
#[inline(never)]
fn in_span(db: &dyn Engine, node: NodeIndex, stale: Stale) -> Answer {
    let name = db.table().name(node);
    let span = tracing::trace_span!(
        target: crate::SPANS,
        "query",
        kind = name.kind(),
        spec = %name,
        label = name.label(),
        key = %db.table().with(node, |node| node.key),
        outcome = tracing::field::Empty,
    );
    let entered = span.enter();
    let answer = run(db, node, stale);
    drop(entered);
    span.record(
        "outcome",
        match &answer {
            Answer::Value(_) => Outcome::from(db.table().status(node)).word(),
            Answer::Failed(_) => "failed",
            Answer::Pending => "pending",
        },
    );
    answer
}

#[inline(always)]
fn run(db: &dyn Engine, node: NodeIndex, stale: Stale) -> Answer {
    let Some((spec, ops)) = prepare(db, node, stale) else { return lost(db, node) };
    let frame = Frame::new(node, db.table().spare_asked());
    let began = Instant::now();
    // A panic that unwinds through salsa poisons its revision, so it ends here.
    let ended = catch_unwind(AssertUnwindSafe(|| ops.compute(&spec, &Db::new(db, &frame))));
    finish(db, node, frame.into_asked(), ended, began.elapsed())
}

/// Notes why the body runs, and finds it.
#[inline(never)]
fn prepare(db: &dyn Engine, node: NodeIndex, stale: Stale) -> Option<(SharedSpec, &'static dyn QueryOps)> {
    let table = db.table();
    table.change(node, |node| {
        // After an effect of its own, what it did itself is not why it ran.
        if node.earlier().is_empty() {
            node.set_stale(Some(stale));
        }
    });
    let spec = table.spec_to_run(node)?;
    let Ops::Query(ops) = spec.kind().ops() else { return None };
    Some((spec, ops))
}

/// How a run ended: as the body says, or by a panic.
type Ended = Result<Result<AnyValue, Stopped>, Box<dyn Any + Send>>;

/// Records what came of a run.
#[inline(never)]
fn finish(db: &dyn Engine, node: NodeIndex, asked: Asked, ended: Ended, cost: Duration) -> Answer {
    let table = db.table();
    table.note_width(asked.deps.len() + asked.demands.len());

    // Nothing that a body makes of an answer which is not there counts, not even that it gave up.
    if !asked.demands.is_empty() {
        let asks_for_effect = |demand: &Demand| table.with(demand.node(), |node| node.role() == Role::Effect);
        if asked.demands.iter().any(asks_for_effect) {
            let mut earlier = asked.nodes();
            earlier.extend(asked.demands.iter().map(|demand| demand.node()));
            table.change(node, |node| node.add_earlier(earlier));
        }
        table.change(node, |node| node.stand_on(asked.nodes()));
        return table.pend(node, asked.demands);
    }
    match ended {
        Ok(Ok(value)) => record::executed(db, node, asked, value, cost),
        Ok(Err(StopInner::Failed(failure))) => record::failed(db, node, &asked, failure, cost),
        Ok(Err(StopInner::Pending)) => {
            // The only way to be pending without a demand is to make one up; there is nothing to wait for.
            let failure = panicked(db, node, "a body ended as pending without having asked anything");
            record::failed(db, node, &asked, failure, cost)
        }
        Err(payload) => {
            let message = panic_message(payload.as_ref());
            record::failed(db, node, &asked, panicked(db, node, &message), cost)
        }
    }
}

/// The body has to run and nobody knows the spec: it was read from a trace, and the store has lost it.
///
/// Whoever asked by that trace takes it for stale, runs its own body and asks with the spec in hand; then the
/// node comes back to life.
#[inline(never)]
fn lost(db: &dyn Engine, node: NodeIndex) -> Answer {
    let table = db.table();
    heed(db, node);
    table.change(node, |node| node.stand_on(Vec::new()));
    Answer::Failed(table.lose(node))
}

fn panicked(db: &dyn Engine, node: NodeIndex, message: &str) -> Arc<FailureInner> {
    heed_attempts(db);
    let spec = db.table().name(node);
    engine_failure(spec.clone(), EngineFailure::Panicked { spec, message: message.into() })
}

/// What a panic said.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic".to_owned()
    }
}
