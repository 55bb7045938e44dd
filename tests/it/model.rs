//! A small language of random programs, and what they yield when worked out from scratch.
//!
//! A program is a pure function of its seed: queries with dynamic dependencies on each other, on variables of a
//! scripted world and on work, alone and in joins, some tolerating failures, some reaching back so that cycles come
//! and go with the values. The same bodies run on the engine and on the oracle; only the asking differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use doge::testing::{Look, Work};
use doge::{AnyError, Db, Epoch, Failure, Halt, Member, Pending, Query, Settled, Spec, Tolerate};
use serde::{Deserialize, Serialize};

use crate::kinds::{Keep, KeepError, keep};

/// A small deterministic generator, so that a program is a function of its seed.
#[derive(Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x1234_5678_9abc_def1).wrapping_add(77))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What a step asks; the target depends on what was answered so far.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Variable(usize),
    /// Work, reading none, one or two variables.
    Work(usize),
    /// A variable that is kept at a value, by an effect where it is not.
    Kept(usize),
    /// An earlier query, or any query.
    Query {
        base: usize,
        back: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask { target: Target, tolerant: bool },
    Join { targets: Vec<Target>, tolerant: bool },
    SkipIf { modulus: u64, steps: usize },
    PanicIf { modulus: u64 },
}

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) variables: usize,
    pub(crate) queries: Vec<Vec<Step>>,
    modulus: u64,
}

/// What kinds of programs there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) cyclic: u64,
    pub(crate) tolerant: u64,
    pub(crate) panics: u64,
    pub(crate) effects: u64,
}

impl Program {
    pub(crate) fn generate(seed: u64, shape: Shape) -> Self {
        let mut chance = Chance::new(seed);
        let big = chance.percent(15);
        let queries = 2 + chance.below(if big { 40 } else { 12 });
        let variables = 1 + chance.below(6);
        let modulus = 2 + chance.next() % 5;
        let queries =
            (0..queries).map(|_| (0..1 + chance.below(5)).map(|_| Self::step(&mut chance, shape)).collect()).collect();
        Self { variables, queries, modulus }
    }

    fn target(chance: &mut Chance, shape: Shape) -> Target {
        match chance.below(10) {
            0..2 => Target::Variable(chance.below(64)),
            2..4 => Target::Work(chance.below(64)),
            4 if chance.percent(shape.effects) => Target::Kept(chance.below(64)),
            _ => Target::Query { base: chance.below(64), back: chance.percent(shape.cyclic) },
        }
    }

    fn step(chance: &mut Chance, shape: Shape) -> Step {
        match chance.below(10) {
            0..5 => Step::Ask { target: Self::target(chance, shape), tolerant: chance.percent(shape.tolerant) },
            5..8 => Step::Join {
                targets: (0..1 + chance.below(4)).map(|_| Self::target(chance, shape)).collect(),
                tolerant: chance.percent(shape.tolerant),
            },
            _ if chance.percent(shape.panics) => Step::PanicIf { modulus: 2 + chance.next() % 4 },
            _ => Step::SkipIf { modulus: 2 + chance.next() % 3, steps: 1 + chance.below(2) },
        }
    }
}

/// What a step asks once the values so far are known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ask {
    Variable(usize),
    Work { name: usize, input: u64, reads: Vec<usize> },
    Kept(usize),
    Query(usize),
}

/// How asking ended, as far as programs can tell.
pub(crate) enum Told {
    Value(u64),
    Failed,
    Pending,
}

/// How a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value(u64),
    Failed,
    Panicked,
    Pending,
}

/// Whoever answers a body.
pub(crate) trait Asker {
    fn ask(&mut self, ask: &Ask) -> Told;
    /// Asks several at once. Returns at the first failure that nothing pending precedes, unless tolerant.
    fn join(&mut self, asks: &[Ask], tolerant: bool) -> Result<Vec<Option<u64>>, End>;
}

pub(crate) fn variable(index: usize) -> String {
    format!("v{index}")
}

/// How many variables there are that are kept at a value. They stand behind the others in a [`World`]; nobody looks at
/// them but who keeps them, for what others would see depends on whether they look before or after that.
pub(crate) const KEPT: usize = 2;

/// The variable that is kept.
pub(crate) fn kept_variable(index: usize) -> String {
    format!("k{index}")
}

