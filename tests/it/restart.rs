//! What one process found out, the next one finds again: nothing runs twice, and what changed runs alone. [P]
//!
//! Each test closes the engine, which is all the state of a process, and opens another one on the same store.

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doge::storage::{Batch, Store, StoreOptions};
use doge::testing::{EventLog, Look, Script, Stepper, Work};
use doge::{
    Action, ActionContext, AnyError, CauseSort, Database, Db, Epoch, Event, Halt, History, Key, Library, Outcome,
    Query, Reason, Resource, Role, RunRecord, Spec,
};
use serde::{Deserialize, Serialize};

use crate::kinds::{All, Parities, Parity, Tolerant, WorkOnParity, builder, keep, open, spec, total};

/// A world, a log and a store, and one engine after the other.
struct Restarts {
    script: Script,
    log: EventLog,
    directory: tempfile::TempDir,
}

impl Restarts {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self { script: Script::new(), log: EventLog::new(), directory }
    }

    fn open(&self) -> Stepper {
        open(self.directory.path(), &self.script, &self.log)
    }

    /// A whole run that asks for one query: what it yields, and the record. The log holds what happened.
    fn run<Q: Query<Output = u64>>(&self, query: &Q) -> (u64, RunRecord) {
        let mut engine = self.open();
        self.log.take();
        let value = *engine.get(query).expect("nothing fails");
        (value, engine.close())
    }

    /// What happened, a line each. Whatever was only verified is known by its key alone, since nobody needed its spec.
    fn lines(&self) -> Vec<String> {
        let is_key = |name: &str| name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lines = self.log.take_lines().into_iter();
        lines
            .map(|line| match line.strip_prefix("verified ") {
                Some(name) if is_key(name) => "verified by key".to_owned(),
                _ => line,
            })
            .collect()
    }

    fn history(&self) -> History {
        crate::kinds::builder(&self.script, &self.log).history(self.directory.path())
    }
}

fn reading(variable: &str) -> All {
    All(vec![Work::new("w", 1).reading(variable)])
}

/// [P1]
#[test]
fn unchanged_world_after_reopen_executes_nothing() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    assert_eq!(restarts.run(&query).0, 1);
    assert_eq!(
        restarts.log.take_executed(),
        ["total(v)", "parity of total(v)", "work(on parity 1)", "work on parity of total(v)"]
    );

    let (value, record) = restarts.run(&query);
    assert_eq!(value, 1);
    assert_eq!(
        restarts.lines(),
        [
            "observed look(v) (by stamp)",
            "verified by key",
            "verified by key",
            "verified by key",
            "verified work on parity of total(v)",
        ]
    );
    assert!(record.counts.executed.is_empty());
    assert_eq!((record.counts.observed, record.counts.verified, record.counts.reused), (1, 4, 0));
}

/// [P1] A stamp that moved has the variable read again; that its value is the same is enough.
#[test]
fn a_moved_stamp_over_an_equal_value_executes_nothing() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    restarts.run(&query);
    restarts.script.set("v", 1);
    restarts.run(&query);
    let lines = restarts.log.take_lines();
    assert_eq!(lines.first().map(String::as_str), Some("observed look(v)"));
    assert!(lines[1..].iter().all(|line| line.starts_with("verified ")), "{lines:?}");
}

thread_local! {
    static DECODED: Cell<usize> = const { Cell::new(0) };
}

/// A number that counts how often it is decoded on this thread, which is where the planner is driven.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Counted(u64);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.set(DECODED.get() + 1);
        u64::deserialize(deserializer).map(Counted)
    }
}

/// A chain of numbers that count, and the value of a variable at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct CountedChain(u64);
spec!(CountedChain, "counted_chain", |this| format!("counted chain {}", this.0));

impl Query for CountedChain {
    type Output = Counted;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<Counted, Halt<AnyError>> {
        match self.0 {
            0 => Ok(Counted(db.observe(&Look("v".to_owned()))?.unwrap_or(0) / 10)),
            n => Ok(Counted(db.get(&CountedChain(n - 1))?.0 + 1)),
        }
    }
}

