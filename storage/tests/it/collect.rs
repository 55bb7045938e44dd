//! Collection: what goes, what stays, and that what stays is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doge_storage::{
    Batch, Collected, Collection, Committed, Dependency, Fingerprint, Kept, Key, LabelEntry, Store, StoreEvent,
    StoredSpec, Trace,
};

use crate::child::{Job, said, start};
use crate::events::Events;
use crate::sample::{self, Random, bytes_below, file, lease, naming, noise};
use crate::trials::trials;

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn open_naming(directory: &Path) -> (Store, Events) {
    let events = Events::default();
    let mut options = events.options(directory);
    options.names = sample::names;
    (Store::open(options), events)
}

fn key(number: u64) -> Key {
    sample::key("collected", number)
}

/// The value of a number: it names the value that was interned for it, which names one that many share.
fn value(number: u64) -> Vec<u8> {
    naming(number, &[Fingerprint::of(&interned(number))])
}

fn interned(number: u64) -> Vec<u8> {
    naming(1_000_000 + number, &[Fingerprint::of(&shared())])
}

fn shared() -> Vec<u8> {
    noise(5, 500)
}

/// What the spec of a number names, and nothing else does.
fn named_by_spec(number: u64) -> Vec<u8> {
    noise(2_000_000 + number, 900)
}

fn spec(number: u64) -> StoredSpec {
    let encoded = naming(number, &[Fingerprint::of(&named_by_spec(number))]);
    StoredSpec { kind: "sample".to_owned(), encoded, label: None }
}

fn trace(number: u64, below: &[u64]) -> Trace {
    let asked = below.iter().map(|number| Dependency {
        key: key(*number),
        role: 0,
        fingerprint: Fingerprint::of(&value(*number)),
    });
    Trace {
        groups: vec![asked.collect()],
        value: Fingerprint::of(&value(number)),
        cost: Duration::ZERO,
        recorded: 0,
        scope: 0,
    }
}

/// A number, made from others.
fn made(number: u64, below: &[u64]) -> Batch {
    let mut batch = Batch::default();
    for value in [value(number), interned(number), shared(), named_by_spec(number)] {
        batch.values.insert(Fingerprint::of(&value), Arc::from(value));
    }
    batch.specs.insert(key(number), spec(number));
    batch.traces.push((key(number), trace(number, below)));
    batch
}

/// Makes keys as old as so many days, as if they had last been used then.
fn age(directory: &Path, ages: impl IntoIterator<Item = (Key, u64)>) {
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs() / 86_400;
    let database = lease(directory);
    let transaction = database.begin_write().expect("we are the writer");
    {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new("access");
        let mut table = transaction.open_table(table).expect("it is of this type");
        for (key, days) in ages {
            let mut payload = Vec::new();
            // The day, then a size of nothing.
            let mut number = today - days;
            while number >= 0x80 {
                payload.push(number as u8 | 0x80);
                number >>= 7;
            }
            payload.extend([number as u8, 0]);
            let sealed = sample::seal("access", key.as_bytes(), 1, &payload);
            table.insert(key.as_bytes().as_slice(), sealed.as_slice()).expect("it can be written");
        }
    }
    transaction.commit().expect("it can be written");
    database.close().expect("nobody is using it");
}

/// Whether a number is there; if it is, everything that it needs must be.
#[track_caller]
fn is_there(store: &Store, number: u64) -> bool {
    let snapshot = store.snapshot();
    let traces = snapshot.traces(key(number));
    let Some(trace) = traces.first() else { return false };
    assert_eq!(snapshot.spec(key(number)), Some(spec(number)), "the spec of {number}");
    assert!(snapshot.value(trace.value) == Some(value(number)), "the value of {number}");
    for named in [interned(number), shared(), named_by_spec(number)] {
        assert!(snapshot.value(Fingerprint::of(&named)) == Some(named), "what {number} names");
    }
    for dependency in trace.groups.iter().flatten() {
        assert!(!snapshot.traces(dependency.key).is_empty(), "what {number} was made from can still be checked");
        assert!(snapshot.spec(dependency.key).is_some() && snapshot.contains_value(dependency.fingerprint));
    }
    true
}

