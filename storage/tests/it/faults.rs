//! A medium that fails: at every operation, in every way, and by a crash at every moment.
//!
//! Whatever fails, what was acknowledged as stored is there afterwards, nothing wrong is returned, and the next commit
//! lands. Only where the medium lies about a sync may what was acknowledged be lost; nothing wrong is returned then, either.

use std::fs;
use std::path::Path;

use doge_storage::testing::{Change, Fault, Faults};
use doge_storage::{Batch, Collection, Committed, Fingerprint, Store, StoreEvent};

use crate::child::{self, Job};
use crate::events::{Events, open};
use crate::sample::{self, Random, batch, count, file, is_whole, noise};
use crate::trials::trials;

/// What was there before the medium failed.
const BEFORE: u64 = 30;

/// A store on a medium.
fn open_on(directory: &Path, faults: &Faults) -> (Store, Events) {
    let events = Events::default();
    let mut options = events.options(directory);
    options.faults = Some(faults.clone());
    options.names = sample::names;
    (Store::open(options), events)
}

/// A store that was used, with entries that nobody needs any more.
fn used() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..BEFORE / 2));
    store.commit(batch(0..BEFORE));
    for seed in 0..3 {
        let value = noise(9000 + seed, 150_000);
        store.commit(Batch { values: [(Fingerprint::of(&value), value.into())].into(), ..Batch::default() });
    }
    store.spill(batch([BEFORE]));
    store.log_run(&sample::run(500));
    store.log_touched(&store.snapshot(), &[sample::key("touched", 1)]);
    directory
}

/// What is done to a store while its medium fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Commit,
    Collect,
}

const WORK: [Work; 2] = [Work::Commit, Work::Collect];

/// Does it; which numbers are certainly there now.
fn work(work: Work, store: &Store, faults: &Faults) -> Vec<u64> {
    let mut stored = Vec::new();
    match work {
        Work::Commit => {
            for numbers in [100..101, 101..106] {
                if store.commit(batch(numbers.clone())) == Committed::Stored {
                    faults.mark(numbers.end);
                    stored.extend(numbers);
                }
            }
        }
        Work::Collect => {
            // Nothing of what is named goes; what nothing names does.
            if store.collect(&Collection::default()).is_ok() {
                faults.mark(0);
            }
        }
    }
    stored
}

/// The store is usable, has these numbers, and lies about none.
#[track_caller]
fn assert_usable(directory: &Path, there: impl IntoIterator<Item = u64>, context: &str) {
    let (store, events) = open(directory);
    let snapshot = store.snapshot();
    for number in there {
        assert_eq!(count(&snapshot, number, context), 6, "{context}: {number} is not whole: {:?}", events.take());
    }
    for number in (0..=BEFORE).chain(100..110) {
        count(&snapshot, number, context);
    }
    drop(snapshot);
    assert_eq!(store.commit(batch([700])), Committed::Stored, "{context}");
    let (store, events) = open(directory);
    assert!(is_whole(&store.snapshot(), 700), "{context}");
    let verified = store.verify().expect("it can be read");
    assert_eq!(verified.findings, [], "{context}");
    events.assert_silent();
}

fn fail_each(fault: Fault) {
    let template = used();
    for what in WORK {
        let faults = Faults::new();
        let directory = sample::copy(template.path());
        work(what, &open_on(directory.path(), &faults).0, &faults);
        let operations = faults.operations();
        assert!(operations > 20, "{what:?}: {operations}");
        let step = (operations / trials(30)).max(1);
        for operation in (0..operations).step_by(step as usize) {
            let context = format!("{what:?} with {fault:?} at {operation} of {operations}");
            let directory = sample::copy(template.path());
            let faults = Faults::at(operation, fault);
            let (store, events) = open_on(directory.path(), &faults);
            let stored = work(what, &store, &faults);
            assert!(faults.hit().is_some(), "{context}: it was not reached");
            let said = events.take();
            let without = said.iter().filter(|event| matches!(event, StoreEvent::WillRunWithout { .. })).count();
            assert!(without <= 1, "{context}: said once: {said:?}");
            drop(store);
            // A disk that fails is no reason to throw away what is on it.
            let quarantined = said.iter().any(|event| matches!(event, StoreEvent::DidQuarantine { .. }));
            assert!(!quarantined, "{context}: {said:?}");
            assert_usable(directory.path(), (0..BEFORE).chain(stored), &context);
        }
    }
}

#[test]
fn an_error_of_any_operation_loses_nothing_that_was_stored() {
    fail_each(Fault::Error);
}

#[test]
fn a_medium_that_is_gone_from_any_operation_on_loses_nothing_that_was_stored() {
    fail_each(Fault::Gone);
}

#[test]
fn a_torn_write_loses_nothing_that_was_stored() {
    fail_each(Fault::Torn);
}

/// What a disk holds after a crash, as a store of its own. What lies beside the file is as it was before: files are
/// removed only after what they held was brought to the disk.
fn crashed(template: &Path, image: &[u8]) -> tempfile::TempDir {
    let directory = sample::copy(template);
    fs::write(file(directory.path()), image).expect("it can be written");
    directory
}