/// [P2] Of ten values that are found to be right, the one that was asked for is decoded.
#[test]
fn verification_decodes_nothing_but_what_is_asked_for() {
    let restarts = Restarts::new();
    restarts.script.set("v", 10);
    let open = || {
        let builder = builder(&restarts.script, &restarts.log).query::<CountedChain>();
        Stepper::new(builder.store(restarts.directory.path()))
    };
    let mut engine = open();
    assert_eq!(*engine.get(&CountedChain(9)).expect("nothing fails"), Counted(10));
    engine.close();
    assert_eq!(DECODED.get(), 0);

    let mut engine = open();
    assert_eq!(*engine.get(&CountedChain(9)).expect("nothing fails"), Counted(10));
    assert_eq!(engine.counts().verified, 10);
    assert_eq!(DECODED.take(), 1);
    assert_eq!(*engine.get(&CountedChain(9)).expect("nothing fails"), Counted(10));
    assert_eq!(DECODED.take(), 0, "what was decoded stays so");
    engine.close();

    // The end of the chain runs and is cut off; who stands on it is compared by fingerprint.
    restarts.script.set("v", 11);
    let mut engine = open();
    assert_eq!(*engine.get(&CountedChain(9)).expect("nothing fails"), Counted(10));
    assert_eq!(engine.counts().executed["counted_chain"], 1);
    assert_eq!(DECODED.take(), 1);
    engine.close();
}

/// [P3]
#[test]
fn a_changed_observation_runs_exactly_the_chain_above_it() {
    let restarts = Restarts::new();
    for variable in ["a", "b", "c"] {
        restarts.script.set(variable, 1);
    }
    let query = Parities(vec![total(&["a"]), total(&["b"]), total(&["c", "a"])]);
    assert_eq!(restarts.run(&query).0, 2);

    restarts.script.set("b", 2);
    assert_eq!(restarts.run(&query).0, 1);
    assert_eq!(
        restarts.lines(),
        [
            "observed look(a) (by stamp)",
            "verified by key",
            "verified by key",
            "observed look(b)",
            "executed total(b)",
            "executed parity of total(b)",
            "observed look(c) (by stamp)",
            "verified by key",
            "verified by key",
            "executed parities of 3",
        ]
    );
}

/// [P4]
#[test]
fn a_change_that_makes_no_difference_is_cut_off_across_a_restart() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    restarts.run(&query);

    restarts.script.set("v", 3);
    let (value, record) = restarts.run(&query);
    assert_eq!(value, 1);
    assert_eq!(
        restarts.lines(),
        [
            "observed look(v)",
            "executed total(v)",
            "executed parity of total(v) (cut off)",
            "verified by key",
            "verified work on parity of total(v)",
        ]
    );
    assert_eq!(record.counts.cut_off, 1);
    restarts.run(&query);
    assert_eq!(restarts.log.take_executed(), Vec::<String>::new(), "the new trace was recorded");
}

/// [P5] As many worlds as a key remembers, each found again by a process that saw none of them.
#[test]
fn going_back_to_an_earlier_world_after_a_restart_executes_nothing() {
    let restarts = Restarts::new();
    let query = WorkOnParity(total(&["v"]));
    for value in 1..=8 {
        restarts.script.set("v", value);
        restarts.run(&query);
        assert!(!restarts.log.take_executed().is_empty());
    }
    for value in [3, 8, 1, 2, 7, 1] {
        restarts.script.set("v", value);
        assert_eq!(restarts.run(&query).0, value % 2);
        assert_eq!(restarts.log.take_executed(), Vec::<String>::new());
    }
}

/// [P5] A world too many: what is forgotten is worked out again, and is right.
#[test]
fn the_oldest_world_of_too_many_is_forgotten() {
    let restarts = Restarts::new();
    let query = total(&["v"]);
    for value in 1..=9 {
        restarts.script.set("v", value);
        restarts.run(&query);
    }
    for (value, runs) in [(9, 0), (2, 0), (1, 1)] {
        restarts.script.set("v", value);
        restarts.log.take();
        assert_eq!(restarts.run(&query).0, value);
        assert_eq!(restarts.log.take_executed().len(), runs, "in world {value}");
    }
}

