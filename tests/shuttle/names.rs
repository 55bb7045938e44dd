//! Names of values, and values read from the store, while others bring them, forget them and read them.

use doge::{Action, ActionContext, AnyError, Database, Db, Epoch, Halt, Intern, Interned, Query, Resource, Spec};
use serde::{Deserialize, Serialize};
use shuttle::future::{block_on, yield_now};
use shuttle::thread;

use crate::explore;
use crate::kinds::{World, lose_patience, spec};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Text(pub(crate) String);

impl Intern for Text {
    const NAME: &'static str = "text";
}

/// The length of a text, of which it has the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Length(pub(crate) Interned<Text>);
spec!(Length, "length", |this| format!("length({})", this.0.fingerprint()));

impl Query for Length {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(db.value(&self.0)?.0.len() as u64)
    }
}

/// Gives a name to a text of so many letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Naming(usize);
spec!(Naming, "naming", |this| format!("naming({})", this.0));

impl Action for Naming {
    type Output = Interned<Text>;
    type Error = Lost;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Interned<Text>, Lost> {
        yield_now().await;
        ctx.intern(Text("x".repeat(self.0))).map_err(|_| Lost)
    }
}

/// The same length, found out by work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Measuring(Interned<Text>);
spec!(Measuring, "measuring", |this| format!("measuring({})", this.0.fingerprint()));

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is gone")]
struct Lost;

impl Action for Measuring {
    type Output = u64;
    type Error = Lost;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, Lost> {
        yield_now().await;
        let text = ctx.value(&self.0).await.ok_or(Lost)?;
        Ok(text.0.len() as u64)
    }
}

/// Both lengths of a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lengths {
    of: usize,
    /// Lets a session that finds the lengths of one run for another.
    run: u64,
}
spec!(Lengths, "lengths", |this| format!("lengths({} in {})", this.of, this.run));

impl Query for Lengths {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let name = db.act(&Naming(self.of))?;
        let (length, measured) =
            db.join(|join| (join.get(&Length((*name).clone())), join.act(&Measuring((*name).clone()))))?;
        Ok(*length + *measured)
    }
}

fn open(world: &World, directory: &std::path::Path) -> Database {
    let builder = world.builder().query::<Length>().query::<Lengths>().action::<Naming>().action::<Measuring>();
    builder.store(directory).build().expect("threads can be started")
}

#[test]
fn what_was_named_in_an_earlier_run_is_read_while_sessions_begin() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let database = open(&world, directory.path());
        // The lengths themselves are not asked for, so what comes next has the name from the store, and has to read it.
        block_on(database.act(&Naming(4))).expect("nothing fails");
        block_on(database.close()).expect("it is open");
        drop(database);

        world.log.take();
        let database = open(&world, directory.path());
        let threads: Vec<_> = (0..2)
            .map(|run| {
                let database = database.clone();
                thread::spawn(move || {
                    assert_eq!(*block_on(database.get(&Lengths { of: 4, run })).expect("it is at hand"), 8);
                })
            })
            .collect();
        let leaving = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&Lengths { of: 4, run: 2 })))))
        };
        block_on(database.refresh()).expect("it is open");
        for thread in threads {
            thread.join().expect("it ends");
        }
        leaving.join().expect("it ends");
        block_on(database.close()).expect("it is open");
        let ran = world.log.take_executed();
        assert!(!ran.contains(&"naming(4)".to_owned()), "its result was there: {ran:?}");
    });
}

/// One value, decoded by whoever comes first and read by all.
#[test]
fn a_value_from_the_store_is_one_for_all_who_read_it() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let database = open(&world, directory.path());
        block_on(database.get(&Lengths { of: 4, run: 0 })).expect("nothing fails");
        block_on(database.close()).expect("it is open");
        drop(database);

        world.log.take();
        let database = open(&world, directory.path());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || {
                    let name = block_on(database.act(&Naming(4))).expect("nothing fails");
                    assert_eq!(*block_on(database.get(&Length((*name).clone()))).expect("nothing fails"), 4);
                    name
                })
            })
            .collect();
        let names: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        for name in &names {
            assert!(std::sync::Arc::ptr_eq(name, &names[0]), "one session has it once");
        }
        block_on(database.close()).expect("it is open");
        assert_eq!(world.log.take_executed(), Vec::<String>::new());
    });
}
