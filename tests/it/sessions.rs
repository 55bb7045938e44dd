//! Sessions: what was observed stays so until a refresh, which runs what changed and no more. [N]

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use doge::testing::{EventLog, Look, Script, Stepper, Work, WorkError};
use doge::{
    Action, ActionContext, AnyError, Closed, Database, Db, Effect, Epoch, Halt, Last, Observation, ObserveContext,
    Query, Resource, Seen, Spec,
};
use serde::{Deserialize, Serialize};

use crate::kinds::{AboveOdd, All, OddAll, WorkOnParity, builder, spec, stepper, total};

/// [N1]
#[test]
fn within_a_session_the_world_stands_still() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 1);
    script.set("v", 2);
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 1);
    engine.refresh();
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 2);
}

/// [N10]
#[test]
fn what_is_looked_at_ahead_is_what_the_session_sees() {
    let (script, log) = (Script::new(), EventLog::new());
    script.set("v", 1);
    let look = Look("v".into());
    let mut engine = Stepper::new(builder(&script, &log).look_ahead(&look).look_ahead(&look));
    assert_eq!(engine.running(), 1);
    let mut asked = engine.ask(&total(&["v"]));
    assert_eq!(engine.running(), 1, "it is not looked at twice");
    engine.settle();
    script.set("v", 2);
    assert_eq!(asked.answer().and_then(Result::ok).as_deref(), Some(&1));
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 1);
    engine.refresh();
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 2);
}

/// [N10]
#[test]
fn a_look_ahead_that_failed_is_made_again_for_who_asks() {
    let (script, log) = (Script::new(), EventLog::new());
    script.break_it("v");
    let mut engine = Stepper::new(builder(&script, &log).look_ahead(&Look("v".into())));
    engine.settle();
    script.set("v", 1);
    assert_eq!(*engine.get(&total(&["v"])).expect("it was mended"), 1);
}

/// [N10]
#[test]
fn what_nobody_asks_for_is_not_recorded() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (script, log) = (Script::new(), EventLog::new());
    script.set("v", 1);
    let builder = builder(&script, &log).store(directory.path()).look_ahead(&Look("v".into()));
    let mut engine = Stepper::new(builder);
    assert_eq!(engine.running(), 1);
    engine.settle();
    engine.close();
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// [N2]
#[test]
fn a_refresh_that_sees_nothing_new_runs_nothing() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
    script.set("v", 1);
    let refreshed = engine.refresh();
    assert_eq!((refreshed.observed, refreshed.changed), (1, 0));
    log.take();
    assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
    assert_eq!(log.take_executed(), Vec::<String>::new());
}

/// [N3]
#[test]
fn a_change_that_makes_no_difference_is_cut_off() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
    script.set("v", 3);
    engine.refresh();
    log.take();
    assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
    assert_eq!(log.take_executed(), ["total(v)", "parity of total(v)"]);
    let counts = engine.counts();
    assert_eq!((counts.executed["total"], counts.executed["parity"], counts.cut_off), (1, 1, 1));
    assert!(!counts.executed.contains_key("work"));
}

/// [N3] The room that so many dependencies take is given back after each evaluation; what is known stays known.
#[test]
fn a_query_with_very_many_dependencies_is_cut_off_like_any_other() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let names: Vec<String> = (0..600).map(|n| format!("v{n}")).collect();
    names.iter().for_each(|name| script.set(name, 1));
    let wide = WorkOnParity(total(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    let before = *engine.get(&wide).expect("nothing fails");
    for value in [3, 5] {
        script.set("v300", value);
        engine.refresh();
        log.take();
        assert_eq!(*engine.get(&wide).expect("nothing fails"), before);
        assert_eq!(log.take_executed().len(), 2, "the sum and its parity");
    }
    script.set("v599", 2);
    engine.refresh();
    log.take();
    assert_ne!(*engine.get(&wide).expect("nothing fails"), before);
    assert_eq!(log.take_executed().len(), 4, "and the work on the parity, and what stands on that");
    assert_eq!(*engine.get(&wide.0).expect("nothing fails"), 599 + 5 + 1);
}

/// [N4] Also when an answer between was pending meanwhile: its readers see an equal value, not a change.
#[test]
fn a_wait_in_between_does_not_lose_the_cut_off() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    let top = AboveOdd(OddAll(All(vec![Work::new("w", 0).reading("v")])));
    assert!(engine.get(&top).is_ok());
    script.set("v", 3);
    engine.refresh();
    log.take();
    // All of it waits for the action, and then the sum is another, but odd as before.
    assert!(engine.get(&top).is_ok());
    assert_eq!(log.take_executed(), ["work(w 0 reading v)", "all of 1", "odd all of 1"]);
}

