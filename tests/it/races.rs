//! Results are recorded only if what they were made from held still. [R]

use std::time::{Duration, SystemTime};

use doge::testing::{EventLog, Look, Script, Work};

use crate::kinds::{All, stepper, total};

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
