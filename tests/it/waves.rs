//! What is asked together starts together; what is answered does not depend on what ends first. [W]

use doge::testing::{EventLog, Script, Work};

use crate::kinds::{All, InTurn, KnownToFail, stepper};

/// [W1]
#[test]
fn members_of_a_join_start_at_once() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let asked = engine.ask(&All(vec![Work::new("a", 1), Work::new("b", 2), Work::new("c", 3)]));
    assert_eq!(engine.running(), 3);
    drop(asked);
}

/// [W2]
#[test]
fn work_in_turn_starts_when_the_one_before_has_ended() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let mut asked = engine.ask(&InTurn(vec!["a".into(), "b".into(), "c".into()]));
    for _ in 0..3 {
        assert_eq!(engine.running(), 1);
        assert!(asked.answer().is_none());
        engine.finish(0);
        engine.advance();
    }
    assert_eq!(*asked.answer().expect("all has ended").expect("nothing fails"), 3);
    log.assert(&["ran work(a 1)", "ran work(b 2)", "ran work(c 3)", "executed in turn a b c"]);
}

/// [W3]
#[test]
fn a_parent_is_evaluated_again_only_when_its_whole_wave_has_ended() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let _asked = engine.ask(&All((0..20).map(|n| Work::new("w", n)).collect()));
    for left in (0..20).rev() {
        engine.finish(0);
        engine.advance();
        assert_eq!(engine.running(), left);
    }
    let executed = log.take_executed();
    assert_eq!(executed.len(), 21);
    assert_eq!(executed.last().map(String::as_str), Some("all of 20"));
}

/// [W4] Whatever ends first, the first failure in the order of asking is the answer.
#[test]
fn the_failure_of_a_join_does_not_depend_on_what_ends_first() {
    let broken = |name: &str| Work::new(name, 1).reading(name);
    for order in [[0, 0], [1, 0]] {
        let script = Script::new();
        script.break_it("first");
        script.break_it("second");
        let mut engine = stepper(&script, &EventLog::new());
        let mut asked = engine.ask(&All(vec![broken("first"), broken("second")]));
        assert_eq!(engine.running(), 2);
        engine.finish(order[0]);
        engine.advance();
        engine.finish(order[1]);
        engine.advance();
        let failure = asked.answer().expect("all has ended").expect_err("both are broken");
        assert_eq!(failure.to_string(), "first is broken");
    }
}

/// [W5]
#[test]
fn a_failure_that_nothing_pending_precedes_ends_a_join_at_once() {
    let script = Script::new();
    script.break_it("v");
    let mut engine = stepper(&script, &EventLog::new());
    let mut asked = engine.ask(&KnownToFail { fails: Work::new("a", 1).reading("v"), other: Work::new("b", 2) });
    engine.finish(0);
    engine.advance();
    assert_eq!(engine.running(), 0, "what follows the failure is not asked");
    assert!(asked.answer().expect("the first has failed").is_err());
}

/// [W6]
#[test]
fn equal_specs_are_one() {
    let log = EventLog::new();
    let mut engine = stepper(&Script::new(), &log);
    let work = || vec![Work::new("slow", 1)];
    let mut asked: Vec<_> = (0..1000).map(|_| engine.ask(&All(work()))).collect();
    assert_eq!(engine.running(), 1);
    engine.settle();
    assert!(asked.iter_mut().all(|asked| asked.answer().is_some_and(|answer| answer.is_ok_and(|value| *value == 1))));
    log.assert(&["ran work(slow 1)", "executed all of 1"]);
}
