//! Sessions: whatever was changed before a refresh was asked for is seen after it, and by every request that follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::future::block_on;
use shuttle::thread;

use crate::explore;
use crate::kinds::{Seen, Together, Toil, World, lose_patience, set};

/// Nobody who asks after a refresh gets what was before the change, whatever is under way.
#[test]
fn what_was_changed_before_a_refresh_is_seen_after_it() {
    explore(|| {
        let world = World::default();
        world.has("v", 1);
        let database = world.open();
        let seen = || Seen("v".to_owned());
        let worked = || Together(vec![Toil::reading("a", "v")]);
        let asking = {
            let database = database.clone();
            thread::spawn(move || {
                let seen = *block_on(database.get(&seen())).expect("nothing fails");
                assert!([1, 2].contains(&seen));
                let worked = *block_on(database.get(&worked())).expect("nothing fails");
                // A session sees one state, and the next one no earlier one.
                assert!([1 + seen, 3].contains(&worked), "{worked} after {seen}");
            })
        };
        let leaving = {
            let database = database.clone();
            thread::spawn(move || drop(block_on(lose_patience(database.get(&worked())))))
        };
        let also = {
            let database = database.clone();
            thread::spawn(move || block_on(database.refresh()).expect("it is open"))
        };
        set(&world.script, "v", 2);
        block_on(database.refresh()).expect("it is open");
        assert_eq!(*block_on(database.get(&worked())).expect("nothing fails"), 3);
        assert_eq!(*block_on(database.get(&seen())).expect("nothing fails"), 2);
        for thread in [asking, leaving] {
            thread.join().expect("it ends");
        }
        also.join().expect("it ends");
        assert_eq!(*block_on(database.get(&worked())).expect("nothing fails"), 3);
    });
}

/// A change at any moment: between two looks, during the work, during a refresh. Whatever was asked meanwhile, nothing
/// that was kept is wrong.
#[test]
fn a_change_at_any_moment_leaves_nothing_wrong_behind() {
    explore(|| {
        let world = World::default();
        world.has("v", 1);
        let database = world.open();
        let changing = {
            let script = world.script.clone();
            thread::spawn(move || {
                set(&script, "v", 5);
                set(&script, "v", 3);
            })
        };
        let worked = Together(vec![Toil::reading("a", "v"), Toil::reading("bb", "v")]);
        let looking = {
            let (database, worked) = (database.clone(), worked.clone());
            thread::spawn(move || {
                block_on(database.get(&Seen("v".to_owned()))).expect("nothing fails");
                block_on(database.get(&worked)).expect("nothing fails");
            })
        };
        block_on(database.get(&worked)).expect("nothing fails");
        block_on(database.refresh()).expect("it is open");
        block_on(database.get(&worked)).expect("nothing fails");
        changing.join().expect("it ends");
        looking.join().expect("it ends");
        block_on(database.refresh()).expect("it is open");
        assert_eq!(*block_on(database.get(&worked)).expect("nothing fails"), 9);
        assert_eq!(*block_on(database.get(&Seen("v".to_owned()))).expect("nothing fails"), 3);
    });
}

/// In one session everybody sees the same, also what was first read by work while somebody else was looking.
#[test]
fn a_read_that_is_reported_while_somebody_looks_is_one_look_for_all() {
    explore(|| {
        let world = World::default();
        world.has("v", 1);
        let database = world.open();
        let answer = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let (database, answer) = (database.clone(), answer.clone());
                thread::spawn(move || {
                    let worked = Together(vec![Toil::reading("a", "v")]);
                    if number == 0 {
                        block_on(database.get(&worked)).expect("nothing fails");
                    }
                    let seen = *block_on(database.get(&Seen("v".to_owned()))).expect("nothing fails");
                    let before = answer.swap(seen, Ordering::Relaxed);
                    assert!(before == 0 || before == seen, "{before} and {seen} in one session");
                })
            })
            .collect();
        set(&world.script, "v", 2);
        for thread in threads {
            thread.join().expect("it ends");
        }
        let counts = block_on(database.counts()).expect("it is open");
        assert_eq!(counts.executed["seen"], 1);
    });
}