fn there(store: &Store, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| is_there(store, *number)).collect()
}

fn collect(directory: &Path, collection: &Collection) -> Collected {
    let (store, events) = open_naming(directory);
    let collected = store.collect(collection).expect("nobody is in the way");
    assert_eq!(store.verify().expect("it can be read").findings, [], "what is left is whole");
    let said = events.take();
    assert!(said.iter().all(|event| matches!(event, StoreEvent::DidAbsorb { .. })), "{said:?}");
    collected
}

fn older_than(age: Duration) -> Collection {
    Collection { older_than: Some(age), ..Collection::default() }
}

/// Ten numbers, of ages from 0 to 90 days, none made from another.
fn ten() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open_naming(directory.path());
    for number in 0..10 {
        assert_eq!(store.commit(made(number, &[])), Committed::Stored);
    }
    drop(store);
    age(directory.path(), (0..10).map(|number| (key(number), number * 10)));
    directory
}

/// Keys that were used together have a day of their own, and results that are gone leave theirs.
#[test]
fn a_day_that_belongs_to_nothing_goes_with_its_age() {
    let directory = ten();
    let alone = [key(100), key(101), key(102)];
    let (store, _) = open_naming(directory.path());
    store.commit(Batch { touches: alone.to_vec(), ..Batch::default() });
    drop(store);
    age(directory.path(), [(alone[0], 40), (alone[1], 60)]);
    let days = || {
        let tables = open_naming(directory.path()).0.info().tables;
        tables.iter().find(|(name, ..)| *name == "access").map(|(_, count, _)| *count)
    };
    assert_eq!(days(), Some(13));
    let collected = collect(directory.path(), &older_than(50 * DAY));
    assert_eq!(collected.kinds["access"].removed.count, 1);
    // Those of four results went with them.
    assert_eq!(days(), Some(8));
    assert_eq!(there(&open_naming(directory.path()).0, 0..10), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_was_not_used_for_so_long_goes_and_nothing_else_does() {
    let directory = ten();
    let collected = collect(directory.path(), &older_than(35 * DAY));
    let (store, _) = open_naming(directory.path());
    assert_eq!(there(&store, 0..10), [0, 1, 2, 3]);
    assert!(collected.alone && collected.complete);
    assert_eq!(collected.kinds["traces"].removed.count, 6);
    assert_eq!(collected.kinds["specs"].removed.count, 6);
    assert_eq!(collected.kinds["values"].removed.count, 18, "all but the one that is shared");
    assert_eq!(collect(directory.path(), &older_than(35 * DAY)).removed().count, 0);
    // The last one takes what they shared with it.
    collect(directory.path(), &Collection { max_bytes: Some(0), ..Collection::default() });
    assert_eq!(there(&store, 0..10), []);
    let tables: BTreeMap<_, _> = store.info().tables.into_iter().map(|(name, count, _)| (name, count)).collect();
    for table in ["traces", "specs", "values", "names", "stamps", "labels", "runs", "access"] {
        assert_eq!(tables[table], 0, "{table}");
    }
}

#[test]
fn what_was_used_longest_ago_goes_first_until_the_rest_is_small_enough() {
    for left in [1, 4, 9] {
        let directory = ten();
        let all = open_naming(directory.path()).0.survey(Vec::new()).before().bytes;
        let one = all / 10;
        collect(directory.path(), &Collection { max_bytes: Some(left * one + one / 2), ..Collection::default() });
        let (store, _) = open_naming(directory.path());
        let there = there(&store, 0..10);
        assert_eq!(there, (0..there.len() as u64).collect::<Vec<_>>(), "the newest stay");
        assert!((there.len() as u64).abs_diff(left) <= 1, "{there:?} for {left}");
        assert!(store.survey(Vec::new()).before().bytes <= left * one + one / 2);
    }
}

#[test]
fn what_something_used_was_made_from_stays_however_long_ago_it_was_used_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open_naming(directory.path());
    // 3 was made from 2, 2 from 1 and 0; 5 from 4.
    for (number, below) in [(0, &[][..]), (1, &[]), (2, &[1, 0]), (3, &[2]), (4, &[]), (5, &[4])] {
        store.commit(made(number, below));
    }
    drop(store);
    age(
        directory.path(),
        [(0, 80), (1, 90), (2, 70), (3, 1), (4, 10), (5, 60)].map(|(number, days)| (key(number), days)),
    );
    collect(directory.path(), &older_than(35 * DAY));
    let (store, _) = open_naming(directory.path());
    assert_eq!(there(&store, 0..6), [0, 1, 2, 3, 4]);
}

#[test]
fn what_a_run_touches_stays_though_the_run_wrote_nothing() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    store.log_touched(&store.snapshot(), &[key(9), key(0)]);
    collect(directory.path(), &older_than(WEEK));
    assert_eq!(there(&store, 0..10), [0, 9]);
}

