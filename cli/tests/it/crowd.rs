//! Any number of processes on one cache: nothing is lost, nothing is done twice, nobody fails because of another, and
//! who waits says for whom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::interposed::Stopped;
use crate::site::{Ran, Server, Site, contents, locked};

/// Workspaces that share one cache and one channel behind a server.
struct Crowd {
    site: Site,
    server: Server,
    workspaces: Vec<PathBuf>,
}

impl Crowd {
    fn new(needs: &[&str]) -> Self {
        let site = Site::new();
        let server = Server::start(&site.path("channel"));
        let url = server.url().to_string();
        let mut workspaces = Vec::new();
        for (number, needs) in needs.iter().enumerate() {
            let workspace = site.root().join(format!("workspace-{number}"));
            site.needs(needs);
            let manifest = site.read("pixi.toml").replace("./channel", &url);
            std::fs::create_dir(&workspace).expect("it can be made");
            std::fs::write(workspace.join("pixi.toml"), manifest).expect("it can be written");
            workspaces.push(workspace);
        }
        Self { site, server, workspaces }
    }

    fn start(&self, workspace: usize, arguments: &[&str]) -> Child {
        let mut command = self.site.command(arguments);
        command.current_dir(&self.workspaces[workspace]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started")
    }

    /// Runs all at once; each has to succeed.
    fn run(&self, all: &[(usize, &[&str])]) -> Vec<Ran> {
        let children: Vec<Child> = all.iter().map(|(workspace, arguments)| self.start(*workspace, arguments)).collect();
        let ended = children.into_iter().zip(all).map(|(child, (workspace, arguments))| {
            let ran = Ran::of(child.wait_with_output().expect("it ends"));
            assert_eq!(ran.code, 0, "{arguments:?} in {workspace}: {}", ran.stderr);
            ran
        });
        ended.collect()
    }

    /// How often each archive was sent.
    fn downloads(&self) -> BTreeMap<String, usize> {
        let mut downloads = BTreeMap::new();
        for request in self.server.take_requests() {
            if request.path.ends_with(".conda") && request.status == 200 {
                *downloads.entry(request.path).or_default() += 1;
            }
        }
        downloads
    }
}

fn total(ran: &[Ran], kind: &str) -> u64 {
    ran.iter().map(|ran| ran.executed().get(kind).copied().unwrap_or(0)).sum()
}

/// How many rounds; each begins with nothing.
fn rounds() -> usize {
    std::env::var("DOGE_TRIALS").ok().map_or(1, |trials| trials.parse().unwrap_or(50))
}

#[test]
fn of_many_processes_each_solve_download_and_link_is_done_by_one() {
    for _ in 0..rounds() {
        let crowd = Crowd::new(&["app = '*'", "app = '1.*'\ntool = '*'", "other = '*'\ntool = '*'"]);
        let install: &[&str] = &["install", "--json"];
        let all: Vec<(usize, &[&str])> = (0..12).map(|number| (number % 3, install)).collect();
        let ran = crowd.run(&all);
        assert_eq!(total(&ran, "solve_conda_environment"), 3, "one for each workspace");
        assert_eq!(total(&ran, "write_lock_file"), 3);
        assert_eq!(total(&ran, "link_prefix"), 3);
        let downloads = crowd.downloads();
        assert_eq!(downloads.len(), 5, "{downloads:?}");
        assert!(downloads.values().all(|times| *times == 1), "{downloads:?}");
        // What they worked out is there for all.
        for ran in crowd.run(&all) {
            ran.assert_nothing_ran();
        }
        let lock = |number: usize| {
            let text = std::fs::read_to_string(crowd.workspaces[number].join("pixi.lock")).expect("it is there");
            locked(&text)
        };
        assert_eq!(lock(0), ["app-2.0", "lib-1.1"]);
        assert_eq!(lock(1), ["app-1.0", "lib-1.1", "tool-1.0"]);
        assert_eq!(lock(2), ["other-1.0", "tool-1.0"]);
    }
}

#[test]
fn any_mix_of_commands_gets_along() {
    for _ in 0..rounds() {
        let crowd = Crowd::new(&["app = '*'", "app = '1.*'\ntool = '*'"]);
        crowd.run(&[(0, &["install"]), (1, &["install"])]);
        let before: Vec<_> =
            crowd.workspaces.iter().map(|workspace| contents(&workspace.join(".pixi/envs/default"))).collect();
        let commands: [&[&str]; 8] = [
            &["install", "--json"],
            &["solve", "--json"],
            &["solve", "--update", "--json"],
            &["install", "--force", "--json"],
            &["cache", "info"],
            &["graph"],
            &["why", "lock_workspace"],
            &["runs"],
        ];
        let all: Vec<(usize, &[&str])> = commands.iter().flat_map(|command| [(0, *command), (1, *command)]).collect();
        let ran = crowd.run(&all);
        assert!(ran.iter().all(|ran| !ran.stderr.contains("warning")), "nothing was lost");
        assert!(crowd.downloads().values().all(|times| *times == 1));
        let after: Vec<_> =
            crowd.workspaces.iter().map(|workspace| contents(&workspace.join(".pixi/envs/default"))).collect();
        assert!(after == before);
        for ran in crowd.run(&[(0, &["install", "--json"]), (1, &["install", "--json"])]) {
            ran.assert_nothing_ran();
        }
    }
}

/// A process that is stopped while it fetches a package, which it has locked.
fn fetching(site: &Site) -> Stopped {
    Stopped::at(site, &["install", "--json"], "pkgs/.lib-1.1-0")
}

fn start(site: &Site) -> (Child, Instant) {
    let child = site
        .command(&["install", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    (child, Instant::now())
}

/// Reads what a process says until it says this.
pub(crate) fn until(child: &mut Child, says: &str) -> String {
    use std::io::Read as _;
    let mut said = Vec::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains(says) {
        assert_eq!(stderr.read(&mut byte).expect("it can be read"), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    child.stderr = Some(stderr);
    String::from_utf8(said).expect("it is text")
}

#[test]
fn who_waits_for_a_process_that_is_killed_goes_on_at_once() {
    let site = Site::new();
    let holder = fetching(&site);
    let (mut child, _) = start(&site);
    let waits = format!("lib 1.1: waiting for process {}, which is stopped", holder.id());
    until(&mut child, &waits);
    let killed = Instant::now();
    holder.kill();
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let shown = site.run(&["runs", "show"]).succeeded().stdout;
    let waited =
        shown.lines().skip_while(|line| *line != "waited for others:").any(|line| line.contains(", for process"));
    assert!(waited, "{shown}");
    site.install().assert_nothing_ran();
}

/// Work that is done twice is only wasteful, so it is done by who has waited for ten seconds. Two that change one
/// environment at once would break it, so nobody goes on without that lock.
#[test]
fn who_waits_for_a_process_that_is_stopped_works_after_ten_seconds_but_waits_for_an_environment_as_long_as_it_takes() {
    let (site, other) = (Site::new(), Site::new());
    let holder = fetching(&site);
    let (mut child, began) = start(&site);
    let holds_environment = Stopped::at(&other, &["install", "--json"], "conda-meta/app-2.0-0.json");
    let (mut waits, _) = start(&other);
    let stopped = |holder: &Stopped| format!("waiting for process {}, which is stopped", holder.id());
    until(&mut child, &stopped(&holder));
    until(&mut waits, &format!("{} (changing the environment)", stopped(&holds_environment)));

    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = contents(&site.prefix(""));
    // And the other is none the worse for it.
    let ran = holder.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(contents(&site.prefix("")) == expected);
    site.install().assert_nothing_ran();

    while began.elapsed() < Duration::from_secs(12) {
        assert!(waits.try_wait().expect("it is ours").is_none(), "it waits");
        std::thread::sleep(Duration::from_millis(100));
    }
    let ran = holds_environment.go_on();
    assert_eq!(ran.executed()["link_prefix"], 1);
    let waited = Ran::of(waits.wait_with_output().expect("it ends"));
    assert_eq!(waited.code, 0, "{}", waited.stderr);
    for kind in ["link_prefix", "solve_conda_environment", "write_lock_file"] {
        assert!(!waited.executed().contains_key(kind), "{kind}: {:?}", waited.ran());
    }
    other.install().assert_nothing_ran();
}

#[test]
fn two_that_write_one_lock_file_write_it_one_after_the_other() {
    let site = Site::new();
    let holder = Stopped::at(&site, &["install", "--json"], "workspace/.pixi.lock.");
    let (mut child, _) = start(&site);
    until(&mut child, &format!("waiting for process {}, which is stopped (writing the lock file)", holder.id()));
    let ran = holder.go_on();
    assert_eq!(ran.executed()["write_lock_file"], 1);
    let waited = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(waited.code, 0, "{}", waited.stderr);
    assert!(!waited.executed().contains_key("write_lock_file"), "{:?}", waited.ran());
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
    site.install().assert_nothing_ran();
}
