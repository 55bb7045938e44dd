//! Withdrawn requests: what nobody needs any more is stopped, and nothing half-done is recorded. [X]

use doge::testing::{EventLog, Script, Work};

use crate::kinds::{All, InTurn, open, stepper, total};

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