/// [P6] In a world where nothing changed: had the failure been kept, it would be found again without a try.
#[test]
fn failures_are_not_persisted() {
    let restarts = Restarts::new();
    restarts.script.break_it("v");
    for _ in 0..2 {
        let mut engine = restarts.open();
        restarts.log.take();
        assert!(engine.get(&reading("v")).is_err());
        let record = engine.close();
        assert_eq!(record.counts.failed, 3);
        restarts.log.assert(&[
            "observed look(v)",
            "failed look(v): v is broken",
            "failed work(w 1 reading v): v is broken",
            "failed all of 1: v is broken",
        ]);
    }
    restarts.script.set("v", 4);
    assert_eq!(restarts.run(&reading("v")).0, 5);
}

/// [P6] The value itself would be right in the next run, too; that it was made from a failure is why it is not kept.
#[test]
fn what_read_a_failure_is_not_persisted() {
    let restarts = Restarts::new();
    restarts.script.break_it("v");
    let query = Tolerant(Work::new("w", 1).reading("v"));
    for _ in 0..2 {
        assert_eq!(restarts.run(&query).0, 100);
        let lines = restarts.log.take_lines();
        assert!(lines.contains(&"failed work(w 1 reading v): v is broken".to_owned()), "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("executed tolerant of work(w 1 reading v)"));
    }
}

/// [P7] Nobody but the action itself names what it read.
#[test]
fn a_reported_read_invalidates_the_action_after_a_restart() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    assert_eq!(restarts.run(&reading("v")).0, 2);
    restarts.run(&reading("v"));
    assert_eq!(restarts.lines(), ["observed look(v) (by stamp)", "verified by key", "verified all of 1"]);

    restarts.script.set("v", 5);
    assert_eq!(restarts.run(&reading("v")).0, 6);
    assert_eq!(restarts.log.take_executed(), ["work(w 1 reading v)", "all of 1"]);

    // Both worlds are known now, each with its own result.
    for (value, sum) in [(1, 2), (5, 6)] {
        restarts.script.set("v", value);
        assert_eq!(restarts.run(&reading("v")).0, sum);
        assert_eq!(restarts.log.take_executed(), Vec::<String>::new());
    }
}

/// Copies what a store has recorded of some keys, and of the values only those that are to be found again.
fn copy_without_values(from: &Path, to: &Path, record: &RunRecord, is_kept: impl Fn(&str) -> bool) {
    let store = |directory: &Path| Store::open(StoreOptions::new(directory));
    let snapshot = store(from).snapshot();
    let mut batch = Batch::default();
    for spec in &record.specs {
        batch.traces.extend(snapshot.traces(spec.key).into_iter().map(|trace| (spec.key, trace)));
        batch.specs.extend(snapshot.spec(spec.key).map(|stored| (spec.key, stored)));
        if let Some(value) = spec.value.filter(|_| is_kept(&spec.name)) {
            let bytes = snapshot.value(value).expect("the run has kept its values");
            batch.values.insert(value, bytes.into());
        }
    }
    store(to).commit(batch);
}

/// [P8]
#[test]
fn a_value_that_the_store_has_lost_is_made_again_when_someone_reads_it() {
    let [whole, holed] = [Restarts::new(), Restarts::new()];
    whole.script.set("v", 7);
    holed.script.set("v", 7);
    let query = All(vec![Work::new("w", 20).reading("v")]);
    let (_, record) = whole.run(&query);
    copy_without_values(whole.directory.path(), holed.directory.path(), &record, |_| false);

    let (value, record) = holed.run(&query);
    assert_eq!(value, 27);
    assert_eq!(holed.log.take_executed(), ["work(w 20 reading v)", "all of 1"]);
    let reason = |name: &str| record.specs.iter().find(|spec| spec.name == name).and_then(|spec| spec.reason.clone());
    assert_eq!(reason("all of 1"), Some(Reason::Lost { by: None }));
    assert_eq!(reason("work(w 20 reading v)"), Some(Reason::Lost { by: None }));

    assert_eq!(holed.run(&query).0, 27);
    assert_eq!(holed.log.take_executed(), Vec::<String>::new(), "the values are there again");
}