#[test]
fn after_a_crash_at_any_moment_everything_that_was_stored_is_there() {
    let template = used();
    let mut random = Random::new(77);
    for what in WORK {
        let faults = Faults::new();
        faults.record();
        let directory = sample::copy(template.path());
        work(what, &open_on(directory.path(), &faults).0, &faults);
        let log = faults.log();
        assert!(log.syncs() >= 4, "{what:?}: {}", log.syncs());
        let after_syncs =
            (0..log.changes.len()).filter(|place| log.changes[*place] == Change::Sync).map(|place| place + 1);
        let between = (0..trials(25)).map(|_| random.below(log.changes.len() + 1));
        let moments: Vec<usize> = after_syncs.chain(between.collect::<Vec<_>>()).chain([log.changes.len()]).collect();
        for moment in moments {
            for image in 0..2 {
                let context = format!("{what:?}, image {image} of moment {moment} of {}", log.changes.len());
                let image = log.after_crash(moment, |end| random.below(end));
                let directory = crashed(template.path(), &image);
                let acknowledged = log.changes[..moment].iter().filter_map(|change| match change {
                    Change::Mark(end) => Some(*end),
                    _ => None,
                });
                let end = acknowledged.max().unwrap_or(100);
                assert_usable(directory.path(), (0..BEFORE).chain(100..end), &context);
            }
        }
    }
}

#[test]
fn a_medium_that_lies_about_a_sync_may_lose_results_and_never_gives_wrong_ones() {
    let template = used();
    let mut random = Random::new(78);
    for what in WORK {
        let faults = Faults::new();
        let directory = sample::copy(template.path());
        work(what, &open_on(directory.path(), &faults).0, &faults);
        let operations = faults.operations();
        let mut syncs = 0;
        for operation in 0..operations {
            let faults = Faults::at(operation, Fault::Dropped);
            faults.record();
            let directory = sample::copy(template.path());
            work(what, &open_on(directory.path(), &faults).0, &faults);
            if faults.hit() != Some("sync") {
                continue;
            }
            syncs += 1;
            let log = faults.log();
            for image in 0..trials(3) {
                let context = format!("{what:?}, image {image} without the sync at {operation}");
                let moment = random.below(log.changes.len() + 1);
                let image = log.after_crash(moment, |end| random.below(end));
                let directory = crashed(template.path(), &image);
                // What is found damaged is put aside by the first who writes; then all is well.
                let (store, _) = open(directory.path());
                let snapshot = store.snapshot();
                for number in (0..=BEFORE).chain(100..106) {
                    count(&snapshot, number, &context);
                }
                assert_eq!(store.commit(batch([600])), Committed::Stored, "{context}");
                drop(open(directory.path()).0.verify().expect("it can be read"));
                assert_usable(directory.path(), [], &context);
            }
        }
        assert!(syncs >= 4, "{what:?}: {syncs}");
    }
}

#[test]
fn where_ranges_cannot_be_locked_the_work_goes_on_without_and_that_is_said_once() {
    let directory = used();
    let faults = Faults::without_locks();
    let (store, events) = open_on(directory.path(), &faults);
    assert_eq!(count(&store.snapshot(), 0, "no locks"), 0);
    assert_eq!(store.commit(batch(100..101)), Committed::Spilled, "it waits for somebody who can lock");
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::WillRunWithout { .. }]), "said once: {said:?}");
    assert!(is_whole(&store.snapshot(), 100));
    assert!(store.collect(&Collection::default()).is_err());
    events.assert_silent();
    assert_usable(directory.path(), (0..BEFORE).chain([100]), "afterwards");
}

/// Kills a process at counted points of its work.
fn kill_at_each(job: Job, template: &Path, points: u64, stored: impl Fn(&[u64]) -> Vec<u64>) {
    let step = (points / trials(15)).max(1);
    for point in (0..points).step_by(step as usize) {
        let context = format!("{job:?} killed at {point} of {points}");
        let directory = sample::copy(template);
        let mut child = child::start(job, directory.path(), point);
        let said: Vec<u64> = child::said(&mut child).collect();
        let status = child.wait().expect("it was ours");
        assert!(!status.success(), "{context}: it was not reached");
        assert_usable(directory.path(), (0..BEFORE).chain(stored(&said)), &context);
    }
}

/// What a child does at whose counted point it is killed.
pub(crate) fn until_killed(job: Job, directory: &Path, point: u64, say: impl Fn(u64)) {
    let faults = Faults::at(point, Fault::Kill);
    let (store, _) = open_on(directory, &faults);
    for number in work(if job == Job::CommitUntilKilled { Work::Commit } else { Work::Collect }, &store, &faults) {
        say(number);
    }
}

fn points(what: Work, template: &Path) -> u64 {
    let faults = Faults::new();
    let directory = sample::copy(template);
    work(what, &open_on(directory.path(), &faults).0, &faults);
    faults.operations()
}

#[test]
fn a_kill_at_any_point_of_a_commit_loses_nothing_that_was_stored() {
    let template = used();
    let points = points(Work::Commit, template.path());
    kill_at_each(Job::CommitUntilKilled, template.path(), points, <[u64]>::to_vec);
}

#[test]
fn a_kill_at_any_point_of_a_collection_loses_nothing_that_is_needed() {
    let template = used();
    let points = points(Work::Collect, template.path());
    kill_at_each(Job::CollectUntilKilled, template.path(), points, |_| Vec::new());
}

#[test]
fn a_kill_at_any_point_of_a_repair_loses_nothing_that_was_stored() {
    let template = used();
    // The last writer was killed in the middle of its work, so whoever comes next repairs the file first.
    let middle = points(Work::Commit, template.path()) / 3;
    let mut child = child::start(Job::CommitUntilKilled, template.path(), middle);
    child.wait().expect("it was ours");
    let mut builder = redb::Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter);
    let opened = builder.open_read_only(file(template.path()));
    assert!(matches!(opened, Err(redb::DatabaseError::RepairAborted)), "there must be something to repair");
    let points = points(Work::Commit, template.path());
    kill_at_each(Job::CommitUntilKilled, template.path(), points, <[u64]>::to_vec);
}
