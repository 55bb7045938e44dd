//! Failures are shared by those who saw them, tried again by the next, and never kept. [F]

use doge::testing::{EventLog, Script, Work};
use doge::{DryVerdict, EngineFailure};

use crate::kinds::{All, Chain, Panics, Tolerant, TolerantThen, builder, stepper, total};

/// [F1]
#[test]
fn everyone_who_waits_gets_the_same_failure() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let work = Work::new("a", 1).reading("missing");
    let mut first = engine.ask(&All(vec![work.clone()]));
    let mut second = engine.ask(&Tolerant(work));
    engine.settle();
    assert_eq!(first.answer().expect("all has ended").expect_err("it is missing").to_string(), "missing is broken");
    assert_eq!(*second.answer().expect("all has ended").expect("it tolerates"), 100);
    let failed = log.take_lines().into_iter().filter(|line| line.starts_with("failed work")).count();
    assert_eq!(failed, 1);
}

/// [F2] Without a refresh: a failure is not an observation.
#[test]
fn the_next_request_tries_again() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let work = All(vec![Work::new("a", 1).reading("v")]);
    script.break_it("v");
    assert!(engine.get(&work).is_err());
    script.set("v", 4);
    assert_eq!(*engine.get(&work).expect("it works now"), 5);
}

/// [F2]
#[test]
fn a_failed_look_is_tried_again_too() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    script.break_it("v");
    assert!(engine.get(&total(&["v"])).is_err());
    script.set("v", 4);
    assert_eq!(*engine.get(&total(&["v"])).expect("it works now"), 4);
}

/// [F3] A result that tolerated a failure is worked out again by the next request.
#[test]
fn a_tolerated_failure_taints_the_result() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let tolerant = Tolerant(Work::new("a", 1).reading("v"));
    assert_eq!(*engine.get(&tolerant).expect("it tolerates"), 100);
    script.set("v", 4);
    assert_eq!(*engine.get(&tolerant).expect("it works"), 5);
}

/// [F4]
#[test]
fn a_failure_stays_for_a_request_that_is_still_alive() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let broken = Work::new("broken", 1).reading("v");
    // The first request tolerates the failure and waits for something else.
    let mut first = engine.ask(&TolerantThen(broken.clone(), Work::new("slow", 1)));
    engine.finish(0);
    engine.advance();
    assert_eq!(engine.running(), 1, "the slow work");
    script.set("v", 1);
    // It is alive and saw it fail, so whoever asks meanwhile sees the same.
    let mut second = engine.ask(&Tolerant(broken.clone()));
    engine.advance();
    assert_eq!(*second.answer().expect("nothing has to be tried").expect("it tolerates"), 100);
    engine.settle();
    assert_eq!(*first.answer().expect("all has ended").expect("it tolerates"), 101);
    // Nobody who is alive saw it fail, so it is tried again although another request is alive.
    let mut other = engine.ask(&All(vec![Work::new("other", 1)]));
    let mut third = engine.ask(&Tolerant(broken));
    engine.settle();
    assert_eq!(*third.answer().expect("all has ended").expect("it works"), 2);
    assert!(other.answer().is_some());
}

/// [F5]
#[test]
fn a_panic_in_a_body_fails_its_spec_and_nothing_else() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let failure = engine.get(&Panics).expect_err("it panics");
    std::panic::set_hook(hook);
    match failure.engine() {
        Some(EngineFailure::Panicked { spec, message }) => {
            assert_eq!(spec.to_string(), "panics");
            assert_eq!(&**message, "it is not safe");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*engine.get(&total(&["v"])).expect("the engine lives on"), 0);
    script.set("safe", 9);
    engine.refresh();
    assert_eq!(*engine.get(&Panics).expect("it is safe"), 9);
}

/// [F6] Bottom up or top down, evaluated or verified: the chain is cut before the stack is.
#[test]
fn a_chain_that_is_too_deep_fails_and_says_so() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = doge::testing::Stepper::new(builder(&script, &log).depth_limit(50));
    assert!(engine.get(&Chain(40)).is_ok());
    let failure = engine.get(&Chain(60)).expect_err("it is too deep");
    match failure.engine() {
        Some(EngineFailure::TooDeep { limit: 50, .. }) => {}
        other => panic!("{other:?}"),
    }
    let mut engine = doge::testing::Stepper::new(builder(&script, &log).depth_limit(50));
    let cut = (0..60).find(|n| engine.get(&Chain(*n)).is_err());
    assert_eq!(cut, Some(49), "fifty levels, and the look at the end is one");
}

/// [F7]
#[test]
fn dry_evaluation_tells_a_failure() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    script.break_it("v");
    let report = engine.dry(&total(&["v"]));
    assert_eq!(report.verdict, DryVerdict::Fails("v is broken".to_owned()));
}
