//! What runs leave that wrote nothing.

use std::fs;

use doge_storage::{Batch, Committed};

use crate::events::open;
use crate::sample::{self, batch, bytes_below, file, is_whole, key, lease, run};

#[test]
fn a_run_that_only_reads_writes_nothing_to_the_file_and_the_next_writer_takes_its_records_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..5));
    let before = fs::read(file(directory.path())).expect("it can be read");

    for number in 100..103 {
        let (store, events) = open(directory.path());
        let snapshot = store.snapshot();
        assert!((0..5).all(|number| is_whole(&snapshot, number)));
        // The store knows the first of today; it does not know the second.
        store.log_touched(&snapshot, &[key("key", 0), key("touched", number)]);
        store.log_run(&run(number));
        events.assert_silent();
    }
    assert!(before == fs::read(file(directory.path())).expect("it can be read"));
    let logs: Vec<String> = bytes_below(&directory.path().join("store-v3")).into_keys().collect();
    assert_eq!(logs, ["runs.log", "store.redb", "touch.log"]);

    // Whoever looks sees the runs, though they are only in the log.
    let (store, events) = open(directory.path());
    assert_eq!(store.snapshot().runs(2), [run(102), run(101)]);
    assert_eq!(store.snapshot().run(run(100).id), Some(run(100)));
    let access = |store: &doge_storage::Store| {
        let tables = store.info().tables;
        tables.iter().find(|(name, ..)| *name == "access").map(|(_, count, _)| *count)
    };
    assert_eq!(access(&store), Some(5));

    assert_eq!(store.commit(batch(5..6)), Committed::Stored);
    let logs: Vec<String> = bytes_below(&directory.path().join("store-v3")).into_keys().collect();
    assert_eq!(logs, ["store.redb"]);
    let (store, _) = open(directory.path());
    assert_eq!(store.snapshot().runs(3), [run(102), run(101), run(100)]);
    assert_eq!(access(&store), Some(12), "five, one, and three that were touched, each together with another");
    events.assert_silent();
}

#[test]
fn a_key_used_today_is_not_logged_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..1));
    let touched = Batch { touches: vec![key("touched", 1)], ..Batch::default() };
    store.commit(touched);
    let log = directory.path().join("store-v3/touch.log");
    let logged = || fs::metadata(&log).map_or(0, |log| log.len());
    let used = [key("key", 0), key("touched", 1)];
    store.log_touched(&store.snapshot(), &used);
    let length = logged();
    assert_eq!(length, 4 + 22 + 32, "only that they were used together");
    // The same keys, in whatever order, are not logged again, also once the log was taken in.
    store.log_touched(&store.snapshot(), &[used[1], used[0]]);
    assert_eq!(logged(), length);
    store.commit(batch(1..2));
    assert_eq!(logged(), 0);
    store.log_touched(&store.snapshot(), &used);
    assert_eq!(logged(), 0);
    // Others are.
    store.log_touched(&store.snapshot(), &[used[0]]);
    assert_eq!(logged(), length);
    store.log_touched(&store.snapshot(), &[used[0], key("touched", 2)]);
    assert_eq!(logged(), length + 4 + 22 + 64, "one of them was not known");
}

#[test]
fn a_torn_log_costs_its_last_record_and_no_commit() {
    for cut in 1..40 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, events) = open(directory.path());
        store.log_run(&run(1));
        store.log_run(&run(2));
        store.log_touched(&store.snapshot(), &[key("touched", 1)]);
        for log in ["runs.log", "touch.log"] {
            let path = directory.path().join("store-v3").join(log);
            let whole = fs::read(&path).expect("it can be read");
            fs::write(&path, &whole[..whole.len() - cut]).expect("it can be written");
        }
        assert_eq!(store.snapshot().runs(9), [run(1)], "without {cut} bytes");
        assert_eq!(store.commit(batch(0..1)), Committed::Stored);
        // The run of the batch is older than the logged one.
        assert_eq!(open(directory.path()).0.snapshot().runs(9), [run(1), run(0)], "without {cut} bytes");
        events.assert_silent();
    }
}

#[test]
fn logs_full_of_nonsense_are_taken_for_empty() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    fs::create_dir_all(store.directory()).expect("it can be made");
    for (seed, log) in ["runs.log", "touch.log"].into_iter().enumerate() {
        fs::write(store.directory().join(log), sample::noise(seed as u64, 5000)).expect("it can be written");
    }
    assert_eq!(store.snapshot().runs(9), []);
    assert_eq!(store.commit(batch(0..1)), Committed::Stored);
    assert_eq!(open(directory.path()).0.snapshot().runs(9), [run(0)]);
    events.assert_silent();
}

#[test]
fn logs_that_a_writer_moved_aside_and_did_not_take_in_are_not_lost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.log_run(&run(1));
    let log = store.directory().join("runs.log");
    fs::rename(&log, store.directory().join("runs.log.0123")).expect("it can be moved");
    store.log_run(&run(2));
    assert_eq!(store.snapshot().runs(9), [run(2), run(1)]);
    store.commit(Batch::default());
    assert_eq!(open(directory.path()).0.snapshot().runs(9), [run(2), run(1)]);
    let files: Vec<String> = bytes_below(store.directory()).into_keys().collect();
    assert_eq!(files, ["store.redb"]);
}

#[test]
fn runs_are_logged_while_somebody_is_writing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    store.commit(batch(0..1));
    let held = lease(directory.path());
    store.log_run(&run(9));
    assert_eq!(store.snapshot().runs(1), [run(9)]);
    drop(held);
    events.assert_silent();
}
