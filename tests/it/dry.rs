//! Dry evaluation says what asking would do, does none of it, and is right. [D]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doge::storage::{Store, StoreOptions};
use doge::testing::{EventLog, Look, Script, Stepper, Work};
use doge::{
    AnyError, Database, Db, DryReport, DryVerdict, Epoch, Event, Fingerprint, Halt, Outcome, Query, Reason, Role,
    RunRecord, Spec,
};
use serde::{Deserialize, Serialize};

use crate::kinds::{All, InTurn, Panics, Parities, Parity, Total, WorkOnParity, keep, open, spec, stepper, total};
use crate::model::{Chance, Node, Program, Shape, publish, unpublish, variable};

/// The work of a report, by name and verdict.
fn would_run(report: &DryReport) -> Vec<(String, DryVerdict)> {
    report.would_run.iter().map(|work| (work.spec.to_string(), work.verdict.clone())).collect()
}

/// The files of a directory and what is in them.
fn content(directory: &Path) -> BTreeMap<PathBuf, Fingerprint> {
    let mut content = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("it is there").map(|entry| entry.expect("it can be read")) {
            match entry.file_type().expect("it has one").is_dir() {
                true => directories.push(entry.path()),
                false => {
                    let bytes = std::fs::read(entry.path()).expect("it can be read");
                    content.insert(entry.path(), Fingerprint::of(&bytes));
                }
            }
        }
    }
    content
}

/// [D1]
#[test]
fn what_was_never_asked_is_missing() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let report = engine.dry(&total(&["v"]));
    assert_eq!(report.verdict, DryVerdict::Missing);
    assert_eq!(would_run(&report), []);
}

/// [D2]
#[test]
fn what_was_recorded_in_this_world_holds() {
    let script = Script::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let query = WorkOnParity(total(&["v"]));
    let mut engine = open(directory.path(), &script, &EventLog::new());
    assert!(engine.get(&query).is_ok());
    engine.close();
    let mut engine = open(directory.path(), &script, &EventLog::new());
    let report = engine.dry(&query);
    assert_eq!(report.verdict, DryVerdict::Holds);
    assert_eq!(would_run(&report), []);
}

/// [D3] The reason is the one that the record of the real run tells.
#[test]
fn what_is_stale_says_which_dependency_changed_and_from_what_to_what() {
    let script = Script::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let query = Parities(vec![total(&["a"]), total(&["b"])]);
    let mut engine = open(directory.path(), &script, &EventLog::new());
    assert!(engine.get(&query).is_ok());
    engine.close();

    script.set("b", 1);
    let mut engine = open(directory.path(), &script, &EventLog::new());
    let DryVerdict::Stale(reason) = engine.dry(&query).verdict else { panic!("a variable has changed") };
    assert!(engine.get(&query).is_ok());
    let record = engine.close();
    let find = |name: &str| record.specs.iter().find(|spec| spec.name == name).expect("every spec is listed");
    assert_eq!(find("parities of 2").reason.as_ref(), Some(&reason));
    assert!(
        matches!(reason, Reason::Changed { dependency, .. } if dependency == find("parity of total(b)").key),
        "{reason:?}"
    );
}

/// [D3] A change that is cut off on the way makes nothing stale.
#[test]
fn a_change_that_is_cut_off_leaves_what_is_above_it_as_it_is() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let query = WorkOnParity(total(&["v"]));
    assert!(engine.get(&query).is_ok());
    script.set("v", 2);
    engine.refresh();
    assert_eq!(engine.dry(&query).verdict, DryVerdict::Holds);
    assert!(matches!(engine.dry(&query.0).verdict, DryVerdict::Stale(Reason::Changed { .. })));
}