#[test]
fn what_nothing_names_goes_when_nobody_is_at_work() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    let loose = naming(77, &[Fingerprint::of(b"below")]);
    let values = [loose.clone(), b"below".to_vec()].map(|value| (Fingerprint::of(&value), Arc::from(value)));
    store.commit(Batch { values: values.into(), ..Batch::default() });
    let other = open_naming(directory.path()).0;
    other.hold();
    let collected = store.collect(&Collection::default()).expect("nobody writes");
    assert!(!collected.alone);
    assert_eq!(collected.removed().count, 0);
    assert!(store.snapshot().contains_value(Fingerprint::of(&loose)));
    drop(other);
    let collected = store.collect(&Collection::default()).expect("nobody writes");
    assert!(collected.alone);
    assert_eq!(collected.removed().count, 2);
    assert!(!store.snapshot().contains_value(Fingerprint::of(&loose)));
    assert_eq!(there(&store, 0..10).len(), 10);
}

#[test]
fn while_a_run_is_under_way_what_was_used_within_a_day_stays() {
    let directory = ten();
    // What was used yesterday, as far as is noted, may have been used today.
    age(directory.path(), [(key(1), 1), (key(2), 2), (key(3), 3)]);
    let mut child = start(Job::Use, directory.path(), 0);
    assert_eq!(said(&mut child).next(), Some(0));
    let nothing = Collection { max_bytes: Some(0), ..Collection::default() };
    let (store, _) = open_naming(directory.path());
    let collected = store.collect(&nothing);
    child.kill().expect("it runs");
    child.wait().expect("it was ours");
    assert!(!collected.expect("nobody writes").alone);
    assert_eq!(there(&store, 0..10), [0, 1, 2], "what was noted three days ago was not used for a day");
    assert!(collect(directory.path(), &nothing).alone);
    assert_eq!(there(&store, 0..10), []);
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let directory = ten();
    let (store, events) = open_naming(directory.path());
    store.spill(made(11, &[]));
    store.log_touched(&store.snapshot(), &[key(9)]);
    let kept = directory.path().join("thing");
    fs::write(&kept, b"kept").expect("it can be written");
    let collection = Collection {
        max_bytes: Some(0),
        dry_run: true,
        kept: Kept::file("things", kept.clone()).into_iter().collect(),
        ..Collection::default()
    };
    let before = bytes_below(directory.path());
    let said = store.collect(&collection).expect("it can be read");
    assert!(before == bytes_below(directory.path()));
    assert_eq!(said.removed(), said.before(), "everything would go");
    assert_eq!(said.kinds["things"].removed.count, 1);
    events.assert_silent();
    // What would go by age is what goes.
    let age = Collection { dry_run: true, ..older_than(35 * DAY) };
    let would = store.collect(&age).expect("it can be read").kinds["traces"].removed;
    assert!(before == bytes_below(directory.path()));
    assert_eq!(would.count, 5, "9 was touched");
    let went = collect(directory.path(), &older_than(35 * DAY)).kinds["traces"].removed;
    assert_eq!(would, went);
}

