//! The oracle: random programs in a world that changes, on the engine and from scratch.
//!
//! A case is a program and a list of operations: asking (one, several at once, the same again), letting pieces of
//! work end in any order, withdrawing requests, changing variables (also to the value they have), returning to
//! earlier worlds, refreshing, closing and reopening, dying without closing, and collecting what the store holds. After
//! each:
//!
//! * what was asked and answered while the world held still is what the oracle says;
//! * nothing ran whose trace had been recorded in the same world before;
//! * asking again runs nothing; after reopening, asking everything again runs nothing.
//!
//! `DOGE_ORACLE_CASES` sets how many cases are tried, `DOGE_ORACLE_SEED` makes a run repeatable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use doge::storage::{Collection, Store, StoreOptions};
use doge::testing::{Asked, EventLog, Look, Script, Stepper, Work};
use doge::{Database, Event};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, RngSeed, TestCaseError, TestRunner};

use crate::model::{
    Answered, Ask, End, Node, NodeError, Program, Scratch, Shape, Trace, World, publish, unpublish, variable,
};

#[derive(Clone, Debug)]
enum Op {
    Ask(usize),
    /// Asks three at once.
    AskSome(usize),
    /// Lets a piece of work end and the planner go on.
    Finish(usize),
    /// Lets several pieces of work end before the planner goes on.
    FinishSome(usize),
    Settle,
    Cancel(usize),
    Set(usize, Option<u64>),
    SetToSame(usize),
    Break(usize),
    /// Goes back to a world that was there before.
    Return(usize),
    Refresh,
    Reopen,
    Kill,
    /// Collects: while the engine is at work, whatever is asked for; or between two runs, down to a part of what there is.
    Collect(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<usize>().prop_map(Op::Ask),
        2 => any::<usize>().prop_map(Op::AskSome),
        6 => any::<usize>().prop_map(Op::Finish),
        2 => any::<usize>().prop_map(Op::FinishSome),
        3 => Just(Op::Settle),
        2 => any::<usize>().prop_map(Op::Cancel),
        3 => (any::<usize>(), proptest::option::weighted(0.8, 0..4_u64)).prop_map(|(index, value)| Op::Set(index, value)),
        1 => any::<usize>().prop_map(Op::SetToSame),
        1 => any::<usize>().prop_map(Op::Break),
        2 => any::<usize>().prop_map(Op::Return),
        4 => Just(Op::Refresh),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        1 => any::<usize>().prop_map(Op::Collect),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    cyclic: u64,
    tolerant: u64,
    panics: u64,
    persist: bool,
    ops: Vec<Op>,
}

fn case() -> impl Strategy<Value = Case> {
    (any::<u64>(), 0..30_u64, 0..40_u64, 0..10_u64, any::<bool>(), proptest::collection::vec(op(), 5..45)).prop_map(
        |(seed, cyclic, tolerant, panics, persist, ops)| Case { seed, cyclic, tolerant, panics, persist, ops },
    )
}

/// How many of the newest traces of a key are certain to be remembered.
const REMEMBERED: usize = 4;

type Recorded<K, T> = BTreeMap<K, Vec<T>>;

struct Bench<'a> {
    seed: u64,
    program: Arc<Program>,
    directory: Option<&'a Path>,
    script: Script,
    log: EventLog,
    engine: Option<Stepper>,
    world: World,
    worlds: Vec<World>,
    /// The world has not changed since the session began.
    still: bool,
    asked: Vec<(usize, bool, Asked<u64, NodeError>)>,
    queries: Recorded<usize, Trace>,
    works: Recorded<Ask, Vec<u64>>,
    /// What of these is certain to be in the store.
    durable: (Recorded<usize, Trace>, Recorded<Ask, Vec<u64>>),
    nodes: usize,
    /// What the store had to say; it should have nothing to.
    store: Vec<String>,
}

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(message())) }
}

