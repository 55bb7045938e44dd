//! The oracle: random programs in a world that changes, on the engine and from scratch.
//!
//! A case is a program and a list of operations, each done by one of up to two engines. These have a store in common
//! as two processes would: handles, sessions and memories of their own. The operations are asking (one, several at
//! once, the same again), letting pieces of work end in any order, withdrawing requests, asking what would happen,
//! forcing effects, changing variables (also to the value they have), returning to earlier worlds, refreshing, closing
//! (also while the store is busy) and reopening, dying without closing, collecting what the store holds, and losing
//! entries of it. After each:
//!
//! * what was asked and answered while the world held still is what the oracle says;
//! * nothing ran whose trace this engine had recorded, or could find in the store, in the same world before;
//! * no effect happened to what was as wanted, but where that was asked for;
//! * what dry evaluation said is what the request after it did;
//! * asking again runs nothing; after reopening, asking everything again runs nothing; and it runs nothing in the other
//!   engine, either.
//!
//! `DOGE_ORACLE_CASES` sets how many cases are tried, random ones unless `DOGE_ORACLE_SEED` says which; with neither a few
//! are, the same each time. With `DOGE_ORACLE_WHOLE` the store loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use doge::storage::{Collection, Store, StoreOptions};
use doge::testing::{Asked, EventLog, Look, Script, Stepper, Work};
use doge::{Database, DryVerdict, Event};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, RngSeed, TestCaseError, TestRunner};

use crate::kinds::{Keep, Put};
use crate::model::{
    Answered, Ask, Chance, End, KEPT, Node, NodeError, Program, Scratch, Shape, Trace, World, kept, kept_at,
    kept_variable, publish, unpublish, variable,
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
    /// Asks what would happen, and then asks.
    Dry(usize),
    /// Has an effect done whatever the world is like.
    Force(usize),
    Set(usize, Option<u64>),
    SetToSame(usize),
    Break(usize),
    /// Goes back to a world that was there before.
    Return(usize),
    Refresh,
    Reopen,
    /// Closes while somebody else writes to the store, and reopens.
    ReopenBusy,
    Kill,
    /// Entries vanish from the store, each with this chance of a hundred.
    Lose(u64, u64),
    /// Collects: while engines are at work, whatever is asked for; or between two runs, down to a part of what there is.
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
        1 => any::<usize>().prop_map(Op::Dry),
        1 => any::<usize>().prop_map(Op::Force),
        3 => (any::<usize>(), proptest::option::weighted(0.8, 0..4_u64)).prop_map(|(index, value)| Op::Set(index, value)),
        1 => any::<usize>().prop_map(Op::SetToSame),
        1 => any::<usize>().prop_map(Op::Break),
        2 => any::<usize>().prop_map(Op::Return),
        4 => Just(Op::Refresh),
        1 => Just(Op::Reopen),
        1 => Just(Op::ReopenBusy),
        1 => Just(Op::Kill),
        1 => (any::<u64>(), 1..100_u64).prop_map(|(seed, percent)| Op::Lose(seed, percent)),
        1 => any::<usize>().prop_map(Op::Collect),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    shape: Shape,
    persist: bool,
    /// Two engines, if there is a store that they can have in common.
    shared: bool,
    ops: Vec<(bool, Op)>,
}

fn case() -> impl Strategy<Value = Case> {
    let shape = (0..30_u64, 0..40_u64, 0..10_u64, 0..60_u64).prop_map(|(cyclic, tolerant, panics, effects)| Shape {
        cyclic,
        tolerant,
        panics,
        effects,
    });
    let ops = proptest::collection::vec((any::<bool>(), op()), 5..45);
    (any::<u64>(), shape, proptest::bool::weighted(0.6), any::<bool>(), ops)
        .prop_map(|(seed, shape, persist, shared, ops)| Case { seed, shape, persist, shared: persist && shared, ops })
}

/// How many of the newest traces of a key are certain to be remembered by an engine that has its store for itself.
const REMEMBERED: usize = 4;
/// How many traces of a key are remembered at all.
const WORLDS: usize = 8;

