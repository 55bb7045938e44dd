//! Serial mode: one piece of work at a time, in the order of discovery. Two runs tell the same story. [S]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doge::testing::{EventLog, Script, Stepper, Work};
use doge::{Action, ActionContext, AnyError, Database, Db, Epoch, Event, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};

use crate::kinds::{All, InTurn, Parities, WorkOnParity, builder, keep, spec, total};

/// A graph with joins in several waves, work that reads, queries that share what is below them, and effects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Everything;
spec!(Everything, "everything", |_this| "everything".to_owned());

impl Query for Everything {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let first = db.join(|join| (0..6).map(|n| join.act(&Work::new("first", n))).collect::<Vec<_>>())?;
        let base: u64 = first.iter().map(|value| **value).sum();
        let (parities, work, in_turn, slow) = db.join(|join| {
            (
                join.get(&Parities(vec![total(&["a"]), total(&["b", "c"]), total(&["c"])])),
                join.get(&All((0..5).map(|n| Work::new("reads", base + n).reading("a").reading("b")).collect())),
                join.get(&InTurn(vec!["one".into(), "two".into(), "three".into()])),
                (0..4).map(|n| join.act(&Yields(n))).collect::<Vec<_>>(),
            )
        })?;
        let kept = db.join(|join| (join.get(&keep("x", *work)), join.get(&keep("y", *in_turn))))?;
        let last = db.get(&WorkOnParity(total(&["a", "b"])))?;
        Ok(*parities + *work + *in_turn + *kept.0 + *kept.1 + *last + slow.iter().map(|value| **value).sum::<u64>())
    }
}

/// Work that lets other work go first, more often the earlier it was asked for, and counts who works at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Yields(u64);
spec!(Yields, "yields", |this| format!("yields {}", this.0));

#[derive(Default)]
struct AtOnce {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Action for Yields {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, AnyError> {
        let at_once = ctx.resource::<Arc<AtOnce>>().unwrap_or_default();
        // Only the numbers matter; they guard nothing.
        let now = at_once.now.fetch_add(1, Ordering::Relaxed) + 1;
        at_once.most.fetch_max(now, Ordering::Relaxed);
        for _ in 0..20 * (4 - self.0) {
            tokio::task::yield_now().await;
        }
        at_once.now.fetch_sub(1, Ordering::Relaxed);
        Ok(self.0)
    }
}

/// Two sessions of a run on threads: everything, a change, everything again. What it came to, each event, and how
/// many worked at once.
fn tell(serial: bool) -> (Vec<u64>, String, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().expect("a runtime");
    let script = Script::new();
    for variable in ["a", "b", "c"] {
        script.set(variable, 1);
    }
    let log = EventLog::new();
    let at_once = Arc::new(AtOnce::default());
    let builder = builder(&script, &log).query::<Everything>().action::<Yields>().resource(at_once.clone());
    let database: Database = builder.serial(serial).runtime(runtime.handle().clone()).build().expect("threads");
    let values = runtime.block_on(async {
        let first = *database.get(&Everything).await.expect("nothing fails");
        script.set("b", 4);
        database.refresh().await.expect("it is open");
        let second = *database.get(&Everything).await.expect("nothing fails");
        database.close().await.expect("it is open");
        vec![first, second]
    });
    // Times differ; nothing else may.
    let line = |event: Event| match format!("{event:?}").split_once(", cost: ") {
        Some((line, _)) => line.to_owned(),
        None => format!("{event:?}"),
    };
    let story: Vec<String> = log.take().into_iter().map(line).collect();
    (values, story.join("\n"), at_once.most.load(Ordering::Relaxed))
}

/// [S1]
#[test]
fn serial_mode_tells_the_same_story_every_time() {
    let (values, story, most) = tell(true);
    assert_eq!(most, 1);
    assert!(story.contains("DidRun { spec: put x=") && story.contains("DidRun { spec: work(three 3)"), "{story}");
    for _ in 0..10 {
        let again = tell(true);
        assert_eq!(again.1, story);
        assert_eq!(again.0, values);
    }
}

/// [S2] The order of discovery is that of asking.
#[test]
fn serial_mode_works_in_the_order_of_asking() {
    let (_, story, _) = tell(true);
    let place =
        |name: &str| story.find(&format!("DidRun {{ spec: {name}")).unwrap_or_else(|| panic!("{name}\n{story}"));
    for n in 0..5 {
        assert!(place(&format!("work(first {n})")) < place(&format!("work(first {})", n + 1)));
    }
    for n in 0..3 {
        assert!(place(&format!("yields {n}")) < place(&format!("yields {}", n + 1)), "{story}");
    }
}

/// [S3] The control: whatever the order of work, the answers are the same.
#[test]
fn serial_mode_comes_to_what_any_other_order_comes_to() {
    assert_eq!(tell(true).0, tell(false).0);
}

/// [S4] Looks, too: of a refresh, and for a dry evaluation.
#[test]
fn serial_mode_looks_at_one_thing_at_a_time() {
    let script = Script::new();
    let mut engine = Stepper::new(builder(&script, &EventLog::new()).serial(true));
    let query = total(&["a", "b", "c"]);
    let mut dry = engine.start_dry(&query);
    for _ in 0..3 {
        assert_eq!(engine.running(), 1);
        engine.finish(0);
        engine.advance();
    }
    assert!(dry.try_recv().is_ok_and(|report| report.is_some()));
    let mut refreshed = engine.start_refresh();
    for _ in 0..3 {
        assert_eq!(engine.running(), 1);
        engine.finish(0);
        engine.advance();
    }
    assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
}

/// [S4] Also when what ran before it does not end but is stopped.
#[test]
fn a_refresh_in_serial_mode_waits_for_work_under_way_and_not_for_work_that_was_stopped() {
    let script = Script::new();
    let mut engine = Stepper::new(builder(&script, &EventLog::new()).serial(true));
    assert!(engine.get(&total(&["a"])).is_ok());
    let asked = engine.ask(&All(vec![Work::new("slow", 1)]));
    let mut refreshed = engine.start_refresh();
    assert_eq!(engine.running(), 1);
    engine.cancel(&asked);
    engine.settle();
    assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
}
