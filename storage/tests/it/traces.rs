//! A key keeps the traces of several worlds.

use std::time::Duration;

use doge_storage::{Batch, Dependency, Fingerprint, Trace};

use crate::events::open;
use crate::sample::key;

/// A trace that saw this world.
fn world(number: u64, value: u64) -> Trace {
    let seen = Dependency { key: key("seen", 0), role: 7, fingerprint: Fingerprint::of(&number.to_le_bytes()) };
    Trace {
        groups: vec![vec![seen]],
        value: Fingerprint::of(&value.to_le_bytes()),
        cost: Duration::from_millis(1),
        scope: 0,
        recorded: u64::MAX,
    }
}

fn batch(worlds: impl IntoIterator<Item = Trace>) -> Batch {
    Batch { traces: worlds.into_iter().map(|trace| (key("key", 0), trace)).collect(), ..Batch::default() }
}

/// The values of all traces, the newest first, which is also found by itself.
fn values(directory: &std::path::Path) -> Vec<Fingerprint> {
    let snapshot = open(directory).0.snapshot();
    let traces = snapshot.traces(key("key", 0));
    assert_eq!(snapshot.newest_trace(key("key", 0), 0), (traces.first().cloned(), traces.len() > 1));
    traces.iter().map(|trace| trace.value).collect()
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<Fingerprint> {
    numbers.into_iter().map(|number| Fingerprint::of(&number.to_le_bytes())).collect()
}

#[test]
fn a_key_keeps_its_last_eight_traces_newest_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    for number in 0..5 {
        store.commit(batch([world(number, number)]));
    }
    assert_eq!(values(directory.path()), numbers((0..5).rev()));
    // The last ones come in one batch, in which the oldest is the first.
    store.commit(batch((5..11).map(|number| world(number, number))));
    assert_eq!(values(directory.path()), numbers((3..11).rev()));
    let kept = store.info().tables.iter().find(|(name, ..)| *name == "traces").map(|(_, count, _)| *count);
    assert_eq!(kept, Some(8));
    events.assert_silent();
}

fn of_scope(scope: u64, world: Trace) -> Trace {
    Trace { scope, ..world }
}

#[test]
fn each_scope_keeps_its_own_traces_and_finds_its_newest() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, events) = open(directory.path());
    store.commit(batch((0..10).map(|number| of_scope(1, world(number, number)))));
    for number in 10..30 {
        store.commit(batch([of_scope(2, world(number, number))]));
    }
    assert_eq!(values(directory.path()), numbers((22..30).rev().chain((2..10).rev())));
    for wait in [false, true] {
        if wait {
            store.spill(batch((30..32).map(|number| of_scope(3, world(number, number)))));
        }
        let newest = |scope| store.snapshot().newest_trace(key("key", 0), scope).0.map(|trace| trace.value);
        assert_eq!(newest(1), numbers([9]).pop());
        assert_eq!(newest(2), numbers([29]).pop());
        assert_eq!(newest(4), numbers([if wait { 31 } else { 29 }]).pop(), "of all, where there is none");
    }
    events.assert_silent();
}

#[test]
fn who_comes_seldom_is_not_crowded_out_by_those_who_come_often() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch([of_scope(0, world(0, 0))]));
    for scope in 1..=40 {
        store.commit(batch((0..8).map(|number| of_scope(scope, world(scope * 10 + number, scope * 10 + number)))));
    }
    let traces = store.snapshot().traces(key("key", 0));
    assert_eq!(traces.len(), 256);
    for scope in 0..=40 {
        let kept: Vec<Fingerprint> =
            traces.iter().filter(|trace| trace.scope == scope).map(|trace| trace.value).collect();
        assert!(scope == 0 || (6..=8).contains(&kept.len()), "{scope}: {}", kept.len());
        let newest = if scope == 0 { 0 } else { scope * 10 + 7 };
        assert_eq!(kept.first().copied(), numbers([newest]).pop());
    }
}

#[test]
fn a_world_seen_again_is_the_newest_and_replaces_its_own_trace() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch((0..3).map(|number| world(number, number))));
    store.commit(batch([world(0, 100)]));
    assert_eq!(values(directory.path()), numbers([100, 2, 1]));
}

#[test]
fn another_key_loses_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    let other = Batch { traces: vec![(key("key", 1), world(0, 0))], ..Batch::default() };
    store.commit(other);
    store.commit(batch((0..12).map(|number| world(number, number))));
    assert_eq!(store.snapshot().traces(key("key", 1)).len(), 1);
}

#[test]
fn at_most_eight_are_seen_when_some_wait_beside_the_store() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch((0..8).map(|number| world(number, number))));
    store.spill(batch((8..11).map(|number| world(number, number))));
    assert_eq!(values(directory.path()), numbers((3..11).rev()));
    store.commit(Batch::default());
    assert_eq!(values(directory.path()), numbers((3..11).rev()));
}