/// [N5]
#[test]
fn going_back_to_an_earlier_world_runs_nothing() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    for value in 1..=4 {
        script.set("v", value);
        engine.refresh();
        assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
    }
    log.take();
    for value in [3, 1, 4, 2] {
        script.set("v", value);
        engine.refresh();
        assert!(engine.get(&WorkOnParity(total(&["v"]))).is_ok());
        assert_eq!(log.take_executed(), Vec::<String>::new());
    }
}

/// [N6]
#[test]
fn what_an_action_read_is_looked_at_again() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    let reading = All(vec![Work::new("w", 0).reading("v")]);
    assert_eq!(*engine.get(&reading).expect("nothing fails"), 1);
    script.set("v", 5);
    engine.refresh();
    assert_eq!(*engine.get(&reading).expect("nothing fails"), 5);
}

/// [N7] Ten thousand sessions over changing specs and values leave the graph as small as one.
#[test]
fn the_graph_does_not_grow_with_sessions() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let mut most = 0;
    for session in 0..1000_u64 {
        script.set("v", session);
        engine.refresh();
        let work = All((0..10).map(|n| Work::new("w", session * 10 + n).reading("v")).collect());
        let value = *engine.get(&work).expect("nothing fails");
        assert_eq!(value, (0..10).map(|n| session * 10 + n + session).sum::<u64>());
        most = most.max(engine.nodes());
        log.take();
    }
    assert!(most < 200, "{most} nodes");
}

/// A look that takes a while after it has seen what it sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SlowLook(String);
spec!(SlowLook, "slow_look", |this| format!("slow look({})", this.0));

impl Observation for SlowLook {
    type Output = u64;
    type Error = WorkError;
    type Stamp = ();

    async fn observe(&self, ctx: &ObserveContext, _last: Option<Last<Self>>) -> Result<Seen<Self>, WorkError> {
        let value = ctx.resource::<Script>().and_then(|script| script.get(&self.0)).unwrap_or(0);
        tokio::task::yield_now().await;
        Ok(Seen::New { value, stamp: (), newest: None })
    }
}

/// Work that takes a while after it has read what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SlowWork(String);
spec!(SlowWork, "slow_work", |this| format!("slow work({})", this.0));

impl Action for SlowWork {
    type Output = u64;
    type Error = WorkError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, WorkError> {
        let value = ctx.resource::<Script>().and_then(|script| script.get(&self.0)).unwrap_or(0);
        ctx.report_read(&Look(self.0.clone()));
        tokio::task::yield_now().await;
        Ok(value)
    }
}

/// An effect that sets a variable to 3.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Put(String);
spec!(Put, "put", |this| format!("put({})", this.0));

impl Effect for Put {
    type Output = ();
    type Error = WorkError;
    type Target = SlowLook;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> SlowLook {
        SlowLook(self.0.clone())
    }

    async fn run(&self, ctx: &ActionContext) -> Result<(), WorkError> {
        ctx.resource::<Script>().unwrap_or_default().set(&self.0, 3);
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Slow {
    Look(String),
    Work(String),
    Put(String),
}
spec!(Slow, "slow", |this| format!("{this:?}"));

impl Query for Slow {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(match self {
            Slow::Look(name) => *db.observe(&SlowLook(name.clone()))?,
            Slow::Work(name) => *db.act(&SlowWork(name.clone()))?,
            Slow::Put(name) => {
                let seen = *db.observe(&SlowLook(name.clone()))?;
                if seen == 0 {
                    db.effect(&Put(name.clone()))?;
                }
                seen
            }
        })
    }
}

/// [N8] The refresh under way may have looked before the change.
#[test]
fn a_refresh_that_is_asked_for_while_another_is_under_way_looks_again() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    script.set("v", 1);
    assert!(engine.get(&total(&["v", "w"])).is_ok());
    let mut first = engine.start_refresh();
    engine.finish(0);
    script.set("v", 2);
    let mut second = engine.start_refresh();
    let mut third = engine.start_refresh();
    let mut asked = engine.ask(&total(&["v"]));
    engine.finish(0);
    assert!(first.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
    assert!(second.try_recv().is_ok_and(|refreshed| refreshed.is_none()), "it has not looked yet");
    engine.settle();
    let seen = |refreshed: Option<_>| refreshed.is_some_and(|refreshed: doge::Refreshed| refreshed.changed == 1);
    assert!(second.try_recv().is_ok_and(seen));
    assert!(third.try_recv().is_ok_and(seen), "one is enough for both");
    assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 2);
}