/// [D4]
#[test]
fn work_that_would_run_is_named_in_the_order_of_starting_with_its_reason() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let known = Work::new("known", 1).reading("v");
    script.set("v", 0);
    assert!(engine.get(&All(vec![known.clone()])).is_ok());
    script.set("v", 1);
    engine.refresh();

    let report = engine.dry(&All(vec![Work::new("new", 2), known, Work::new("another", 3)]));
    assert_eq!(report.verdict, DryVerdict::MayRun, "what stands on work is known when that has run");
    let told = would_run(&report);
    assert_eq!(
        told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["work(new 2)", "work(known 1 reading v)", "work(another 3)"]
    );
    assert_eq!((&told[0].1, &told[2].1), (&DryVerdict::Missing, &DryVerdict::Missing));
    assert!(matches!(told[1].1, DryVerdict::Stale(Reason::Changed { .. })), "{told:?}");
    assert!(report.would_run.iter().all(|work| work.role == Role::Action && work.kind == "work"));
}

/// [D4] What the second piece of work would be, only the first can tell.
#[test]
fn only_work_that_is_certain_to_run_is_named() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let report = engine.dry(&InTurn(vec!["a".into(), "b".into()]));
    assert_eq!(report.verdict, DryVerdict::MayRun);
    assert_eq!(would_run(&report), [("work(a 1)".to_owned(), DryVerdict::Missing)]);
}

/// [D4]
#[test]
fn an_effect_would_run_only_if_the_world_is_not_as_wanted() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let report = engine.dry(&keep("v", 3));
    assert_eq!(report.verdict, DryVerdict::MayRun);
    assert_eq!(would_run(&report), [("put v=3".to_owned(), DryVerdict::Missing)]);
    assert_eq!(report.would_run[0].role, Role::Effect);
    assert_eq!(script.get("v"), None, "nothing was put");

    assert!(engine.get(&keep("v", 3)).is_ok());
    let report = engine.dry(&keep("v", 3));
    assert_eq!(report.verdict, DryVerdict::Holds);
    assert_eq!(would_run(&report), []);
}

/// [F7] Found by the oracle: it said that something might run, and nothing did.
#[test]
fn a_body_that_panics_fails() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let DryVerdict::Fails(said) = engine.dry(&Panics).verdict else { panic!("it is not safe") };
    let failure = engine.get(&Panics).expect_err("it is not safe");
    assert_eq!(said, failure.to_string());
    assert!(said.contains("it is not safe"), "{said}");
}

/// [D5] Looking is all it does.
#[test]
fn it_starts_no_work_and_tells_no_execution() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    for query in [WorkOnParity(total(&["a"])), WorkOnParity(total(&["b", "a"]))] {
        engine.dry(&query);
    }
    engine.dry(&All(vec![Work::new("w", 1)]));
    engine.dry(&keep("v", 3));
    let only_looks = |event: &Event| matches!(event, Event::WillObserve { .. } | Event::DidObserve { .. });
    let events = log.take();
    assert!(events.iter().all(only_looks), "{events:?}");
    assert_eq!(events.len(), 6, "each variable is looked at once");
    assert!(engine.counts().executed.is_empty());
}

/// [D6]
#[test]
fn it_leaves_the_store_as_it_is_to_the_byte() {
    let script = Script::new();
    script.set("v", 1);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let query = WorkOnParity(total(&["v"]));
    let mut engine = open(directory.path(), &script, &EventLog::new());
    assert!(engine.get(&query).is_ok());
    engine.close();
    let before = content(directory.path());
    assert!(!before.is_empty());

    script.set("v", 2);
    let mut engine = open(directory.path(), &script, &EventLog::new());
    engine.dry(&query);
    engine.refresh();
    script.set("v", 3);
    engine.refresh();
    engine.dry(&total(&["v"]));
    engine.dry(&total(&["w"]));
    engine.close();
    assert_eq!(content(directory.path()), before);
}

/// [D6] What was looked at for it is found again by the session that then asks in earnest.
#[test]
fn a_request_after_it_looks_at_nothing_again_and_records_everything() {
    let script = Script::new();
    let log = EventLog::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut engine = open(directory.path(), &script, &log);
    engine.dry(&total(&["v"]));
    log.take();
    assert!(engine.get(&total(&["v"])).is_ok());
    log.assert(&["executed total(v)"]);
    engine.close();

    let mut engine = open(directory.path(), &script, &log);
    log.take();
    assert!(engine.get(&total(&["v"])).is_ok());
    log.assert(&["observed look(v) (by stamp)", "verified total(v)"]);
}

