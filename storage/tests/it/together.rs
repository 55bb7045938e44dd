//! Many processes and threads at once.

use std::thread;

use doge_storage::{Batch, Committed};

use crate::child::{Job, start};
use crate::events::open;
use crate::sample::{batch, is_whole};

#[test]
fn eight_processes_that_write_at_once_lose_nothing() {
    // They begin with the making of the file, in which they must not get in each other's way either.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut children: Vec<_> = (0..8).map(|child| start(Job::Share, directory.path(), child * 100)).collect();
    for child in &mut children {
        let status = child.wait().expect("it was ours");
        assert!(status.success(), "{status}");
    }
    let (store, events) = open(directory.path());
    assert_eq!(store.commit(Batch::default()), Committed::Stored);
    let snapshot = store.snapshot();
    for child in 0..8 {
        for number in child * 100..child * 100 + 10 {
            assert!(is_whole(&snapshot, number), "{number}");
        }
    }
    assert_eq!(store.info().pending, 0);
    assert_eq!(store.info().quarantined, 0);
    drop(events);
}

#[test]
fn readers_that_come_while_the_file_is_made_find_nothing_wrong() {
    for _ in 0..100 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let (store, events) = open(directory.path());
                while !is_whole(&store.snapshot(), 1) {
                    let verified = store.verify().expect("it can be read");
                    assert_eq!(verified.findings, []);
                }
                events.assert_silent();
            });
            let (store, events) = open(directory.path());
            assert_eq!(store.commit(batch([1])), Committed::Stored);
            events.assert_silent();
            reading.join().expect("it does not panic");
        });
    }
}

#[test]
fn threads_share_one_handle() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = store.clone();
            scope.spawn(move || {
                for number in thread * 10..thread * 10 + 5 {
                    assert_ne!(store.commit(batch([number])), Committed::Lost);
                    assert!(is_whole(&store.snapshot(), number), "{number}");
                }
            });
        }
    });
    let snapshot = store.snapshot();
    assert!((0..4).all(|thread| (thread * 10..thread * 10 + 5).all(|number| is_whole(&snapshot, number))));
}