#[test]
fn what_lies_beside_the_store_goes_in_its_turn() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    fs::create_dir_all(store.directory().join("quarantine")).expect("it can be made");
    let things: Vec<_> = [("new", 5), ("old", 65), ("locked", 75)]
        .into_iter()
        .map(|(name, days)| {
            let path = directory.path().join(name);
            fs::write(&path, noise(days, 5000)).expect("it can be written");
            let written = SystemTime::now() - DAY * days as u32;
            let opened = fs::File::options().append(true).open(&path).expect("it is there");
            opened.set_modified(written).expect("it is ours");
            let mut kept = Kept::file("things", path).expect("it is there");
            kept.needs_quiet = name == "locked";
            kept
        })
        .collect();
    let old = store.directory().join("quarantine").join("x.redb");
    fs::write(&old, b"damaged").expect("it can be written");
    let opened = fs::File::options().append(true).open(&old).expect("it is there");
    opened.set_modified(SystemTime::now() - 50 * DAY).expect("it is ours");

    let other = open_naming(directory.path()).0;
    other.hold();
    let collection = Collection { kept: things, ..older_than(45 * DAY) };
    let collected = store.collect(&collection).expect("nobody writes");
    let exists = |name: &str| directory.path().join(name).exists();
    assert!(exists("new") && !exists("old") && exists("locked") && !old.exists());
    assert_eq!((collected.kinds["things"].before.count, collected.kinds["things"].removed.count), (3, 1));
    assert_eq!(collected.kinds["quarantine"].removed.count, 1);
    assert_eq!(there(&store, 0..10), [0, 1, 2, 3, 4]);
    drop(other);
    store.collect(&collection).expect("nobody writes");
    assert!(!exists("locked"));
}

#[test]
fn a_collection_without_time_removes_nothing_and_says_so() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    let many = Batch { runs: (1..1100).map(sample::run).collect(), ..Batch::default() };
    store.commit(many);
    let collection = Collection { within: Some(Duration::ZERO), max_bytes: Some(0), ..Collection::default() };
    let collected = store.collect(&collection).expect("nobody writes");
    assert!(!collected.complete);
    assert_eq!(there(&store, 0..10).len(), 10);
    assert_eq!(store.last_collection(), None);
    store.collect(&Collection::default()).expect("nobody writes");
    let (when, bytes) = store.last_collection().expect("there was one");
    assert!(when.elapsed().expect("it is over") < Duration::from_secs(60));
    assert!(bytes > 0 && bytes <= fs::metadata(file(directory.path())).expect("it is there").len());
}

#[test]
fn a_collection_waits_for_a_writer_and_says_why_it_did_nothing() {
    let directory = ten();
    let held = lease(directory.path());
    let events = Events::default();
    let mut options = events.options(directory.path());
    options.lease_deadline = Duration::from_millis(50);
    let store = Store::open(options);
    let refused = store.collect(&Collection::default()).expect_err("somebody writes");
    assert!(refused.to_string().contains("another process is writing"), "{refused}");
    drop(held);
}

#[test]
fn labels_and_runs_go_with_their_age_and_a_label_that_is_used_stays() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    let entry = |number| LabelEntry { key: key(number), run: sample::run(1).id };
    let labels = vec![("used".to_owned(), entry(0)), ("not used".to_owned(), entry(9))];
    store.commit(Batch { labels, runs: vec![sample::run(1)], ..Batch::default() });
    collect(directory.path(), &older_than(35 * DAY));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.label("used").len(), 1);
    assert_eq!(snapshot.label("not used"), []);
    assert_eq!(snapshot.runs(9), []);
}

