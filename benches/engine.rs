//! The engine alone, in memory: what asking, waiting and checking cost.
//!
//! Each load checks its result, so a bench that measures a failure cannot pass for a fast one. Times are for the
//! whole load; `docs/performance.md` divides them by the number of specs.

use std::fmt;
use std::time::Duration;

use divan::{Bencher, black_box};
use doge::testing::{Look, Script};
use doge::{Action, ActionContext, AnyError, Database, Db, Epoch, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};

fn main() {
    divan::main();
}

macro_rules! spec {
    ($type:ident, $kind:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:?}")
            }
        }

        impl Spec for $type {
            const KIND: &'static str = $kind;
            const EPOCH: Epoch = Epoch::new(1, &[]);
        }
    };
}

/// A pure query: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Pure(u64);
spec!(Pure, "pure");

impl Query for Pure {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, _db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(self.0)
    }
}

/// Asks for many pure queries at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct ManyPure(u64);
spec!(ManyPure, "many_pure");

impl Query for ManyPure {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let all = db.join(|join| (0..self.0).map(|n| join.get(&Pure(n))).collect::<Vec<_>>())?;
        Ok(all.iter().map(|n| **n).sum())
    }
}

/// Asks for the same queries many times over; the number makes it a spec of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Again {
    number: u64,
    times: u64,
}
spec!(Again, "again");

impl Query for Again {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let mut sum = 0;
        for n in 0..self.times {
            sum += *db.get(&Pure(n % 1000))?;
        }
        Ok(sum)
    }
}

/// A chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Link(u64);
spec!(Link, "link");

impl Query for Link {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        match self.0 {
            0 => Ok(1),
            n => Ok(*db.get(&Link(n - 1))? + 1),
        }
    }
}

const WIDTH: u64 = 100;

/// A node of the layers: three nodes of the layer below it, or a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Layer {
    layer: u64,
    place: u64,
}
spec!(Layer, "layer");

impl Query for Layer {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        if self.layer == 0 {
            // Changes of less than ten are cut off right here.
            return Ok(db.observe(&Look(format!("v{}", self.place)))?.unwrap_or(0) / 10);
        }
        let below = |n: u64| Layer { layer: self.layer - 1, place: (self.place + n * 7) % WIDTH };
        let (a, b, c) = db.join(|join| (join.get(&below(0)), join.get(&below(1)), join.get(&below(2))))?;
        Ok(a.wrapping_add(*b).wrapping_add(*c))
    }
}

/// All nodes of the top layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Top(u64);
spec!(Top, "top");

impl Query for Top {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let layer = self.0 - 1;
        let top = db.join(|join| (0..WIDTH).map(|place| join.get(&Layer { layer, place })).collect::<Vec<_>>())?;
        Ok(top.iter().fold(0, |sum, value| sum.wrapping_add(**value)))
    }
}

/// An action that yields at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Trivial(u64);
spec!(Trivial, "trivial");

impl Action for Trivial {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, _ctx: &ActionContext) -> Result<u64, AnyError> {
        tokio::task::yield_now().await;
        Ok(self.0 * 2)
    }
}

/// Many trivial actions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct ManyTrivial(u64);
spec!(ManyTrivial, "many_trivial");

impl Query for ManyTrivial {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let all = db.join(|join| (0..self.0).map(|n| join.act(&Trivial(n))).collect::<Vec<_>>())?;
        Ok(all.iter().map(|n| **n).sum())
    }
}

/// An action that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slow;
spec!(Slow, "slow");

impl Action for Slow {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, _ctx: &ActionContext) -> Result<u64, AnyError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(7)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn database(runtime: &tokio::runtime::Runtime, script: &Script) -> Database {
    let no_limits = doge::Limits { solve: None, build: None, git: None, url: None, io: None, cpu: None };
    Database::builder()
        .runtime(runtime.handle().clone())
        .limits(no_limits)
        .resource(script.clone())
        .build()
        .expect("threads")
}

fn get<Q: Query<Output = u64, Error = AnyError>>(
    runtime: &tokio::runtime::Runtime,
    database: &Database,
    query: &Q,
) -> u64 {
    *runtime.block_on(database.get(query)).expect("nothing fails")
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 20)]
fn pure_queries_at_once(bencher: Bencher<'_, '_>, count: u64) {
    let runtime = runtime();
    bencher.with_inputs(|| database(&runtime, &Script::new())).bench_local_refs(|database| {
        assert_eq!(get(&runtime, database, &ManyPure(count)), count * (count - 1) / 2);
    });
}

#[divan::bench(args = [10_000], sample_count = 20)]
fn chain(bencher: Bencher<'_, '_>, length: u64) {
    let runtime = runtime();
    bencher.with_inputs(|| database(&runtime, &Script::new())).bench_local_refs(|database| {
        assert_eq!(get(&runtime, database, &Link(length)), length + 1);
    });
}

#[divan::bench(sample_count = 20)]
fn layers_100x100(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let script = layered_world();
    bencher.with_inputs(|| database(&runtime, &script)).bench_local_refs(|database| {
        black_box(get(&runtime, database, &Top(100)));
    });
}

fn layered_world() -> Script {
    let script = Script::new();
    (0..WIDTH).for_each(|place| script.set(&format!("v{place}"), place * 10));
    script
}

/// One variable changes, and its reader comes to the value it had: 10,000 specs stand on it.
#[divan::bench(sample_count = 20)]
fn change_cut_off_early_in_layers(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let script = layered_world();
    let database = database(&runtime, &script);
    let value = get(&runtime, &database, &Top(100));
    let mut change = 0;
    bencher.bench_local(|| {
        change = (change + 1) % 10;
        script.set("v5", 50 + change);
        runtime.block_on(database.refresh()).expect("it is open");
        assert_eq!(get(&runtime, &database, &Top(100)), value);
    });
}

/// A million warm hits from within a body.
#[divan::bench(sample_count = 5)]
fn warm_hits_1_000_000(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let database = database(&runtime, &Script::new());
    get(&runtime, &database, &ManyPure(1000));
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        assert_eq!(get(&runtime, &database, &Again { number, times: 1_000_000 }), 499_500_000);
    });
}

#[divan::bench(args = [100_000], sample_count = 5)]
fn trivial_actions_at_once(bencher: Bencher<'_, '_>, count: u64) {
    let runtime = runtime();
    bencher.with_inputs(|| database(&runtime, &Script::new())).bench_local_refs(|database| {
        assert_eq!(get(&runtime, database, &ManyTrivial(count)), count * (count - 1));
    });
}

#[divan::bench(args = [1_000], sample_count = 20)]
fn askers_of_one_slow_action(bencher: Bencher<'_, '_>, askers: usize) {
    let runtime = runtime();
    bencher.with_inputs(|| database(&runtime, &Script::new())).bench_local_refs(|database| {
        let requests: Vec<_> = (0..askers).map(|_| database.act(&Slow)).collect();
        let counts = runtime.block_on(async {
            for request in requests {
                assert_eq!(*request.await.expect("nothing fails"), 7);
            }
            database.counts().await.expect("it is open")
        });
        assert_eq!(counts.executed["slow"], 1);
    });
}