/// [N8]
#[test]
fn a_look_that_began_before_a_refresh_is_not_of_the_session_after_it() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    let mut asked = engine.ask(&Slow::Look("v".to_owned()));
    engine.drive(0, 1);
    script.set("v", 2);
    engine.refresh();
    assert_eq!(*engine.get(&Slow::Look("v".to_owned())).expect("nothing fails"), 2);
    assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 2);
}

/// [N8]
#[test]
fn work_that_began_before_a_refresh_is_done_again_if_what_it_read_may_have_changed() {
    for is_observed in [false, true] {
        let script = Script::new();
        let log = EventLog::new();
        let mut engine = stepper(&script, &log);
        if is_observed {
            // Only a look before the change and one after it tell that there was one.
            script.set("v", 1);
            assert!(engine.get(&total(&["v"])).is_ok());
        } else {
            script.set_at("v", 1, SystemTime::now());
        }
        let query = Slow::Work("v".to_owned());
        let mut asked = engine.ask(&query);
        engine.drive(0, 1);
        if is_observed {
            script.set("v", 2)
        } else {
            script.set_at("v", 2, SystemTime::now())
        }
        drop(engine.start_refresh());
        if is_observed {
            engine.finish(1);
            engine.advance();
        }
        log.take();
        assert_eq!(*engine.get(&query).expect("nothing fails"), 2, "observed: {is_observed}");
        assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 2);
        assert!(log.take_lines().contains(&"retreated slow work(v): WorldMoved".to_owned()));
    }
}

/// [N8] What held still is of use, whenever it began.
#[test]
fn work_that_began_before_a_refresh_is_of_use_after_it() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert!(engine.get(&total(&["v"])).is_ok());
    let query = Slow::Work("v".to_owned());
    let mut asked = engine.ask(&query);
    engine.drive(0, 1);
    drop(engine.start_refresh());
    engine.settle();
    assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 1);
    let ran = log.take_executed();
    assert_eq!(ran.iter().filter(|ran| *ran == "slow work(v)").count(), 1, "{ran:?}");
}

/// [N8] Somebody changes what the effect has changed, and then asks for a refresh.
#[test]
fn what_an_effect_saw_before_a_refresh_does_not_hide_what_the_refresh_saw() {
    for is_delivered_first in [true, false] {
        let script = Script::new();
        let mut engine = stepper(&script, &EventLog::new());
        let mut asked = engine.ask(&Slow::Put("v".to_owned()));
        engine.finish(0);
        engine.advance();
        assert!(!engine.drive(0, 1));
        assert_eq!(script.get("v"), Some(3), "the effect has looked at what it did, and not told of it");
        script.set("v", 7);
        drop(engine.start_refresh());
        if is_delivered_first {
            engine.finish(0);
        } else {
            engine.finish(1);
            engine.advance();
        }
        engine.settle();
        assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 7);
        assert_eq!(*engine.get(&Slow::Look("v".to_owned())).expect("nothing fails"), 7);
    }
}

/// [N9] The second one comes while the first is being dealt with.
#[tokio::test]
async fn a_database_that_several_close_is_closed_once() {
    let come = Arc::new(Barrier::new(2));
    let hook = {
        let come = come.clone();
        move || {
            come.wait();
        }
    };
    let database = Database::builder().on_close(hook).build().expect("threads can be started");
    let mut first = Box::pin(database.close());
    let mut second = Box::pin(database.close());
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    come.wait();
    assert!(first.await.is_ok());
    assert!(matches!(second.await, Err(Closed)));
}

/// Work that never ends, and takes a while to be let go of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Endless;
spec!(Endless, "endless", |_this| "work without end");

#[derive(Default)]
struct Far {
    began: AtomicBool,
    is_gone: AtomicBool,
}

struct Leaving(Arc<Far>);

impl Drop for Leaving {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(50));
        self.0.is_gone.store(true, Ordering::Relaxed);
    }
}

impl Action for Endless {
    type Output = u64;
    type Error = WorkError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, WorkError> {
        let leaving = Leaving(ctx.resource::<Far>().expect("the test gives it"));
        leaving.0.began.store(true, Ordering::Relaxed);
        std::future::pending().await
    }
}

/// [N9]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_was_stopped_is_gone_when_the_database_is_closed() {
    for is_withdrawn in [false, true] {
        let far = Arc::new(Far::default());
        let builder = Database::builder().action::<Endless>().resource_shared(far.clone());
        let database = builder.build().expect("threads can be started");
        let mut request = Some(database.act(&Endless));
        while !far.began.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        request.take_if(|_| is_withdrawn);
        database.close().await.expect("it is open");
        assert!(far.is_gone.load(Ordering::Relaxed), "{is_withdrawn}");
    }
}
