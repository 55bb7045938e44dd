//! The same loads on three engines: bare salsa, picante and Doge.
//!
//! What bare salsa cannot do by itself (work that waits) is done around it in the plainest way, so that its column is
//! a floor: what Doge costs beyond it buys content hashes, traces, waiting, and records of what happened.

pub mod on_doge;
pub mod on_picante;
pub mod on_salsa;

use std::time::{Duration, Instant};

/// How many queries are asked at once, or in turn.
pub const MANY: u64 = 100_000;
/// As many as picante can be asked at once in a reasonable time: what it takes grows with the square.
pub const SOME: u64 = 10_000;
/// The length of the chain.
pub const LENGTH: u64 = 10_000;
/// The layers, and the width of each.
pub const LAYERS: u64 = 100;
/// How often something known is asked for again.
pub const HITS: u64 = 1_000_000;
/// How many trivial actions are started at once.
pub const ACTIONS: u64 = 10_000;
/// How many ask for one slow action.
pub const ASKERS: u64 = 1_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Pure queries, asked one after the other by one query.
    PureInTurn,
    /// Pure queries, asked all at once by one query.
    PureAtOnce,
    /// As before, but fewer.
    SomeAtOnce,
    /// A chain of queries.
    Chain,
    /// Layers of queries that each need three of the layer below.
    Layers,
    /// One variable below the layers changes, and its reader comes to the value it had.
    CutOff,
    /// Known queries are asked for again by one query.
    Warm,
    /// Actions that yield once.
    Actions,
    /// Many ask for one slow action, which runs once.
    Askers,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 9] = [
        Load::PureInTurn,
        Load::PureAtOnce,
        Load::SomeAtOnce,
        Load::Chain,
        Load::Layers,
        Load::CutOff,
        Load::Warm,
        Load::Actions,
        Load::Askers,
    ];

    /// The name in tables, and by how many a time is divided.
    pub fn name(self) -> (&'static str, u64) {
        match self {
            Load::PureInTurn => ("100,000 pure queries in turn, each", MANY),
            Load::PureAtOnce => ("100,000 pure queries at once, each", MANY),
            Load::SomeAtOnce => ("10,000 pure queries at once, each", SOME),
            Load::Chain => ("chain of 10,000, a link", LENGTH),
            Load::Layers => ("100 x 100 layers", 1),
            Load::CutOff => ("a change cut off early in them", 1),
            Load::Warm => ("a warm hit", HITS),
            Load::Actions => ("10,000 trivial actions, each", ACTIONS),
            Load::Askers => ("1,000 askers of one slow action", 1),
        }
    }
}

/// The nodes that a node of a layer above the lowest needs.
pub fn below(place: u64) -> [u64; 3] {
    [0, 1, 2].map(|n| (place + n * 7) % LAYERS)
}

/// What the variable at a place is in the beginning. Changes of less than ten make no difference.
pub fn variable(place: u64) -> u64 {
    place * 10
}

/// What the top of the layers comes to, worked out without any engine.
pub fn top_of_layers() -> u64 {
    let mut layer: Vec<u64> = (0..LAYERS).map(|place| variable(place) / 10).collect();
    for _ in 1..LAYERS {
        layer = (0..LAYERS)
            .map(|place| below(place).into_iter().fold(0, |sum: u64, n| sum.wrapping_add(layer[n as usize])))
            .collect();
    }
    layer.into_iter().fold(0, u64::wrapping_add)
}

/// What the sum of `0..n` is.
pub fn sum(n: u64) -> u64 {
    n * (n - 1) / 2
}

/// What known queries come to that are asked in turn, a thousand of them over and over.
pub fn sum_of_hits() -> u64 {
    HITS / 1000 * sum(1000)
}

/// The time that something takes.
pub fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = what();
    (began.elapsed(), result)
}

/// Runs something where there is stack enough for long chains.
pub fn with_stack<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(1 << 29).spawn_scoped(scope, what);
        thread.expect("a thread can be started").join().expect("no load fails")
    })
}

/// What work runs on.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_stack_size(1 << 29).enable_all().build().expect("a runtime")
}
