//! An installation that is killed, or meets an error, at each point at which it changes something on the disk.
//!
//! A library that is loaded before libc counts these points (`tests/interpose/points.c`). By default a small sample of
//! them is tried; `DOGE_TRIALS=200` tries about so many in each test, `DOGE_TRIALS=all` all of them, and
//! `DOGE_TRIALS=at:17,18` those. For those that fail it is said what they were.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use doge_queries::testing::PackageBuilder;

use crate::interposed::library;
use crate::site::{Ran, Site, contents};

const ENOSPC: &str = "28";
const EIO: &str = "5";

/// A workspace, and the state of it and of its caches from which each trial begins.
struct Trials {
    site: Site,
    start: PathBuf,
    /// What a run that nothing disturbs comes to.
    lock_file: String,
    prefix: BTreeMap<String, Vec<u8>>,
    /// How many points such a run passes.
    points: usize,
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("there is such a program");
    assert!(status.success());
}

impl Trials {
    /// The site as it is now is where every trial begins.
    fn of(site: Site) -> Self {
        let start = site.root().join("start");
        std::fs::create_dir_all(&start).expect("it can be made");
        for what in ["workspace", "cache"] {
            if site.root().join(what).exists() {
                copy(&site.root().join(what), &start.join(what));
            }
        }
        let mut trials = Self { site, start, lock_file: String::new(), prefix: BTreeMap::new(), points: 0 };
        let ran = Ran::of(trials.disturbed(&[]));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        trials.points = std::fs::read_to_string(trials.log()).expect("it was written").lines().count();
        assert!(trials.points > 100, "the library counts: {}", trials.points);
        trials.lock_file = trials.site.lock_file();
        trials.prefix = contents(&trials.site.prefix(""));
        trials.reset();
        trials
    }

    fn reset(&self) {
        for what in ["workspace", "cache"] {
            let place = self.site.root().join(what);
            drop(std::fs::remove_dir_all(&place));
            if self.start.join(what).exists() {
                copy(&self.start.join(what), &place);
            }
        }
    }

    /// What a disturbed run did, by number.
    fn log(&self) -> PathBuf {
        self.site.root().join("points")
    }

    fn disturbed(&self, variables: &[(&str, &str)]) -> Output {
        let mut command = self.site.command(&["install", "--json"]);
        drop(std::fs::remove_file(self.log()));
        command.env("POINTS_LOG", self.log());
        command.env("LD_PRELOAD", library()).envs(variables.iter().copied()).output().expect("it can be started")
    }

    /// The points to be tried.
    fn sample(&self, few: usize) -> Vec<usize> {
        let trials = std::env::var("DOGE_TRIALS").unwrap_or_default();
        if let Some(points) = trials.strip_prefix("at:") {
            return points.split(',').filter_map(|point| point.parse().ok()).collect();
        }
        let step = match std::env::var("DOGE_TRIALS").as_deref() {
            Ok("all") => 1,
            Ok(many) => self.points / many.parse().unwrap_or(few),
            Err(_) => self.points / few,
        };
        let step = step.max(1);
        // Threads take turns differently from run to run, so the last points may not be passed.
        (0..self.points).step_by(step).collect()
    }

    /// What must hold right after a run that was disturbed, and after the next one.
    fn check(&self, before: Option<&str>, at: &str) {
        let lock = self.site.path("pixi.lock");
        match std::fs::read_to_string(&lock) {
            Ok(text) => assert!(text == self.lock_file || Some(text.as_str()) == before, "{at}: a half lock file"),
            Err(_) => assert!(before.is_none(), "{at}: the lock file is lost"),
        }
        let next = self.site.run(&["install", "--json"]);
        assert_eq!(next.code, 0, "{at}: the next run: {}", next.stderr);
        assert!(!next.stderr.contains("panicked"), "{at}: {}", next.stderr);
        assert_eq!(self.site.lock_file(), self.lock_file, "{at}");
        let now = contents(&self.site.prefix(""));
        let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.prefix), "{at}: other files");
        for (name, content) in &self.prefix {
            let (now, then) = (String::from_utf8_lossy(&now[name]), String::from_utf8_lossy(content));
            assert!(now == then, "{at}: {name} is another: {now}\nand not {then}");
        }
        let again = self.site.run(&["install", "--json"]);
        assert_eq!(again.ran(), Vec::<String>::new(), "{at}: the run after that");
    }

    fn kill_each(&self, how: &str, few: usize) {
        let before = std::fs::read_to_string(self.site.path("pixi.lock")).ok();
        let mut killed = 0;
        self.each(few, |point| {
            let output = self.disturbed(&[(how, &point.to_string())]);
            match output.status.signal() {
                Some(9) => killed += 1,
                signal => assert!(output.status.success(), "{how} {point}: {signal:?}"),
            }
            self.check(before.as_deref(), &format!("{how} {point}"));
        });
        assert!(killed > 0, "nothing was killed");
    }

    /// Tries each point of a sample, from the same state, and fails at the end if any of them did.
    #[expect(clippy::print_stdout, reason = "how many points there are stands in the output of the test")]
    fn each(&self, few: usize, mut trial: impl FnMut(usize)) {
        let points = self.sample(few);
        let mut failed = Vec::new();
        for point in &points {
            self.reset();
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trial(*point)));
            if tried.is_err() {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                let number = format!("{point} ");
                failed.push(log.lines().find(|line| line.starts_with(&number)).unwrap_or(&number).to_owned());
            }
        }
        println!("{} of {} points were tried", points.len(), self.points);
        assert!(failed.is_empty(), "{} of {} points: {failed:#?}", failed.len(), points.len());
    }

    /// The installer takes an error at these for something that the file system cannot do, and goes on with a copy.
    fn is_taken_for_lack_of_support(&self, point: &str) -> bool {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let was = log.lines().find_map(|line| line.strip_prefix(&format!("{point} "))).unwrap_or_default();
        was.starts_with("write ") && was.ends_with("/bin/placed")
    }

    fn fail_each(&self, error: &str, points: Option<&str>, few: usize) {
        let before = std::fs::read_to_string(self.site.path("pixi.lock")).ok();
        let mut failed = 0;
        self.each(few, |point| {
            let point = point.to_string();
            let mut variables = vec![("POINTS_FAIL", point.as_str()), ("POINTS_ERROR", error)];
            variables.extend(points.map(|points| ("POINTS_FOR", points)));
            let ran = Ran::of(self.disturbed(&variables));
            let at = format!("error {error} at {point} for {points:?}");
            assert!(ran.code == 0 || ran.code == 1, "{at}: {} {}", ran.code, ran.stderr);
            assert!(!ran.stderr.contains("panicked"), "{at}: {}", ran.stderr);
            failed += ran.code;
            if self.is_taken_for_lack_of_support(&point) {
                return;
            }
            self.check(before.as_deref(), &at);
        });
        let chosen = std::env::var("DOGE_TRIALS").is_ok_and(|trials| trials.starts_with("at:"));
        assert!(failed > 0 || chosen, "nothing failed");
    }
}