/// The value that it is kept at.
pub(crate) fn kept_at(index: usize) -> u64 {
    index as u64 + 1
}

/// Who keeps it.
pub(crate) fn kept(index: usize) -> Keep {
    keep(&kept_variable(index), kept_at(index))
}

impl Program {
    fn resolve(&self, target: Target, query: usize, sum: u64) -> Ask {
        let of = |base: usize| base + sum as usize;
        match target {
            Target::Variable(base) => Ask::Variable(of(base) % self.variables),
            Target::Work(base) => {
                let name = of(base) % 7;
                let reads = match name {
                    0..3 => Vec::new(),
                    3..5 => vec![(name + base) % self.variables],
                    _ => vec![name % self.variables, (name * 3 + base) % self.variables],
                };
                Ask::Work { name, input: sum % 3, reads }
            }
            Target::Kept(base) => Ask::Kept(of(base) % KEPT),
            Target::Query { base, back: true } => Ask::Query(of(base) % self.queries.len()),
            Target::Query { base, back: false } if query > 0 => Ask::Query(of(base) % query),
            Target::Query { base, back: false } => Ask::Variable(of(base) % self.variables),
        }
    }

    pub(crate) fn run(&self, query: usize, asker: &mut dyn Asker) -> End {
        let mut sum = query as u64 % self.modulus;
        let mut skip = 0;
        for step in &self.queries[query] {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            match step {
                Step::SkipIf { modulus, steps } => {
                    if sum.is_multiple_of(*modulus) {
                        skip = *steps;
                    }
                }
                Step::PanicIf { modulus } => {
                    if sum % modulus == 1 {
                        return End::Panicked;
                    }
                }
                Step::Ask { target, tolerant } => {
                    let told = match asker.ask(&self.resolve(*target, query, sum)) {
                        Told::Value(value) => value,
                        Told::Failed if *tolerant => 3,
                        Told::Failed => return End::Failed,
                        Told::Pending => return End::Pending,
                    };
                    sum = (sum * 3 + told + 1) % self.modulus;
                }
                Step::Join { targets, tolerant } => {
                    let asks: Vec<Ask> = targets.iter().map(|target| self.resolve(*target, query, sum)).collect();
                    let told = match asker.join(&asks, *tolerant) {
                        Ok(told) => told.into_iter().map(|value| value.unwrap_or(2)).sum::<u64>(),
                        Err(end) => return end,
                    };
                    sum = (sum * 3 + told + 1) % self.modulus;
                }
            }
        }
        End::Value(sum)
    }
}

// On the engine.

static PROGRAMS: Mutex<BTreeMap<u64, Arc<Program>>> = Mutex::new(BTreeMap::new());

/// Makes the program of a seed known. Programs of one seed are equal, so bodies stay pure.
pub(crate) fn publish(seed: u64, program: Arc<Program>) {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, program);
}

pub(crate) fn unpublish(seed: u64) {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).remove(&seed);
}

fn program(seed: u64) -> Arc<Program> {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner).get(&seed).cloned().expect("the program was published")
}

/// A query of a program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) program: u64,
    pub(crate) query: usize,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}", self.query)
    }
}

impl Spec for Node {
    const KIND: &'static str = "node";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

#[derive(Debug, thiserror::Error)]
#[error("something that q{0} needs failed")]
pub(crate) struct NodeError(usize);

pub(crate) fn work(name: usize, input: u64, reads: &[usize]) -> Work {
    Work { name: format!("w{name}"), input, reads: reads.iter().map(|read| variable(*read)).collect() }
}

struct Engine<'a, 'b> {
    db: &'a Db<'b>,
    program: u64,
}

fn told<E>(settled: Result<Result<u64, E>, Pending>) -> Told {
    match settled {
        Ok(Ok(value)) => Told::Value(value),
        Ok(Err(_)) => Told::Failed,
        Err(_) => Told::Pending,
    }
}

impl Asker for Engine<'_, '_> {
    fn ask(&mut self, ask: &Ask) -> Told {
        let Self { db, program } = *self;
        match ask {
            Ask::Variable(index) => {
                let seen = db.observe(&Look(variable(*index))).settle();
                told(seen.map(|seen| seen.map(|value| value.unwrap_or(0))))
            }
            Ask::Work { name, input, reads } => {
                let done = db.act(&work(*name, *input, reads)).settle();
                told(done.map(|done| done.map(|value| *value % 5)))
            }
            Ask::Kept(index) => {
                let kept = db.get(&kept(*index)).settle();
                told(kept.map(|kept| kept.map(|value| *value)))
            }
            Ask::Query(query) => {
                let got = db.get(&Node { program, query: *query }).settle();
                told(got.map(|got| got.map(|value| *value)))
            }
        }
    }

