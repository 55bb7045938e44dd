//! What is kept: in order, whole, and without making anybody wait who need not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use doge::storage::{Store, StoreOptions};
use doge::{Database, Event, RunId};
use shuttle::future::block_on;
use shuttle::thread;

use crate::explore;
use crate::kinds::{Long, Tally, Together, Toil, World, lose_patience, set, together};

fn open(world: &World, directory: &Path) -> Database {
    world.builder().store(directory).build().expect("threads can be started")
}

fn runs(directory: &Path) -> Vec<RunId> {
    Store::open(StoreOptions::new(directory)).snapshot().runs(usize::MAX).into_iter().map(|run| run.id).collect()
}

#[test]
fn what_was_done_before_it_was_closed_is_there_for_the_next_one() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let database = open(&world, directory.path());
        let threads: Vec<_> = [Long(Toil::new("a")), Long(Toil::new("bb"))]
            .into_iter()
            .map(|long| {
                let database = database.clone();
                thread::spawn(move || drop(block_on(database.get(&long)).expect("nothing fails")))
            })
            .collect();
        block_on(database.get(&together(&["ccc", "dddd"]))).expect("nothing fails");
        for thread in threads {
            thread.join().expect("it ends");
        }
        block_on(database.close()).expect("it is open");
        drop(database);

        world.log.take();
        let database = open(&world, directory.path());
        assert_eq!(*block_on(database.get(&together(&["ccc", "dddd"]))).expect("nothing fails"), 7);
        assert_eq!(*block_on(database.get(&Long(Toil::new("bb")))).expect("nothing fails"), 2);
        let record = block_on(database.close()).expect("it is open");
        assert!(record.counts.executed.is_empty(), "{:?}", record.counts.executed);
        for name in ["a", "bb", "ccc", "dddd"] {
            assert_eq!(world.tallies.of(name), Tally::ONCE, "{name}");
        }
    });
}

#[test]
fn sessions_are_written_in_the_order_in_which_they_ended() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
        let database = {
            let begun = begun.clone();
            let builder = world.builder().store(directory.path()).listener(move |event| {
                if let doge::Event::DidBegin { run } = event {
                    begun.lock().expect("nobody panics").push(*run);
                }
            });
            builder.build().expect("threads can be started")
        };
        let long = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&Long(Toil::new("e")))))))
        };
        for names in [["a", "bb"], ["bb", "ccc"], ["ccc", "dddd"]] {
            block_on(database.get(&together(&names))).expect("nothing fails");
            block_on(database.refresh()).expect("it is open");
        }
        long.join().expect("it ends");
        block_on(database.get(&together(&["f"]))).expect("nothing fails");
        block_on(database.close()).expect("it is open");
        let mut begun = begun.lock().expect("nobody panics").clone();
        assert_eq!(begun.len(), 4);
        // The newest comes first.
        begun.reverse();
        assert_eq!(runs(directory.path()), begun);
    });
}

/// Neither whoever asks nor whoever closes waits for what can never be written.
#[test]
fn a_store_that_cannot_be_written_keeps_nobody_waiting() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("file");
        std::fs::write(&file, "not a directory").expect("it can be written");
        let world = World::default();
        let database = open(&world, &file.join("store"));
        let threads: Vec<_> = [Long(Toil::new("a")), Long(Toil::new("bb"))]
            .into_iter()
            .map(|long| {
                let database = database.clone();
                thread::spawn(move || *block_on(database.get(&long)).expect("nothing fails"))
            })
            .collect();
        block_on(database.get(&together(&["ccc"]))).expect("nothing fails");
        block_on(database.refresh()).expect("it is open");
        block_on(database.get(&together(&["ccc", "a"]))).expect("nothing fails");
        let answers: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        assert_eq!(answers, [1, 2]);
        block_on(database.close()).expect("it is open");
        let told = world.log.take();
        let troubles = told.iter().filter(|event| matches!(event, Event::Store(event) if event.is_trouble()));
        assert_eq!(troubles.count(), 1, "that nothing is kept is said, once");
    });
}

/// What is committed by work that nobody needs any more is right, or is not there.
#[test]
fn long_work_that_is_given_up_at_any_moment_leaves_nothing_wrong_behind() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        world.has("v", 1);
        let long = || Long(Toil::reading("a", "v"));
        let database = open(&world, directory.path());
        let leaving: Vec<_> = (0..2)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || drop(block_on(lose_patience(database.get(&long())))))
            })
            .collect();
        let changing = {
            let script = world.script.clone();
            thread::spawn(move || set(&script, "v", 2))
        };
        for thread in leaving {
            thread.join().expect("it ends");
        }
        drop(database);
        changing.join().expect("it ends");

        let database = open(&world, directory.path());
        assert_eq!(*block_on(database.get(&long())).expect("nothing fails"), 3);
        block_on(database.close()).expect("it is open");
        drop(database);
        let database = open(&world, directory.path());
        assert_eq!(*block_on(database.get(&long())).expect("nothing fails"), 3);
        block_on(database.close()).expect("it is open");
    });
}

/// Two programs, as far as the store can tell, except that one waits for the other's file only as long as it must.
#[test]
fn dropping_without_closing_keeps_what_was_done() {
    explore(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        world.has("v", 1);
        let query = || Together(vec![Toil::reading("a", "v"), Toil::elsewhere("bb")]);
        let database = open(&world, directory.path());
        let other = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&query())))))
        };
        assert_eq!(*block_on(database.get(&query())).expect("nothing fails"), 4);
        drop(database);
        other.join().expect("it ends");
        world.log.take();
        let database = open(&world, directory.path());
        assert_eq!(*block_on(database.get(&query())).expect("nothing fails"), 4);
        block_on(database.close()).expect("it is open");
        assert_eq!(world.log.take_executed(), Vec::<String>::new());
    });
}

/// Nothing may wait to be written, so the planner waits for the writer whenever there is anything.
#[test]
fn who_waits_for_the_disk_goes_on_when_it_has_caught_up() {
    let waits = Arc::new(AtomicUsize::new(0));
    let counted = waits.clone();
    explore(move || {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let world = World::default();
        let builder = world.builder().store(directory.path()).backlog(0);
        let database = builder.build().expect("threads can be started");
        let long = {
            let database = database.clone();
            thread::spawn(move || *block_on(database.get(&Long(Toil::new("a")))).expect("nothing fails"))
        };
        let leaving = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&Long(Toil::new("bb")))))))
        };
        for name in ["ccc", "dddd"] {
            block_on(database.get(&together(&[name]))).expect("nothing fails");
            block_on(database.refresh()).expect("it is open");
        }
        assert_eq!(long.join().expect("it ends"), 1);
        leaving.join().expect("it ends");
        drop(database);
        let told = world.log.take();
        let told = told.iter().filter(|event| matches!(event, Event::WillWaitForStore { .. }));
        waits.fetch_add(told.count(), Ordering::Relaxed);
    });
    assert_ne!(counted.load(Ordering::Relaxed), 0, "the writer is not always faster");
}
