//! Bare salsa. It is synchronous: actions are tasks of tokio whose results are put into inputs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use salsa::Setter;

use crate::{ACTIONS, HITS, LAYERS, LENGTH, Load, MANY, SOME, below, sum, sum_of_hits, timed, variable, with_stack};

#[salsa::interned(revisions = usize::MAX)]
struct Number<'db> {
    #[returns(copy)]
    number: u64,
}

#[salsa::interned(revisions = usize::MAX)]
struct Place<'db> {
    #[returns(copy)]
    layer: u64,
    #[returns(copy)]
    place: u64,
}

#[salsa::input]
struct Variable {
    #[returns(copy)]
    value: u64,
}

#[salsa::db]
trait World: salsa::Database {
    fn variable(&self, place: u64) -> Variable;
}

#[salsa::db]
#[derive(Clone, Default)]
struct Db {
    storage: salsa::Storage<Self>,
    variables: Arc<Mutex<Vec<Variable>>>,
}

#[salsa::db]
impl salsa::Database for Db {}

#[salsa::db]
impl World for Db {
    fn variable(&self, place: u64) -> Variable {
        self.variables.lock().expect("nobody panics")[place as usize]
    }
}

#[salsa::tracked(returns(copy))]
fn pure<'db>(db: &'db dyn World, number: Number<'db>) -> u64 {
    number.number(db)
}

#[salsa::tracked(returns(copy))]
fn many<'db>(db: &'db dyn World, count: Number<'db>) -> u64 {
    (0..count.number(db)).map(|number| pure(db, Number::new(db, number))).sum()
}

#[salsa::tracked(returns(copy))]
fn again<'db>(db: &'db dyn World, times: Number<'db>) -> u64 {
    (0..times.number(db)).map(|number| pure(db, Number::new(db, number % 1000))).sum()
}

#[salsa::tracked(returns(copy))]
fn link<'db>(db: &'db dyn World, number: Number<'db>) -> u64 {
    match number.number(db) {
        0 => 1,
        n => link(db, Number::new(db, n - 1)) + 1,
    }
}

#[salsa::tracked(returns(copy))]
fn layer<'db>(db: &'db dyn World, node: Place<'db>) -> u64 {
    match node.layer(db) {
        0 => db.variable(node.place(db)).value(db) / 10,
        layer_of_it => below(node.place(db))
            .into_iter()
            .fold(0, |sum: u64, place| sum.wrapping_add(layer(db, Place::new(db, layer_of_it - 1, place)))),
    }
}

#[salsa::tracked(returns(copy))]
fn top<'db>(db: &'db dyn World, layers: Number<'db>) -> u64 {
    let highest = layers.number(db) - 1;
    (0..LAYERS).fold(0, |sum: u64, place| sum.wrapping_add(layer(db, Place::new(db, highest, place))))
}

#[salsa::tracked(returns(copy))]
fn all_variables<'db>(db: &'db dyn World, count: Number<'db>) -> u64 {
    (0..count.number(db)).map(|place| db.variable(place).value(db)).sum()
}

fn with_variables(values: impl Iterator<Item = u64>) -> Db {
    let db = Db::default();
    let variables: Vec<Variable> = values.map(|value| Variable::new(&db, value)).collect();
    *db.variables.lock().expect("nobody panics") = variables;
    db
}

/// The time that the load takes; `None` if it is none for salsa.
pub fn measure(load: Load) -> Option<Duration> {
    with_stack(|| match load {
        Load::PureInTurn | Load::PureAtOnce | Load::SomeAtOnce => {
            let count = if load == Load::SomeAtOnce { SOME } else { MANY };
            let db = Db::default();
            let (time, value) = timed(|| many(&db, Number::new(&db, count)));
            assert_eq!(value, sum(count));
            Some(time)
        }
        Load::Chain => {
            let db = Db::default();
            let (time, value) = timed(|| link(&db, Number::new(&db, LENGTH)));
            assert_eq!(value, LENGTH + 1);
            Some(time)
        }
        Load::Layers => {
            let db = with_variables((0..LAYERS).map(variable));
            let (time, value) = timed(|| top(&db, Number::new(&db, LAYERS)));
            assert_eq!(value, crate::top_of_layers());
            Some(time)
        }
        Load::CutOff => {
            let mut db = with_variables((0..LAYERS).map(variable));
            let before = top(&db, Number::new(&db, LAYERS));
            let changed = db.variable(5);
            let (time, value) = timed(|| {
                changed.set_value(&mut db).to(variable(5) + 3);
                top(&db, Number::new(&db, LAYERS))
            });
            assert_eq!(value, before);
            Some(time)
        }
        Load::Warm => {
            let db = Db::default();
            many(&db, Number::new(&db, 1000));
            let (time, value) = timed(|| again(&db, Number::new(&db, HITS)));
            assert_eq!(value, sum_of_hits());
            Some(time)
        }
        Load::Actions => {
            let runtime = crate::runtime();
            let (time, value) = timed(|| {
                let (send, receive) = std::sync::mpsc::channel();
                for number in 0..ACTIONS {
                    let send = send.clone();
                    runtime.spawn(async move {
                        tokio::task::yield_now().await;
                        send.send((number, number * 2)).expect("somebody waits");
                    });
                }
                drop(send);
                let mut results = vec![0; ACTIONS as usize];
                receive.iter().for_each(|(number, result)| results[number as usize] = result);
                let db = with_variables(results.into_iter());
                all_variables(&db, Number::new(&db, ACTIONS))
            });
            assert_eq!(value, 2 * sum(ACTIONS));
            Some(time)
        }
        Load::Askers => None,
    })
}
