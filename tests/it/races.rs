//! Results are recorded only if what they were made from held still. [R]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doge::testing::{EventLog, Look, Script, Work};
use doge::{Action, ActionContext, Epoch, Resource, Spec};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::kinds::{All, builder, open, spec, stepper, total};

fn reading(name: &str) -> All {
    All(vec![Work::new("w", 1).reading(name)])
}

/// [R1]
#[test]
fn what_is_first_read_by_an_action_and_changes_meanwhile_is_not_recorded() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set_at("v", 1, SystemTime::now() - Duration::from_secs(60));
    script.during("w", |script| script.set_at("v", 5, SystemTime::now()));
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 2);
    log.assert(&["observed look(v)", "ran work(w 1 reading v) (not recorded)", "executed all of 1"]);
    engine.refresh();
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("nothing fails"), 6);
}

/// [R2] An edit back and forth leaves the value, not the stamp.
#[test]
fn an_equal_value_under_another_stamp_is_not_trusted() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert!(engine.get(&total(&["v"])).is_ok());
    log.take();
    script.during("w", |script| {
        script.set("v", 9);
        script.set("v", 1);
    });
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 2);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));
}

/// [R3] Between the observation and the action, not only during the action.
#[test]
fn what_changed_between_observation_and_action_is_not_recorded() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set("v", 1);
    assert!(engine.get(&total(&["v"])).is_ok());
    script.set("v", 2);
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 3);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));
}

/// [R4] Within one tick of the clock a change moves no stamp: content is compared.
#[test]
fn a_change_that_moves_no_stamp_is_found_while_the_stamp_is_fresh() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set_at("v", 1, SystemTime::now());
    assert!(engine.get(&total(&["v"])).is_ok());
    log.take();
    script.during("w", |script| script.set_unnoticed("v", 9));
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 2);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));
    // And by the next session, too.
    engine.refresh();
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 9);
}

/// [R5] The control: what holds still is recorded.
#[test]
fn what_holds_still_is_recorded() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set_at("v", 1, SystemTime::now() - Duration::from_secs(60));
    assert_eq!(*engine.get(&reading("v")).expect("nothing fails"), 2);
    log.assert(&["observed look(v)", "ran work(w 1 reading v)", "executed all of 1"]);
    engine.refresh();
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("nothing fails"), 2);
    assert_eq!(log.take_executed(), Vec::<String>::new());
}

/// [R6] A settled stamp is believed, so looking again costs no reading.
#[test]
fn an_old_stamp_is_believed() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set_at("v", 1, SystemTime::now() - Duration::from_secs(60));
    let mut asked = engine.ask(&total(&["v"]));
    engine.settle();
    assert!(asked.answer().is_some());
    log.take();
    engine.refresh();
    log.assert(&["observed look(v) (by stamp)"]);
    let _ = Look("v".into());
}

/// Work that reads a variable, says so, and goes on only when it is let.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slow(String);
spec!(Slow, "slow", |this| format!("slow {}", this.0));

/// Where slow work says that it has read, and waits.
struct Gate {
    has_read: Arc<Semaphore>,
    goes_on: Arc<Semaphore>,
}

impl Action for Slow {
    type Output = u64;
    type Error = doge::AnyError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, doge::AnyError> {
        let script = ctx.resource::<Script>().unwrap_or_default();
        let gate = ctx.resource::<Gate>().expect("it was given");
        ctx.report_read(&Look(self.0.clone()));
        let value = script.get(&self.0).unwrap_or(0);
        gate.has_read.add_permits(1);
        gate.goes_on.acquire().await.expect("it is never closed").forget();
        Ok(value)
    }
}