/// Packages of many kinds: text and binary placeholders, links, folders, Python modules with programs, two
/// that bring the same file.
pub(crate) fn site() -> Site {
    let mut site = Site::new();
    for (version, stamp) in [("1.0", 1_600_000_000_000), ("2.0", 1_700_000_000_000)] {
        let all = [
            PackageBuilder::new("placed", version)
                .prefixed_text("bin/placed", format!("#!{}/bin/sh\n# {version}\n", doge_queries::testing::PLACEHOLDER))
                .file("share/placed/both", format!("placed {version}"))
                .file(format!("share/only-{version}"), version)
                .symlink("bin/linked", "placed"),
            PackageBuilder::new("clash", version).file("share/placed/both", format!("clash {version}")),
            PackageBuilder::new("module", version)
                .noarch_python()
                .depends(["python"])
                .file("site-packages/module/__init__.py", format!("version = '{version}'\n"))
                .entry_point("module = module:main"),
        ];
        for package in all {
            site.channel.add(package.timestamp(stamp)).expect("it can be written");
        }
    }
    let python = PackageBuilder::new("python", "3.12.0").executable("bin/python", "#!/bin/sh\n");
    site.channel.add(python.timestamp(1_600_000_000_000)).expect("it can be written");
    site.index();
    site.needs("app = '1.*'\nplaced = '1.*'\nclash = '1.*'\nmodule = '1.*'\ntool = '*'");
    site
}

/// The environment is there; then the manifest asks for other versions, one package more and one less.
pub(crate) fn changing() -> Site {
    let site = site();
    site.install();
    site.needs("app = '2.*'\nplaced = '2.*'\nclash = '2.*'\nmodule = '2.*'\nother = '*'");
    site
}

#[test]
fn a_first_installation_can_be_killed_anywhere() {
    Trials::of(site()).kill_each("POINTS_KILL", 5);
}

#[test]
fn a_change_can_be_killed_anywhere() {
    Trials::of(changing()).kill_each("POINTS_KILL", 5);
}

#[test]
fn a_write_can_be_torn_anywhere() {
    Trials::of(changing()).kill_each("POINTS_TEAR", 3);
}

#[test]
fn the_disk_can_become_full_anywhere() {
    Trials::of(site()).fail_each(ENOSPC, None, 3);
    Trials::of(changing()).fail_each(ENOSPC, None, 3);
}

#[test]
fn a_single_error_can_happen_anywhere() {
    Trials::of(changing()).fail_each(EIO, Some("1"), 5);
}

/// Which of several packages wins a path is settled as in a new environment.
#[test]
fn a_change_of_packages_that_bring_the_same_file_comes_to_what_a_new_environment_is() {
    let site = changing();
    site.json(&["install", "--prefix", "new"]);
    let expected = contents(&site.path("new"));
    for _ in 0..2 {
        let trials = Trials::of(changing());
        assert_eq!(trials.prefix["share/placed/both"], expected["share/placed/both"]);
        let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&trials.prefix), names(&expected));
    }
}

/// And so it is if records were lost or edited, in whatever way that leaves the others.
#[test]
fn packages_that_bring_the_same_file_come_to_what_a_new_environment_is_whatever_is_lost_of_them() {
    let site = site();
    site.install();
    let expected = contents(&site.prefix(""));
    let records = ["conda-meta/placed-1.0-0.json", "conda-meta/clash-1.0-0.json"].map(|name| site.prefix(name));
    let lose: [fn(&Path); 3] = [
        |_| (),
        |record| std::fs::remove_file(record).expect("it is there"),
        |record| {
            let text = std::fs::read_to_string(record).expect("it is there");
            std::fs::write(record, text + "\n").expect("it can be written");
        },
    ];
    for placed in 0..lose.len() {
        for clash in 0..lose.len() {
            lose[placed](&records[0]);
            lose[clash](&records[1]);
            site.install();
            let now = contents(&site.prefix(""));
            let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&now), names(&expected), "{placed} {clash}");
            for (name, content) in &expected {
                assert!(now[name] == *content, "{placed} {clash}: {name}: {}", String::from_utf8_lossy(&now[name]));
            }
            site.install().assert_nothing_ran();
        }
    }
}
