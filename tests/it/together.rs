//! Real processes that share a store: random programs, each process in several worlds, some of them killed.
//!
//! The engines of the oracle take turns; these do not. Each process opens the store, and in one session after the other
//! asks everything and holds the answers against those from scratch. What processes that ended in order found out is
//! there for all: afterwards nothing is executed in any world that they saw.
//!
//! `DOGE_TOGETHER_ROUNDS` sets how many rounds are tried, `DOGE_TOGETHER_SEED` where they begin.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use doge::testing::{EventLog, Look, Script, Stepper, Work};
use doge::{Database, Event};

use crate::kinds::{Keep, Put};
use crate::model::{Chance, End, Node, Program, Scratch, Shape, World, publish, unpublish, variable};

const JOB: &str = "DOGE_TOGETHER_JOB";
/// Fewer than the traces that a key keeps, so that none is lost.
const WORLDS: u64 = 4;

fn shape() -> Shape {
    Shape { cyclic: 10, tolerant: 20, panics: 0, effects: 0 }
}

/// One of the worlds of a program; a few have variables that are not set or broken.
fn world(program: &Program, seed: u64, number: u64) -> World {
    let mut chance = Chance::new(seed ^ (number + 1));
    World(
        (0..program.variables)
            .map(|_| match chance.below(12) {
                0 => Err(()),
                1 => Ok(None),
                _ => Ok(Some(chance.next() % 4)),
            })
            .collect(),
    )
}

fn enter(script: &Script, world: &World) {
    for (index, value) in world.0.iter().enumerate() {
        let name = variable(index);
        // Equal under equal stamps, in whichever process.
        let stamp = value.map_or(0, |value| value.map_or(1, |value| value + 2));
        script.set_stamped(&name, value.ok().flatten(), stamp);
        if value.is_err() {
            script.break_it(&name);
        }
    }
}

fn open(directory: &str, script: &Script, log: &EventLog) -> Stepper {
    let builder = Database::builder()
        .query::<Node>()
        .query::<Keep>()
        .action::<Work>()
        .effect::<Put>()
        .observation::<Look>()
        .resource(script.clone())
        .listener(log.listener())
        .store(directory);
    Stepper::new(builder)
}

/// Asks everything in some order and compares; what ran that must not run twice.
fn ask_everything(engine: &mut Stepper, log: &EventLog, seed: u64, world: &World, chance: &mut Chance) -> Vec<String> {
    let program = Program::generate(seed, shape());
    let mut left: Vec<usize> = (0..program.queries.len()).collect();
    let mut tainted = Vec::new();
    log.take();
    while !left.is_empty() {
        let query = left.swap_remove(chance.below(left.len()));
        let answer = engine.get(&Node { program: seed, query });
        let scratch = Scratch::answer(&program, world, query);
        match (&answer, &scratch.end) {
            (Ok(answer), End::Value(value)) => assert_eq!(**answer, *value, "q{query} of program {seed}"),
            (Err(failure), End::Failed) => assert_eq!(failure.cycle().is_some(), scratch.cyclic, "q{query} of {seed}"),
            (answer, end) => panic!("q{query} of program {seed} is {answer:?}, from scratch {end:?}"),
        }
        tainted
            .extend(scratch.traces.iter().filter(|(_, trace)| trace.is_none()).map(|(query, _)| format!("q{query}")));
    }
    let ran = log.take().into_iter().filter_map(|event| match event {
        Event::DidExecute { spec, .. } | Event::DidRun { spec, .. } => Some(spec.to_string()),
        _ => None,
    });
    ran.filter(|name| !tainted.contains(name)).collect()
}

/// What a process does that was started by the test below; nothing in others.
#[test]
fn a_process_asks_everything_in_several_worlds() {
    let Ok(job) = std::env::var(JOB) else { return };
    let mut parts = job.splitn(3, ' ');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).expect("it is told");
    let (seed, chance) = (number(), number());
    let directory = parts.next().expect("it is told");
    let mut chance = Chance::new(chance);
    let program = Program::generate(seed, shape());
    publish(seed, Arc::new(Program::generate(seed, shape())));
    let (script, log) = (Script::new(), EventLog::new());
    let begin = chance.next();
    enter(&script, &world(&program, seed, begin % WORLDS));
    let mut engine = open(directory, &script, &log);
    for step in 0..WORLDS {
        let world = world(&program, seed, (begin + step) % WORLDS);
        enter(&script, &world);
        engine.refresh();
        ask_everything(&mut engine, &log, seed, &world, &mut chance);
    }
    engine.close();
}

#[test]
fn what_processes_find_out_at_once_is_right_and_there_for_all() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let begin = number("DOGE_TOGETHER_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    for seed in begin..begin + number("DOGE_TOGETHER_ROUNDS").unwrap_or(6) {
        let mut chance = Chance::new(seed);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let path = directory.path().to_str().expect("it has a name like any other");
        let start = |chance: &mut Chance| -> Child {
            let mut command = Command::new(std::env::current_exe().expect("a program knows where it is"));
            command
                .args(["together::a_process_asks_everything_in_several_worlds", "--exact", "--test-threads=1"])
                .env(JOB, format!("{seed} {} {path}", chance.next() >> 1))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().expect("this program can be started again")
        };
        let children: Vec<Child> = (0..3).map(|_| start(&mut chance)).collect();
        if chance.percent(70) {
            // At any moment of its life: what it leaves is right or nothing.
            let mut killed = start(&mut chance);
            std::thread::sleep(Duration::from_millis(chance.next() % 60));
            killed.kill().expect("it is ours");
            killed.wait().expect("it ends");
        }
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "seed {seed}: {said}");
            assert!(said.contains("1 passed"), "seed {seed}: it did its job: {said}");
        }
        let program = Arc::new(Program::generate(seed, shape()));
        publish(seed, program.clone());
        for number in 0..WORLDS {
            let (script, log) = (Script::new(), EventLog::new());
            let world = world(&program, seed, number);
            enter(&script, &world);
            let mut engine = open(path, &script, &log);
            let ran = ask_everything(&mut engine, &log, seed, &world, &mut chance);
            assert_eq!(ran, Vec::<String>::new(), "seed {seed}, world {number}");
            engine.close();
        }
        unpublish(seed);
    }
}
