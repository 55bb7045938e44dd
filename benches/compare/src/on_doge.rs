//! Doge, in memory.

use std::fmt;
use std::time::Duration;

use doge::testing::{Look, Script};
use doge::{Action, ActionContext, AnyError, Database, Db, Epoch, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    ACTIONS, ASKERS, HITS, LAYERS, LENGTH, Load, MANY, SOME, below, runtime, sum, sum_of_hits, timed, variable,
};

macro_rules! spec {
    ($type:ident, $kind:literal, $($field:tt)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        struct $type $($field)*

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

macro_rules! query {
    ($type:ident, |$query:ident, $db:ident| $body:expr) => {
        impl Query for $type {
            type Output = u64;
            type Error = AnyError;

            fn compute(&self, $db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
                let $query = self;
                $body
            }
        }
    };
}

spec!(Pure, "pure", (u64););
query!(Pure, |query, _db| Ok(query.0));

spec!(InTurn, "in_turn", (u64););
query!(InTurn, |query, db| {
    let mut sum = 0;
    for n in 0..query.0 {
        sum += *db.get(&Pure(n))?;
    }
    Ok(sum)
});

spec!(AtOnce, "at_once", (u64););
query!(AtOnce, |query, db| {
    let all = db.join(|join| (0..query.0).map(|n| join.get(&Pure(n))).collect::<Vec<_>>())?;
    Ok(all.iter().map(|n| **n).sum())
});

spec!(Again, "again", (u64););
query!(Again, |query, db| {
    let mut sum = 0;
    for n in 0..query.0 {
        sum += *db.get(&Pure(n % 1000))?;
    }
    Ok(sum)
});

spec!(Link, "link", (u64););
query!(Link, |query, db| match query.0 {
    0 => Ok(1),
    n => Ok(*db.get(&Link(n - 1))? + 1),
});

spec!(Layer, "layer", { layer: u64, place: u64 });
query!(Layer, |query, db| {
    if query.layer == 0 {
        return Ok(db.observe(&Look(format!("v{}", query.place)))?.unwrap_or(0) / 10);
    }
    let [a, b, c] = below(query.place).map(|place| Layer { layer: query.layer - 1, place });
    let (a, b, c) = db.join(|join| (join.get(&a), join.get(&b), join.get(&c)))?;
    Ok(a.wrapping_add(*b).wrapping_add(*c))
});

spec!(Top, "top", (u64););
query!(Top, |query, db| {
    let layer = query.0 - 1;
    let top = db.join(|join| (0..LAYERS).map(|place| join.get(&Layer { layer, place })).collect::<Vec<_>>())?;
    Ok(top.iter().fold(0, |sum: u64, value| sum.wrapping_add(**value)))
});

spec!(Trivial, "trivial", (u64););

impl Action for Trivial {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, _ctx: &ActionContext) -> Result<u64, AnyError> {
        tokio::task::yield_now().await;
        Ok(self.0 * 2)
    }
}

spec!(AllTrivial, "all_trivial", (u64););
query!(AllTrivial, |query, db| {
    let all = db.join(|join| (0..query.0).map(|n| join.act(&Trivial(n))).collect::<Vec<_>>())?;
    Ok(all.iter().map(|n| **n).sum())
});

spec!(Slow, "slow", (u64););

impl Action for Slow {
    type Output = u64;
    type Error = AnyError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, _ctx: &ActionContext) -> Result<u64, AnyError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(self.0)
    }
}

/// The time that the load takes.
pub fn measure(load: Load) -> Option<Duration> {
    let runtime = runtime();
    let script = Script::new();
    for place in 0..LAYERS {
        script.set(&format!("v{place}"), variable(place));
    }
    let no_limits = doge::Limits { solve: None, build: None, git: None, url: None, io: None, cpu: None };
    let database = Database::builder()
        .runtime(runtime.handle().clone())
        .limits(no_limits)
        .resource(script.clone())
        .build()
        .expect("threads can be started");
    fn ask(runtime: &tokio::runtime::Runtime, database: &Database, query: &impl Query<Output = u64>) -> u64 {
        *runtime.block_on(database.get(query)).expect("nothing fails")
    }
    let (time, value, expected) = match load {
        Load::PureInTurn => {
            let (time, value) = timed(|| ask(&runtime, &database, &InTurn(MANY)));
            (time, value, sum(MANY))
        }
        Load::PureAtOnce | Load::SomeAtOnce => {
            let count = if load == Load::SomeAtOnce { SOME } else { MANY };
            let (time, value) = timed(|| ask(&runtime, &database, &AtOnce(count)));
            (time, value, sum(count))
        }
        Load::Chain => {
            let (time, value) = timed(|| ask(&runtime, &database, &Link(LENGTH)));
            (time, value, LENGTH + 1)
        }
        Load::Layers => {
            let (time, value) = timed(|| ask(&runtime, &database, &Top(LAYERS)));
            (time, value, crate::top_of_layers())
        }
        Load::CutOff => {
            let before = ask(&runtime, &database, &Top(LAYERS));
            let (time, value) = timed(|| {
                script.set("v5", variable(5) + 3);
                runtime.block_on(database.refresh()).expect("it is open");
                ask(&runtime, &database, &Top(LAYERS))
            });
            (time, value, before)
        }
        Load::Warm => {
            ask(&runtime, &database, &AtOnce(1000));
            let (time, value) = timed(|| ask(&runtime, &database, &Again(HITS)));
            (time, value, sum_of_hits())
        }
        Load::Actions => {
            let (time, value) = timed(|| ask(&runtime, &database, &AllTrivial(ACTIONS)));
            (time, value, 2 * sum(ACTIONS))
        }
        Load::Askers => {
            let (time, value) = timed(|| {
                let askers: Vec<_> = (0..ASKERS).map(|_| database.act(&Slow(7))).collect();
                runtime.block_on(async {
                    let mut sum = 0;
                    for asked in askers {
                        sum += *asked.await.expect("nothing fails");
                    }
                    sum
                })
            });
            let counts = runtime.block_on(database.counts()).expect("it is open");
            assert_eq!(counts.executed["slow"], 1, "it runs once");
            (time, value, 7 * ASKERS)
        }
    };
    assert_eq!(value, expected, "{load:?}");
    Some(time)
}
