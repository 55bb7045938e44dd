//! Damaged files: nothing wrong is ever returned, nothing panics, and a new store takes the place of the old one.

use std::fs;
use std::sync::OnceLock;

use doge_storage::{Batch, Committed, Snapshot, StoreEvent};

use crate::events::open;
use crate::sample::{self, Random, batch, count, file, is_whole, label, run};

const TRIALS: u64 = 200;
const NUMBERS: u64 = 60;
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
        let many = Batch { runs: (1000..1130).map(run).collect(), ..Batch::default() };
        store.commit(many);
        let snapshot = open(directory.path()).0.snapshot();
        assert_eq!(all(&snapshot, "used"), 6 * NUMBERS as usize);
        fs::read(file(directory.path())).expect("it can be read")
    })
}

/// Reads everything in every way; how much there is of it.
fn all(snapshot: &Snapshot, context: &str) -> usize {
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
    for trial in 0..TRIALS {
        let context = format!("trial {trial}");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut image = used().to_vec();
        damage(&mut image, &mut Random::new(kind << 32 | trial << 8));
        fs::create_dir_all(directory.path().join("store-v1")).expect("it can be made");
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