/// [D7] A result that is right for this session only is no reason to run again within it.
#[test]
fn a_result_of_this_session_holds_though_it_was_not_recorded() {
    let script = Script::new();
    let log = EventLog::new();
    let mut engine = stepper(&script, &log);
    script.set_at("v", 1, SystemTime::now() - Duration::from_secs(60));
    script.during("w", |script| script.set_at("v", 5, SystemTime::now()));
    let query = All(vec![Work::new("w", 1).reading("v")]);
    assert!(engine.get(&query).is_ok());
    assert!(log.take_lines().contains(&"ran work(w 1 reading v) (not recorded)".to_owned()));

    let report = engine.dry(&query);
    assert_eq!(would_run(&report), []);
    assert!(engine.get(&query).is_ok());
    assert_eq!(log.take_executed(), Vec::<String>::new());

    engine.refresh();
    let report = engine.dry(&query);
    assert_eq!(would_run(&report).len(), 1, "in the next session it is");
}

/// [D7] As the next request would.
#[test]
fn what_failed_is_looked_at_again() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    script.break_it("v");
    assert_eq!(engine.dry(&total(&["v"])).verdict, DryVerdict::Fails("v is broken".to_owned()));
    script.set("v", 4);
    assert_eq!(engine.dry(&total(&["v"])).verdict, DryVerdict::Missing);
}

/// A random program in a random world, with a store.
struct Trial {
    seed: u64,
    program: Arc<Program>,
    chance: Chance,
    script: Script,
    log: EventLog,
    directory: tempfile::TempDir,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let program = Arc::new(Program::generate(seed, Shape { cyclic: 0, tolerant: 30, panics: 0, effects: 0 }));
        publish(seed, program.clone());
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        Self { seed, program, chance: Chance::new(seed), script: Script::new(), log: EventLog::new(), directory }
    }

    fn open(&self) -> Stepper {
        let builder = Database::builder().query::<Node>().action::<Work>().observation::<Look>();
        let builder = builder.resource(self.script.clone()).listener(self.log.listener());
        Stepper::new(builder.store(self.directory.path()))
    }

    fn change_the_world(&mut self) {
        for index in 0..self.program.variables {
            match self.chance.below(8) {
                0..3 => self.script.set(&variable(index), self.chance.next() % 3),
                3 => self.script.break_it(&variable(index)),
                _ => {}
            }
        }
    }

    /// Asks dry, then in earnest, and compares.
    fn compare(&mut self, engine: &mut Stepper) {
        let node = Node { program: self.seed, query: self.chance.below(self.program.queries.len()) };
        let report = engine.dry(&node);
        self.log.take();
        let answer = engine.get(&node);
        let lines = self.log.take_lines();
        let told = |how: &[&str]| -> BTreeSet<String> {
            let named = |line: &String| how.iter().find_map(|how| line.strip_prefix(how).map(str::to_owned));
            lines.iter().filter_map(named).map(|name| name.trim_end_matches(" (cut off)").to_owned()).collect()
        };
        let executed = told(&["executed ", "ran "]);
        let failed: BTreeSet<String> =
            told(&["failed "]).into_iter().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect();
        let worked = |name: &String| name.starts_with("work(");
        let context = || format!("seed {}, {node}: {report:?}; {lines:?}; {answer:?}", self.seed);
        // Whoever waits for a look starts what was asked together with it, in vain if the look then fails.
        let in_vain = failed.iter().any(|name| name.starts_with("look("));
        let root_ran = executed.contains(&node.to_string());
        let work_ran = executed.iter().any(worked) && !in_vain;
        match &report.verdict {
            // Bodies below may run all the same, and be cut off.
            DryVerdict::Holds => assert!(!root_ran && !work_ran && answer.is_ok(), "{}", context()),
            DryVerdict::Missing | DryVerdict::Stale(_) => assert!(root_ran && !work_ran, "{}", context()),
            DryVerdict::MayRun => assert!(!report.would_run.is_empty(), "{}", context()),
            DryVerdict::Fails(message) => {
                let failure = answer.as_ref().err().map(ToString::to_string);
                assert_eq!(failure.as_ref(), Some(message), "{}", context());
            }
        }
        for (name, _) in would_run(&report) {
            assert!(executed.contains(&name) || failed.contains(&name), "{}", context());
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        unpublish(self.seed);
    }
}

