//! Restarting: opening the store of an earlier run and checking that its results hold. Nothing is executed.

use std::fmt;

use divan::{Bencher, black_box};
use doge::testing::{Look, Script};
use doge::{AnyError, Database, Db, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};

fn main() {
    divan::main();
}

/// A query that reads one observation and its neighbour below.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Part {
    place: u64,
    /// Of so many observations each part reads one.
    observed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Whole {
    parts: u64,
    observed: u64,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {}", self.place)
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.parts)
    }
}

impl Spec for Part {
    const KIND: &'static str = "part";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Spec for Whole {
    const KIND: &'static str = "whole";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Query for Part {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let seen = db.observe(&Look((self.place % self.observed).to_string()))?;
        Ok(self.place + seen.unwrap_or(0))
    }
}

impl Query for Whole {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let part = |place| Part { place, observed: self.observed };
        let parts = db.join(|join| (0..self.parts).map(|place| join.get(&part(place))).collect::<Vec<_>>())?;
        Ok(parts.iter().map(|part| **part).sum())
    }
}

fn open(directory: &std::path::Path, script: &Script) -> Database {
    Database::builder()
        .resource(script.clone())
        .query::<Part>()
        .query::<Whole>()
        .observation::<Look>()
        .store(directory)
        .build()
        .expect("a thread can be started")
}

/// Reopening and re-checking: the number of traces, each of which reads one of ten observations.
#[divan::bench(args = [1_000, 10_000])]
fn reopen_and_check(bencher: Bencher<'_, '_>, parts: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = Script::new();
    for place in 0..10 {
        script.set(&place.to_string(), place);
    }
    let whole = Whole { parts, observed: 10 };
    let expected = runtime.block_on(async {
        let database = open(directory.path(), &script);
        let value = *database.get(&whole).await.expect("it cannot fail");
        database.close().await.expect("it is open");
        value
    });
    bencher.bench(|| {
        runtime.block_on(async {
            let database = open(directory.path(), &script);
            assert_eq!(*database.get(black_box(&whole)).await.expect("it holds"), expected);
            let record = database.close().await.expect("it is open");
            assert!(record.counts.executed.is_empty(), "{:?}", record.counts);
            assert_eq!(record.counts.verified, parts + 1);
        });
    });
}
