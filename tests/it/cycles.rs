//! Specs that need themselves fail, all of them and nobody else, and only for as long as they do. [C]

use doge::testing::{EventLog, Script};

use crate::kinds::{AboveRing, Ring, stepper};

fn ring_of(failure: &doge::Failure<doge::AnyError>) -> Vec<String> {
    failure.cycle().expect("it is a cycle").iter().map(ToString::to_string).collect()
}

/// [C1] The ring is the same whoever is asked, and begins with the smallest name.
#[test]
fn a_cycle_names_its_whole_ring() {
    for start in 0..4 {
        let mut engine = stepper(&Script::new(), &EventLog::new());
        let failure = engine.get(&Ring { place: start, of: 4 }).expect_err("the ring is closed");
        assert_eq!(ring_of(&failure), ["ring 0/4", "ring 1/4", "ring 2/4", "ring 3/4"]);
        assert_eq!(failure.to_string(), "dependency cycle: ring 0/4 -> ring 1/4 -> ring 2/4 -> ring 3/4 -> ring 0/4");
    }
}

/// [C1]
#[test]
fn a_spec_that_needs_itself_directly_is_a_ring_of_one() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let failure = engine.get(&Ring { place: 0, of: 1 }).expect_err("the ring is closed");
    assert_eq!(ring_of(&failure), ["ring 0/1"]);
}

/// [C2] Above the ring it is an ordinary failure, which a body may wrap.
#[test]
fn whoever_is_above_a_cycle_sees_an_ordinary_failure() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let failure = engine.get(&AboveRing(3)).expect_err("the ring is closed");
    assert!(failure.cycle().is_none());
    let error = failure.domain().expect("the body wrapped it");
    assert_eq!(ring_of(&error.source), ["ring 0/3", "ring 1/3", "ring 2/3"]);
}

/// [C3] The verdict is forgotten when the world changes.
#[test]
fn a_cycle_that_is_gone_is_forgotten_and_one_that_returns_is_found_again() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    for _ in 0..3 {
        assert!(engine.get(&Ring { place: 2, of: 5 }).is_err());
        script.set("open", 1);
        engine.refresh();
        assert_eq!(*engine.get(&Ring { place: 2, of: 5 }).expect("the ring is open"), 3);
        script.unset("open");
        engine.refresh();
    }
}

/// [C4] While unrelated work goes on, a cycle that does not wait for it fails.
#[test]
fn a_cycle_does_not_wait_for_unrelated_work() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let _slow = engine.ask(&crate::kinds::InTurn(vec!["slow".into()]));
    let mut ring = engine.ask(&Ring { place: 0, of: 3 });
    // The look at `open` ends; the slow work does not.
    engine.finish(1);
    engine.advance();
    assert_eq!(engine.running(), 1);
    assert!(ring.answer().expect("the ring is closed").is_err());
}
