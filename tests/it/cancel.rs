//! Withdrawn requests: what nobody needs any more is stopped, and nothing half-done is recorded. [X]

use std::fmt;

use doge::testing::{EventLog, Script, Work, WorkError};
use doge::{Action, ActionContext, AnyError, Db, Epoch, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};

use crate::kinds::{All, InTurn, open, spec, stepper, total};

/// [X1]
#[test]
fn work_that_nobody_needs_any_more_is_aborted() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let asked = engine.ask(&All(vec![Work::new("a", 1), Work::new("b", 2)]));
    assert_eq!(engine.running(), 2);
    engine.cancel(&asked);
    assert_eq!(engine.running(), 0);
    let mut lines = log.take_lines();
    lines.sort();
    assert_eq!(lines, ["cancelled work(a 1)", "cancelled work(b 2)"]);
}

/// [X2]
#[test]
fn work_that_another_request_needs_goes_on() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let first = engine.ask(&All(vec![Work::new("a", 1), Work::new("b", 2)]));
    let mut second = engine.ask(&All(vec![Work::new("b", 2), Work::new("c", 3)]));
    engine.cancel(&first);
    assert_eq!(engine.running(), 2);
    engine.settle();
    assert_eq!(*second.answer().expect("all has ended").expect("nothing fails"), 5);
    let mut lines = log.take_lines();
    lines.sort();
    assert_eq!(lines, ["cancelled work(a 1)", "executed all of 2", "ran work(b 2)", "ran work(c 3)"]);
}

/// [X3]
#[test]
fn a_request_after_a_withdrawn_one_starts_where_that_ended() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let query = InTurn(vec!["a".into(), "b".into()]);
    let asked = engine.ask(&query);
    engine.finish(0);
    engine.advance();
    engine.cancel(&asked);
    assert_eq!(*engine.get(&query).expect("nothing fails"), 2);
    log.assert(&["ran work(a 1)", "cancelled work(b 2)", "ran work(b 2)", "executed in turn a b"]);
}

/// [X4]
#[test]
fn withdrawing_one_of_two_equal_requests_changes_nothing_for_the_other() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let query = InTurn(vec!["a".into()]);
    let first = engine.ask(&query);
    let mut second = engine.ask(&query);
    engine.cancel(&first);
    assert_eq!(engine.running(), 1);
    engine.settle();
    assert!(second.answer().is_some());
}

/// [X5] It had not even been looked at.
#[test]
fn a_request_withdrawn_while_it_waits_for_a_refresh_starts_nothing() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    assert!(engine.get(&total(&["v"])).is_ok());
    let mut refreshed = engine.start_refresh();
    let asked = engine.ask(&All(vec![Work::new("a", 1)]));
    engine.cancel(&asked);
    log.take();
    engine.settle();
    assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
    assert_eq!(log.take_executed(), Vec::<String>::new());
}

/// [X6] Wherever the work waits when nobody needs it any more: nothing is recorded that it had not finished.
#[test]
fn work_can_be_dropped_wherever_it_waits() {
    let script = Script::new();
    script.set("v", 3);
    let query = All(vec![Work::new("a", 1).reading("v"), Work::new("b", 2).reading("v")]);
    let mut waits = 0;
    loop {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let log = EventLog::new();
        let mut engine = open(directory.path(), &script, &log);
        let asked = engine.ask(&query);
        let ended = engine.drive(0, waits);
        engine.advance();
        engine.cancel(&asked);
        assert_eq!(engine.running(), 0, "after {waits} waits");
        log.take();
        assert_eq!(*engine.get(&query).expect("nothing fails"), 9, "after {waits} waits");
        let ran = log.take_executed();
        assert_eq!(ran.contains(&"work(a 1 reading v)".to_owned()), !ended, "after {waits} waits: {ran:?}");
        engine.close();
        let mut engine = open(directory.path(), &script, &log);
        log.take();
        assert_eq!(*engine.get(&query).expect("nothing fails"), 9);
        assert_eq!(log.take_executed(), Vec::<String>::new(), "after {waits} waits");
        if ended {
            break;
        }
        waits += 1;
    }
    assert!(waits > 2, "it waits for the variable and for itself");
}

/// Work on a file that other work makes, and that is gone while the variable `gone` is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Needs(Work);
spec!(Needs, "needs", |this| format!("what needs {}", this.0));

impl Action for Needs {
    type Output = u64;
    type Error = WorkError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, WorkError> {
        let script = ctx.resource::<Script>().unwrap_or_default();
        if script.get("gone").is_some() {
            script.unset("gone");
            ctx.remake(&self.0);
            return Err(WorkError { what: "the file".to_owned() });
        }
        Ok(0)
    }
}

/// First one piece of work, then what needs what it made beside another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct First(Work, Work);
spec!(First, "first", |this| format!("first {}, then {}", this.0, this.1));

impl Query for First {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let first = *db.act(&self.0)?;
        let (needs, then) = db.join(|join| (join.act(&Needs(self.0.clone())), join.act(&self.1)))?;
        Ok(first + *needs + *then)
    }
}

/// The same behind another query, so that nothing of it is demanded by what falls back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Above(Work, Work);
spec!(Above, "above", |this| format!("above {}, then {}", this.0, this.1));

impl Query for Above {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let first = *db.act(&self.0)?;
        Ok(first + *db.get(&All(vec![self.1.clone()]))?)
    }
}

/// [X7] What is needed behind it is not waited for while the file is made again.
#[test]
fn a_withdrawal_stops_nothing_that_is_needed_behind_what_is_made_again() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let mut asked = engine.ask(&First(Work::new("a", 1), Work::new("b", 2)));
    engine.finish(0);
    engine.advance();
    let other = engine.ask(&All(vec![Work::new("c", 3)]));
    assert_eq!(engine.running(), 3);
    script.set("gone", 1);
    engine.finish(0);
    engine.advance();
    engine.cancel(&other);
    engine.settle();
    assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 3);
    let lines = log.take_lines();
    let cancelled: Vec<_> = lines.iter().filter(|line| line.starts_with("cancelled")).collect();
    assert_eq!(cancelled, ["cancelled work(c 3)"]);
    assert_eq!(lines.iter().filter(|line| *line == "ran work(b 2)").count(), 1, "{lines:?}");
}

/// [X7] The same when what comes before it is outdated by a refresh; and once nobody needs it, it is stopped.
#[test]
fn a_withdrawal_stops_nothing_that_is_needed_behind_what_is_out_of_date() {
    for is_needed in [true, false] {
        let script = Script::new();
        let log = EventLog::new();
        let mut engine = stepper(&script, &log);
        script.set("v", 1);
        let mut asked = engine.ask(&Above(Work::new("a", 1).reading("v"), Work::new("b", 2)));
        engine.finish(0);
        engine.advance();
        let other = engine.ask(&All(vec![Work::new("c", 3)]));
        script.set("v", 2);
        let mut refreshed = engine.start_refresh();
        engine.finish(2);
        engine.advance();
        assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
        assert_eq!(engine.running(), 3, "the first is done again, the second and the other go on");
        if !is_needed {
            engine.cancel(&asked);
        }
        engine.cancel(&other);
        assert_eq!(engine.running(), if is_needed { 2 } else { 0 });
        engine.settle();
        assert_eq!(asked.answer().is_some(), is_needed);
        assert_eq!(log.take_executed().contains(&"work(b 2)".to_owned()), is_needed);
    }
}