impl<'a> Bench<'a> {
    fn new(case: &Case, directory: Option<&'a Path>) -> Self {
        let shape = Shape { cyclic: case.cyclic, tolerant: case.tolerant, panics: case.panics };
        let program = Arc::new(Program::generate(case.seed, shape));
        publish(case.seed, program.clone());
        let world = World((0..program.variables).map(|index| Ok(Some(index as u64 % 3))).collect());
        let mut bench = Self {
            seed: case.seed,
            program,
            directory,
            script: Script::new(),
            log: EventLog::new(),
            engine: None,
            world: world.clone(),
            worlds: vec![world.clone()],
            still: true,
            asked: Vec::new(),
            queries: BTreeMap::new(),
            works: BTreeMap::new(),
            durable: Default::default(),
            nodes: 0,
            store: Vec::new(),
        };
        bench.enter(world);
        bench.open();
        bench
    }

    fn open(&mut self) {
        let mut builder = Database::builder()
            .query::<Node>()
            .action::<Work>()
            .observation::<Look>()
            .resource(self.script.clone())
            .listener(self.log.listener());
        if let Some(directory) = self.directory {
            builder = builder.store(directory);
        }
        self.engine = Some(Stepper::new(builder).expect("a thread can be started"));
        self.still = true;
        self.nodes = 0;
    }

    fn engine(&mut self) -> &mut Stepper {
        self.engine.as_mut().expect("the engine is open")
    }

    fn node(&self, query: usize) -> Node {
        Node { program: self.seed, query: query % self.program.queries.len() }
    }

    fn enter(&mut self, world: World) {
        for (index, value) in world.0.iter().enumerate() {
            if self.world.0[index] == *value && self.script.get(&variable(index)).is_some() {
                continue;
            }
            match value {
                Ok(Some(value)) => self.script.set(&variable(index), *value),
                Ok(None) => {
                    self.script.set(&variable(index), 0);
                    self.script.unset(&variable(index));
                }
                Err(()) => self.script.break_it(&variable(index)),
            }
        }
        self.world = world;
        self.still = false;
    }

    fn ask(&mut self, query: usize) {
        let node = self.node(query);
        let still = self.still;
        let asked = self.engine().ask(&node);
        self.asked.push((node.query, still, asked));
    }

    fn scratch(&self, query: usize) -> Answered {
        Scratch::answer(&self.program, &self.world, query)
    }