    fn join(&mut self, asks: &[Ask], tolerant: bool) -> Result<Vec<Option<u64>>, End> {
        enum Any {
            Variable(Settled<Option<u64>, Failure<doge::testing::WorkError>>),
            Work(Settled<u64, Failure<doge::testing::WorkError>>),
            Kept(Settled<u64, Failure<KeepError>>),
            Query(Settled<u64, Failure<NodeError>>),
        }
        impl doge::Joined for Any {
            type Output = Option<u64>;
            type Error = doge::Never;
            fn take(self) -> Result<Option<u64>, doge::Stop<doge::Never>> {
                Ok(match self {
                    Any::Variable(member) => member.take()?.ok().map(|value| value.unwrap_or(0)),
                    Any::Work(member) => member.take()?.ok().map(|value| *value % 5),
                    Any::Kept(member) => member.take()?.ok().map(|value| *value),
                    Any::Query(member) => member.take()?.ok().map(|value| *value),
                })
            }
        }
        enum Strict {
            Variable(Member<Option<u64>, Failure<doge::testing::WorkError>>),
            Work(Member<u64, Failure<doge::testing::WorkError>>),
            Kept(Member<u64, Failure<KeepError>>),
            Query(Member<u64, Failure<NodeError>>),
        }
        impl doge::Joined for Strict {
            type Output = Option<u64>;
            type Error = Failure<AnyError>;
            fn take(self) -> Result<Option<u64>, doge::Stop<Failure<AnyError>>> {
                Ok(Some(match self {
                    Strict::Variable(member) => member.take().map_err(|stop| stop.map(Failure::erase))?.unwrap_or(0),
                    Strict::Work(member) => *member.take().map_err(|stop| stop.map(Failure::erase))? % 5,
                    Strict::Kept(member) => *member.take().map_err(|stop| stop.map(Failure::erase))?,
                    Strict::Query(member) => *member.take().map_err(|stop| stop.map(Failure::erase))?,
                }))
            }
        }
        let program = self.program;
        if tolerant {
            let joined = self.db.join(|join| {
                asks.iter()
                    .map(|ask| match ask {
                        Ask::Variable(index) => Any::Variable(join.observe_settled(&Look(variable(*index)))),
                        Ask::Work { name, input, reads } => Any::Work(join.act_settled(&work(*name, *input, reads))),
                        Ask::Kept(index) => Any::Kept(join.get_settled(&kept(*index))),
                        Ask::Query(query) => Any::Query(join.get_settled(&Node { program, query: *query })),
                    })
                    .collect::<Vec<_>>()
            });
            return match joined.settle() {
                Ok(Ok(values)) => Ok(values),
                Ok(Err(never)) => match never {},
                Err(_) => Err(End::Pending),
            };
        }
        let joined = self.db.join(|join| {
            asks.iter()
                .map(|ask| match ask {
                    Ask::Variable(index) => Strict::Variable(join.observe(&Look(variable(*index)))),
                    Ask::Work { name, input, reads } => Strict::Work(join.act(&work(*name, *input, reads))),
                    Ask::Kept(index) => Strict::Kept(join.get(&kept(*index))),
                    Ask::Query(query) => Strict::Query(join.get(&Node { program, query: *query })),
                })
                .collect::<Vec<_>>()
        });
        match joined.settle() {
            Ok(Ok(values)) => Ok(values),
            Ok(Err(_)) => Err(End::Failed),
            Err(_) => Err(End::Pending),
        }
    }
}

impl Query for Node {
    type Output = u64;
    type Error = NodeError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<NodeError>> {
        let program = program(self.program);
        match program.run(self.query, &mut Engine { db, program: self.program }) {
            End::Value(value) => Ok(value),
            End::Failed => Err(Halt::fail(NodeError(self.query))),
            End::Panicked => panic!("q{} was told to panic", self.query),
            // The body must not end without passing "pending" on; it has none in hand any more, so it makes up a
            // failure, which the engine must not believe.
            End::Pending => Err(Halt::fail(NodeError(self.query))),
        }
    }
}

// From scratch.

/// The world of a program: a value or nothing for each variable, or broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct World(pub(crate) Vec<Result<Option<u64>, ()>>);

/// What a query asked and was told, in groups: its trace.
pub(crate) type Trace = Vec<Vec<(Ask, u64)>>;

/// The answers of a program in a world, worked out without any memory.
pub(crate) struct Scratch<'a> {
    program: &'a Program,
    world: &'a World,
    cyclic: BTreeSet<usize>,
    ends: BTreeMap<usize, End>,
    waits: BTreeMap<usize, BTreeSet<usize>>,
    reached: BTreeSet<usize>,
}

