//! Batches that wait beside the store because somebody else was writing.

use std::fs;
use std::ops::Bound;
use std::sync::mpsc;
use std::time::Duration;

use doge_storage::{Batch, Committed, Store, StoreEvent, StoreOptions};
use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::events::{Events, open};
use crate::sample::{self, batch, is_whole, lease};

/// A store that does not wait for other writers.
fn impatient(directory: &std::path::Path) -> (Store, Events) {
    let events = Events::default();
    let mut options = events.options(directory);
    options.lease_deadline = Duration::ZERO;
    (Store::open(options), events)
}

#[test]
fn a_batch_that_cannot_be_written_waits_and_all_see_it_and_the_next_writer_takes_it_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = impatient(directory.path());
    store.commit(batch(0..1));
    let held = lease(directory.path());
    assert_eq!(store.commit(batch(1..3)), Committed::Spilled);
    assert_eq!(events.take(), [StoreEvent::DidSpill]);
    for (reader, what) in [(&store, "the same handle"), (&open(directory.path()).0, "another")] {
        let snapshot = reader.snapshot();
        assert!((0..3).all(|number| is_whole(&snapshot, number)), "{what}");
        assert_eq!(reader.info().pending, 1);
    }
    drop(held);
    let (writer, events) = open(directory.path());
    assert_eq!(writer.commit(batch(3..4)), Committed::Stored);
    assert_eq!(events.take(), [StoreEvent::DidAbsorb { batches: 1 }]);
    assert_eq!(writer.info().pending, 0);
    for reader in [&store, &open(directory.path()).0] {
        let snapshot = reader.snapshot();
        assert!((0..4).all(|number| is_whole(&snapshot, number)));
    }
}

#[test]
fn a_writer_that_is_waited_for_in_time_costs_nobody_anything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    store.commit(batch(0..1));
    let held = lease(directory.path());
    let committing = std::thread::spawn({
        let store = store.clone();
        move || store.commit(batch(1..2))
    });
    // It may or may not have begun to wait: either way it must get what it waits for.
    drop(held);
    assert_eq!(committing.join().expect("it does not panic"), Committed::Stored);
    events.assert_silent();
}

#[test]
fn spilled_batches_are_taken_in_when_there_are_many() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    for number in 0..16 {
        assert_eq!(store.spill(batch(number..number + 1)), Committed::Spilled);
    }
    events.assert_silent();
    assert_eq!(store.spill(batch(16..17)), Committed::Stored);
    assert_eq!(events.take(), [StoreEvent::DidAbsorb { batches: 16 }]);
    let (store, _) = open(directory.path());
    assert_eq!(store.info().pending, 0);
    let snapshot = store.snapshot();
    assert!((0..17).all(|number| is_whole(&snapshot, number)));
}

#[test]
fn a_snapshot_keeps_what_waited_when_it_was_taken_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.spill(batch(0..1));
    let snapshot = store.snapshot();
    store.commit(Batch::default());
    assert!(is_whole(&snapshot, 0));
    assert!(is_whole(&store.snapshot(), 0));
}

#[test]
fn a_damaged_batch_is_discarded_once_and_the_others_are_taken_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.spill(batch(0..1));
    store.spill(batch(1..2));
    let pending = directory.path().join("store-v3/pending");
    let mut paths: Vec<_> = fs::read_dir(&pending).expect("it is there").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let mut bytes = fs::read(&paths[0]).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&paths[0], bytes).expect("it can be written");

    let (store, events) = open(directory.path());
    assert_eq!(sample::count(&store.snapshot(), 0, "damaged"), 0);
    assert!(is_whole(&store.snapshot(), 1));
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::DidDiscard { table: "pending", .. }]), "{said:?}");
    assert_eq!(store.commit(Batch::default()), Committed::Stored);
    assert_eq!(events.take(), [StoreEvent::DidAbsorb { batches: 1 }]);
    assert_eq!(store.info().pending, 0);
    assert!(is_whole(&open(directory.path()).0.snapshot(), 1));
}

#[test]
fn a_batch_that_another_name_was_given_to_is_discarded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.spill(batch(0..1));
    let pending = directory.path().join("store-v3/pending");
    let path = fs::read_dir(&pending).expect("it is there").next().expect("one").expect("an entry").path();
    fs::rename(path, pending.join("0-0-0.q")).expect("it can be renamed");
    assert_eq!(sample::count(&open(directory.path()).0.snapshot(), 0, "renamed"), 0);
}

#[test]
fn what_a_dead_process_left_half_written_is_neither_read_nor_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    store.spill(batch(0..1));
    let pending = directory.path().join("store-v3/pending");
    for number in 0..20 {
        fs::write(pending.join(format!("{number}.q.tmp")), b"half").expect("it can be written");
    }
    assert_eq!(store.info().pending, 1);
    assert_eq!(store.spill(batch(1..2)), Committed::Spilled);
    assert!(is_whole(&store.snapshot(), 1));
    events.assert_silent();
}

/// The lock of the file's header, as redb holds it while it brings the header to the disk.
fn header(directory: &std::path::Path) -> FileBackend {
    let file = fs::OpenOptions::new().read(true).write(true).open(sample::file(directory)).expect("it is there");
    let file = FileBackend::new(file).expect("it can be used");
    let locked = file.try_lock_range(Bound::Included(0), Bound::Excluded(320)).expect("it can be locked");
    assert!(locked, "nobody else has it");
    file
}

#[test]
fn who_is_stopped_with_a_lock_of_the_file_stops_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..1));
    let events = Events::default();
    let options = StoreOptions { lock_deadline: Duration::from_millis(20), ..events.options(directory.path()) };
    for opened_before in [false, true] {
        let store = Store::open(options.clone());
        if opened_before {
            assert!(is_whole(&store.snapshot(), 0));
        }
        let held = header(directory.path());
        for _ in 0..3 {
            assert_eq!(sample::count(&store.snapshot(), 0, "held"), 0);
        }
        let number = if opened_before { 2 } else { 1 };
        assert_eq!(store.commit(batch(number..number + 1)), Committed::Spilled);
        let said = events.take();
        let [StoreEvent::WillRunWithout { reason }] = said.as_slice() else { panic!("{said:?}") };
        assert!(reason.contains("does not give back its lock"), "{reason}");
        held.close().expect("it can be closed");
        let snapshot = store.snapshot();
        assert!((0..=number).all(|number| is_whole(&snapshot, number)), "it goes on as soon as it can");
    }
    let (store, events) = open(directory.path());
    assert_eq!(store.commit(Batch::default()), Committed::Stored);
    assert_eq!(events.take(), [StoreEvent::DidAbsorb { batches: 2 }]);
    assert!((0..3).all(|number| is_whole(&store.snapshot(), number)));
}

#[test]
fn who_holds_a_lock_of_the_file_for_long_is_waited_for_and_that_is_said() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..1));
    let held = header(directory.path());
    let (say, said) = mpsc::channel();
    let mut options = StoreOptions::new(directory.path());
    options.lock_deadline = Duration::from_secs(600);
    options.listener = Some(std::sync::Arc::new(move |event| say.send(event).expect("somebody listens")));
    let store = Store::open(options);
    let reading = std::thread::spawn({
        let store = store.clone();
        move || is_whole(&store.snapshot(), 0)
    });
    assert_eq!(said.recv(), Ok(StoreEvent::WillWait));
    held.close().expect("it can be closed");
    assert!(reading.join().expect("it does not panic"));
    assert_eq!(said.try_recv(), Err(mpsc::TryRecvError::Empty));
}