/// [R8] Somebody else looks after the work has read, and before it ends: what they see is not what it read.
///
/// ```text
/// work:    reads 1 ........................ ends, looks again: 2
/// another:          (the world becomes 2) looks: 2
/// ```
#[tokio::test]
async fn what_somebody_else_saw_while_the_work_ran_is_not_what_it_read() {
    let (script, log) = (Script::new(), EventLog::new());
    let (has_read, goes_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let gate = Gate { has_read: has_read.clone(), goes_on: goes_on.clone() };
    let database = builder(&script, &log).action::<Slow>().resource(gate).build().expect("a thread can be started");
    let old = SystemTime::now() - Duration::from_secs(60);
    script.set_at("v", 1, old);
    let work = Slow("v".to_owned());
    let request = tokio::spawn(database.act(&work));
    has_read.acquire().await.expect("it is never closed").forget();

    script.set_at("v", 2, SystemTime::now());
    assert_eq!(*database.observe(&Look("v".to_owned())).await.expect("nothing fails"), Some(2));
    goes_on.add_permits(1);
    assert_eq!(*request.await.expect("it ends").expect("nothing fails"), 1, "it serves who asked for it");

    database.refresh().await.expect("it is open");
    goes_on.add_permits(1);
    assert_eq!(*database.act(&work).await.expect("nothing fails"), 2);
}

/// [R9] Files are stamped with the time of the last tick of a clock: what was written just before the work began
/// may bear a time from before, and so may what was written just after.
#[test]
fn what_was_written_within_a_tick_before_the_work_is_not_certain() {
    // On a busy machine the tick may be over before the work begins: then it is tried again.
    let tried = (0..200).any(|_| {
        let (script, log) = (Script::new(), EventLog::new());
        let mut engine = stepper(&script, &log);
        let newest = SystemTime::now() - Duration::from_millis(1);
        script.set_at("v", 1, newest);
        assert!(engine.get(&reading("v")).is_ok());
        let in_time = newest.elapsed().expect("time goes on") < Duration::from_millis(15);
        let recorded = log.take_lines().contains(&"ran work(w 1 reading v)".to_owned());
        assert!(!(in_time && recorded), "it was recorded");
        in_time
    });
    assert!(tried, "this machine is too slow for anything to happen within a tick");
}

/// [R4] Nor does a later process believe it.
#[test]
fn a_fresh_stamp_is_not_kept_for_later_processes() {
    let (script, log) = (Script::new(), EventLog::new());
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    script.set_at("v", 1, SystemTime::now());
    let mut engine = open(directory.path(), &script, &log);
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 1);
    engine.close();
    script.set_unnoticed("v", 9);
    let mut engine = open(directory.path(), &script, &log);
    assert_eq!(*engine.get(&total(&["v"])).expect("nothing fails"), 9);
}

/// [R2] The world that comes back to what it was between two sessions is the same world; within one it is not.
#[test]
fn what_changes_and_comes_back_between_the_look_and_the_work_is_not_certain() {
    let (script, log) = (Script::new(), EventLog::new());
    let mut engine = stepper(&script, &log);
    let old = SystemTime::now() - Duration::from_secs(60);
    script.set_at("v", 1, old);
    assert!(engine.get(&total(&["v"])).is_ok());
    // However slow this machine is, the change is not over when the work begins.
    let later = SystemTime::now() + Duration::from_secs(3600);
    script.set_at("v", 9, later);
    script.set_at("v", 1, later);
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 2);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));
    script.set_at("v", 1, old);
    engine.refresh();
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("nothing fails"), 2);
    assert_eq!(log.take_executed(), ["work(w 1 reading v)"], "now it is certain");
    engine.refresh();
    log.take();
    assert!(engine.get(&reading("v")).is_ok());
    assert_eq!(log.take_executed(), Vec::<String>::new());
}

/// [R2] Nor is what changes and comes back while the work reads it.
#[test]
fn what_changes_and_comes_back_while_the_work_reads_it_is_not_certain() {
    let (script, log) = (Script::new(), EventLog::new());
    let mut engine = stepper(&script, &log);
    let old = SystemTime::now() - Duration::from_secs(60);
    script.set_at("v", 1, old);
    assert!(engine.get(&total(&["v"])).is_ok());
    script.during("w", |script| {
        script.set_at("v", 9, SystemTime::now());
        script.set_at("v", 1, SystemTime::now());
    });
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("it serves this run"), 2);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));
}

/// [R2] What moved and had come to rest before the work began was what the work saw.
#[test]
fn what_moved_before_the_work_began_and_is_the_same_is_certain() {
    let (script, log) = (Script::new(), EventLog::new());
    let mut engine = stepper(&script, &log);
    let old = SystemTime::now() - Duration::from_secs(60);
    script.set_at("v", 1, old);
    assert!(engine.get(&total(&["v"])).is_ok());
    script.set_at("v", 1, old + Duration::from_secs(30));
    log.take();
    assert_eq!(*engine.get(&reading("v")).expect("nothing fails"), 2);
    assert!(log.take_lines().contains(&"ran work(w 1 reading v)".to_owned()));
    engine.refresh();
    log.take();
    assert!(engine.get(&reading("v")).is_ok());
    assert_eq!(log.take_executed(), Vec::<String>::new());
}
