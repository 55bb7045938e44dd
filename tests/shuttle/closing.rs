//! The end of a database: from any thread, at any moment, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use doge::{Action, ActionContext, Closed, Database, Epoch, RequestError, Resource, Spec, WeakDatabase};
use serde::{Deserialize, Serialize};
use shuttle::future::{block_on, yield_now};
use shuttle::rand::Rng;
use shuttle::thread;

use crate::explore;
use crate::kinds::{Long, Toil, World, lose_patience, spec, together, told};

/// A database of this world, and how often it was closed.
fn counting_closes(world: &World) -> (Database, Arc<AtomicUsize>) {
    let hooks = Arc::new(AtomicUsize::new(0));
    let counted = hooks.clone();
    let hook = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    (world.builder().on_close(hook).build().expect("threads can be started"), hooks)
}

#[test]
fn of_several_that_close_it_one_gets_the_record_and_nobody_hangs() {
    explore(|| {
        let world = World::default();
        let (database, hooks) = counting_closes(&world);
        let asking: Vec<_> = (0..2)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || match block_on(database.get(&together(&["a", "bb"]))) {
                    Ok(value) => assert_eq!(*value, 3),
                    Err(error) => assert!(matches!(error, RequestError::Closed), "{error}"),
                })
            })
            .collect();
        let closing: Vec<_> = (0..2)
            .map(|_| {
                let (database, tallies) = (database.clone(), world.tallies.clone());
                thread::spawn(move || block_on(database.close()).map(|record| (record, tallies.ended())))
            })
            .collect();
        for thread in asking {
            thread.join().expect("it ends");
        }
        let closed: Vec<_> = closing.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        let records: Vec<_> = closed.into_iter().flatten().collect();
        let [(record, ended)] = &records[..] else { panic!("{} got the record", records.len()) };
        assert_eq!(*ended, world.tallies.ended(), "no work ends once it is closed");
        let told = told(&world.log.take());
        let ran = told.values().map(|told| told.did_run as u64).sum::<u64>();
        assert_eq!(record.counts.executed.get("toil").copied().unwrap_or(0), ran);
        for (spec, told) in &told {
            assert_eq!(told.will_run, told.did_run + told.cancelled, "{spec}: {told:?}");
        }
        assert!(matches!(block_on(database.close()), Err(Closed)));
        assert!(matches!(block_on(database.get(&together(&["a"]))), Err(RequestError::Closed)));
        drop(database);
        assert_eq!(hooks.load(Ordering::Relaxed), 1);
    });
}

/// The last handle is dropped by whoever comes last, a request that was given up among them.
#[test]
fn dropping_the_handles_from_several_threads_ends_it_once() {
    explore(|| {
        let world = World::default();
        let (database, hooks) = counting_closes(&world);
        let weak = database.downgrade();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || {
                    let request = database.get(&together(&["a", "bb"]));
                    drop(database);
                    let answer = block_on(lose_patience(request));
                    assert!(answer.is_none_or(|answer| *answer.expect("a request keeps it open") == 3));
                })
            })
            .collect();
        drop(database);
        for thread in threads {
            thread.join().expect("it ends");
        }
        assert!(weak.upgrade().is_none());
        // Whoever drops the last handle waits for the planner.
        assert_eq!(hooks.load(Ordering::Relaxed), 1);
        for (spec, told) in told(&world.log.take()) {
            assert_eq!(told.will_run, told.did_run + told.cancelled, "{spec}: {told:?}");
        }
    });
}

/// Work that holds a handle of its own for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Holder;
spec!(Holder, "holder", |_this| "holder");

/// The handle that it takes, and whether it had one.
#[derive(Clone, Default)]
struct Handle(Arc<std::sync::Mutex<Option<WeakDatabase>>>, Arc<AtomicBool>);

impl Action for Holder {
    type Output = bool;
    type Error = std::convert::Infallible;
    const RESOURCE: Resource = Resource::Io;

    async fn run(&self, ctx: &ActionContext) -> Result<bool, Self::Error> {
        let Handle(weak, had) = &*ctx.resource::<Handle>().expect("the builder was given one");
        let weak = weak.lock().expect("nobody panics").clone();
        let held = weak.and_then(|weak| weak.upgrade());
        had.store(held.is_some(), Ordering::Relaxed);
        yield_now().await;
        Ok(held.is_some())
    }
}

#[test]
fn work_may_drop_the_last_handle() {
    explore(|| {
        let handle = Handle::default();
        let hooks = Arc::new(AtomicUsize::new(0));
        let database = {
            let hooks = hooks.clone();
            let hook = move || {
                hooks.fetch_add(1, Ordering::Relaxed);
            };
            let builder = World::default().builder().resource(handle.clone()).on_close(hook);
            builder.build().expect("threads can be started")
        };
        *handle.0.lock().expect("nobody panics") = Some(database.downgrade());
        let request = database.act(&Holder);
        drop(database);
        block_on(lose_patience(request)).map(|answer| answer.expect("a request keeps it open"));
        // All threads have ended when the test has, or shuttle says that some never do.
        thread::spawn(move || {
            while hooks.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        });
    });
}

/// The files of a store and what is in them, but for locks: blocking code that takes one is not waited for.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut content = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("it is there").map(|entry| entry.expect("it can be read")) {
            match entry.file_type().expect("it has one").is_dir() {
                true if entry.file_name() == "locks" => {}
                true => directories.push(entry.path()),
                false => content.push((entry.path(), std::fs::read(entry.path()).expect("it can be read"))),
            }
        }
    }
    content.sort();
    content
}

/// Whoever closed it may collect, or remove the directory.
#[test]
fn nothing_is_written_once_it_is_closed() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let database = world.builder().store(directory.path()).build().expect("threads can be started");
        let asking = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(database.get(&Long(Toil::new("a"))))))
        };
        while shuttle::rand::thread_rng().gen_range(0..10) > 0 {
            thread::yield_now();
        }
        block_on(database.close()).expect("it is open");
        let before = content(directory.path());
        asking.join().expect("it ends");
        drop(database);
        for _ in 0..10 {
            thread::yield_now();
        }
        assert!(content(directory.path()) == before, "something was written afterwards");
    });
}

/// A refresh, a report and a dry evaluation that are asked as it is closed have an answer or none, and end.
#[test]
fn whatever_is_asked_while_it_is_closed_ends() {
    explore(|| {
        let world = World::default();
        world.has("v", 1);
        let database = world.open();
        let query = crate::kinds::Together(vec![Toil::reading("a", "v")]);
        let asking: [Box<dyn FnOnce() + Send>; 3] = [
            {
                let (database, query) = (database.clone(), query.clone());
                Box::new(move || drop(block_on(database.get(&query))))
            },
            {
                let database = database.clone();
                Box::new(move || {
                    let _ = block_on(database.refresh());
                })
            },
            {
                let database = database.clone();
                Box::new(move || drop(block_on(database.dry(&query))))
            },
        ];
        let threads = asking.map(thread::spawn);
        let closed = block_on(database.close());
        assert!(closed.is_ok());
        for thread in threads {
            thread.join().expect("it ends");
        }
    });
}
