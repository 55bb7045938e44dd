//! Damaged files: nothing wrong is ever returned, nothing panics, and a new store takes the place of the old one.

use std::fs;
use std::sync::OnceLock;

use doge_storage::{Batch, Collection, Committed, Fingerprint, Snapshot, Store, StoreEvent};

use crate::events::open;
use crate::sample::{self, Random, batch, count, file, is_whole, label, lease, noise, run, seal};
use crate::trials::trials as how_many;

/// Of each kind of damage, by default; `DOGE_TRIALS=12.5` makes it 200.
const TRIALS: u64 = 16;
const NUMBERS: u64 = 100;
const PAGE: usize = 4096;

/// The file of a store that was used for a while: entries replaced and removed, pages freed and used again.
fn used() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = open(directory.path());
        for first in (0..NUMBERS).step_by(10) {
            store.commit(batch(first..first + 10));
            store.commit(batch(0..first));
        }
        let many = Batch { runs: (1000..1090).map(run).collect(), ..Batch::default() };
        store.commit(many);
        // Several worlds of a key, a value in pieces, values that are collected again and leave room behind.
        for world in 0..4 {
            let mut trace = sample::trace(NUMBERS + world);
            trace.value = Fingerprint::of(&sample::value(0));
            store.commit(Batch { traces: vec![(sample::key("worlds", 0), trace)], ..Batch::default() });
        }
        for loose in [large(), noise(71, 200_000), noise(72, 9000)] {
            store.commit(Batch { values: [(Fingerprint::of(&loose), loose.into())].into(), ..Batch::default() });
        }
        store.collect(&Collection::default()).expect("nobody else is here");
        let large = large();
        store.commit(Batch { values: [(Fingerprint::of(&large), large.into())].into(), ..Batch::default() });
        let snapshot = open(directory.path()).0.snapshot();
        assert_eq!(all(&snapshot, "used"), 6 * NUMBERS as usize);
        fs::read(file(directory.path())).expect("it can be read")
    })
}

/// A value in two pieces.
fn large() -> Vec<u8> {
    noise(70, 1_200_000)
}

/// Reads everything in every way; how much there is of it.
fn all(snapshot: &Snapshot, context: &str) -> usize {
    if let Some(found) = snapshot.value(Fingerprint::of(&large())) {
        assert!(found == large(), "{context}: the large value");
    }
    for mut found in snapshot.traces(sample::key("worlds", 0)) {
        found.recorded = 0;
        found.value = Fingerprint::of(&sample::value(NUMBERS));
        let known = (0..4).any(|world| sample::trace(NUMBERS + world).groups == found.groups);
        assert!(known, "{context}: {found:?}");
    }
    for found in snapshot.runs(1000) {
        let micros = found.id.micros();
        assert!(found == run(micros), "{context}: the run {micros}");
    }
    for (found, entries) in snapshot.labels_containing("label") {
        for entry in entries {
            let known = (0..NUMBERS).chain(2000..2010).any(|number| label(number) == (found.clone(), entry));
            assert!(known, "{context}: {found}");
        }
    }
    (0..NUMBERS).map(|number| count(snapshot, number, context)).sum()
}

/// What came of the trials.
#[derive(Debug, Default)]
struct Outcome {
    unnoticed: u32,
    noticed: u32,
    replaced: u32,
}