/// The answer of one query and everything that it stands on.
pub(crate) struct Answered {
    pub(crate) end: End,
    /// Whether it is part of a cycle itself.
    pub(crate) cyclic: bool,
    /// Whether there is a cycle anywhere below.
    pub(crate) rings: bool,
    /// What each of the queries that were asked on the way asked; `None` where a failure was seen, here or below.
    pub(crate) traces: BTreeMap<usize, Option<Trace>>,
}

struct ScratchAsker<'a, 'b> {
    scratch: &'b Scratch<'a>,
    waits: BTreeSet<usize>,
    trace: Trace,
    failed: bool,
}

impl ScratchAsker<'_, '_> {
    /// The answer, and what tells it from others: programs see less of a value than its fingerprint does.
    fn tell(&mut self, ask: &Ask) -> (Told, u64) {
        let told = self.told(ask);
        let raw = match (ask, &told) {
            (Ask::Variable(index), _) => self.scratch.world.0[*index].ok().flatten().unwrap_or(u64::MAX),
            (Ask::Work { input, reads, .. }, _) => {
                input + reads.iter().map(|read| self.scratch.world.0[*read].ok().flatten().unwrap_or(0)).sum::<u64>()
            }
            (_, Told::Value(value)) => *value,
            _ => 0,
        };
        (told, raw)
    }

    fn told(&mut self, ask: &Ask) -> Told {
        let world = self.scratch.world;
        match ask {
            Ask::Variable(index) => match world.0[*index] {
                Ok(value) => Told::Value(value.unwrap_or(0)),
                Err(()) => Told::Failed,
            },
            Ask::Work { input, reads, .. } => {
                let mut sum = *input;
                for read in reads {
                    match world.0[*read] {
                        Ok(Some(value)) => sum += value,
                        Ok(None) | Err(()) => return Told::Failed,
                    }
                }
                Told::Value(sum % 5)
            }
            Ask::Kept(index) => match world.0[self.scratch.program.variables + index] {
                Ok(_) => Told::Value(kept_at(*index)),
                Err(()) => Told::Failed,
            },
            Ask::Query(query) => match self.scratch.ends.get(query) {
                Some(End::Value(value)) => Told::Value(*value),
                Some(End::Failed | End::Panicked) => Told::Failed,
                Some(End::Pending) | None => {
                    self.waits.insert(*query);
                    Told::Pending
                }
            },
        }
    }
}

impl Asker for ScratchAsker<'_, '_> {
    fn ask(&mut self, ask: &Ask) -> Told {
        let (told, raw) = self.tell(ask);
        match told {
            Told::Value(_) => self.trace.push(vec![(ask.clone(), raw)]),
            Told::Failed => self.failed = true,
            Told::Pending => {}
        }
        told
    }

    fn join(&mut self, asks: &[Ask], tolerant: bool) -> Result<Vec<Option<u64>>, End> {
        let mut values = Vec::new();
        let mut group = Vec::new();
        let mut pending = false;
        let mut failed = false;
        for ask in asks {
            match self.tell(ask) {
                (Told::Value(value), raw) => {
                    group.push((ask.clone(), raw));
                    values.push(Some(value));
                }
                (Told::Failed, _) if tolerant => {
                    self.failed = true;
                    values.push(None);
                }
                (Told::Failed, _) => {
                    self.failed = true;
                    failed = true;
                    break;
                }
                (Told::Pending, _) => pending = true,
            }
        }
        if pending {
            return Err(End::Pending);
        }
        if failed {
            return Err(End::Failed);
        }
        if !group.is_empty() {
            self.trace.push(group);
        }
        Ok(values)
    }
}

