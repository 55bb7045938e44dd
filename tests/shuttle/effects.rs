//! Effects: done once for all who need them, whoever withdraws and whatever is looked at meanwhile.

use doge::testing::{Look, Script};
use doge::{ActionContext, AnyError, Db, Effect, Epoch, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};
use shuttle::future::{block_on, yield_now};
use shuttle::thread;

use crate::explore;
use crate::kinds::{World, lose_patience, set, spec, told};

/// Sets the variable `v`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Put(u64);
spec!(Put, "put", |this| format!("put({})", this.0));

impl Effect for Put {
    type Output = ();
    type Error = std::convert::Infallible;
    type Target = Look;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> Look {
        Look("v".to_owned())
    }

    async fn run(&self, ctx: &ActionContext) -> Result<(), Self::Error> {
        yield_now().await;
        set(&ctx.resource::<Script>().expect("the builder was given one"), "v", self.0);
        yield_now().await;
        Ok(())
    }
}

/// Has the variable `v` set if it is not; what it is then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Keep(u64);
spec!(Keep, "keep", |this| format!("keep({})", this.0));

impl Query for Keep {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let seen = db.observe(&Look("v".to_owned()))?.unwrap_or(0);
        if seen != self.0 {
            db.effect(&Put(self.0))?;
        }
        Ok(seen)
    }
}

#[test]
fn an_effect_is_done_once_for_all_who_need_it() {
    explore(|| {
        let world = World::default();
        let database = world.builder().query::<Keep>().effect::<Put>().build().expect("threads can be started");
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || assert_eq!(*block_on(database.get(&Keep(3))).expect("nothing fails"), 3))
            })
            .collect();
        let leaving = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&Keep(3))))))
        };
        let refreshing = {
            let database = database.clone();
            thread::spawn(move || block_on(database.refresh()).expect("it is open"))
        };
        for thread in threads {
            thread.join().expect("it ends");
        }
        leaving.join().expect("it ends");
        refreshing.join().expect("it ends");
        assert_eq!(*block_on(database.get(&Keep(3))).expect("nothing fails"), 3);
        assert_eq!(world.script.get("v"), Some(3));
        drop(database);
        // One that was given up may have done it before it was dropped.
        let told = told(&world.log.take())["put(3)"];
        assert!(told.did_run <= 1, "{told:?}");
        assert_eq!(told.will_run, told.did_run + told.cancelled, "{told:?}");
    });
}

/// Somebody else changes it meanwhile, and says so: whoever asks afterwards sees that, or has it put right.
#[test]
fn what_an_effect_did_does_not_hide_what_changed_after_it() {
    explore(|| {
        let world = World::default();
        let database = world.builder().query::<Keep>().effect::<Put>().build().expect("threads can be started");
        let keeping = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&Keep(3))))))
        };
        thread::yield_now();
        set(&world.script, "v", 7);
        block_on(database.refresh()).expect("it is open");
        keeping.join().expect("it ends");
        // Work that was given up may have ended all the same.
        block_on(database.refresh()).expect("it is open");
        assert_eq!(*block_on(database.get(&Keep(5))).expect("nothing fails"), 5);
        assert_eq!(world.script.get("v"), Some(5));
        block_on(database.refresh()).expect("it is open");
        assert_eq!(*block_on(database.get(&Keep(5))).expect("nothing fails"), 5);
    });
}