/// [P8] Found by the oracle and by torture: the value is made again and is what it was, so nothing had changed for who
/// had asked for it, and it was asked for again and again.
#[test]
fn who_reads_a_value_that_was_lost_goes_on_when_it_is_there_again() {
    let [whole, holed] = [Restarts::new(), Restarts::new()];
    let set = |a, b| {
        for script in [&whole.script, &holed.script] {
            script.set("a", a);
            script.set("b", b);
        }
    };
    set(3, 3);
    let query = Parities(vec![total(&["a"]), total(&["b"])]);
    let (_, record) = whole.run(&query);
    copy_without_values(whole.directory.path(), holed.directory.path(), &record, |_| false);

    set(3, 4);
    assert_eq!(holed.run(&query).0, 1);
    assert!(holed.log.take_executed().contains(&"parity of total(a)".to_owned()), "it was read, and was lost");
    assert_eq!(holed.run(&query).0, 1);
    assert_eq!(holed.log.take_executed(), Vec::<String>::new());
}

/// [P8] Found by the oracle: the order to make it again stood for the rest of the session, and was carried out whenever what
/// it stands on moved, whatever its traces said.
#[test]
fn what_was_lost_is_made_again_once() {
    let restarts = Restarts::new();
    restarts.script.set("a", 1);
    let query = total(&["a"]);
    restarts.run(&query);
    let store = Store::open(StoreOptions::new(restarts.directory.path()));
    let lost = store.lose(|table, _| table == "values").expect("nobody else uses it");
    assert!(lost > 0);

    restarts.log.take();
    let mut engine = restarts.open();
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&1));
    assert_eq!(restarts.log.take_executed(), ["total(a)"]);
    assert!(engine.get(&keep("a", 2)).is_ok());
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&2));
    assert!(engine.get(&keep("a", 1)).is_ok());
    restarts.log.take();
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&1));
    assert_eq!(restarts.log.take_executed(), Vec::<String>::new());
}

/// [P8] Found by the oracle: what was in the middle had to wait for a value that was made again, and its own, dated by
/// what it stands on, was older than the news that it waits.
#[test]
fn values_lost_one_above_the_other_are_made_again_from_below() {
    let [whole, holed] = [Restarts::new(), Restarts::new()];
    let set = |a, b| {
        for script in [&whole.script, &holed.script] {
            script.set("a", a);
            script.set("b", b);
            // So that no sum is a value that something else has, too: they would share it.
            script.set("c", 10);
        }
    };
    set(3, 3);
    let query = Parities(vec![total(&["a", "c"]), total(&["b"])]);
    let (_, record) = whole.run(&query);
    copy_without_values(whole.directory.path(), holed.directory.path(), &record, |name| name.starts_with("look("));

    set(3, 4);
    assert_eq!(holed.run(&query).0, 1);
    let executed = holed.log.take_executed();
    let place = |name: &str| executed.iter().position(|executed| executed == name);
    assert!(place("total(a+c)").is_some() && place("total(a+c)") < place("parity of total(a+c)"), "{executed:?}");
    assert_eq!(holed.run(&query).0, 1);
    assert_eq!(holed.log.take_executed(), Vec::<String>::new());
}

/// [P8] Found by the oracle: the stamp said that the value is the one that nobody had any more.
#[test]
fn an_observation_whose_value_was_lost_is_made_anew_though_its_stamp_is_right() {
    let restarts = Restarts::new();
    restarts.script.set("a", 1);
    restarts.script.set("b", 1);
    let query = total(&["a", "b"]);
    assert_eq!(restarts.run(&query).0, 2);
    let store = Store::open(StoreOptions::new(restarts.directory.path()));
    let lost = store.lose(|table, _| table == "values").expect("nobody else uses it");
    assert!(lost > 0);

    restarts.script.set("b", 2);
    restarts.log.take();
    assert_eq!(restarts.run(&query).0, 3);
    let lines = restarts.log.take_lines();
    assert!(lines.contains(&"observed look(a) (by stamp)".to_owned()), "{lines:?}");
    assert!(lines.contains(&"observed look(a)".to_owned()), "{lines:?}");
}

