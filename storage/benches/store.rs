//! The store alone: committing, opening, reading. Each load checks what it read.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use doge_storage::{Batch, Committed, Dependency, Fingerprint, Key, Store, StoreOptions, StoredSpec, Trace};
use tempfile::TempDir;

/// As many specs as an environment of a few hundred packages has, and ten times that.
const SIZES: [u64; 2] = [1_000, 10_000];

fn main() {
    divan::main();
}

fn key(number: u64) -> Key {
    Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn value(number: u64) -> Arc<[u8]> {
    format!("the value of spec {number}, which is as short as most of them").into_bytes().into()
}

/// Specs with a trace of four dependencies and a value each.
fn batch(numbers: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let bytes = value(number);
        let print = Fingerprint::of(&bytes);
        let depends = |by: u64| Dependency { key: key(number.wrapping_sub(by)), role: 0, fingerprint: print };
        let trace = Trace {
            groups: vec![vec![depends(1)], vec![depends(2), depends(3), depends(4)]],
            value: print,
            cost: Duration::from_micros(number),
            scope: 0,
            recorded: 0,
        };
        let spec = StoredSpec { kind: "spec".to_owned(), encoded: number.to_le_bytes().to_vec(), label: None };
        batch.specs.insert(key(number), spec);
        batch.values.insert(print, bytes);
        batch.traces.push((key(number), trace));
    }
    batch
}

fn open(directory: &TempDir) -> Store {
    Store::open(StoreOptions::new(directory.path()))
}

fn filled(size: u64) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(open(&directory).commit(batch(0..size)), Committed::Stored);
    directory
}

#[divan::bench(args = SIZES)]
fn commit_into_an_empty_store(bencher: Bencher<'_, '_>, size: u64) {
    bencher.with_inputs(|| (tempfile::tempdir().expect("a temporary directory"), batch(0..size))).bench_values(
        |(directory, batch)| {
            assert_eq!(open(&directory).commit(batch), Committed::Stored);
            directory
        },
    );
}

#[divan::bench(args = SIZES)]
fn commit_one_spec_into_a_filled_store(bencher: Bencher<'_, '_>, size: u64) {
    let directory = filled(size);
    let store = open(&directory);
    let mut next = size;
    bencher.bench_local(|| {
        next += 1;
        assert_eq!(store.commit(batch(next..next + 1)), Committed::Stored);
    });
}

#[divan::bench(args = SIZES)]
fn open_and_read_one_spec(bencher: Bencher<'_, '_>, size: u64) {
    let directory = filled(size);
    bencher.bench(|| {
        let snapshot = open(&directory).snapshot();
        assert_eq!(snapshot.traces(black_box(key(7))).len(), 1);
    });
}

#[divan::bench(args = SIZES)]
fn read_all_traces(bencher: Bencher<'_, '_>, size: u64) {
    let directory = filled(size);
    let snapshot = open(&directory).snapshot();
    bencher.bench(|| {
        let found: usize = (0..size).map(|number| snapshot.traces(key(number)).len()).sum();
        assert_eq!(found as u64, size);
    });
}

#[divan::bench(args = SIZES)]
fn read_all_values(bencher: Bencher<'_, '_>, size: u64) {
    let directory = filled(size);
    let snapshot = open(&directory).snapshot();
    bencher.bench(|| {
        assert!((0..size).all(|number| snapshot.value(Fingerprint::of(&value(number))).is_some()));
    });
}

/// 64 KiB chunks, compressed: what a list of records is.
#[divan::bench]
fn read_a_value_of_a_megabyte(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bytes: Arc<[u8]> = (0..131_072_u64).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let print = Fingerprint::of(&bytes);
    let mut batch = Batch::default();
    batch.values.insert(print, bytes.clone());
    assert_eq!(open(&directory).commit(batch), Committed::Stored);
    let snapshot = open(&directory).snapshot();
    bencher.bench(|| assert_eq!(snapshot.value(print).map(|found| found.len()), Some(bytes.len())));
}
