//! Picante: an engine like salsa whose queries are async.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use picante::PicanteResult;
use picante::db::{DynIngredient, IngredientLookup, IngredientRegistry};
use picante::ingredient::{DerivedIngredient, InputIngredient};
use picante::key::QueryKindId;
use picante::runtime::{HasRuntime, Runtime};

use crate::{
    ACTIONS, ASKERS, HITS, LAYERS, LENGTH, Load, MANY, SOME, below, runtime, sum, sum_of_hits, timed, variable,
};

type Derived<K> = Arc<DerivedIngredient<Db, K, u64>>;

#[derive(Default)]
struct Db {
    runtime: Runtime,
    ingredients: IngredientRegistry<Db>,
    queries: OnceLock<Queries>,
}

struct Queries {
    variable: Arc<InputIngredient<u64, u64>>,
    pure: Derived<u64>,
    in_turn: Derived<u64>,
    at_once: Derived<u64>,
    again: Derived<u64>,
    link: Derived<u64>,
    layer: Derived<(u64, u64)>,
    top: Derived<u64>,
    trivial: Derived<u64>,
    all_trivial: Derived<u64>,
    slow: Derived<u64>,
}

static SLOW: AtomicU64 = AtomicU64::new(0);

impl HasRuntime for Db {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl IngredientLookup for Db {
    fn ingredient(&self, kind: QueryKindId) -> Option<&dyn DynIngredient<Self>> {
        self.ingredients.ingredient(kind)
    }
}

async fn sum_of(all: impl IntoIterator<Item = impl Future<Output = PicanteResult<u64>>>) -> PicanteResult<u64> {
    let mut sum = 0u64;
    for value in join_all(all).await {
        sum = sum.wrapping_add(value?);
    }
    Ok(sum)
}

impl Db {
    fn queries(&self) -> &Queries {
        self.queries.get().expect("set when it is made")
    }

    fn register<I: DynIngredient<Self> + 'static>(&mut self, ingredient: Arc<I>) -> Arc<I> {
        self.ingredients.register(ingredient.clone());
        ingredient
    }

    fn new() -> Self {
        let mut db = Db::default();
        let kind = QueryKindId;
        let variable = db.register(Arc::new(InputIngredient::new(kind(1), "Variable")));
        let pure = DerivedIngredient::new(kind(2), "Pure", |_: &Db, n: u64| Box::pin(async move { Ok(n) }));
        let in_turn = DerivedIngredient::new(kind(3), "InTurn", |db: &Db, count: u64| {
            Box::pin(async move {
                let mut sum = 0;
                for n in 0..count {
                    sum += db.queries().pure.get(db, n).await?;
                }
                Ok(sum)
            })
        });
        let at_once = DerivedIngredient::new(kind(4), "AtOnce", |db: &Db, count: u64| {
            Box::pin(sum_of((0..count).map(move |n| db.queries().pure.get(db, n))))
        });
        let again = DerivedIngredient::new(kind(5), "Again", |db: &Db, times: u64| {
            Box::pin(async move {
                let mut sum = 0;
                for n in 0..times {
                    sum += db.queries().pure.get(db, n % 1000).await?;
                }
                Ok(sum)
            })
        });
        let link = DerivedIngredient::new(kind(6), "Link", |db: &Db, n: u64| {
            Box::pin(async move { if n == 0 { Ok(1) } else { Ok(db.queries().link.get(db, n - 1).await? + 1) } })
        });
        let layer = DerivedIngredient::new(kind(7), "Layer", |db: &Db, (layer, place): (u64, u64)| {
            Box::pin(async move {
                if layer == 0 {
                    return Ok(db.queries().variable.get(db, &place)?.unwrap_or(0) / 10);
                }
                // In turn: asked at once, what one of them has under way is a cycle to the others.
                let mut sum = 0u64;
                for place in below(place) {
                    sum = sum.wrapping_add(db.queries().layer.get(db, (layer - 1, place)).await?);
                }
                Ok(sum)
            })
        });
        let top = DerivedIngredient::new(kind(8), "Top", |db: &Db, layers: u64| {
            Box::pin(async move {
                let mut sum = 0u64;
                for place in 0..LAYERS {
                    sum = sum.wrapping_add(db.queries().layer.get(db, (layers - 1, place)).await?);
                }
                Ok(sum)
            })
        });
        let trivial = DerivedIngredient::new(kind(9), "Trivial", |_: &Db, n: u64| {
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(n * 2)
            })
        });
        let all_trivial = DerivedIngredient::new(kind(10), "AllTrivial", |db: &Db, count: u64| {
            Box::pin(sum_of((0..count).map(move |n| db.queries().trivial.get(db, n))))
        });
        let slow = DerivedIngredient::new(kind(11), "Slow", |_: &Db, n: u64| {
            Box::pin(async move {
                SLOW.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(n)
            })
        });
        let queries = Queries {
            variable,
            pure: db.register(Arc::new(pure)),
            in_turn: db.register(Arc::new(in_turn)),
            at_once: db.register(Arc::new(at_once)),
            again: db.register(Arc::new(again)),
            link: db.register(Arc::new(link)),
            layer: db.register(Arc::new(layer)),
            top: db.register(Arc::new(top)),
            trivial: db.register(Arc::new(trivial)),
            all_trivial: db.register(Arc::new(all_trivial)),
            slow: db.register(Arc::new(slow)),
        };
        assert!(db.queries.set(queries).is_ok(), "a new one");
        db
    }

    fn layered() -> Self {
        let db = Self::new();
        for place in 0..LAYERS {
            db.queries().variable.set(&db, place, variable(place));
        }
        db
    }
}