/// [P8] Found by the oracle: the trace that names it promised that it is in the store, so it was never written again, and
/// every process from then on had to run who stands on it.
#[test]
fn a_spec_that_the_store_has_lost_is_written_again() {
    let restarts = Restarts::new();
    restarts.script.set("v", 3);
    let query = Parity(total(&["v"]));
    restarts.run(&query);
    let store = Store::open(StoreOptions::new(restarts.directory.path()));
    let lost = store.lose(|table, _| table == "specs").expect("nobody else uses it");
    assert!(lost > 0);

    restarts.log.take();
    assert_eq!(restarts.run(&query).0, 1);
    assert!(!restarts.log.take_executed().is_empty(), "nobody could look at a variable without its name");
    assert_eq!(restarts.run(&query).0, 1);
    assert_eq!(restarts.log.take_executed(), Vec::<String>::new());
}

/// [P8] Equality of fingerprints is all that checking needs.
#[test]
fn a_lost_value_that_nobody_reads_is_not_made_again() {
    let [whole, holed] = [Restarts::new(), Restarts::new()];
    whole.script.set("v", 7);
    holed.script.set("v", 7);
    let query = Parities(vec![total(&["v"]), total(&["v", "v"])]);
    let (_, record) = whole.run(&query);
    copy_without_values(whole.directory.path(), holed.directory.path(), &record, |name| name.starts_with("parities"));

    assert_eq!(holed.run(&query).0, 1);
    assert_eq!(holed.log.take_executed(), Vec::<String>::new());
}

/// [P9]
#[test]
fn why_names_the_leaf_that_changed_and_how() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    restarts.run(&query);
    restarts.script.set("v", 2);
    let (_, second) = restarts.run(&query);
    restarts.run(&query);
    restarts.run(&query);

    let why = restarts.history().why(|_| true, |spec| spec.kind == "work_on_parity");
    let [newest, why] = why.as_slice() else { panic!("it did not run in the newest run, and ran before: {why:?}") };
    let checked = newest.checked.as_ref().expect("it held");
    assert_eq!((newest.cause.as_ref(), checked.held, checked.looks.len()), (None, 4, 1), "{checked:?}");
    assert_eq!((why.run, why.held_since), (second.id, 2));
    let cause = why.cause.as_ref().expect("it ran for something");
    assert_eq!(
        (cause.sort, cause.name.as_str(), cause.to_string().as_str()),
        (CauseSort::Changed, "look(v)", "value: 1 -> 2")
    );
    let told: Vec<String> = why
        .steps
        .iter()
        .map(|step| {
            let changes: Vec<String> = step.changes.iter().map(ToString::to_string).collect();
            format!("{}: {} [{}]", step.name, step.because, changes.join(", "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "work on parity of total(v): parity of total(v) is not what it was [value: 1 -> 0]",
            "parity of total(v): total(v) is not what it was [value: 1 -> 2]",
            "total(v): look(v) is not what it was [value: 1 -> 2]",
            "look(v): seen to have changed [value: 1 -> 2]",
        ]
    );
}

/// [P9] When a change is taken back an older trace holds again; that and the next change are compared with the run before.
#[test]
fn why_compares_with_the_run_before_where_a_change_was_taken_back() {
    let restarts = Restarts::new();
    let query = WorkOnParity(total(&["v"]));
    let run = |value| {
        restarts.script.set("v", value);
        restarts.run(&query).1.id
    };
    let why = |kind: &str| {
        let why = restarts.history().why(|_| true, |spec| spec.kind == kind).pop().expect("there is an explanation");
        let cause = why.cause.map(|cause| cause.to_string());
        (why.run, why.outcome, cause.unwrap_or_default(), why.steps.iter().map(|step| step.name.clone()).collect())
    };
    let chain = ["total(v)", "look(v)"].map(str::to_owned).to_vec();
    let edited = (run(1), run(2)).1;
    assert_eq!(why("total"), (edited, Outcome::Executed, "value: 1 -> 2".to_owned(), chain.clone()));
    let taken_back = run(1);
    assert_eq!(why("total"), (taken_back, Outcome::Verified, "value: 2 -> 1".to_owned(), chain.clone()));
    let edited_again = run(3);
    assert_eq!(why("total"), (edited_again, Outcome::Executed, "value: 1 -> 3".to_owned(), chain));
}

/// [P9] Asked for under a label that earlier runs knew: the specs are compared.
#[test]
fn why_compares_a_new_spec_with_the_last_one_of_its_label() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    restarts.run(&query);
    restarts.script.set("v", 2);
    restarts.run(&query);

    let why = restarts.history().why(|_| true, |spec| spec.label.as_deref() == Some("work on parity"));
    let steps = &why.first().expect("it has run").steps;
    assert_eq!(steps[0].name, "work(on parity 0)");
    assert_eq!(steps[0].because, "it was asked for in another way than the last time");
    assert_eq!(steps[0].changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["input: 1 -> 0"]);
    assert_eq!(steps.last().map(|step| step.name.as_str()), Some("look(v)"), "the chain goes on to what changed");
}

