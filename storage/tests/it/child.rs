//! Other processes: this program started again with a job in its environment.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use doge_storage::{Batch, Committed, StoreEvent};

use crate::events::open;
use crate::faults;
use crate::sample::{self, batch, is_whole};

const JOB: &str = "DOGE_STORAGE_TEST_JOB";
const DIRECTORY: &str = "DOGE_STORAGE_TEST_DIRECTORY";
const NUMBER: &str = "DOGE_STORAGE_TEST_NUMBER";

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Commits one number after the other, for ever, and says each.
    Commit,
    /// Reads, commits ten batches, and reads again.
    Share,
    /// Begins to write, says so, and goes no further.
    Hold,
    /// Uses a store in a directory that it may not write to.
    ReadOnly,
    /// Commits large values until they do not fit any more, and says each.
    Fill,
    /// Uses a store for ever, and says when it does.
    Use,
    /// Commits, and is killed at the point of this number.
    CommitUntilKilled,
    /// Collects, and is killed at the point of this number.
    CollectUntilKilled,
}

const JOBS: [Job; 8] = [
    Job::Commit,
    Job::Share,
    Job::Hold,
    Job::ReadOnly,
    Job::Fill,
    Job::Use,
    Job::CommitUntilKilled,
    Job::CollectUntilKilled,
];

/// The arguments that lead to the job, and nothing else.
pub(crate) const ARGUMENTS: [&str; 4] = ["child::a_child_does_its_job", "--exact", "--nocapture", "--test-threads=1"];

/// This program.
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("a program knows where it is")
}

/// Gives a command its job.
pub(crate) fn instruct(command: &mut Command, job: Job, directory: &Path, number: u64) {
    command.env(JOB, format!("{job:?}")).env(DIRECTORY, directory).env(NUMBER, number.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
}

/// Starts a child.
#[track_caller]
pub(crate) fn start(job: Job, directory: &Path, number: u64) -> Child {
    let mut command = Command::new(program());
    instruct(command.args(ARGUMENTS), job, directory, number);
    command.spawn().expect("this program can be started again")
}

/// What a child says.
pub(crate) fn said(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let output: ChildStdout = child.stdout.take().expect("it is a pipe, and taken once");
    BufReader::new(output).lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("did ")?.parse().ok())
}

/// Says that a number was done. The test harness writes to the same pipe, and not always whole lines.
fn say(number: u64) {
    let mut output = io::stdout().lock();
    write!(output, "\ndid {number}\n").and_then(|()| output.flush()).expect("the parent listens");
}

#[test]
fn a_child_does_its_job() {
    let Ok(job) = std::env::var(JOB) else { return };
    let job = JOBS.into_iter().find(|known| format!("{known:?}") == job).expect("it is a job");
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("it is told"));
    let number: u64 = std::env::var(NUMBER).expect("it is told").parse().expect("it is a number");
    match job {
        Job::Commit => commit(&directory, number),
        Job::Share => share(&directory, number),
        Job::Hold => hold(&directory),
        Job::ReadOnly => read_only(&directory),
        Job::Fill => fill(&directory),
        Job::Use => hold_in_use(&directory),
        Job::CommitUntilKilled | Job::CollectUntilKilled => faults::until_killed(job, &directory, number, say),
    }
}

fn commit(directory: &Path, first: u64) {
    let (store, _) = open(directory);
    for number in first.. {
        assert_ne!(store.commit(batch([number])), Committed::Lost);
        say(number);
    }
}

fn share(directory: &Path, first: u64) {
    let (store, events) = open(directory);
    for number in first..first + 10 {
        sample::count(&store.snapshot(), first, "shared");
        assert_ne!(store.commit(batch([number])), Committed::Lost);
        let snapshot = store.snapshot();
        assert!((first..=number).all(|number| is_whole(&snapshot, number)), "{number}");
    }
    for event in events.take() {
        let is_sharing = matches!(event, StoreEvent::DidSpill | StoreEvent::DidAbsorb { .. });
        assert!(is_sharing, "{event:?}");
    }
}

fn hold(directory: &Path) {
    let lease = sample::lease(directory);
    let transaction = lease.begin_write().expect("we are the writer");
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("traces");
    let mut open = transaction.open_table(table).expect("it is of this type");
    for number in 0..100_u64 {
        open.insert(number.to_le_bytes().as_slice(), [0; 500].as_slice()).expect("it can be written");
    }
    say(0);
    loop {
        std::thread::park();
    }
}

fn hold_in_use(directory: &Path) {
    let (store, _) = open(directory);
    store.hold();
    say(0);
    loop {
        std::thread::park();
    }
}

fn read_only(directory: &Path) {
    let (store, events) = open(directory);
    let snapshot = store.snapshot();
    assert!((0..5).all(|number| is_whole(&snapshot, number)), "what is there can be read");
    events.assert_silent();
    assert_eq!(store.commit(batch([5])), Committed::Lost);
    assert_eq!(store.spill(batch([5])), Committed::Lost);
    store.log_run(&sample::run(7));
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::WillRunWithout { .. }]), "said once: {said:?}");
    let snapshot = store.snapshot();
    assert!((0..5).all(|number| is_whole(&snapshot, number)), "and still can be");
    events.assert_silent();
}

fn fill(directory: &Path) {
    let (store, events) = open(directory);
    for number in 0.. {
        let mut batch = Batch::default();
        let value = sample::noise(number, 300_000);
        batch.values.insert(doge_storage::Fingerprint::of(&value), value.into());
        if store.commit(batch) != Committed::Stored {
            break;
        }
        say(number);
    }
    let said = events.take();
    assert!(matches!(said.as_slice(), [StoreEvent::WillRunWithout { .. }]), "said once: {said:?}");
}

/// Waits for something that takes a moment, without sleeping through it.
pub(crate) fn pass(time: Duration) {
    let end = std::time::Instant::now() + time;
    while std::time::Instant::now() < end {
        std::thread::yield_now();
    }
}
