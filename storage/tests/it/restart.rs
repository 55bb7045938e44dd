//! What was written is there for whoever opens the store later.

use doge_storage::{Committed, RunId};

use crate::events::open;
use crate::sample::{self, batch, is_whole, key, label, run};

#[test]
fn everything_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    {
        let (store, events) = open(directory.path());
        assert_eq!(store.commit(batch(0..20)), Committed::Stored);
        assert_eq!(store.commit(batch(20..25)), Committed::Stored);
        events.assert_silent();
    }
    let (store, events) = open(directory.path());
    let snapshot = store.snapshot();
    for number in 0..25 {
        assert!(is_whole(&snapshot, number), "{number}");
    }
    assert!(!is_whole(&snapshot, 25));
    assert_eq!(snapshot.traces(key("key", 25)), []);
    assert!(!snapshot.contains_value(doge_storage::Fingerprint::of(b"never written")));
    events.assert_silent();
}

#[test]
fn a_store_that_was_never_written_is_empty_and_stays_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    assert_eq!(sample::count(&store.snapshot(), 1, "never written"), 0);
    assert_eq!(store.snapshot().runs(10), []);
    assert_eq!(store.info().tables.iter().map(|(_, count, _)| count).sum::<u64>(), 0);
    assert_eq!(sample::bytes_below(directory.path()).len(), 0, "reading makes no files");
    events.assert_silent();
}

#[test]
fn a_snapshot_does_not_change_and_the_next_one_has_what_came() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..1));
    let before = store.snapshot();
    assert!(is_whole(&before, 0));
    store.commit(batch(1..2));
    assert_eq!(sample::count(&before, 1, "before"), 0);
    assert!(is_whole(&store.snapshot(), 1));
}

#[test]
fn what_is_written_again_replaces_what_was_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(1..2));
    let mut again = batch(1..2);
    again.specs.insert(key("key", 1), sample::spec(7));
    again.stamps.insert(key("key", 1), sample::stamp(7));
    store.commit(again);
    let (store, _) = open(directory.path());
    assert_eq!(store.snapshot().spec(key("key", 1)), Some(sample::spec(7)));
    assert_eq!(store.snapshot().stamp(key("key", 1)), Some(sample::stamp(7)));
}

#[test]
fn a_stamp_whose_detail_is_not_its_digest_is_not_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    let mut batch = batch(1..2);
    batch.stamps.get_mut(&key("key", 1)).expect("it has one").detail.push(0);
    store.commit(batch);
    assert_eq!(store.snapshot().stamp(key("key", 1)), None);
}

#[test]
fn a_label_remembers_its_last_eight_specs_each_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for number in 0..12 {
        let (store, _) = open(directory.path());
        let mut batch = batch([]);
        let (_, entry) = label(number);
        batch.labels.push(("shared".to_owned(), entry));
        if number == 11 {
            // The first comes again, and is now the newest.
            let (_, mut first) = label(6);
            first.run = run(99).id;
            batch.labels.push(("shared".to_owned(), first));
        }
        store.commit(batch);
    }
    let (store, _) = open(directory.path());
    let snapshot = store.snapshot();
    let keys: Vec<_> = snapshot.label("shared").iter().map(|entry| entry.key).collect();
    let expected: Vec<_> = [6, 11, 10, 9, 8, 7, 5, 4].map(|number| key("key", number)).to_vec();
    assert_eq!(keys, expected);
    let containing: Vec<_> = snapshot.labels_containing("har").into_iter().map(|(label, _)| label).collect();
    assert_eq!(containing, ["shared"]);
    assert_eq!(snapshot.labels_containing("nothing").len(), 0);
}

#[test]
fn the_last_two_hundred_runs_are_kept_and_listed_newest_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    let mut first = batch([]);
    first.runs = (0..150).map(run).collect();
    store.commit(first);
    let mut second = batch([]);
    second.runs = (150..230).map(run).collect();
    store.commit(second);
    let (store, _) = open(directory.path());
    let snapshot = store.snapshot();
    let expected: Vec<_> = (220..230).rev().map(run).collect();
    assert_eq!(snapshot.runs(10), expected);
    assert_eq!(snapshot.runs(1000).len(), 200);
    assert_eq!(snapshot.run(run(29).id), None);
    assert_eq!(snapshot.run(run(30).id), Some(run(30)));
    assert_eq!(snapshot.run(RunId::new()), None);
}

#[test]
fn clearing_removes_everything_and_the_store_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    store.clear().expect("there is nothing to remove");
    store.commit(batch(0..3));
    store.spill(batch(3..4));
    assert!(is_whole(&store.snapshot(), 3));
    store.clear().expect("nobody is writing");
    let snapshot = store.snapshot();
    for number in 0..4 {
        assert_eq!(sample::count(&snapshot, number, "cleared"), 0);
    }
    assert_eq!(store.commit(batch(4..5)), Committed::Stored);
    assert!(is_whole(&open(directory.path()).0.snapshot(), 4));
    events.assert_silent();
}

#[test]
fn compacting_keeps_everything() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    for number in 0..10 {
        store.commit(batch(number * 5..number * 5 + 5));
    }
    let before = store.info();
    store.compact().expect("nobody is writing");
    let after = store.info();
    assert_eq!(
        before.tables.iter().map(|(name, count, _)| (*name, *count)).collect::<Vec<_>>(),
        after.tables.iter().map(|(name, count, _)| (*name, *count)).collect::<Vec<_>>()
    );
    assert!(after.file_bytes <= before.file_bytes);
    let (store, _) = open(directory.path());
    let snapshot = store.snapshot();
    assert!((0..50).all(|number| is_whole(&snapshot, number)));
    events.assert_silent();
}
