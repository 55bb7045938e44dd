//! Effects change what is observed; afterwards the world is looked at again. [E]

use std::fmt;

use doge::testing::{EventLog, Script};
use doge::{AnyError, Db, EngineFailure, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};

use crate::kinds::{Keep, KeepError, keep, spec, stepper};

/// [E1]
#[test]
fn an_effect_happens_when_the_world_is_not_as_wanted_and_not_otherwise() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    assert_eq!(*engine.get(&keep("v", 3)).expect("it is put"), 3);
    assert_eq!(script.get("v"), Some(3));
    log.assert(&["observed look(v)", "ran put v=3", "observed look(v) (changed)", "executed keep v=3"]);
    assert_eq!(*engine.get(&keep("v", 3)).expect("it is there"), 3);
    log.assert(&[]);
    engine.refresh();
    assert_eq!(*engine.get(&keep("v", 3)).expect("it is there"), 3);
    assert_eq!(log.take_executed(), Vec::<String>::new());
}

/// [E2] Somebody else changes it back: the effect is done again, though it was done before with the same spec.
#[test]
fn an_effect_is_never_answered_from_memory() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    for _ in 0..3 {
        script.unset("v");
        engine.refresh();
        log.take();
        assert!(engine.get(&keep("v", 3)).is_ok());
        assert!(log.take_executed().contains(&"put v=3".to_owned()));
        assert_eq!(script.get("v"), Some(3));
    }
}

/// [E3]
#[test]
fn an_effect_that_finds_another_world_than_it_was_asked_for_has_it_observed_again() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let mut asked = engine.ask(&keep("v", 3));
    engine.finish(0);
    engine.advance();
    // The look has ended; somebody is faster than the effect.
    script.set("v", 7);
    engine.settle();
    assert_eq!(*asked.answer().expect("all has ended").expect("it is put"), 3);
    log.assert(&[
        "observed look(v)",
        "retreated put v=3: WorldMoved",
        "observed look(v) (changed)",
        "ran put v=3",
        "observed look(v) (changed)",
        "executed keep v=3",
    ]);
}

/// [E3] What somebody else put there is as wanted: nothing is changed.
#[test]
fn an_effect_that_somebody_else_made_unnecessary_is_not_done() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let mut asked = engine.ask(&keep("v", 3));
    engine.finish(0);
    engine.advance();
    script.set("v", 3);
    engine.settle();
    assert_eq!(*asked.answer().expect("all has ended").expect("it is there"), 3);
    assert_eq!(log.take_executed(), ["keep v=3"]);
}

/// [E4]
#[test]
fn a_world_that_never_holds_still_is_a_failure() {
    let script = Script::new();
    script.set("restless", 1);
    let mut engine = stepper(&script, &EventLog::new());
    let failure = engine.get(&keep("v", 3)).expect_err("it is restless");
    assert_eq!(failure.to_string(), "v does not hold still");
}

/// [E5] A query is evaluated again at most once for each effect; what is then still wrong, it reports.
#[test]
fn a_world_that_is_still_not_as_wanted_is_a_failure_that_says_how() {
    let script = Script::new();
    script.set("stuck", 1);
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let failure = engine.get(&keep("v", 3)).expect_err("it is stuck");
    assert!(matches!(failure.domain(), Some(KeepError::NotAsWanted { found: None, wanted: 3, .. })), "{failure}");
    let ran = |log: &EventLog| log.take_executed().iter().filter(|line| *line == "put v=3").count();
    assert_eq!(ran(&log), 1);
    // The next request tries again.
    script.unset("stuck");
    assert!(engine.get(&keep("v", 3)).is_ok());
    assert_eq!(ran(&log), 1);
}

/// [E6]
#[test]
fn two_live_requests_that_want_different_contents_are_an_error_that_names_both() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let mut first = engine.ask(&keep("v", 1));
    let mut second = engine.ask(&keep("v", 2));
    engine.settle();
    let first = first.answer().expect("all has ended");
    let second = second.answer().expect("all has ended");
    assert_eq!(*first.expect("it came first"), 1);
    let failure = second.expect_err("it came second");
    let conflict = match failure.domain() {
        Some(KeepError::Put(failure)) => failure.engine(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(conflict, Some(EngineFailure::Conflict { .. })), "{failure}");
    assert_eq!(failure.to_string(), "put v=1 and put v=2 want different contents of look(v) at the same time");
}

/// [E6] One after the other is no conflict.
#[test]
fn requests_one_after_the_other_may_want_different_contents() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    for value in [1, 2, 1, 2] {
        assert_eq!(*engine.get(&keep("v", value)).expect("nobody else wants it"), value);
        assert_eq!(script.get("v"), Some(value));
    }
}

/// [E7]
#[test]
fn a_forced_effect_happens_once_for_each_request() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    assert!(engine.get(&keep("v", 3)).is_ok());
    log.take();
    for number in 0..3 {
        let forced = Keep { force: Some(number), ..keep("v", 3) };
        assert_eq!(*engine.get(&forced).expect("it is put again"), 3);
        assert_eq!(log.take_executed(), ["put v=3", "keep v=3"]);
    }
}

/// [E8] What the effect did is newer than what the refresh was about to see.
#[test]
fn an_effect_that_ends_while_the_world_is_looked_at_again_does_not_keep_the_refresh_from_ending() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    let mut asked = engine.ask(&keep("v", 3));
    engine.finish(0);
    engine.advance();
    let mut refreshed = engine.start_refresh();
    assert_eq!(engine.running(), 2, "the effect and the look of the refresh");
    engine.finish(0);
    engine.settle();
    assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()));
    assert_eq!(*asked.answer().expect("all has ended").expect("it is put"), 3);
    assert_eq!(log.take_executed(), ["put v=3", "keep v=3"]);
}

/// Stands on a variable that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct AboveKept(Keep);
spec!(AboveKept, "above_kept", |this| format!("above {}", this.0));

impl Query for AboveKept {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(*db.get(&self.0)?)
    }
}

/// [E7] Found by torture: the target looks as it did before the effect, so the answer that had been pending seemed to be
/// older than the wait for it. Whoever waited was evaluated for ever.
#[test]
fn whoever_waits_for_an_effect_that_changes_nothing_goes_on_when_it_is_done() {
    let script = Script::new();
    script.set("v", 3);
    let mut engine = stepper(&script, &EventLog::new());
    let mut above = engine.ask(&AboveKept(Keep { force: Some(1), ..keep("v", 3) }));
    engine.finish(0);
    engine.advance();
    assert_eq!(engine.running(), 1, "the effect is under way");
    // Everybody who waits is asked again when something is withdrawn.
    let other = engine.ask(&keep("other", 1));
    engine.cancel(&other);
    engine.settle();
    assert_eq!(*above.answer().expect("all has ended").expect("nothing fails"), 3);
}