/// A number, as programs of several versions take it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Versioned<const VERSION: u32>(u64);

impl<const VERSION: u32> fmt::Display for Versioned<VERSION> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the number {}", self.0)
    }
}

impl<const VERSION: u32> Spec for Versioned<VERSION> {
    const KIND: &'static str = "versioned";
    const EPOCH: Epoch = match VERSION {
        1 => {
            Epoch::new(1, &[Library { name: "solver", version: "1.0" }, Library { name: "own", version: "1.0-dev+aa" }])
        }
        2 => {
            Epoch::new(1, &[Library { name: "solver", version: "2.0" }, Library { name: "own", version: "1.0-dev+aa" }])
        }
        _ => {
            Epoch::new(2, &[Library { name: "solver", version: "2.0" }, Library { name: "own", version: "1.0-dev+bb" }])
        }
    };

    fn label(&self) -> Option<String> {
        Some("the number".to_owned())
    }
}

impl<const VERSION: u32> Query for Versioned<VERSION> {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, _: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(self.0)
    }
}

/// [P9]
#[test]
fn why_names_the_versions_where_another_program_had_done_it() {
    fn run<const VERSION: u32>(directory: &Path, number: u64) -> (CauseSort, Vec<String>) {
        let program = || Database::builder().query::<Versioned<VERSION>>();
        let mut engine = Stepper::new(program().store(directory));
        assert_eq!(*engine.get(&Versioned::<VERSION>(number)).expect("nothing fails"), number);
        engine.close();
        let why = program().history(directory).why(|_| true, |spec| spec.kind == "versioned").pop();
        let cause = why.and_then(|why| why.cause).expect("it ran");
        (cause.sort, cause.to_string().lines().map(str::to_owned).collect())
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    assert_eq!(run::<1>(directory.path(), 7).0, CauseSort::New);
    let told = |lines: &[&str]| (CauseSort::OtherVersion, lines.iter().map(|line| (*line).to_owned()).collect());
    assert_eq!(run::<2>(directory.path(), 7), told(&["version: solver 1.0 -> 2.0"]));
    let several = ["version: rules of versioned 1 -> 2", "built from other sources: own 1.0-dev", "value: 7 -> 8"];
    assert_eq!(run::<3>(directory.path(), 8), told(&several));
}

/// [P10]
#[test]
fn the_record_of_a_run_says_of_each_spec_why_it_ran() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    let (_, first) = restarts.run(&query);
    let work = |spec: &&doge::RecordedSpec| spec.role != Role::Observation;
    assert_eq!(first.specs.iter().filter(work).count(), 4);
    assert!(first.specs.iter().filter(work).all(|spec| spec.reason == Some(Reason::Missing)), "{:?}", first.specs);

    restarts.script.set("v", 3);
    let (_, second) = restarts.run(&query);
    let find = |name: &str| second.specs.iter().find(|spec| spec.name == name).expect("every spec is listed");
    let changed = |name: &str| match &find(name).reason {
        Some(Reason::Changed { dependency, .. }) => *dependency,
        other => panic!("{name} ran because {other:?}"),
    };
    let key = |name: &str| -> Key { find(name).key };
    assert_eq!(changed("total(v)"), key("look(v)"));
    assert_eq!(changed("parity of total(v)"), key("total(v)"));
    assert_eq!(find("parity of total(v)").outcome, Outcome::CutOff);
    let top = find("work on parity of total(v)");
    assert_eq!((top.outcome, &top.reason), (Outcome::Verified, &None));

    let (_, third) = restarts.run(&query);
    assert_eq!(third.specs, [], "a run that executed nothing lists nothing");
    let runs = restarts.history().runs(10);
    assert_eq!(runs, [third, second, first]);
}