/// What is known of the traces of one key.
#[derive(Clone, Debug)]
struct Known<T> {
    /// Those that were recorded, the oldest first, and whether this engine must know them.
    recorded: Vec<(T, bool)>,
    /// How many others there may be.
    others: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { recorded: Vec::new(), others: 0 }
    }
}

impl<T: PartialEq> Known<T> {
    fn must_know(&self, trace: &T, shared: bool) -> bool {
        let mut certain = self.recorded.iter().rev().filter(|(_, certain)| *certain);
        if shared {
            // Which of many are the newest depends on who writes when; of few, none is lost.
            self.recorded.len() + self.others <= WORLDS && certain.any(|(known, _)| known == trace)
        } else {
            certain.take(REMEMBERED).any(|(known, _)| known == trace)
        }
    }

    fn record(&mut self, trace: T, certain: bool) {
        let was = self.recorded.iter().position(|(known, _)| *known == trace).map(|place| self.recorded.remove(place));
        self.recorded.push((trace, certain || was.is_some_and(|(_, certain)| certain)));
    }

    /// Something was recorded, and it is not known what.
    fn record_other(&mut self, shared: bool) {
        self.others += 1;
        if !shared {
            self.recorded.clear();
        }
    }

    /// What that engine must know, this one must know, too.
    fn learn(&mut self, from: &Self) {
        for (trace, certain) in &mut self.recorded {
            *certain |= from.recorded.iter().any(|(known, certain)| *certain && known == trace);
        }
    }
}

/// What was recorded, by who can find it.
#[derive(Clone, Debug, Default)]
struct Memory {
    queries: BTreeMap<usize, Known<Trace>>,
    works: BTreeMap<Ask, Known<Vec<u64>>>,
    kept: BTreeSet<usize>,
}

impl Memory {
    fn learn(&mut self, from: &Self) {
        for (query, known) in &from.queries {
            self.queries.entry(*query).or_default().learn(known);
        }
        for (ask, known) in &from.works {
            self.works.entry(ask.clone()).or_default().learn(known);
        }
        self.kept.extend(&from.kept);
    }
}

/// An engine, and what was asked of it.
struct Seat {
    engine: Option<Stepper>,
    log: EventLog,
    /// The world has not changed since the session began, but by effects of engines.
    still: bool,
    /// The kept variables that were as wanted when the session began.
    as_wanted: BTreeSet<usize>,
    asked: Vec<(usize, bool, Asked<u64, NodeError>)>,
    memory: Memory,
    nodes: usize,
}

struct Bench {
    seed: u64,
    program: Arc<Program>,
    directory: Option<PathBuf>,
    script: Script,
    world: World,
    worlds: Vec<World>,
    seats: Vec<Seat>,
    /// What is certain to be in the store.
    durable: Memory,
    /// What the store had to say.
    store: Vec<String>,
    forced: u64,
    /// The store has lost things. What it still has may be of no use without them, so from then on only answers count,
    /// and that asking again in one session runs nothing.
    lost: bool,
}

fn check(holds: bool, message: impl FnOnce() -> String) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(message())) }
}

/// What the name of a query means.
enum Named {
    Node(usize),
    Keep(usize),
}

fn parse_query(name: &str) -> Named {
    match name.strip_prefix("keep k") {
        Some(rest) => Named::Keep(rest[..1].parse().expect("kept variables are called k and a number")),
        None => Named::Node(name[1..].parse().expect("queries are called q and a number")),
    }
}

/// Which work a line in the log means.
fn parse_work(line: &str) -> Option<Ask> {
    let (name, rest) = line.strip_prefix("work(w")?.split_once(' ')?;
    let rest = rest.trim_end_matches(')');
    let (input, reads) = rest.split_once(" reading ").unwrap_or((rest, ""));
    let reads: Vec<usize> = reads.split(',').filter_map(|read| read.strip_prefix('v')?.parse().ok()).collect();
    Some(Ask::Work { name: name.parse().ok()?, input: input.parse().ok()?, reads })
}

/// Which kept variable an effect changed.
fn parse_put(line: &str) -> Option<usize> {
    line.strip_prefix("put k")?.get(..1)?.parse().ok()
}

