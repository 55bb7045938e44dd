//! Sessions: what was observed stays so until a refresh, which runs what changed and no more. [N]

use doge::testing::{EventLog, Script, Work};

use crate::kinds::{AboveOdd, All, OddAll, WorkOnParity, stepper, total};

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