/// The time that the load takes.
pub fn measure(load: Load) -> Option<Duration> {
    let runtime = runtime();
    // Polled where there is stack enough: futures of a chain nest, too.
    let ask = |db: &Arc<Db>, query: fn(&Queries) -> &Derived<u64>, key: u64| {
        let db = db.clone();
        let asked = runtime.spawn(async move { query(db.queries()).get(&db, key).await });
        runtime.block_on(asked).expect("no panic").expect("nothing fails")
    };
    let db = match load {
        Load::Layers | Load::CutOff => Arc::new(Db::layered()),
        _ => Arc::new(Db::new()),
    };
    let (time, value, expected) = match load {
        Load::PureInTurn => {
            let (time, value) = timed(|| ask(&db, |queries| &queries.in_turn, MANY));
            (time, value, sum(MANY))
        }
        // It would take minutes.
        Load::PureAtOnce => return None,
        Load::SomeAtOnce => {
            let (time, value) = timed(|| ask(&db, |queries| &queries.at_once, SOME));
            (time, value, sum(SOME))
        }
        Load::Chain => {
            let (time, value) = timed(|| ask(&db, |queries| &queries.link, LENGTH));
            (time, value, LENGTH + 1)
        }
        Load::Layers => {
            let (time, value) = timed(|| ask(&db, |queries| &queries.top, LAYERS));
            (time, value, crate::top_of_layers())
        }
        Load::CutOff => {
            let before = ask(&db, |queries| &queries.top, LAYERS);
            let (time, value) = timed(|| {
                db.queries().variable.set(&*db, 5, variable(5) + 3);
                ask(&db, |queries| &queries.top, LAYERS)
            });
            (time, value, before)
        }
        Load::Warm => {
            ask(&db, |queries| &queries.in_turn, 1000);
            let (time, value) = timed(|| ask(&db, |queries| &queries.again, HITS));
            (time, value, sum_of_hits())
        }
        Load::Actions => {
            let (time, value) = timed(|| ask(&db, |queries| &queries.all_trivial, ACTIONS));
            (time, value, 2 * sum(ACTIONS))
        }
        Load::Askers => {
            let ran = SLOW.load(Ordering::Relaxed);
            let (time, value) = timed(|| {
                let askers: Vec<_> = (0..ASKERS)
                    .map(|_| {
                        let db = db.clone();
                        runtime.spawn(async move { db.queries().slow.get(&*db, 7).await })
                    })
                    .collect();
                runtime.block_on(async {
                    let mut sum = 0;
                    for asked in askers {
                        sum += asked.await.expect("no panic").expect("nothing fails");
                    }
                    sum
                })
            });
            assert_eq!(SLOW.load(Ordering::Relaxed) - ran, 1, "it runs once");
            (time, value, 7 * ASKERS)
        }
    };
    assert_eq!(value, expected, "{load:?}");
    Some(time)
}
