//! Several threads and processes that want one repository at once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use doge::storage::{try_acquire, try_share};

use super::super::{Commit, GitError, Places, Reference, RepositoryUrl, is_complete};
use super::fixture::{Fixture, files};
use super::server::{Rules, Server};

/// How long somebody who waits may take to say so.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many do the same thing at once.
const CROWD: usize = 6;

/// Commits of a file `x` that holds their number.
fn commits(fixture: &Fixture, count: usize) -> Vec<Commit> {
    let repository = fixture.repository("a");
    (0..count).map(|number| repository.commit("x", &number.to_string())).collect()
}

fn at(server: &Server) -> RepositoryUrl {
    RepositoryUrl::parse(&format!("{}/a/.git", server.address)).expect("an address")
}

/// Everything that can be asked, each commit by its name and by the beginning of it.
#[track_caller]
fn ask_for_all(fixture: &Fixture, url: &RepositoryUrl, commits: &[Commit]) {
    assert_eq!(fixture.resolve(url, Reference::DefaultBranch), commits[commits.len() - 1]);
    for (number, commit) in commits.iter().enumerate() {
        assert_eq!(fixture.resolve(url, Reference::Rev(commit.to_string()[..10].to_owned())), *commit);
        let path = fixture.checkout(url, *commit);
        assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), number.to_string());
        assert!(is_complete(&path));
    }
}

#[test]
fn threads_that_want_the_same_at_once_fetch_it_once() {
    for round in 0..4 {
        let fixture = Fixture::new();
        let commits = commits(&fixture, 3);
        let server = Server::start(&fixture.path(""), Rules::default());
        let url = at(&server);
        let barrier = Barrier::new(CROWD);
        std::thread::scope(|scope| {
            for _ in 0..CROWD {
                scope.spawn(|| {
                    barrier.wait();
                    ask_for_all(&fixture, &url, &commits);
                });
            }
        });
        // Each asks where the branch is; what is found is fetched by one.
        assert_eq!(server.fetches(), 1, "round {round}");
        assert_eq!(files(&fixture.places.checkout(&url, commits[0], false)), ["x"]);
    }
}

#[test]
fn threads_that_want_different_things_of_one_database_get_along() {
    for _ in 0..4 {
        let fixture = Fixture::new();
        let commits = commits(&fixture, CROWD);
        let url = RepositoryUrl::parse(fixture.path("a").to_str().expect("UTF-8")).expect("an address");
        std::thread::scope(|scope| {
            for turn in 0..CROWD {
                let (fixture, url, mut commits) = (&fixture, &url, commits.clone());
                scope.spawn(move || {
                    commits.rotate_left(turn);
                    for commit in commits {
                        let prefix = Reference::Rev(commit.to_string()[..10].to_owned());
                        assert_eq!(fixture.resolve(url, prefix), commit);
                        fixture.checkout(url, commit);
                    }
                });
            }
        });
        for (number, commit) in commits.iter().enumerate() {
            let path = fixture.checkout(&url, *commit);
            assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), number.to_string());
        }
    }
}

/// What a child of the tests does; then come its arguments, one a line.
const TASK: &str = "DOGE_TEST_GIT_TASK";

/// Starts this program again, as a process that does one of the tasks of [`a_process`].
fn process(task: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("a test is a program"))
        .args(["--exact", concat!(module_path!(), "::a_process").trim_start_matches("doge_queries::"), "--nocapture"])
        .env(TASK, task.join("\n"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started")
}

/// Does what a parent asks; without one, nothing.
#[test]
fn a_process() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut words = task.lines();
    let mut next = || words.next().expect("an argument");
    match next() {
        "ask" => {
            let (cache, url) = (next().to_owned(), next().to_owned());
            let mut fixture = Fixture::new();
            fixture.places = Places::below(cache.as_ref());
            let commits: Vec<Commit> = words.map(|commit| commit.parse().expect("a commit")).collect();
            ask_for_all(&fixture, &url.parse().expect("an address"), &commits);
        }
        "hold" => {
            let lock = next();
            fs::create_dir_all(Path::new(lock).parent().expect("a parent")).expect("a directory");
            let held = try_acquire(lock.as_ref(), "standing still").expect("locks work here");
            writeln!(std::io::stdout(), "holding").expect("somebody listens");
            std::thread::park();
            drop(held);
        }
        task => panic!("{task}"),
    }
}

