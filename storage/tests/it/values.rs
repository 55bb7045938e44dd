//! Values: once each, in pieces, compressed.

use std::sync::Arc;

use doge_storage::{Batch, Committed, Fingerprint, Store};

use crate::events::open;
use crate::sample::noise;

fn batch(values: impl IntoIterator<Item = Vec<u8>>) -> Batch {
    let values = values.into_iter().map(|value| (Fingerprint::of(&value), Arc::from(value))).collect();
    Batch { values, ..Batch::default() }
}

/// How many entries the values take, and how many bytes.
fn size(store: &Store) -> (u64, u64) {
    let tables = store.info().tables;
    tables.iter().find(|(name, ..)| *name == "values").map(|(_, count, bytes)| (*count, *bytes)).expect("it is a table")
}

#[test]
fn equal_values_are_kept_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let value = noise(1, 3000);
    for _ in 0..3 {
        let (store, _) = open(directory.path());
        store.commit(batch([value.clone()]));
    }
    let (store, _) = open(directory.path());
    assert_eq!(size(&store).0, 1);
    assert!(size(&store).1 < 3200);
}

#[test]
fn values_of_every_size_come_back_in_as_few_pieces_as_can_be() {
    const PIECE: usize = 1_040_000 - 64;
    let sizes = [0, 1, 4095, 4096, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5];
    let pieces = [1, 1, 1, 1, 1, 1, 2, 2, 4];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    for (size, pieces) in sizes.into_iter().zip(pieces) {
        let value = noise(size as u64, size);
        let before = self::size(&store).0;
        assert_eq!(store.commit(batch([value.clone()])), Committed::Stored);
        assert_eq!(self::size(&store).0 - before, pieces, "{size} bytes");
        let (store, events) = open(directory.path());
        let snapshot = store.snapshot();
        assert!(snapshot.value(Fingerprint::of(&value)) == Some(value.clone()), "{size} bytes");
        assert!(snapshot.contains_value(Fingerprint::of(&value)));
        events.assert_silent();
    }
}

#[test]
fn no_piece_takes_more_than_a_power_of_two_that_it_nearly_fills() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch((0..8).map(|seed| noise(seed, 1_039_000))));
    // Each of the pieces with its header fits into one MiB.
    assert!(store.info().file_bytes < 10 << 20, "{}", store.info().file_bytes);
}

#[test]
fn what_repeats_itself_takes_little_room() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    let value = b"the same line again and again\n".repeat(100_000);
    store.commit(batch([value.clone()]));
    let (store, _) = open(directory.path());
    assert!(store.snapshot().value(Fingerprint::of(&value)) == Some(value));
    assert!(size(&store).1 < 10_000, "{:?}", size(&store));
}

#[test]
fn a_value_under_a_name_that_is_not_its_own_is_not_returned() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    let name = Fingerprint::of(b"another");
    let lie = || Batch { values: [(name, Arc::from(b"a value".as_slice()))].into(), ..Batch::default() };
    store.spill(lie());
    assert_eq!(store.snapshot().value(name), None);
    store.commit(Batch::default());
    assert_eq!(store.snapshot().value(name), None);
}