/// [D8] In random programs and worlds, in this process and after a restart.
#[test]
fn what_it_says_is_what_a_real_run_does() {
    for seed in 0..100 {
        let mut trial = Trial::new(1 << 40 | seed);
        for _ in 0..4 {
            let mut engine = trial.open();
            for _ in 0..4 {
                trial.change_the_world();
                engine.refresh();
                for _ in 0..3 {
                    trial.compare(&mut engine);
                }
            }
            engine.close();
        }
    }
}

/// [D8] The record of the real run tells the same reasons.
#[test]
fn its_reasons_are_those_of_the_record() {
    let script = Script::new();
    let mut engine = stepper(&script, &EventLog::new());
    let query = All(vec![Work::new("a", 1).reading("v"), Work::new("b", 2).reading("w")]);
    script.set("v", 1);
    script.set("w", 1);
    assert!(engine.get(&query).is_ok());
    script.set("w", 2);
    engine.refresh();
    let report = engine.dry(&query);
    assert!(engine.get(&query).is_ok());
    let record: RunRecord = engine.close();
    let reason = |name: &str| record.specs.iter().find(|spec| spec.name == name).and_then(|spec| spec.reason.clone());
    for (name, verdict) in would_run(&report) {
        assert_eq!(Some(verdict), reason(&name).map(DryVerdict::Stale), "{name}");
    }
    assert_eq!(report.would_run.len(), 1);
    let ran = record.specs.iter().filter(|spec| spec.outcome == Outcome::Executed && spec.role == Role::Action);
    assert_eq!(ran.count(), 1);
}

/// [D9] Asking dry is no request: it neither starts work nor waits for it.
#[test]
fn it_does_not_wait_for_work_under_way() {
    let mut engine = stepper(&Script::new(), &EventLog::new());
    let query = All(vec![Work::new("slow", 1)]);
    let mut asked = engine.ask(&query);
    let report = engine.start_dry(&query).try_recv().ok().flatten().expect("there is nothing to look at");
    assert_eq!(would_run(&report), [("work(slow 1)".to_owned(), DryVerdict::Missing)]);
    assert_eq!(engine.running(), 1);
    assert!(asked.answer().is_none());
    engine.settle();
    assert!(asked.answer().is_some_and(|answer| answer.is_ok()));
}

/// A store that has lost tables of what a run of `query` put into it.
fn after_losing<Q: Query>(tables: &[&str], script: &Script, query: &Q) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut engine = open(directory.path(), script, &EventLog::new());
    assert!(engine.get(query).is_ok());
    engine.close();
    let store = Store::open(StoreOptions::new(directory.path()));
    assert!(store.lose(|table, _| tables.contains(&table)).expect("nobody else uses it") > 0);
    directory
}

/// [D10] Found by the oracle: what is to be looked at had lost its spec, so nothing was under way and nobody went on.
#[test]
fn a_spec_that_the_store_has_lost_leaves_it_with_an_answer() {
    let (script, log) = (Script::new(), EventLog::new());
    script.set("v", 3);
    let query = Parity(total(&["v"]));
    let directory = after_losing(&["specs"], &script, &query);
    let mut engine = open(directory.path(), &script, &log);
    let report = engine.dry(&query);
    assert_eq!(report.verdict, DryVerdict::Holds, "what it asks comes to the same value again");
    assert_eq!(log.take_executed(), Vec::<String>::new());
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&1));
    assert_eq!(log.take_executed(), ["total(v)"]);
}