    /// Compares the answers that came in and what ran for them.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        self.compare_events()?;
        let mut left = Vec::new();
        for (query, still, mut asked) in std::mem::take(&mut self.asked) {
            match asked.answer() {
                None => left.push((query, still && self.still, asked)),
                Some(answer) if still && self.still => self.compare_answer(query, answer.as_deref())?,
                Some(_) => {}
            }
        }
        self.asked = left;
        Ok(())
    }

    fn compare_answer(
        &self,
        query: usize,
        answer: Result<&u64, &doge::Failure<NodeError>>,
    ) -> Result<(), TestCaseError> {
        let scratch = self.scratch(query);
        match (answer, &scratch.end) {
            (Ok(answer), End::Value(value)) => {
                check(answer == value, || format!("q{query} is {answer}, from scratch {value}"))
            }
            (Err(failure), End::Failed | End::Panicked) => check(failure.cycle().is_some() == scratch.cyclic, || {
                format!("q{query} failed with {failure}; in a cycle, from scratch: {}", scratch.cyclic)
            }),
            (answer, end) => check(false, || format!("q{query} is {answer:?}, from scratch {end:?}")),
        }
    }

    fn compare_events(&mut self) -> Result<(), TestCaseError> {
        for event in self.log.take() {
            match event {
                Event::DidExecute { spec, .. } => {
                    let query: usize = spec.to_string()[1..].parse().expect("queries are called q and a number");
                    if !self.still {
                        self.queries.remove(&query);
                        continue;
                    }
                    let Some(Some(trace)) = self.scratch(query).traces.remove(&query) else { continue };
                    let recorded = self.queries.entry(query).or_default();
                    let newest = recorded.iter().rev().take(REMEMBERED).any(|known| *known == trace);
                    check(!newest, || format!("q{query} ran again, with the trace {trace:?}"))?;
                    recorded.retain(|known| *known != trace);
                    recorded.push(trace);
                }
                Event::Store(event) => self.store.push(event.to_string()),
                Event::DidRun { spec, certain, .. } => {
                    let (ask, values) = self.parse_work(&spec.to_string());
                    if !self.still || !certain {
                        check(!self.still || !certain || ask.is_some(), || format!("unknown work {spec}"))?;
                        if let Some(ask) = ask {
                            self.works.remove(&ask);
                        }
                        continue;
                    }
                    let Some(ask) = ask else { continue };
                    let recorded = self.works.entry(ask.clone()).or_default();
                    let newest = recorded.iter().rev().take(REMEMBERED).any(|known| *known == values);
                    check(!newest, || format!("{ask:?} ran again, reading {values:?}"))?;
                    recorded.retain(|known| *known != values);
                    recorded.push(values);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Which work a line in the log means; names do not tell what is read, so all that could be meant is one ask.
    fn parse_work(&self, line: &str) -> (Option<Ask>, Vec<u64>) {
        let Some((name, rest)) = line.strip_prefix("work(w").and_then(|line| line.split_once(' ')) else {
            return (None, Vec::new());
        };
        let rest = rest.trim_end_matches(')');
        let (input, reads) = rest.split_once(" reading ").unwrap_or((rest, ""));
        let reads: Vec<usize> = reads.split(',').filter_map(|read| read.strip_prefix('v')?.parse().ok()).collect();
        let values = reads.iter().map(|read| self.world.0[*read].ok().flatten().unwrap_or(99)).collect();
        match (name.parse(), input.parse()) {
            (Ok(name), Ok(input)) => (Some(Ask::Work { name, input, reads }), values),
            _ => (None, Vec::new()),
        }
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        self.engine().settle();
        self.compare()?;
        check(self.asked.is_empty(), || "nothing is under way and a request has no answer".to_owned())
    }

    fn refresh(&mut self) {
        self.engine().refresh();
        // What ran until now may have seen the old world, or both.
        for event in self.log.take() {
            if let Event::DidExecute { spec, .. } = &event {
                let query: usize = spec.to_string()[1..].parse().expect("queries are called q and a number");
                self.queries.remove(&query);
            }
            if let Event::DidRun { spec, .. } = &event
                && let (Some(ask), _) = self.parse_work(&spec.to_string())
            {
                self.works.remove(&ask);
            }
        }
        for (_, still, _) in &mut self.asked {
            *still = false;
        }
        self.still = true;
        let nodes = self.engine().nodes();
        if nodes < self.nodes && self.directory.is_none() {
            // The graph was made anew; without a store, what was out of reach is gone.
            self.queries.clear();
            self.works.clear();
        }
        self.nodes = nodes;
    }

    fn reopen(&mut self, kill: bool) -> Result<(), TestCaseError> {
        self.compare()?;
        self.asked.clear();
        let engine = self.engine.take().expect("the engine is open");
        if kill {
            drop(engine);
            (self.queries, self.works) = self.durable.clone();
        } else {
            engine.close();
        }
        self.log.take();
        if self.directory.is_none() {
            self.queries.clear();
            self.works.clear();
        }
        self.durable = (self.queries.clone(), self.works.clone());
        self.open();
        Ok(())
    }

    fn collect(&mut self, how: usize) -> Result<(), TestCaseError> {
        let Some(directory) = self.directory else { return Ok(()) };
        let mut options = StoreOptions::new(directory);
        options.names = doge::names_in;
        let store = Store::open(options);
        let part = |part: usize| store.survey(Vec::new()).before().bytes * part as u64 / 8;
        let at_work = how.is_multiple_of(2);
        if !at_work {
            self.reopen(false)?;
            self.engine.take().expect("the engine is open").close();
        }
        let max_bytes = Some(part(how / 2 % 10));
        let collected = store.collect(&Collection { max_bytes, ..Collection::default() });
        let collected = collected.map_err(|error| TestCaseError::fail(error.to_string()))?;
        if at_work && store.directory().join("in-use").exists() {
            // All of it was used today, so nothing goes that a run under way could ask for.
            check(collected.removed().count == 0, || format!("{collected:?}"))?;
        } else if !at_work {
            self.queries.clear();
            self.works.clear();
            self.durable = Default::default();
            self.open();
        }
        let findings = store.verify().map_err(|error| TestCaseError::fail(error.to_string()))?.findings;
        check(findings.is_empty(), || format!("{findings:?}"))
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Ask(query) => self.ask(*query),
            Op::AskSome(query) => (0..3).for_each(|offset| self.ask(query.wrapping_add(offset * 7))),
            Op::Finish(place) => {
                let running = self.engine().running();
                if running > 0 {
                    self.engine().finish(place % running);
                    self.engine().advance();
                }
            }
            Op::FinishSome(place) => {
                for _ in 0..1 + place % 4 {
                    let running = self.engine().running();
                    if running > 0 {
                        self.engine().finish(place % running);
                    }
                }
                self.engine().advance();
            }
            Op::Settle => self.settle()?,
            Op::Cancel(place) => {
                if !self.asked.is_empty() {
                    let (_, _, asked) = self.asked.remove(place % self.asked.len());
                    self.engine().cancel(&asked);
                }
            }
            Op::Set(index, value) => {
                let mut world = self.world.clone();
                let index = index % world.0.len();
                world.0[index] = Ok(*value);
                self.enter(world.clone());
                self.worlds.push(world);
            }
            Op::SetToSame(index) => {
                let index = index % self.world.0.len();
                if let Ok(Some(value)) = self.world.0[index] {
                    self.script.set(&variable(index), value);
                    self.still = false;
                }
            }
            Op::Break(index) => {
                let mut world = self.world.clone();
                let index = index % world.0.len();
                world.0[index] = Err(());
                self.enter(world);
            }
            Op::Return(place) => {
                let world = self.worlds[place % self.worlds.len()].clone();
                self.enter(world);
            }
            Op::Refresh => self.refresh(),
            Op::Reopen => self.reopen(false)?,
            Op::Kill => self.reopen(true)?,
            Op::Collect(how) => self.collect(*how)?,
        }
        self.compare()
    }

    /// Asks everything, twice, and once more after reopening.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        self.engine().settle();
        self.compare()?;
        self.refresh();
        self.settle()?;
        let all = 0..self.program.queries.len();
        let tainted: BTreeSet<usize> =
            all.clone().filter(|query| self.scratch(*query).traces[query].is_none()).collect();
        for round in 0..3 {
            for query in all.clone() {
                self.log.take();
                self.ask(query);
                self.engine().settle();
                if round > 0 && (round == 1 || self.directory.is_some()) {
                    let events = self.log.take();
                    let told: Vec<&Event> = events.iter().collect();
                    for event in &events {
                        let ran = match event {
                            Event::DidExecute { spec, .. } => spec.to_string(),
                            _ => continue,
                        };
                        let ran: usize = ran[1..].parse().expect("queries are called q and a number");
                        check(tainted.contains(&ran), || {
                            let store = &self.store;
                            format!(
                                "q{ran} ran when everything was asked again (round {round}); {told:?}; store: {store:?}"
                            )
                        })?;
                    }
                }
                self.compare()?;
                check(self.asked.is_empty(), || format!("q{query} has no answer"))?;
            }
            if round == 1 {
                self.reopen(false)?;
            }
        }
        Ok(())
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        unpublish(self.seed);
    }
}

fn try_case(case: &Case) -> Result<(), TestCaseError> {
    let directory = (case.persist && std::env::var_os("DOGE_ORACLE_MEMORY").is_none())
        .then(|| tempfile::tempdir().expect("a temporary directory can be made"));
    let mut bench = Bench::new(case, directory.as_ref().map(|directory| directory.path()));
    for op in &case.ops {
        bench.apply(op)?;
    }
    bench.finish()
}

#[test]
#[expect(clippy::print_stderr, reason = "a panic hook has nobody else to tell")]
fn any_program_in_any_world_is_as_from_scratch_and_runs_nothing_twice() {
    // Bodies that are told to panic do so; their messages are of no interest.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("was told to panic") {
            eprintln!("{info}");
        }
    }));
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let config = Config {
        cases: number("DOGE_ORACLE_CASES").unwrap_or(300) as u32,
        rng_seed: number("DOGE_ORACLE_SEED").map_or(RngSeed::Random, RngSeed::Fixed),
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/it/oracle.regressions"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&case(), |case| try_case(&case)) {
        panic!("{error}");
    }
}
