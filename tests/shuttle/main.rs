//! The engine in many orders of steps: whatever order its threads and tasks take their steps in, what is promised holds.
//!
//! Shuttle runs each test some hundred times in random orders, and as often in orders with few changes between threads that
//! are chosen to hit what needs several of them (PCT). `docs/reliability.md` has the command, and the faults that these
//! tests were seen to find. A test that fails prints its order of steps; see `explore`.
//!
//! Times are measured and never waited for, a tick of the clock takes as long as it does, and there is one database at a
//! time: salsa keeps in the thread which of them is at work, and to the system all of shuttle's threads are one.
#![cfg(shuttle)]

mod closing;
mod effects;
mod kinds;
mod names;
mod panics;
mod requests;
mod sessions;
mod writing;

use std::sync::Arc;

use shuttle::Runner;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};

/// Runs a test in many orders of steps: the same 200 of each kind, or as many new ones as `DOGE_SCHEDULES` says.
///
/// The order in which it failed is printed; `DOGE_SCHEDULE` is a file with an order to run instead.
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    // As much as tests of debug builds take, and redb in them.
    config.stack_size = 1 << 20;
    let test = Arc::new(test);
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let test = test.clone();
        Runner::new(scheduler, config.clone()).run(move || test());
    };
    if let Ok(schedule) = std::env::var("DOGE_SCHEDULE") {
        return run(Box::new(ReplayScheduler::new_from_file(schedule).expect("the file has an order in it")));
    }
    match std::env::var("DOGE_SCHEDULES").ok().and_then(|number| number.parse().ok()) {
        Some(number) => {
            run(Box::new(RandomScheduler::new(number)));
            run(Box::new(PctScheduler::new(3, number)));
        }
        // The same orders each time: the same code is to get the same verdict.
        None => {
            run(Box::new(RandomScheduler::new_from_seed(0, 200)));
            run(Box::new(PctScheduler::new_from_seed(0, 3, 200)));
        }
    }
}
