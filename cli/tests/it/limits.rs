//! Places that are full, may not be written to, or know no locks.
//!
//! A full or read-only place is a file system of its own where the test may mount one; else that part is left out, and
//! said to be.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::interposed::library;
use crate::site::{Ran, Site, contents};

/// A file system in memory, gone when this is.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where that is not allowed.
    #[expect(clippy::print_stderr, reason = "what is left out is said")]
    fn new(place: &Path, kilobytes: usize) -> Option<Self> {
        std::fs::create_dir_all(place).expect("it can be made");
        let options = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place.to_owned()));
        }
        eprintln!("left out: nothing can be mounted here");
        None
    }

    /// Takes all the space that is left, or gives it back.
    fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.0.join("ballast")).expect("it can be made");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("it is there");
    }

    fn set(&self, how: &str) {
        let options = format!("remount,{how}");
        let status =
            Command::new("mount").args(["-o", &options]).arg(&self.0).status().expect("there is such a program");
        assert!(status.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[track_caller]
fn assert_right(site: &Site, expected: &Site) {
    let ran = site.install();
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    let names = |site: &Site| contents(&site.prefix("")).into_keys().collect::<Vec<_>>();
    assert_eq!(names(site), names(expected));
    site.install().assert_nothing_ran();
}

#[test]
fn a_disk_that_is_full_is_an_error_that_says_so_and_breaks_nothing() {
    let whole = Site::new();
    whole.install();
    for (place, parts) in [("cache", ["could not be fetched", "o space"]), ("workspace/.pixi", [".pixi", "o space"])] {
        let site = Site::new();
        let Some(disk) = Mounted::new(&site.root().join(place), 8_000) else { return };
        disk.fill();
        site.run(&["install"]).assert_fails_with(&parts);
        disk.empty();
        assert_right(&site, &whole);
    }
}

#[test]
fn a_store_that_is_full_costs_only_results() {
    let site = Site::new();
    let Some(disk) = Mounted::new(&site.cache().join("doge"), 200) else { return };
    disk.fill();
    let ran = site.install();
    assert_eq!(ran.stderr.matches("warning:").count(), 1, "it is said once: {}", ran.stderr);
    assert!(site.prefix("bin/app").is_file());
    assert!(!site.install().executed().contains_key("link_prefix"));
}

#[test]
fn a_file_that_may_not_grow_is_an_error_that_says_so_and_breaks_nothing() {
    let whole = Site::new();
    whole.install();
    let site = Site::new();
    // From not even a record to all but the store.
    for blocks in [0, 1, 2, 4, 16, 64] {
        let command = site.command(&["install"]);
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -f $1; shift; exec \"$@\"", "sh", &blocks.to_string()]);
        limited.arg(command.get_program()).args(command.get_args()).current_dir(site.path("")).env_clear();
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = Ran::of(limited.output().expect("it can be started"));
        assert!(ran.code == 0 || ran.code == 1, "{blocks}: {} {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{blocks}: {}", ran.stderr);
        assert!(ran.code == 0 || ran.stderr.contains("ile too large"), "{blocks}: {}", ran.stderr);
    }
    assert_right(&site, &whole);
}

#[test]
fn a_cache_that_may_not_be_written_to_is_read() {
    let whole = Site::new();
    whole.install();
    let site = Site::new();
    let Some(disk) = Mounted::new(&site.cache(), 50_000) else { return };
    site.install();
    disk.set("ro");
    let ran = site.run(&["install", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.assert_nothing_ran();
    // What is in it can be linked.
    std::fs::remove_dir_all(site.prefix("")).expect("it is there");
    let ran = site.run(&["install", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.executed()["link_prefix"], 1);
    // What is not is an error.
    site.needs("app = '*'\ntool = '*'");
    site.run(&["install"]).assert_fails_with(&["`tool-1.0-0.conda` could not be fetched", "ead-only"]);
    site.needs("app = '*'");
    disk.set("rw");
    assert_right(&site, &whole);
}

#[test]
fn an_environment_that_may_not_be_written_to_is_an_error_only_if_it_would_be_changed() {
    let site = Site::new();
    let Some(disk) = Mounted::new(&site.path(".pixi"), 50_000) else { return };
    site.install();
    disk.set("ro");
    site.install().assert_nothing_ran();
    site.needs("app = '1.*'");
    site.run(&["install"]).assert_fails_with(&["ead-only"]);
    disk.set("rw");
    site.install();
    site.install().assert_nothing_ran();
}

#[test]
fn where_there_are_no_locks_everything_goes_on_without() {
    const NO_LOCKS: &str = "37";
    const NOT_SUPPORTED: &str = "95";
    for error in [NO_LOCKS, NOT_SUPPORTED] {
        let site = Site::new();
        let run = || {
            let mut command = site.command(&["install", "--json"]);
            command.env("LD_PRELOAD", library()).env("POINTS_LOCKS", error).env("POINTS_WHERE", site.root());
            Ran::of(command.output().expect("it can be started"))
        };
        let ran = run();
        assert_eq!(ran.code, 0, "{error}: {}", ran.stderr);
        assert!(site.prefix("bin/app").is_file());
        let warnings = ran.stderr.matches("warning:").count();
        assert!(warnings <= 1, "{error}: it is said once: {}", ran.stderr);
        let again = run();
        assert_eq!(again.code, 0, "{error}: {}", again.stderr);
        assert!(!again.executed().contains_key("link_prefix"), "{error}: {:?}", again.ran());
        site.install();
        site.install().assert_nothing_ran();
    }
}
