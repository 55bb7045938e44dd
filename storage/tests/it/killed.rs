//! Processes that die while they write.

use std::time::Duration;

use doge_storage::{Committed, Snapshot, Store, StoreEvent};

use crate::child::{Job, pass, said, start};
use crate::events::{Events, open};
use crate::sample::{self, Random, batch, count, is_whole};

#[test]
fn what_was_committed_before_a_kill_is_there_after_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut random = Random::new(11);
    let mut committed = Vec::new();
    let mut next = 0;
    for round in 0..25 {
        let mut child = start(Job::Commit, directory.path(), next);
        let mut saying = said(&mut child);
        let first = saying.next().expect("it commits something");
        assert_eq!(first, next);
        committed.push(first);
        pass(Duration::from_micros(random.below(20_000) as u64));
        child.kill().expect("it runs");
        child.wait().expect("it was ours");
        // What it said before it died.
        committed.extend(saying);
        next = committed.last().expect("there is one") + 100;

        let (store, events) = open(directory.path());
        let snapshot = store.snapshot();
        for (newer, number) in committed.iter().rev().enumerate() {
            // On a fast disk there are more runs than are kept: two hundred, with those that were not said any more.
            let context = format!("round {round}, {newer} are newer");
            assert!(run_is_there_with_all_else(&snapshot, *number, &context) || newer >= 150, "{context}: {number}");
        }
        // The one that it was at is there as a whole or not at all.
        let after = committed.last().expect("there is one") + 1;
        let last = count(&snapshot, after, "the last");
        assert!(last == 0 || last == 6, "round {round}: {last}");
        events.assert_silent();
    }
    let (store, events) = open(directory.path());
    assert_eq!(store.commit(batch([1_000_000])), Committed::Stored);
    let snapshot = open(directory.path()).0.snapshot();
    for number in committed {
        run_is_there_with_all_else(&snapshot, number, "at the end");
    }
    assert!(!events.take().iter().any(|event| matches!(event, StoreEvent::DidQuarantine { .. })));
}

/// Whether the run of a number is still kept. Everything else of it must be there.
fn run_is_there_with_all_else(snapshot: &Snapshot, number: u64, context: &str) -> bool {
    let run_is_there = snapshot.run(sample::run(number).id).is_some();
    assert_eq!(count(snapshot, number, context), 5 + usize::from(run_is_there), "{context}: {number}");
    run_is_there
}

/// A store whose last writer was killed while it had the lease.
fn with_dead_writer() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..5));
    let mut child = start(Job::Hold, directory.path(), 0);
    assert_eq!(said(&mut child).next(), Some(0));
    child.kill().expect("it runs");
    child.wait().expect("it was ours");
    directory
}

#[test]
fn the_first_reader_repairs_what_a_killed_writer_left() {
    let directory = with_dead_writer();
    let mut builder = redb::Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter);
    let opened = builder.open_read_only(sample::file(directory.path()));
    assert!(matches!(opened, Err(redb::DatabaseError::RepairAborted)), "there must be something to repair");

    let (store, events) = open(directory.path());
    let snapshot = store.snapshot();
    assert!((0..5).all(|number| is_whole(&snapshot, number)));
    events.assert_silent();
    assert!(builder.open_read_only(sample::file(directory.path())).is_ok());
}

#[test]
fn a_writer_goes_on_where_a_killed_writer_was() {
    let directory = with_dead_writer();
    let (store, events) = open(directory.path());
    assert_eq!(store.commit(batch(5..6)), Committed::Stored);
    let snapshot = store.snapshot();
    assert!((0..6).all(|number| is_whole(&snapshot, number)));
    events.assert_silent();
}

#[test]
fn who_may_not_repair_goes_on_without_and_says_so_once() {
    let directory = with_dead_writer();
    let events = Events::default();
    let mut options = events.options(directory.path());
    options.read_only = true;
    let store = Store::open(options);
    for _ in 0..2 {
        assert_eq!(sample::count(&store.snapshot(), 0, "not repaired"), 0);
    }
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::WillRunWithout { .. }]), "{said:?}");
    assert_eq!(store.commit(batch(5..6)), Committed::Lost);
    events.assert_silent();
}

#[test]
fn readers_read_while_a_writer_is_stuck() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..5));
    let mut child = start(Job::Hold, directory.path(), 0);
    assert_eq!(said(&mut child).next(), Some(0));
    let (store, events) = open(directory.path());
    let snapshot = store.snapshot();
    let whole = (0..5).all(|number| is_whole(&snapshot, number));
    child.kill().expect("it runs");
    child.wait().expect("it was ours");
    assert!(whole);
    events.assert_silent();
}
