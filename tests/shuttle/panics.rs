//! Panics of bodies, of work and of looks: they fail whoever asked, and nothing else.

use std::panic::resume_unwind;

use doge::{
    Action, ActionContext, AnyError, Db, EngineFailure, Epoch, Halt, Last, Observation, ObserveContext, Query,
    RequestError, Resource, Spec,
};
use serde::{Deserialize, Serialize};
use shuttle::future::{block_on, yield_now};
use shuttle::thread;

use crate::explore;
use crate::kinds::{Tally, Toil, World, spec};

/// Shuttle takes a panic that it hears of for the end of the test.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("on purpose"))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct BadWork {
    elsewhere: bool,
}
spec!(BadWork, "bad_work", |_this| "bad work");

impl Action for BadWork {
    type Output = u64;
    type Error = std::convert::Infallible;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, Self::Error> {
        yield_now().await;
        if self.elsewhere { ctx.cpu(|| panic_quietly()).await } else { panic_quietly() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct BadLook;
spec!(BadLook, "bad_look", |_this| "bad look");

impl Observation for BadLook {
    type Output = u64;
    type Error = std::convert::Infallible;
    type Stamp = ();

    async fn observe(&self, ctx: &ObserveContext, _last: Option<Last<Self>>) -> Result<doge::Seen<Self>, Self::Error> {
        ctx.blocking(|| panic_quietly()).await
    }
}

/// A body that panics in one way or the other once its work is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Bad {
    Itself,
    Work,
    WorkElsewhere,
    Look,
}
spec!(Bad, "bad", |this| format!("bad({this:?})"));

impl Query for Bad {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let value = *db.act(&Toil::new("a"))?;
        match self {
            Bad::Itself => panic_quietly(),
            Bad::Work => Ok(value + *db.act(&BadWork { elsewhere: false })?),
            Bad::WorkElsewhere => Ok(value + *db.act(&BadWork { elsewhere: true })?),
            Bad::Look => Ok(value + *db.observe(&BadLook)?),
        }
    }
}

#[test]
fn a_panic_fails_whoever_asked_and_nobody_else() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let threads = [Bad::Itself, Bad::Work, Bad::WorkElsewhere, Bad::Look].map(|bad| {
            let database = database.clone();
            thread::spawn(move || match block_on(database.get(&bad)) {
                Ok(value) => panic!("{bad} came to {value}"),
                Err(RequestError::Failed(failure)) => {
                    assert!(matches!(failure.engine(), Some(EngineFailure::Panicked { .. })), "{failure:?}");
                }
                Err(error) => panic!("{error}"),
            })
        });
        assert_eq!(*block_on(database.get(&crate::kinds::together(&["a", "bb"]))).expect("nothing of it fails"), 3);
        for thread in threads {
            thread.join().expect("it ends");
        }
        assert_eq!(world.tallies.of("a"), Tally::ONCE);
        assert_eq!(world.tallies.of("bb"), Tally::ONCE);
    });
}
