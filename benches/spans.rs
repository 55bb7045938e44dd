//! What spans cost that nobody wants: 100,000 pure queries without a subscriber, and with one that wants no span of specs.
//!
//! The name decides the order: a subscriber is there for good once it is set.

use std::fmt;
use std::sync::Once;

use divan::{Bencher, black_box};
use doge::{AnyError, Database, Db, Epoch, Halt, Query, Spec};
use serde::{Deserialize, Serialize};

fn main() {
    divan::main();
}

const COUNT: u64 = 100_000;

/// A pure query: its number, or that of many below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Pure {
    One(u64),
    Many(u64),
}

impl fmt::Display for Pure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Spec for Pure {
    const KIND: &'static str = "pure";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Query for Pure {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        match self {
            Pure::One(number) => Ok(*number),
            Pure::Many(count) => {
                let all = db.join(|join| (0..*count).map(|n| join.get(&Pure::One(n))).collect::<Vec<_>>())?;
                Ok(all.iter().map(|n| **n).sum())
            }
        }
    }
}

fn pure(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("threads can be started");
    bencher
        .with_inputs(|| {
            let _inside = runtime.enter();
            Database::builder().query::<Pure>().build().expect("a thread can be started")
        })
        .bench_local_refs(|database| {
            let sum = runtime.block_on(async { database.get(&Pure::Many(COUNT)).await }).expect("nothing fails");
            assert_eq!(*sum, COUNT * (COUNT - 1) / 2);
            black_box(sum)
        });
}

#[divan::bench(sample_count = 20)]
fn a_nobody_listens(bencher: Bencher<'_, '_>) {
    pure(bencher);
}

#[divan::bench(sample_count = 20)]
fn b_somebody_listens_to_other_things(bencher: Bencher<'_, '_>) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        // Salsa tells at the level `info` of each query that it runs; nobody wants that here.
        let filter = tracing_subscriber::EnvFilter::new("warn,doge=info");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink).init();
    });
    pure(bencher);
}