#[test]
fn processes_that_want_the_same_at_once_fetch_it_once() {
    let fixture = Fixture::new();
    let commits = commits(&fixture, 3);
    let server = Server::start(&fixture.path(""), Rules::default());
    let url = at(&server);
    let (cache, url) = (fixture.path("cache"), url.as_str().to_owned());
    let names: Vec<String> = commits.iter().map(Commit::to_string).collect();
    let mut task = vec!["ask", cache.to_str().expect("UTF-8"), &url];
    task.extend(names.iter().map(String::as_str));
    let children: Vec<Child> = (0..CROWD).map(|_| process(&task)).collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(server.fetches(), 1);
}

/// Signals of Unix, which stop a process and kill it.
#[cfg(unix)]
#[test]
fn a_holder_that_is_stopped_is_named_and_one_that_is_killed_holds_nothing() {
    let mut fixture = Fixture::new();
    let commits = commits(&fixture, 1);
    let url = RepositoryUrl::parse(fixture.path("a").to_str().expect("UTF-8")).expect("an address");
    let lock = fixture.places.lock(&url);
    let mut child = process(&["hold", lock.to_str().expect("UTF-8")]);
    let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert!(said.any(|line| line.expect("a line").ends_with("holding")));
    let signal = |name: &str| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("it runs").success());
    };
    let (told, heard) = mpsc::channel();
    fixture.options.waiting = Some(Arc::new(move |who: &str| told.send(who.to_owned()).expect("somebody listens")));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.checkout(&url, commits[0]));
        let who = heard.recv_timeout(PATIENCE).expect("it says who");
        assert_eq!(who, format!("process {} (standing still)", child.id()));
        signal("-STOP");
        assert_eq!(
            heard.recv_timeout(PATIENCE).expect("it says so"),
            format!("process {}, which is stopped (standing still)", child.id())
        );
        assert!(!waiting.is_finished());
        signal("-KILL");
        assert!(is_complete(&waiting.join().expect("no panic")));
    });
    child.wait().expect("it was ours");
}

#[test]
fn an_interrupt_ends_the_waiting() {
    let mut fixture = Fixture::new();
    let commits = commits(&fixture, 1);
    let url = RepositoryUrl::parse(fixture.path("a").to_str().expect("UTF-8")).expect("an address");
    fixture.checkout(&url, commits[0]);
    let _held = try_acquire(&fixture.places.lock(&url), "").expect("locks work here");
    let (told, heard) = mpsc::channel();
    fixture.options.waiting = Some(Arc::new(move |_: &str| told.send(()).expect("somebody listens")));
    // What is whole needs no lock.
    fixture.checkout(&url, commits[0]);
    fs::remove_dir_all(&fixture.places.checkouts).expect("checkouts can go");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.try_checkout(&url, commits[0]));
        heard.recv_timeout(PATIENCE).expect("it waits");
        fixture.interrupt.store(true, Ordering::Relaxed);
        let error = waiting.join().expect("no panic").expect_err("it is interrupted");
        assert!(matches!(error, GitError::Interrupted), "{error:?}");
    });
}

#[test]
fn a_checkout_that_is_used_is_replaced_only_afterwards() {
    let mut fixture = Fixture::new();
    let commits = commits(&fixture, 2);
    let url = RepositoryUrl::parse(fixture.path("a").to_str().expect("UTF-8")).expect("an address");
    let path = fixture.checkout(&url, commits[0]);
    let used = try_share(&fixture.places.use_lock(&url, commits[0], false), "building").expect("locks work here");
    // As a build may do. Whoever wants it as it was waits, and nobody else.
    fs::write(path.join("x"), "changed").expect("a file");
    let (told, heard) = mpsc::channel();
    fixture.options.waiting = Some(Arc::new(move |who: &str| told.send(who.to_owned()).expect("somebody listens")));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.checkout(&url, commits[0]));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(format!("process {} (building)", std::process::id())));
        fixture.checkout(&url, commits[1]);
        assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "changed");
        drop(used);
        waiting.join().expect("no panic");
    });
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "0");
}