/// Any graph, any ages, any budget: what stays is whole, and nothing goes that was used later than something that stays
/// by itself.
#[test]
fn after_any_collection_what_is_left_is_whole_and_the_newest() {
    for seed in 0..trials(25) {
        let mut random = Random::new(40_000 + seed * 1000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = open_naming(directory.path());
        let count = 5 + random.below(20) as u64;
        let mut below: Vec<Vec<u64>> = Vec::new();
        for number in 0..count {
            let made_from: Vec<u64> = (0..number).filter(|_| random.below(6) == 0).collect();
            store.commit(made(number, &made_from));
            below.push(made_from);
        }
        let mut days: Vec<u64> = (0..count).map(|_| random.below(100) as u64).collect();
        drop(store);
        age(directory.path(), days.iter().enumerate().map(|(number, days)| (key(number as u64), *days)));
        // What something was made from was used when that was.
        for number in (0..count as usize).rev() {
            for made_from in below[number].clone() {
                days[made_from as usize] = days[made_from as usize].min(days[number]);
            }
        }
        let all = open_naming(directory.path()).0.survey(Vec::new()).before().bytes;
        let collection = match random.below(3) {
            0 => older_than(DAY * random.below(100) as u32),
            1 => Collection { max_bytes: Some(random.below(all as usize + 1) as u64), ..Collection::default() },
            _ => Collection {
                max_bytes: Some(random.below(all as usize + 1) as u64),
                ..older_than(DAY * random.below(100) as u32)
            },
        };
        collect(directory.path(), &collection);
        let (store, _) = open_naming(directory.path());
        let there = there(&store, 0..count);
        let oldest_there = there.iter().map(|number| days[*number as usize]).max();
        let newest_gone = (0..count).filter(|number| !there.contains(number)).map(|number| days[number as usize]).min();
        if let (Some(oldest), Some(newest)) = (oldest_there, newest_gone) {
            assert!(newest >= oldest, "seed {seed}: {newest} days went and {oldest} stayed: {collection:?}");
        }
        if let Some(age) = collection.older_than {
            let limit = age.as_secs() / 86_400;
            assert!(there.iter().all(|number| days[*number as usize] <= limit + 2), "seed {seed}: {days:?} {limit}");
            if collection.max_bytes.is_none() {
                let stays = |number: &u64| days[*number as usize] < limit;
                assert!((0..count).filter(stays).all(|number| there.contains(&number)), "seed {seed}");
            }
        }
        if let Some(max) = collection.max_bytes {
            assert!(store.survey(Vec::new()).before().bytes <= max, "seed {seed}");
        }
        // What went can be made again.
        for number in 0..count {
            store.commit(made(number, &below[number as usize]));
        }
        assert_eq!(self::there(&store, 0..count).len() as u64, count, "seed {seed}");
    }
}

#[test]
fn processes_that_write_while_others_collect_lose_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut writers: Vec<_> = (0..3).map(|child| start(Job::Share, directory.path(), child * 100)).collect();
    let (store, _) = open_naming(directory.path());
    let mut collections = 0;
    while writers.iter_mut().any(|child| child.try_wait().expect("it was ours").is_none()) {
        if store.collect(&Collection::default()).is_ok() {
            collections += 1;
        }
    }
    assert!(collections > 0);
    for child in &mut writers {
        assert!(child.wait().expect("it was ours").success());
    }
    store.commit(Batch::default());
    let snapshot = store.snapshot();
    for child in 0..3 {
        assert!((child * 100..child * 100 + 10).all(|number| sample::is_whole(&snapshot, number)), "{child}");
    }
}

#[test]
fn a_collection_is_due_when_the_file_has_grown_beyond_the_limit_since_the_last_one() {
    let directory = ten();
    let (store, _) = open_naming(directory.path());
    store.hold();
    assert!(!store.is_collection_due(None) && store.is_collection_due(Some(1)), "there was none yet");
    store.collect(&Collection::default()).expect("nobody writes");
    assert!(!store.is_collection_due(Some(1)), "it has not grown");
    let large = noise(1, 4 << 20);
    store.commit(Batch { values: [(Fingerprint::of(&large), Arc::from(large))].into(), ..Batch::default() });
    assert!(store.is_collection_due(Some(1)) && !store.is_collection_due(None));
    assert!(!store.is_collection_due(Some(1 << 30)), "it is not too much");
}