impl Bench {
    fn new(case: &Case, directory: Option<&Path>) -> Self {
        let program = Arc::new(Program::generate(case.seed, case.shape));
        publish(case.seed, program.clone());
        let world = World((0..program.variables + KEPT).map(|index| Ok(Some(index as u64 % 3))).collect());
        let seats = if case.shared && directory.is_some() { 2 } else { 1 };
        let mut bench = Self {
            seed: case.seed,
            program,
            directory: directory.map(Path::to_owned),
            script: Script::new(),
            world: world.clone(),
            worlds: vec![world.clone()],
            seats: Vec::new(),
            durable: Memory::default(),
            store: Vec::new(),
            forced: 0,
            lost: false,
        };
        bench.enter(world);
        for _ in 0..seats {
            bench.seats.push(Seat {
                engine: None,
                log: EventLog::new(),
                still: true,
                as_wanted: BTreeSet::new(),
                asked: Vec::new(),
                memory: Memory::default(),
                nodes: 0,
            });
            bench.open(bench.seats.len() - 1);
        }
        bench
    }

    fn is_shared(&self) -> bool {
        self.seats.len() > 1
    }

    fn open(&mut self, seat: usize) {
        let mut builder = Database::builder()
            .query::<Node>()
            .query::<Keep>()
            .action::<Work>()
            .effect::<Put>()
            .observation::<Look>()
            .resource(self.script.clone())
            .patience(Duration::ZERO)
            .listener(self.seats[seat].log.listener());
        if let Some(directory) = &self.directory {
            builder = builder.store(directory);
        }
        if seat > 0 {
            builder = builder.scope("elsewhere");
        }
        self.seats[seat].engine = Some(Stepper::new(builder));
        self.seats[seat].nodes = 0;
        self.begin_session(seat);
    }

    fn begin_session(&mut self, seat: usize) {
        let wanted =
            (0..KEPT).filter(|index| self.world.0[self.program.variables + index] == Ok(Some(kept_at(*index))));
        self.seats[seat].as_wanted = wanted.collect();
        self.seats[seat].still = true;
    }

    fn engine(&mut self, seat: usize) -> &mut Stepper {
        self.seats[seat].engine.as_mut().expect("the engine is open")
    }

    fn node(&self, query: usize) -> Node {
        Node { program: self.seed, query: query % self.program.queries.len() }
    }

    fn name(&self, index: usize) -> String {
        match index.checked_sub(self.program.variables) {
            None => variable(index),
            Some(index) => kept_variable(index),
        }
    }

    fn enter(&mut self, world: World) {
        for (index, value) in world.0.iter().enumerate() {
            let name = self.name(index);
            if self.world.0[index] == *value && self.script.get(&name).is_some() {
                continue;
            }
            match value {
                Ok(Some(value)) => self.script.set(&name, *value),
                Ok(None) => {
                    self.script.set(&name, 0);
                    self.script.unset(&name);
                }
                Err(()) => self.script.break_it(&name),
            }
        }
        self.world = world;
        for seat in &mut self.seats {
            seat.still = false;
        }
    }

    /// Effects have changed the world.
    fn see_effects(&mut self) {
        for index in self.program.variables..self.world.0.len() {
            let name = self.name(index);
            if !self.script.is_broken(&name) {
                self.world.0[index] = Ok(self.script.get(&name));
            }
        }
    }

    fn ask(&mut self, seat: usize, query: usize) {
        let node = self.node(query);
        let still = self.seats[seat].still;
        let asked = self.engine(seat).ask(&node);
        self.seats[seat].asked.push((node.query, still, asked));
    }

    fn scratch(&self, query: usize) -> Answered {
        Scratch::answer(&self.program, &self.world, query)
    }