/// [P10]
#[test]
fn a_request_that_outlives_a_refresh_is_in_the_record_of_the_session_that_answers_it() {
    let restarts = Restarts::new();
    let mut engine = restarts.open();
    let mut asked = engine.ask(&reading("v"));
    let mut refreshed = engine.start_refresh();
    assert!(refreshed.try_recv().is_ok_and(|refreshed| refreshed.is_some()), "nothing was observed yet");
    restarts.script.set("v", 1);
    engine.settle();
    assert!(asked.answer().is_some_and(|answer| answer.is_ok()));
    let record = engine.close();
    let names: Vec<&str> = record.specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["all of 1", "work(w 1 reading v)", "look(v)"]);
    assert_eq!(record.requests.iter().map(|request| request.key).collect::<Vec<_>>(), [record.specs[0].key]);
}

/// Work that is worth a commit of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Costly(u64);
spec!(Costly, "costly", |this| format!("costly {}", this.0));

impl Action for Costly {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Build;
    const EXPENSIVE: bool = true;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, AnyError> {
        ctx.report_read(&Look("v".to_owned()));
        Ok(self.0)
    }
}

/// [P11] Dropping the engine without closing it is what a kill leaves behind.
#[test]
fn an_expensive_result_survives_a_kill_right_after_it() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let open = || {
        let builder = builder(&restarts.script, &restarts.log).action::<Costly>();
        Stepper::new(builder.store(restarts.directory.path()))
    };
    let mut engine = open();
    let mut asked = engine.ask_act(&Costly(3));
    engine.settle();
    assert!(asked.answer().is_some_and(|answer| answer.is_ok()));
    drop(engine);

    restarts.log.take();
    let mut engine = open();
    let mut asked = engine.ask_act(&Costly(3));
    engine.settle();
    assert!(asked.answer().is_some_and(|answer| answer.is_ok_and(|value| *value == 3)));
    restarts.log.assert(&["observed look(v) (by stamp)", "verified costly 3"]);
}

/// [P11] What was not written yet is worked out again, not found half-done.
#[test]
fn a_kill_before_anything_was_written_costs_work_and_nothing_else() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = Parity(total(&["v"]));
    let mut engine = restarts.open();
    assert!(engine.get(&query).is_ok());
    drop(engine);
    assert_eq!(restarts.run(&query).0, 1);
    assert_eq!(restarts.log.take_executed(), ["total(v)", "parity of total(v)"]);
}