/// [D10]
#[test]
fn a_value_that_the_store_has_lost_is_made_for_it_where_it_is_read() {
    let script = Script::new();
    script.set("a", 3);
    script.set("b", 3);
    let query = Parities(vec![total(&["a"]), total(&["b"])]);
    let directory = after_losing(&["values"], &script, &query);

    script.set("b", 4);
    let log = EventLog::new();
    let mut engine = open(directory.path(), &script, &log);
    let report = engine.dry(&query);
    assert!(matches!(report.verdict, DryVerdict::Stale(_)), "{report:?}");
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&1));
    assert!(log.take_executed().contains(&"parities of 2".to_owned()));
}

/// The sum of a variable and of work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Both(String, Work);
spec!(Both, "both", |this| format!("both({} and {})", this.0, this.1));

impl Query for Both {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let (seen, done) = db.join(|join| (join.observe(&Look(self.0.clone())), join.act(&self.1)))?;
        Ok(seen.unwrap_or(0) + *done)
    }
}

/// [D10] Found by the oracle: values are known by what they are, so what one look brings back another spec has, too.
#[test]
fn what_is_there_again_because_something_else_came_to_it_is_not_lost() {
    let (script, log) = (Script::new(), EventLog::new());
    script.set("v", 3);
    let query = Both("v".to_owned(), Work::new("w", 3));
    let directory = after_losing(&["values"], &script, &query);
    let mut engine = Stepper::new(crate::kinds::builder(&script, &log).query::<Both>().store(directory.path()));
    assert_eq!(would_run(&engine.dry(&query)), []);
    log.take();
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&6));
    assert_eq!(log.take_executed(), [query.to_string()]);
}

/// The sum of a query and of work that is asked for after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Then(Total, Work);
spec!(Then, "then", |this| format!("{} then {}", this.0, this.1));

impl Query for Then {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(*db.get(&self.0)? + *db.act(&self.1)?)
    }
}

/// [D10] Found by the oracle: a body that a request would run brings a value back for others, too.
#[test]
fn what_is_there_again_because_a_body_came_to_it_is_not_lost() {
    let (script, log) = (Script::new(), EventLog::new());
    script.set("a", 1);
    script.set("b", 2);
    let query = Then(total(&["a", "b"]), Work::new("w", 3));
    let directory = after_losing(&["values"], &script, &query);
    let mut engine = Stepper::new(crate::kinds::builder(&script, &log).query::<Then>().store(directory.path()));
    assert_eq!(would_run(&engine.dry(&query)), []);
    log.take();
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&6));
    assert_eq!(log.take_executed(), ["total(a+b)".to_owned(), query.to_string()]);
}

/// [D10] Found by the oracle: a look that was under way brought the value back after the answer had been given.
#[test]
fn what_a_look_under_way_may_bring_back_is_not_lost_yet() {
    let (script, log) = (Script::new(), EventLog::new());
    script.set("a", 1);
    script.set("b", 5);
    let query = Then(total(&["a"]), Work::new("w", 5));
    let directory = after_losing(&["values", "stamps"], &script, &query);
    let mut engine = Stepper::new(crate::kinds::builder(&script, &log).query::<Then>().store(directory.path()));
    let _other = engine.start_dry(&total(&["b"]));
    let mut answer = engine.start_dry(&query);
    assert_eq!(engine.running(), 2);
    engine.finish(1);
    engine.advance();
    assert!(matches!(answer.try_recv(), Ok(None)), "the other look is under way");
    engine.settle();
    let report = answer.try_recv().ok().flatten().expect("there is nothing left to look at");
    assert_eq!(would_run(&report), []);
    log.take();
    assert_eq!(engine.get(&query).ok().as_deref(), Some(&6));
    assert_eq!(log.take_executed(), [query.to_string()]);
}
