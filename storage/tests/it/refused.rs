//! Stores that cannot be used: the work goes on without them, and that is said once.

use std::fs;
use std::path::Path;
use std::process::Command;

use doge_storage::{Committed, Store, StoreEvent};
use redb::TableDefinition;

use crate::child::{self, ARGUMENTS, Job, said};
use crate::events::{Events, open};
use crate::sample::{self, batch, bytes_below, file, is_whole, lease, seal};

#[test]
fn a_foreign_file_is_put_aside_whatever_it_is() {
    let contents: [(&str, Vec<u8>); 4] = [
        ("text", b"not a store\n".repeat(500)),
        ("noise", sample::noise(1, 40_000)),
        ("zeros", vec![0; 40_000]),
        ("a little", b"x".to_vec()),
    ];
    for (what, content) in contents {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(directory.path().join("store-v3")).expect("it can be made");
        fs::write(file(directory.path()), &content).expect("it can be written");

        let (store, events) = open(directory.path());
        assert_eq!(sample::count(&store.snapshot(), 0, what), 0);
        assert_eq!(sample::count(&store.snapshot(), 0, what), 0);
        let said = events.take();
        assert!(matches!(said.as_slice(), [StoreEvent::DidDiscard { table: "store", .. }]), "{what}: {said:?}");

        assert_eq!(store.commit(batch(0..3)), Committed::Stored, "{what}");
        let said = events.take();
        let [StoreEvent::DidQuarantine { path }] = said.as_slice() else { panic!("{what}: {said:?}") };
        assert!(fs::read(path).expect("it can be read") == content, "{what} is kept as it was");
        assert_eq!(store.info().quarantined, 1);
        for store in [store, open(directory.path()).0] {
            let snapshot = store.snapshot();
            assert!((0..3).all(|number| is_whole(&snapshot, number)), "{what}");
        }
        events.assert_silent();
    }
}

#[test]
fn an_empty_file_is_a_store_in_which_there_is_nothing_yet() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(directory.path().join("store-v3")).expect("it can be made");
    fs::write(file(directory.path()), b"").expect("it can be written");
    let (store, events) = open(directory.path());
    assert_eq!(sample::count(&store.snapshot(), 0, "empty"), 0);
    assert_eq!(store.commit(batch(0..1)), Committed::Stored);
    assert!(is_whole(&store.snapshot(), 0));
    events.assert_silent();
}

#[test]
fn a_redb_file_of_somebody_else_is_put_aside() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(directory.path().join("store-v3")).expect("it can be made");
    let database = lease(directory.path());
    let transaction = database.begin_write().expect("we are the writer");
    for name in ["traces", "meta"] {
        let mut table = transaction.open_table(TableDefinition::<u64, u64>::new(name)).expect("it is new");
        table.insert(1, 2).expect("it can be written");
    }
    transaction.commit().expect("it can be written");
    database.close().expect("nobody is using it");

    let (store, events) = open(directory.path());
    assert_eq!(sample::count(&store.snapshot(), 0, "another's"), 0);
    assert_eq!(store.commit(batch(0..1)), Committed::Stored);
    let said = events.take();
    let expected = matches!(said.as_slice(), [StoreEvent::DidDiscard { .. }, StoreEvent::DidQuarantine { .. }]);
    assert!(expected, "{said:?}");
    assert!(is_whole(&open(directory.path()).0.snapshot(), 0));
}

fn put(directory: &Path, table: &str, key: &[u8], sealed: &[u8]) {
    let database = lease(directory);
    let transaction = database.begin_write().expect("we are the writer");
    {
        let table = TableDefinition::<&[u8], &[u8]>::new(table);
        let mut table = transaction.open_table(table).expect("it is of this type");
        table.insert(key, sealed).expect("it can be written");
    }
    transaction.commit().expect("it can be written");
    database.close().expect("nobody is using it");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone_and_what_was_made_waits_for_its_writer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..3));
    let format =
        |version: u32| put(directory.path(), "meta", b"format", &seal("meta", b"format", 1, &version.to_le_bytes()));
    format(3);
    let before = bytes_below(&directory.path().join("store-v3"));

    let (store, events) = open(directory.path());
    for _ in 0..2 {
        assert_eq!(sample::count(&store.snapshot(), 0, "newer"), 0);
    }
    let said = events.take();
    let [StoreEvent::WillRunWithout { reason }] = said.as_slice() else { panic!("{said:?}") };
    assert!(reason.contains("version 3"), "{reason}");
    assert!(before == bytes_below(&directory.path().join("store-v3")));

    assert_eq!(store.commit(batch(3..4)), Committed::Spilled);
    events.assert_silent();
    let snapshot = store.snapshot();
    assert!(is_whole(&snapshot, 3));
    assert_eq!(sample::count(&snapshot, 0, "newer"), 0);

    // The other program's next writer takes it in: as it would, this one does when it knows the format.
    format(2);
    let (store, events) = open(directory.path());
    assert_eq!(store.commit(batch(4..5)), Committed::Stored);
    assert_eq!(events.take(), [StoreEvent::DidAbsorb { batches: 1 }]);
    let snapshot = store.snapshot();
    assert!((0..5).all(|number| is_whole(&snapshot, number)));
}