/// Of a run that did nothing the traces tell what it stood on. What these do not name is named as another run did, or not by
/// a key; and where there are no traces, nothing is made up. [P]
#[test]
fn what_the_store_cannot_name_any_more_is_named_by_another_run_or_said_to_be_unknown() {
    let restarts = Restarts::new();
    restarts.script.set("v", 1);
    let query = WorkOnParity(total(&["v"]));
    restarts.run(&query);
    restarts.run(&query);
    let snapshot = Store::open(StoreOptions::new(restarts.directory.path())).snapshot();
    let runs = snapshot.runs(2);
    let history = restarts.history();
    assert_eq!((history.problem(), history.directory().is_dir()), (None, true));
    let [newest, first] = &*history.runs(2) else { panic!("there are two") };
    let mut named: Vec<String> = history.whole(newest.clone()).specs.into_iter().map(|spec| spec.name).collect();
    named.sort();
    assert_eq!(named.len(), first.specs.len());
    let traces = || first.specs.iter().flat_map(|spec| Some((spec.key, snapshot.traces(spec.key).pop()?)));
    // What a store with this in it makes of the newest run.
    let names_with = |batch: Batch| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Store::open(StoreOptions::new(directory.path())).commit(batch);
        let history = builder(&restarts.script, &restarts.log).history(directory.path());
        let newest = history.runs(1).remove(0);
        let mut names: Vec<String> = history.whole(newest).specs.into_iter().map(|spec| spec.name).collect();
        names.sort();
        names
    };
    assert_eq!(names_with(Batch { traces: traces().collect(), runs: runs.clone(), ..Batch::default() }), named);
    let unknown = vec!["something whose record is gone".to_owned(); named.len()];
    assert_eq!(names_with(Batch { traces: traces().collect(), runs: runs[..1].to_vec(), ..Batch::default() }), unknown);
    assert_eq!(names_with(Batch { runs, ..Batch::default() }), Vec::<String>::new());
}

/// [P]
#[test]
fn a_store_that_cannot_be_read_is_told_from_one_that_is_not_there() {
    let restarts = Restarts::new();
    assert_eq!(restarts.history().problem(), None);
    restarts.script.set("v", 1);
    restarts.run(&WorkOnParity(total(&["v"])));
    let file = restarts.history().directory().join("store.redb");
    std::fs::write(file, vec![7; 10_000]).expect("it can be written");
    let history = restarts.history();
    assert_eq!(history.runs(10), []);
    assert!(history.problem().is_some_and(|problem| problem.starts_with("it is damaged")), "{:?}", history.problem());
}

/// A value of so many bytes, and which.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Large {
    which: u64,
    bytes: usize,
}
spec!(Large, "large", |this| format!("large({} of {})", this.which, this.bytes));

impl Query for Large {
    type Output = String;
    type Error = AnyError;

    fn compute(&self, _db: &Db<'_>) -> Result<String, Halt<AnyError>> {
        Ok(format!("{}{}", self.which, "x".repeat(self.bytes)))
    }
}

/// An engine, and for how many bytes it waited to be written, each time that it did.
fn open_with_backlog(restarts: &Restarts, most: usize) -> (Stepper, Arc<Mutex<Vec<usize>>>) {
    let told = Arc::<Mutex<Vec<usize>>>::default();
    let listener = {
        let told = told.clone();
        move |event: &Event| {
            if let Event::WillWaitForStore { bytes } = event {
                told.lock().expect("nobody panics").push(*bytes);
            }
        }
    };
    let builder = builder(&restarts.script, &restarts.log).query::<Large>().store(restarts.directory.path());
    let builder = builder.patience(Duration::from_millis(200)).backlog(most).listener(listener);
    (Stepper::new(builder), told)
}

/// [P12] While another process writes, each batch takes as long as one waits for it.
#[test]
fn where_sessions_make_more_than_the_disk_takes_they_wait_for_it() {
    const MOST: usize = 100_000;
    let restarts = Restarts::new();
    let (mut engine, told) = open_with_backlog(&restarts, MOST);
    let store = Store::open(StoreOptions::new(restarts.directory.path()));
    let busy = store.while_busy(|| {
        for which in 0..10 {
            assert!(engine.get(&Large { which, bytes: 50_000 }).is_ok());
            engine.refresh();
            let waiting = engine.waiting_to_be_written();
            assert!(waiting <= MOST, "{waiting} bytes wait after session {which}");
        }
    });
    busy.expect("the lease can be had");
    engine.close();
    assert!(!told.lock().expect("nobody panics").is_empty(), "that it waits is told");
    let (mut engine, told) = open_with_backlog(&restarts, MOST);
    restarts.log.take();
    for which in 0..10 {
        assert!(engine.get(&Large { which, bytes: 50_000 }).is_ok());
    }
    assert_eq!(restarts.log.take_executed(), Vec::<String>::new(), "all of it was written");
    engine.close();
    assert!(told.lock().expect("nobody panics").is_empty(), "there was nothing to wait for");
}