    /// Compares the answers that came in and what ran for them.
    fn compare(&mut self, seat: usize) -> Result<(), TestCaseError> {
        let events = self.seats[seat].log.take();
        self.compare_events(seat, events)?;
        let mut left = Vec::new();
        for (query, still, mut asked) in std::mem::take(&mut self.seats[seat].asked) {
            let still = still && self.seats[seat].still;
            match asked.answer() {
                None => left.push((query, still, asked)),
                Some(answer) if still => self.compare_answer(query, answer.as_deref())?,
                Some(_) => {}
            }
        }
        self.seats[seat].asked = left;
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
            (answer, end) => {
                check(false, || format!("q{query} is {answer:?}, from scratch {end:?}; store: {:?}", self.store))
            }
        }
    }

    fn compare_events(&mut self, seat: usize, events: Vec<Event>) -> Result<(), TestCaseError> {
        self.see_effects();
        let (shared, still, lost) = (self.is_shared(), self.seats[seat].still, self.lost);
        for event in events {
            match event {
                Event::DidExecute { spec, .. } => match parse_query(&spec.to_string()) {
                    Named::Keep(index) => {
                        let held = still && self.seats[seat].as_wanted.contains(&index);
                        check(lost || !(held && self.seats[seat].memory.kept.contains(&index)), || {
                            format!("{spec} ran again, though the world is as wanted")
                        })?;
                        // Its one trace that matters is the one of the world as it is wanted.
                        if still {
                            self.seats[seat].memory.kept.insert(index);
                        } else {
                            self.all_memories().for_each(|(_, memory)| memory.kept.retain(|kept| *kept != index));
                        }
                    }
                    Named::Node(query) => {
                        if !still {
                            self.all_memories().for_each(|(_, memory)| {
                                memory.queries.entry(query).or_default().record_other(shared);
                            });
                            continue;
                        }
                        let Some(Some(trace)) = self.scratch(query).traces.remove(&query) else { continue };
                        let known = self.seats[seat].memory.queries.entry(query).or_default();
                        check(lost || !known.must_know(&trace, shared), || {
                            format!("q{query} ran again, with the trace {trace:?}")
                        })?;
                        self.all_memories().for_each(|(place, memory)| {
                            let known = memory.queries.entry(query).or_default();
                            known.record(trace.clone(), place == Some(seat));
                        });
                    }
                },
                Event::Store(event) => self.store.push(event.to_string()),
                Event::DidRun { spec, certain, .. } => {
                    let line = spec.to_string();
                    if let Some(index) = parse_put(&line) {
                        check(!(still && self.seats[seat].as_wanted.contains(&index)), || {
                            format!("{line} was done, though the world is as wanted")
                        })?;
                        continue;
                    }
                    let Some(ask) = parse_work(&line) else {
                        return check(false, || format!("unknown work {line}"));
                    };
                    let Ask::Work { reads, .. } = &ask else { continue };
                    let values: Vec<u64> =
                        reads.iter().map(|read| self.world.0[*read].ok().flatten().unwrap_or(99)).collect();
                    if !still || !certain {
                        self.all_memories().for_each(|(_, memory)| {
                            memory.works.entry(ask.clone()).or_default().record_other(shared);
                        });
                        continue;
                    }
                    let known = self.seats[seat].memory.works.entry(ask.clone()).or_default();
                    check(lost || !known.must_know(&values, shared), || {
                        format!("{ask:?} ran again, reading {values:?}")
                    })?;
                    self.all_memories().for_each(|(place, memory)| {
                        memory.works.entry(ask.clone()).or_default().record(values.clone(), place == Some(seat));
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What each engine, and the store, can remember.
    fn all_memories(&mut self) -> impl Iterator<Item = (Option<usize>, &mut Memory)> {
        let seats = self.seats.iter_mut().enumerate().map(|(place, seat)| (Some(place), &mut seat.memory));
        seats.chain([(None, &mut self.durable)])
    }

    fn settle(&mut self, seat: usize) -> Result<(), TestCaseError> {
        self.engine(seat).settle();
        self.compare(seat)?;
        check(self.seats[seat].asked.is_empty(), || "nothing is under way and a request has no answer".to_owned())
    }

    fn refresh(&mut self, seat: usize) -> Result<(), TestCaseError> {
        self.engine(seat).refresh();
        // What ran until now may have seen the old world, or both.
        let still = std::mem::replace(&mut self.seats[seat].still, false);
        let events = self.seats[seat].log.take();
        self.compare_events(seat, events)?;
        if !still {
            for (_, still, _) in &mut self.seats[seat].asked {
                *still = false;
            }
        }
        self.begin_session(seat);
        let nodes = self.engine(seat).nodes();
        if nodes < self.seats[seat].nodes && self.directory.is_none() {
            // The graph was made anew; without a store, what was out of reach is gone.
            self.seats[seat].memory = Memory::default();
        }
        self.seats[seat].nodes = nodes;
        Ok(())
    }

    fn store(&self) -> Option<Store> {
        let mut options = StoreOptions::new(self.directory.as_ref()?);
        options.lease_deadline = Duration::from_secs(30);
        options.names = doge::names_in;
        Some(Store::open(options))
    }

    fn close(&mut self, seat: usize, how: &Op) -> Result<(), TestCaseError> {
        self.compare(seat)?;
        self.seats[seat].asked.clear();
        let engine = self.seats[seat].engine.take().expect("the engine is open");
        match (how, self.store()) {
            (Op::Kill, _) => drop(engine),
            (Op::ReopenBusy, Some(store)) => {
                let held = store.while_busy(|| engine.close());
                check(held.is_ok(), || format!("the lease cannot be had: {held:?}"))?;
            }
            _ => drop(engine.close()),
        }
        self.seats[seat].log.take();
        if self.directory.is_none() {
            self.seats[seat].memory = Memory::default();
        } else if !matches!(how, Op::Kill) {
            self.durable.learn(&self.seats[seat].memory);
        }
        Ok(())
    }

    fn reopen(&mut self, seat: usize, how: &Op) -> Result<(), TestCaseError> {
        self.close(seat, how)?;
        self.seats[seat].memory = self.durable.clone();
        self.open(seat);
        Ok(())
    }

    /// Asks what would happen, then asks, and compares.
    fn dry(&mut self, seat: usize, query: usize) -> Result<(), TestCaseError> {
        self.settle(seat)?;
        let node = self.node(query);
        let report = self.engine(seat).dry(&node);
        let before = self.seats[seat].log.take();
        let ran = |events: &[Event]| -> Vec<String> {
            let names = events.iter().filter_map(|event| match event {
                Event::DidExecute { spec, .. } | Event::WillRun { spec, .. } => Some(spec.to_string()),
                _ => None,
            });
            names.collect()
        };
        check(ran(&before).is_empty(), || format!("dry evaluation did something: {before:?}"))?;
        self.ask(seat, node.query);
        self.engine(seat).settle();
        let events = self.seats[seat].log.take();
        let ran = ran(&events);
        // It has no verdict on cycles, and says of what stands on one that it may run.
        let scratch = self.scratch(node.query);
        if self.seats[seat].still && !scratch.rings {
            // What was made with the help of a failure is recorded nowhere, but this engine may still have it.
            let tainted = scratch.traces[&node.query].is_none();
            let fits = match &report.verdict {
                // A query below may run, and come to the value it had.
                DryVerdict::Holds => ran.iter().all(|name| *name != node.to_string() && name.starts_with(['q', 'k'])),
                DryVerdict::Missing | DryVerdict::Stale(_) => tainted || ran.contains(&node.to_string()),
                DryVerdict::Fails(_) => !ran.contains(&node.to_string()),
                DryVerdict::MayRun => !ran.is_empty(),
            };
            // Work that fails may end the run before what stands beside it is started.
            let fails =
                |event: &Event| matches!(event, Event::DidFail { spec, .. } if parse_work(&spec.to_string()).is_some());
            let named =
                events.iter().any(fails) || report.would_run.iter().all(|work| ran.contains(&work.spec.to_string()));
            check(fits && named, || format!("dry evaluation of {node} said {report:?}, and what ran is {ran:?}"))?;
        }
        self.compare_events(seat, events)?;
        self.compare(seat)?;
        check(self.seats[seat].asked.is_empty(), || format!("{node} has no answer"))
    }

    /// Has an effect done by force: once, whatever the world is like.
    fn force(&mut self, seat: usize, index: usize) -> Result<(), TestCaseError> {
        self.settle(seat)?;
        self.forced += 1;
        let forced = Keep { force: Some(self.forced), ..kept(index % KEPT) };
        let answer = self.engine(seat).get(&forced);
        let events = self.seats[seat].log.take();
        self.see_effects();
        if self.seats[seat].still {
            let done = events.iter().filter(|event| matches!(event, Event::DidRun { .. })).count();
            let broken = self.world.0[self.program.variables + index % KEPT].is_err();
            check(answer.is_ok() != broken, || format!("forced, it is {answer:?}; broken: {broken}"))?;
            check(done == usize::from(!broken), || format!("forced, it was done {done} times: {events:?}"))?;
        }
        Ok(())
    }

    fn lose(&mut self, seed: u64, percent: u64) -> Result<(), TestCaseError> {
        if std::env::var_os("DOGE_ORACLE_WHOLE").is_some() {
            return Ok(());
        }
        let Some(store) = self.store().filter(|store| store.directory().join("store.redb").exists()) else {
            return Ok(());
        };
        let mut chance = Chance::new(seed);
        let lost = store.lose(|_, _| chance.percent(percent));
        check(lost.is_ok(), || format!("nothing could be lost: {lost:?}"))?;
        self.lost = true;
        Ok(())
    }

    fn collect(&mut self, how: usize) -> Result<(), TestCaseError> {
        let Some(store) = self.store() else { return Ok(()) };
        let part = |part: usize| store.survey(Vec::new()).before().bytes * part as u64 / 8;
        let at_work = how.is_multiple_of(2);
        if !at_work {
            for seat in 0..self.seats.len() {
                self.close(seat, &Op::Reopen)?;
            }
        }
        let max_bytes = Some(part(how / 2 % 10));
        let collected = store.collect(&Collection { max_bytes, ..Collection::default() });
        let collected = collected.map_err(|error| TestCaseError::fail(error.to_string()))?;
        if at_work && collected.alone {
            // There was no store yet when the engines began, so none of them has seen what one that died wrote later.
            self.lost |= collected.removed().count > 0;
        } else if at_work {
            // All of it was used today, so nothing goes that a run under way could ask for.
            check(self.lost || collected.removed().count == 0, || format!("{collected:?}"))?;
        }
        if !at_work {
            self.durable = Memory::default();
            for seat in 0..self.seats.len() {
                self.seats[seat].memory = Memory::default();
                self.open(seat);
            }
        }
        let findings = store.verify().map_err(|error| TestCaseError::fail(error.to_string()))?.findings;
        check(self.lost || findings.is_empty(), || format!("{findings:?}"))
    }

    fn apply(&mut self, seat: usize, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Ask(query) => self.ask(seat, *query),
            Op::AskSome(query) => (0..3).for_each(|offset| self.ask(seat, query.wrapping_add(offset * 7))),
            Op::Finish(place) => {
                let running = self.engine(seat).running();
                if running > 0 {
                    self.engine(seat).finish(place % running);
                    self.engine(seat).advance();
                }
            }
            Op::FinishSome(place) => {
                for _ in 0..1 + place % 4 {
                    let running = self.engine(seat).running();
                    if running > 0 {
                        self.engine(seat).finish(place % running);
                    }
                }
                self.engine(seat).advance();
            }
            Op::Settle => self.settle(seat)?,
            Op::Cancel(place) => {
                if !self.seats[seat].asked.is_empty() {
                    let place = place % self.seats[seat].asked.len();
                    let (_, _, asked) = self.seats[seat].asked.remove(place);
                    self.engine(seat).cancel(&asked);
                }
            }
            Op::Dry(query) => self.dry(seat, *query)?,
            Op::Force(index) => self.force(seat, *index)?,
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
                    self.script.set(&self.name(index), value);
                    self.seats.iter_mut().for_each(|seat| seat.still = false);
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
            Op::Refresh => self.refresh(seat)?,
            Op::Reopen | Op::ReopenBusy | Op::Kill => self.reopen(seat, op)?,
            Op::Lose(seed, percent) => self.lose(*seed, *percent)?,
            Op::Collect(how) => self.collect(*how)?,
        }
        self.compare(seat)
    }

    /// Asks everything; if `again`, nothing may run for it.
    fn ask_everything(&mut self, seat: usize, again: bool) -> Result<(), TestCaseError> {
        let all = 0..self.program.queries.len();
        let tainted: BTreeSet<usize> =
            all.clone().filter(|query| self.scratch(*query).traces[query].is_none()).collect();
        for query in all {
            self.ask(seat, query);
            self.engine(seat).settle();
            let events = self.seats[seat].log.take();
            // What fails may start more or less of what stands beside the failure, as that comes sooner or later.
            let fails = tainted.contains(&query);
            for event in events.iter().filter(|_| again) {
                let ran = match event {
                    Event::DidExecute { spec, .. } => match parse_query(&spec.to_string()) {
                        Named::Node(query) if tainted.contains(&query) => continue,
                        Named::Keep(_) if fails => continue,
                        _ => spec.to_string(),
                    },
                    Event::DidRun { spec, .. } if !fails => spec.to_string(),
                    _ => continue,
                };
                check(false, || {
                    let store = &self.store;
                    format!("{ran} ran when everything was asked again; {events:?}; store: {store:?}")
                })?;
            }
            self.compare_events(seat, events)?;
            self.compare(seat)?;
            check(self.seats[seat].asked.is_empty(), || format!("q{query} has no answer"))?;
        }
        Ok(())
    }

    /// Asks everything, twice, and once more after reopening.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for seat in (0..self.seats.len()).rev() {
            self.engine(seat).settle();
            self.compare(seat)?;
            if seat > 0 {
                self.close(seat, &Op::Reopen)?;
            }
        }
        self.refresh(0)?;
        self.settle(0)?;
        self.ask_everything(0, false)?;
        self.ask_everything(0, true)?;
        self.reopen(0, &Op::Reopen)?;
        self.ask_everything(0, self.directory.is_some() && !self.lost)?;
        for seat in 1..self.seats.len() {
            self.seats[seat].memory = self.durable.clone();
            self.open(seat);
            self.ask_everything(seat, !self.lost)?;
        }
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        unpublish(self.seed);
    }
}

/// A directory in memory where there is such a thing: what is tried here does not depend on a disk.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a temporary directory can be made")
}

/// What is being tried, and since when: a case that does not end is a finding like any other.
static TRYING: Mutex<Option<(Instant, Case)>> = Mutex::new(None);
/// A case takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn trying() -> MutexGuard<'static, Option<(Instant, Case)>> {
    TRYING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process if a case does not end.
#[expect(clippy::print_stderr, reason = "a process that ends itself has nobody else to tell")]
fn watch() {
    let watch = || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some((_, case)) = trying().as_ref().filter(|(began, _)| began.elapsed() > PATIENCE) {
                eprintln!("this case does not end: {case:?}");
                std::process::exit(101);
            }
        }
    };
    std::thread::Builder::new().spawn(watch).expect("a thread can be started");
}

fn try_case(case: &Case) -> Result<(), TestCaseError> {
    *trying() = Some((Instant::now(), case.clone()));
    let tried = try_watched(case);
    *trying() = None;
    tried
}

fn try_watched(case: &Case) -> Result<(), TestCaseError> {
    let directory = (case.persist && std::env::var_os("DOGE_ORACLE_MEMORY").is_none()).then(directory);
    let mut bench = Bench::new(case, directory.as_ref().map(|directory| directory.path()));
    for (other, op) in &case.ops {
        let seat = usize::from(*other) % bench.seats.len();
        bench.apply(seat, op)?;
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
        // Unless somebody asks for many, the same cases each time: the same code is to get the same verdict.
        rng_seed: match (number("DOGE_ORACLE_SEED"), number("DOGE_ORACLE_CASES")) {
            (Some(seed), _) => RngSeed::Fixed(seed),
            (None, Some(_)) => RngSeed::Random,
            (None, None) => RngSeed::Fixed(0),
        },
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/it/oracle.regressions"))),
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    watch();
    let mut runner = TestRunner::new(config);
    if let Err(error) = runner.run(&case(), |case| try_case(&case)) {
        panic!("{error}");
    }
}