fn trials(kind: u64, damage: impl Fn(&mut Vec<u8>, &mut Random)) -> Outcome {
    let mut outcome = Outcome::default();
    for trial in 0..how_many(TRIALS) {
        let context = format!("trial {trial}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut image = used().to_vec();
        damage(&mut image, &mut Random::new(kind << 32 | trial << 8));
        fs::create_dir_all(directory.path().join("store-v3")).expect("it can be made");
        fs::write(file(directory.path()), image).expect("it can be written");

        // The first run meets the damage when it reads or when it writes; if it happens to do neither with what is
        // damaged, a later one may. After at most one replacement all is well.
        let mut replaced = 0;
        for number in 2000..2003 {
            let (store, events) = open(directory.path());
            all(&store.snapshot(), &context);
            let said = events.take();
            assert!(said.iter().all(|event| matches!(event, StoreEvent::DidDiscard { .. })), "{context}: {said:?}");
            if said.is_empty() {
                outcome.unnoticed += 1;
            } else {
                outcome.noticed += 1;
                assert_eq!(replaced, 0, "{context}: a new file is not damaged: {said:?}");
            }
            assert_eq!(store.commit(batch([number])), Committed::Stored, "{context}");
            let later = events.take();
            let quarantined = later.iter().filter(|event| matches!(event, StoreEvent::DidQuarantine { .. })).count();
            if !said.is_empty() {
                assert_eq!(quarantined, 1, "{context}: what was noticed is put aside: {said:?} {later:?}");
            }
            replaced += quarantined;
            let (again, events) = open(directory.path());
            let snapshot = again.snapshot();
            all(&snapshot, &context);
            // What has just been written may be lost only together with a file that is found to be damaged.
            assert!(is_whole(&snapshot, number) || !events.take().is_empty(), "{context}: {number}");
        }
        assert!(replaced <= 1, "{context}");
        outcome.replaced += replaced as u32;
        let (store, events) = open(directory.path());
        let snapshot = store.snapshot();
        all(&snapshot, &context);
        assert!(is_whole(&snapshot, 2002), "{context}");
        events.assert_silent();
    }
    outcome
}

#[test]
fn a_flipped_bit_never_becomes_a_wrong_value() {
    let outcome = trials(1, |image, random| {
        let bit = random.below(image.len() * 8);
        image[bit / 8] ^= 1 << (bit % 8);
    });
    assert!(outcome.noticed > 0 && outcome.unnoticed > 0, "{outcome:?}");
}

#[test]
fn a_zeroed_page_never_becomes_a_wrong_value() {
    let outcome = trials(2, |image, random| {
        let page = random.below(image.len() / PAGE) * PAGE;
        image[page..page + PAGE].fill(0);
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn a_truncated_file_never_becomes_a_wrong_value() {
    let outcome = trials(3, |image, random| image.truncate(random.below(image.len())));
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn pages_in_each_others_places_never_become_wrong_values() {
    let outcome = trials(4, |image, random| {
        let pages = image.len() / PAGE;
        let (one, other) = (random.below(pages) * PAGE, random.below(pages) * PAGE);
        let kept = image[one..one + PAGE].to_vec();
        image.copy_within(other..other + PAGE, one);
        image[other..other + PAGE].copy_from_slice(&kept);
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn noise_in_the_header_never_becomes_a_wrong_value() {
    let outcome = trials(5, |image, random| {
        let start = random.below(320);
        let noise = sample::noise(start as u64, 8);
        image[start..start + 8].copy_from_slice(&noise);
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn eight_other_bytes_never_become_a_wrong_value() {
    let outcome = trials(6, |image, random| {
        let place = random.below(image.len() - 8);
        image[place..place + 8].copy_from_slice(&noise(place as u64, 8));
    });
    assert!(outcome.noticed > 0, "{outcome:?}");
}

#[test]
fn five_hundred_random_bytes_never_become_a_wrong_value() {
    let outcome = trials(7, |image, random| {
        let place = random.below(image.len() - 512);
        image[place..place + 512].copy_from_slice(&noise(place as u64, 512));
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn a_missing_page_never_becomes_a_wrong_value() {
    let outcome = trials(8, |image, random| {
        let page = random.below(image.len() / PAGE) * PAGE;
        image.drain(page..page + PAGE);
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

#[test]
fn a_zeroed_tail_never_becomes_a_wrong_value() {
    let outcome = trials(9, |image, random| {
        let start = random.below(image.len());
        image[start..].fill(0);
    });
    assert!(outcome.noticed > 0 && outcome.replaced > 0, "{outcome:?}");
}

/// Damage at any place, met first by who reads everything: what is whole is kept, and nothing else.
#[test]
fn verifying_a_damaged_store_leaves_a_whole_one_with_what_was_whole() {
    let mut kept = 0;
    for trial in 0..how_many(TRIALS) {
        let context = format!("trial {trial}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut image = used().to_vec();
        let mut random = Random::new(10 << 32 | trial << 8);
        match trial % 4 {
            0 => {
                let bit = random.below(image.len() * 8);
                image[bit / 8] ^= 1 << (bit % 8);
            }
            1 => {
                let page = random.below(image.len() / PAGE) * PAGE;
                image[page..page + PAGE].fill(0);
            }
            2 => {
                let place = random.below(image.len() - 512);
                image[place..place + 512].copy_from_slice(&noise(place as u64, 512));
            }
            _ => image.truncate(random.below(image.len())),
        }
        fs::create_dir_all(directory.path().join("store-v3")).expect("it can be made");
        fs::write(file(directory.path()), image).expect("it can be written");
        let store = open(directory.path()).0;
        let verified = store.verify().expect("it can be read");
        assert_eq!(verified.repaired, !verified.findings.is_empty(), "{context}: {verified:?}");
        let (store, events) = open(directory.path());
        kept += u32::from(!verified.findings.is_empty() && all(&store.snapshot(), &context) > 0);
        assert_eq!(store.commit(batch([2000])), Committed::Stored, "{context}");
        assert!(is_whole(&store.snapshot(), 2000), "{context}");
        assert_eq!(store.verify().expect("it can be read").findings, [], "{context}: {verified:?}");
        events.assert_silent();
    }
    assert!(kept > 0, "something was taken over from a damaged file");
}

fn put_format(store: &Store, directory: &std::path::Path, version: u32) {
    let database = lease(directory);
    let transaction = database.begin_write().expect("we are the writer");
    {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
        let mut table = transaction.open_table(table).expect("it is of this type");
        let sealed = seal("meta", b"format", 1, &version.to_le_bytes());
        table.insert(b"format".as_slice(), sealed.as_slice()).expect("it can be written");
    }
    transaction.commit().expect("it can be written");
    database.close().expect("nobody is using it");
    assert!(store.directory().exists());
}

#[test]
fn a_store_of_an_older_format_is_put_aside_and_a_new_one_made() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..3));
    put_format(&store, directory.path(), 1);
    let (store, events) = open(directory.path());
    assert_eq!(count(&store.snapshot(), 0, "older"), 0, "what it holds was made by other rules");
    assert_eq!(store.commit(batch(3..4)), Committed::Stored);
    let said = events.take();
    let [StoreEvent::DidDiscard { reason, .. }, StoreEvent::DidQuarantine { .. }] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(reason.contains("version 1"), "{reason}");
    assert!(is_whole(&open(directory.path()).0.snapshot(), 3));
}

/// What lies beside the file: batches, logs, the files of locks. Whatever is in them, nothing wrong is read, every run
/// goes on, and the next commit lands.
#[test]
fn damage_beside_the_file_never_becomes_a_wrong_value() {
    let mut random = Random::new(11 << 32);
    for trial in 0..how_many(TRIALS) {
        let context = format!("trial {trial}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = open(directory.path());
        store.commit(batch(0..5));
        store.hold();
        for number in 5..8 {
            store.spill(batch([number]));
            store.log_run(&run(1000 + number));
            store.log_touched(&store.snapshot(), &[sample::key("touched", number)]);
        }
        fs::write(store.directory().join("quarantine.lock"), b"12\n34\nputting aside\n").expect("it can be written");
        drop(store);
        for (name, mut bytes) in sample::bytes_below(directory.path()) {
            if name.ends_with("store.redb") || random.below(3) == 0 {
                continue;
            }
            match random.below(5) {
                0 => bytes.clear(),
                1 => bytes.truncate(random.below(bytes.len().max(1))),
                2 => bytes.extend(noise(trial, 300)),
                3 => bytes = noise(trial, 700),
                _ if bytes.is_empty() => {}
                _ => {
                    let bit = random.below(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            fs::write(directory.path().join(name), bytes).expect("it can be written");
        }
        let (store, events) = open(directory.path());
        store.hold();
        let snapshot = store.snapshot();
        assert!((0..5).all(|number| is_whole(&snapshot, number)), "{context}");
        for number in 5..8 {
            let there = count(&snapshot, number, &context);
            assert!(there == 0 || there == 6, "{context}: a batch is there as a whole or not at all: {there}");
        }
        for found in snapshot.runs(100) {
            let known = (0..8).chain(1005..1008).any(|number| run(number) == found);
            assert!(known, "{context}: {found:?}");
        }
        assert_eq!(store.commit(batch(20..21)), Committed::Stored, "{context}");
        let said = events.take();
        assert!(
            said.iter().all(|event| matches!(
                event,
                StoreEvent::DidDiscard { table: "pending", .. } | StoreEvent::DidAbsorb { .. }
            )),
            "{context}: {said:?}"
        );
        let (store, events) = open(directory.path());
        let snapshot = store.snapshot();
        assert!((0..5).chain([20]).all(|number| is_whole(&snapshot, number)), "{context}");
        assert_eq!(store.info().pending, 0, "{context}");
        assert!(store.collect(&Collection::default()).is_ok(), "{context}");
        events.assert_silent();
    }
}

#[test]
fn verifying_removes_a_trace_whose_value_is_not_there() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..2));
    store.commit(Batch { values: Default::default(), ..batch(2..3) });
    let verified = store.verify().expect("it can be read");
    let [finding] = verified.findings.as_slice() else { panic!("{verified:?}") };
    assert!(finding.place == "traces" && finding.reason == "its value is not there" && verified.repaired);
    assert!(store.snapshot().traces(sample::key("key", 2)).is_empty());
    assert!((0..2).all(|number| is_whole(&store.snapshot(), number)));
    assert_eq!(store.verify().expect("it can be read").findings, []);
}
