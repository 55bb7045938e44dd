//! Requests from several threads: what they share is done once, and a withdrawal takes nothing from anybody else.

use shuttle::future::block_on;
use shuttle::thread;

use crate::explore;
use crate::kinds::{InTurn, Tally, Toil, Told, World, lose_patience, together, told};

/// Each piece of work came to an end once, and began once more for each time that it was stopped.
fn assert_each_ran_once<const N: usize>(world: &World, names: [&str; N]) {
    let told = told(&world.log.take());
    for name in names {
        let told = told[&format!("toil({name})")];
        assert_eq!((told.did_run, told.will_run), (1, 1 + told.cancelled), "{name}: {told:?}");
    }
}

#[test]
fn what_several_threads_ask_at_once_is_done_once() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let threads: Vec<_> = [&["a", "bb"][..], &["a", "bb"], &["bb", "ccc"]]
            .into_iter()
            .map(|names| {
                let database = database.clone();
                thread::spawn(move || *block_on(database.get(&together(names))).expect("nothing fails"))
            })
            .collect();
        let answers: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        assert_eq!(answers, [3, 3, 5]);
        for name in ["a", "bb", "ccc"] {
            assert_eq!(world.tallies.of(name), Tally::ONCE, "{name}");
        }
        let counts = block_on(database.counts()).expect("it is open");
        assert_eq!((counts.executed["toil"], counts.executed["together"]), (3, 2));
        drop(database);
        for (spec, told) in told(&world.log.take()) {
            let once = Told { will_run: 1, did_run: 1, ..Told::default() };
            let expected = if spec.starts_with("toil") { once } else { Told { executed: 1, ..Told::default() } };
            assert_eq!(told, expected, "{spec}");
        }
    });
}

#[test]
fn work_that_blocks_and_computes_elsewhere_ends_where_it_is_waited_for() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let query = InTurn(vec![Toil::elsewhere("a"), Toil::elsewhere("bb")]);
        let other = {
            let (database, query) = (database.clone(), query.clone());
            thread::spawn(move || {
                block_on(lose_patience(database.get(&query))).map(|answer| *answer.expect("none fails"))
            })
        };
        assert_eq!(*block_on(database.get(&query)).expect("nothing fails"), 3);
        assert!(other.join().expect("it ends").is_none_or(|answer| answer == 3));
        drop(database);
        assert_each_ran_once(&world, ["a", "bb"]);
    });
}

/// The one that stays has been taken in before the other is there to be withdrawn.
#[test]
fn a_withdrawal_stops_nothing_that_another_request_needs() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let stays = database.get(&together(&["bb", "ccc"]));
        let goes = {
            let database = database.clone();
            thread::spawn(move || {
                block_on(lose_patience(database.get(&together(&["a", "bb"]))))
                    .map(|answer| *answer.expect("none fails"))
            })
        };
        assert_eq!(*block_on(stays).expect("nothing fails"), 5);
        assert!(goes.join().expect("it ends").is_none_or(|answer| answer == 3));
        // What is told last is told when the planner has ended.
        drop(database);
        assert_eq!(world.tallies.of("bb"), Tally::ONCE);
        assert_eq!(world.tallies.of("ccc"), Tally::ONCE);
        let told = told(&world.log.take());
        for name in ["bb", "ccc"] {
            let told = told[&format!("toil({name})")];
            assert_eq!(told, Told { will_run: 1, did_run: 1, ..Told::default() }, "{name}");
        }
        // What was begun ends in one way.
        let alone = told.get("toil(a)").copied().unwrap_or_default();
        assert_eq!(alone.will_run, alone.did_run + alone.cancelled, "{alone:?}");
    });
}

/// Whenever it is withdrawn: whoever asks next gets an answer, and what is told of is told of once.
#[test]
fn a_request_can_be_withdrawn_at_any_moment_and_asked_again() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let query = InTurn(vec![Toil::new("a"), Toil::new("bb")]);
        let fickle: Vec<_> = (0..2)
            .map(|_| {
                let (database, query) = (database.clone(), query.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let answer = block_on(lose_patience(database.get(&query)));
                        assert!(answer.is_none_or(|answer| *answer.expect("nothing fails") == 3));
                    }
                })
            })
            .collect();
        assert_eq!(*block_on(database.get(&query)).expect("nothing fails"), 3);
        for thread in fickle {
            thread.join().expect("it ends");
        }
        assert_eq!(*block_on(database.get(&query)).expect("nothing fails"), 3);
        let counts = block_on(database.counts()).expect("it is open");
        assert_eq!((counts.executed["toil"], counts.executed["in_turn"]), (2, 1));
        drop(database);
        assert_each_ran_once(&world, ["a", "bb"]);
    });
}

#[test]
fn dry_evaluation_and_a_look_at_the_graph_are_answered_meanwhile_and_start_nothing() {
    explore(|| {
        let world = World::default();
        let database = world.open();
        let others = {
            let database = database.clone();
            thread::spawn(move || {
                let report = block_on(database.dry(&together(&["a", "dddd"]))).expect("it is open");
                assert!(report.would_run.iter().any(|work| work.spec.to_string() == "toil(dddd)"));
                block_on(database.graph()).expect("it is open");
            })
        };
        assert_eq!(*block_on(database.get(&together(&["a"]))).expect("nothing fails"), 1);
        others.join().expect("it ends");
        assert_eq!(world.tallies.of("dddd"), Tally::default());
        assert_eq!(world.tallies.of("a"), Tally::ONCE);
    });
}

#[test]
fn a_value_that_is_interned_from_outside_is_there_for_whoever_asks_with_its_name() {
    use crate::names::{Length, Text};
    explore(|| {
        let world = World::default();
        let database = world.open();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let database = database.clone();
                thread::spawn(move || {
                    let name = database.intern(Text("four".to_owned())).expect("it can be encoded");
                    *block_on(database.get(&Length(name))).expect("nothing fails")
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("it ends"), 4);
        }
        assert_eq!(block_on(database.counts()).expect("it is open").executed["length"], 1);
    });
}