impl<'a> Scratch<'a> {
    /// Works out the answer of a query: the least fixpoint in which every query that can only wait for itself fails.
    pub(crate) fn answer(program: &'a Program, world: &'a World, root: usize) -> Answered {
        let mut scratch = Self {
            program,
            world,
            cyclic: BTreeSet::new(),
            ends: BTreeMap::new(),
            waits: BTreeMap::new(),
            reached: BTreeSet::new(),
        };
        loop {
            scratch.fixpoint(root);
            match &scratch.ends[&root] {
                End::Pending => {
                    let sinks = scratch.sinks();
                    assert!(!sinks.is_empty(), "what waits forever waits in a cycle");
                    scratch.cyclic.extend(sinks);
                }
                end => {
                    let end = end.clone();
                    let traces = scratch.traces();
                    let rings = !scratch.cyclic.is_empty();
                    return Answered { end, cyclic: scratch.cyclic.contains(&root), rings, traces };
                }
            }
        }
    }

    fn fixpoint(&mut self, root: usize) {
        self.ends.clear();
        self.waits.clear();
        self.reached = BTreeSet::from([root]);
        loop {
            let mut changed = false;
            for query in self.reached.clone() {
                if !matches!(self.ends.get(&query), None | Some(End::Pending)) {
                    continue;
                }
                let (end, waits) = if self.cyclic.contains(&query) {
                    (End::Failed, BTreeSet::new())
                } else {
                    let mut asker =
                        ScratchAsker { scratch: self, waits: BTreeSet::new(), trace: Vec::new(), failed: false };
                    let end = self.program.run(query, &mut asker);
                    (end, asker.waits)
                };
                changed |= self.ends.get(&query) != Some(&end) || !waits.is_subset(&self.reached);
                self.reached.extend(&waits);
                self.waits.insert(query, waits);
                self.ends.insert(query, end);
            }
            if !changed {
                return;
            }
        }
    }

    /// Queries that wait, and wait for nothing but each other.
    fn sinks(&self) -> BTreeSet<usize> {
        let reach = |from: usize| {
            let mut seen = BTreeSet::new();
            let mut todo: Vec<usize> = self.waits[&from].iter().copied().collect();
            while let Some(next) = todo.pop() {
                if seen.insert(next) {
                    todo.extend(&self.waits[&next]);
                }
            }
            seen
        };
        let pending: Vec<usize> =
            self.ends.iter().filter(|(_, end)| **end == End::Pending).map(|(query, _)| *query).collect();
        let reaches: BTreeMap<usize, BTreeSet<usize>> = pending.iter().map(|query| (*query, reach(*query))).collect();
        pending
            .iter()
            .copied()
            .filter(|query| {
                let from_here = &reaches[query];
                from_here.contains(query) && from_here.iter().all(|other| reaches[other].contains(query))
            })
            .collect()
    }

    fn traces(&self) -> BTreeMap<usize, Option<Trace>> {
        let mut traces: BTreeMap<usize, Option<Trace>> = BTreeMap::new();
        for (query, end) in &self.ends {
            let trace = matches!(end, End::Value(_)).then(|| {
                let mut asker =
                    ScratchAsker { scratch: self, waits: BTreeSet::new(), trace: Vec::new(), failed: false };
                self.program.run(*query, &mut asker);
                (!asker.failed).then_some(asker.trace)
            });
            traces.insert(*query, trace.flatten());
        }
        // A result that was made with the help of one that saw a failure saw it too.
        loop {
            let tainted: Vec<usize> = traces
                .iter()
                .filter(|(_, trace)| {
                    trace.iter().flatten().flatten().any(|(ask, _)| match ask {
                        Ask::Query(below) => traces.get(below).is_none_or(Option::is_none),
                        _ => false,
                    })
                })
                .map(|(query, _)| *query)
                .collect();
            if tainted.is_empty() {
                return traces;
            }
            for query in tainted {
                traces.insert(query, None);
            }
        }
    }
}