#[test]
fn an_entry_of_another_version_is_a_miss_and_is_written_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (store, _) = open(directory.path());
    store.commit(batch(0..2));
    let fingerprint = doge_storage::Fingerprint::of(&sample::value(0));
    let mut first = fingerprint.as_bytes().to_vec();
    first.extend_from_slice(&[0; 4]);
    let spec = sample::key("key", 0);
    put(directory.path(), "values", &first, &seal("values", &first, 9, b"in a layout that nobody knows"));
    put(directory.path(), "specs", spec.as_bytes(), &seal("specs", spec.as_bytes(), 9, b"nor this one"));

    let (store, events) = open(directory.path());
    let snapshot = store.snapshot();
    assert_eq!(snapshot.value(fingerprint), None);
    assert_eq!(snapshot.spec(spec), None);
    assert!(is_whole(&snapshot, 1), "the file as a whole is still trusted");
    let said = events.take();
    let expected = |event: &StoreEvent| matches!(event, StoreEvent::DidDiscard { reason, .. } if reason == "another version wrote it");
    assert!(said.len() == 2 && said.iter().all(expected), "{said:?}");

    // It was made anew.
    assert_eq!(store.commit(batch(0..1)), Committed::Stored);
    assert!(is_whole(&open(directory.path()).0.snapshot(), 0));
}

#[test]
fn a_directory_that_cannot_be_made_costs_the_results_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path().join("place");
    fs::write(&place, b"a file").expect("it can be written");
    let (store, events) = open(&place);
    assert_eq!(sample::count(&store.snapshot(), 0, "no place"), 0);
    events.assert_silent();
    assert_eq!(store.commit(batch(0..1)), Committed::Lost);
    assert_eq!(store.spill(batch(0..1)), Committed::Lost);
    store.log_run(&sample::run(1));
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::WillRunWithout { .. }]), "{said:?}");
}

#[test]
fn a_store_that_is_opened_only_to_read_writes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..2));
    let before = bytes_below(directory.path());
    let events = Events::default();
    let mut options = events.options(directory.path());
    options.read_only = true;
    let store = Store::open(options);
    let snapshot = store.snapshot();
    assert!((0..2).all(|number| is_whole(&snapshot, number)));
    assert_eq!(store.commit(batch(2..3)), Committed::Lost);
    assert_eq!(store.spill(batch(2..3)), Committed::Lost);
    store.log_run(&sample::run(5));
    store.log_touched(&snapshot, &[sample::key("touched", 1)]);
    assert!(before == bytes_below(directory.path()));
    events.assert_silent();
}

#[cfg(unix)]
#[test]
fn a_directory_that_may_not_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let directory = tempfile::tempdir().expect("a temporary directory");
    open(directory.path()).0.commit(batch(0..5));
    let allow = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    // Root may write everywhere; so another user does it, who must be able to find program and store.
    let program = directory.path().join("program");
    fs::copy(child::program(), &program).expect("it can be copied");
    let store = directory.path().join("store-v3");
    allow(&program, 0o555);
    allow(&file(directory.path()), 0o444);
    allow(&store, 0o555);
    allow(directory.path(), 0o555);
    let mut command = Command::new(&program);
    child::instruct(command.args(ARGUMENTS), Job::ReadOnly, directory.path(), 0);
    if fs::File::create(directory.path().join("may we?")).is_ok() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().expect("it can be started");
    allow(directory.path(), 0o755);
    allow(&store, 0o755);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_costs_only_what_did_not_fit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Files may not grow beyond a few MB, which to a program looks like a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 16000; exec \"$0\" \"$@\""]).arg(child::program());
    child::instruct(command.args(ARGUMENTS), Job::Fill, directory.path(), 0);
    let mut child = command.spawn().expect("there is a shell");
    let stored: Vec<u64> = said(&mut child).collect();
    assert!(child.wait().expect("it was ours").success());
    assert!(stored.len() > 2, "{stored:?}");

    let (store, events) = open(directory.path());
    let snapshot = store.snapshot();
    for number in stored {
        let value = sample::noise(number, 300_000);
        assert!(snapshot.value(doge_storage::Fingerprint::of(&value)) == Some(value), "{number}");
    }
    assert_eq!(store.commit(batch(0..1)), Committed::Stored);
    assert!(is_whole(&store.snapshot(), 0));
    let said = events.take();
    assert!(said.iter().all(|event| matches!(event, StoreEvent::DidAbsorb { .. })), "{said:?}");
}

/// A file system that is full, where the test may make one.
#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::print_stderr, reason = "it has to be said that nothing was tried")]
fn a_file_system_that_is_full_costs_only_what_did_not_fit() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mount = |arguments: &[&str]| {
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).arg(directory.path()).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=6m", "doge"]) {
        eprintln!("skipped: this user may not mount a file system");
        return;
    }
    let tried = std::panic::catch_unwind(|| {
        let mut child = child::start(Job::Fill, directory.path(), 0);
        let stored: Vec<u64> = said(&mut child).collect();
        assert!(child.wait().expect("it was ours").success());
        assert!(stored.len() > 2, "{stored:?}");
        let whole = |store: &Store| {
            let snapshot = store.snapshot();
            for number in &stored {
                let value = sample::noise(*number, 300_000);
                assert!(snapshot.value(doge_storage::Fingerprint::of(&value)) == Some(value), "{number}");
            }
        };
        let (store, _) = open(directory.path());
        whole(&store);
        // A run that writes little goes on, whether there is room for it or not, and so does a collection.
        store.commit(batch(0..1));
        whole(&store);
        let _ = store.collect(&doge_storage::Collection { dry_run: true, ..Default::default() });
        let _ = store.collect(&doge_storage::Collection::default());
        drop(open(directory.path()).0.verify().expect("it can be read"));
    });
    let unmounted = mount(&["umount"]);
    if let Err(payload) = tried {
        std::panic::resume_unwind(payload);
    }
    assert!(unmounted);
}
