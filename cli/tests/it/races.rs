//! What changes while it is read, between being looked at and being used, or while something else is made of it.
//!
//! A process is stopped where it matters, something is changed, and it goes on. Each test fails without the rule that
//! it is about.

use std::fs;
use std::path::Path;

use doge_queries::testing::PackageBuilder;

use crate::interposed::Stopped;
use crate::site::{Site, contents, locked};

/// A channel with a third version of `lib`; what the channel was before and after it had that.
fn reindexed(site: &mut Site) -> (Vec<u8>, Vec<u8>) {
    let repodata = site.path("channel/noarch/repodata.json");
    let before = fs::read(&repodata).expect("it is there");
    let lib = PackageBuilder::new("lib", "1.2").file("share/lib", "1.2\n").timestamp(1_710_000_000_000);
    site.channel.add(lib).expect("it can be written");
    site.index();
    let after = fs::read(&repodata).expect("it is there");
    put(&repodata, &before);
    (before, after)
}

/// Replaces a file as a whole, as those do who mean well.
fn put(path: &Path, content: &[u8]) {
    let aside = path.with_extension("aside");
    fs::write(&aside, content).and_then(|()| fs::rename(&aside, path)).expect("it can be written");
}

/// [C3] between looking at a channel and reading it, and [C3] between digesting records and solving with them. What
/// was read then is not remembered for what was looked at.
#[test]
fn a_channel_that_changes_during_a_solve_is_solved_as_it_is_then() {
    let mut site = Site::new();
    let (before, after) = reindexed(&mut site);
    let repodata = site.path("channel/noarch/repodata.json");
    // The first look, and the reading.
    for skip in 0..2 {
        drop(fs::remove_dir_all(site.cache()));
        drop(fs::remove_file(site.path("pixi.lock")));
        put(&repodata, &before);
        let stopped = Stopped::after(&site, &["install", "--json"], "noarch/repodata.json", skip);
        put(&repodata, &after);
        let ran = stopped.go_on();
        assert_eq!(ran.code, 0, "{skip}: {}", ran.stderr);
        assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.2"], "{skip}");
        site.install().assert_nothing_ran();
        // Nothing of what is there now was remembered for what was there before.
        put(&repodata, &before);
        site.json(&["solve", "--update"]);
        assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"], "{skip}");
    }
}

/// A solve that finds its trace reads the records again, and takes no others than those that were digested.
#[test]
fn records_that_are_read_again_and_are_others_are_refused() {
    let mut site = Site::new();
    site.install();
    let (before, after) = reindexed(&mut site);
    let repodata = site.path("channel/noarch/repodata.json");
    // The closure is known, the solve is not: its records are read now.
    site.needs("app = '2.*'");
    let stopped = Stopped::after(&site, &["solve", "--update", "--json"], "noarch/repodata.json", 1);
    put(&repodata, &after);
    let ran = stopped.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.2"]);
    put(&repodata, &before);
    site.json(&["solve", "--update"]);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
}

/// What was edited with the same size and has its old time again has another time of its last change.
#[test]
fn an_edit_of_the_same_size_with_its_old_time_is_noticed() {
    let site = Site::new();
    site.needs("app = '1.*'\nlib = '*'");
    site.install();
    let repodata = site.path("channel/noarch/repodata.json");
    let record = site.prefix("conda-meta/lib-1.1-0.json");
    let lock = site.path("pixi.lock");
    // Stamps are trusted only if they are old.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
    let set = |path: &Path| {
        let file = fs::File::options().write(true).open(path).expect("it is there");
        file.set_modified(old).expect("times can be set");
    };
    for path in [&repodata, &record, &lock] {
        set(path);
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    site.json(&["solve", "--update"]);
    site.install();
    site.install().assert_nothing_ran();
    let edit = |path: &Path, from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let text = fs::read_to_string(path).expect("it is text");
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).expect("it can be written");
        set(path);
    };
    edit(&record, "\"lib\"", "\"lIb\"");
    assert_eq!(site.install().executed()["link_prefix"], 1);
    // The newest version is yanked by a new name.
    edit(&repodata, "\"lib-1.1-0.conda\"", "\"lib-1.1-9.conda\"");
    let ran = site.json(&["solve", "--update"]);
    assert_eq!(ran.executed()["channel_index"], 1, "{:?}", ran.ran());
    let text = site.lock_file();
    edit(&lock, "lib-1.1-9", "lib-1.1-8");
    assert_ne!(site.lock_file(), text);
    assert!(!site.run(&["install", "--json"]).ran().is_empty());
}

/// Which packages to link is decided by what is there under the lock, not by what was there before.
#[test]
fn an_environment_that_somebody_else_changes_before_it_is_locked_is_looked_at_again() {
    let site = Site::new();
    let stopped = Stopped::at(&site, &["install", "--json"], "conda-meta/.doge-lock");
    let other = site.install();
    assert_eq!(other.executed()["link_prefix"], 1);
    let expected = contents(&site.prefix(""));
    let ran = stopped.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.executed().contains_key("link_prefix"), "it finds it done: {:?}", ran.ran());
    assert!(contents(&site.prefix("")) == expected);
    site.install().assert_nothing_ran();
}

/// What others put there while an installation is under way does not count as ours.
#[test]
fn an_environment_that_somebody_changes_while_it_is_linked_is_put_right() {
    let site = Site::new();
    let expected = {
        site.install();
        let expected = contents(&site.prefix(""));
        fs::remove_dir_all(site.prefix("")).expect("it is there");
        expected
    };
    // A record is written when the files are linked.
    let stopped = Stopped::at(&site, &["install", "--json"], "conda-meta/app-2.0-0.json");
    fs::write(site.prefix("conda-meta/other-1.0-0.json"), "{}").expect("it can be written");
    let ran = stopped.go_on();
    assert!(ran.code == 1 && ran.stderr.contains("other-1.0-0.json"), "{} {}", ran.code, ran.stderr);
    site.install();
    assert!(contents(&site.prefix("")) == expected);
    site.install().assert_nothing_ran();
}

/// rattler's installer takes that for impossible and panics.
#[test]
fn a_record_that_vanishes_while_something_else_is_linked_is_put_right() {
    let site = Site::new();
    site.install();
    let expected = contents(&site.prefix(""));
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    site.needs("lib = '*'");
    site.install();
    site.needs("app = '*'");
    let stopped = Stopped::at(&site, &["install", "--json"], "default/bin/app");
    fs::remove_file(site.prefix("conda-meta/lib-1.1-0.json")).expect("it is there");
    let ran = stopped.go_on();
    assert!(ran.code == 0 && !ran.stderr.contains("panicked"), "{} {}", ran.code, ran.stderr);
    assert!(contents(&site.prefix("")) == expected);
    site.install().assert_nothing_ran();
}

/// A package that is taken away while it is linked is fetched again, and the installation begins anew.
#[test]
fn a_package_that_vanishes_while_it_is_linked_is_fetched_again() {
    let site = Site::new();
    site.install();
    let expected = contents(&site.prefix(""));
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    let stopped = Stopped::at(&site, &["install", "--json"], "default/share/lib");
    fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
    fs::create_dir(site.cache().join("pkgs")).expect("it can be made");
    let ran = stopped.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.executed()["fetch_package"], 2);
    assert!(contents(&site.prefix("")) == expected);
    site.install().assert_nothing_ran();
}

/// The file is read again under its lock: what somebody else wrote meanwhile and is as good stays as it is.
#[test]
fn a_lock_file_that_somebody_else_writes_meanwhile_is_not_overwritten() {
    let site = Site::new();
    // What another checkout has locked.
    site.needs("app = '1.*'\nlib = '1.0'");
    site.install();
    let theirs = site.lock_file();
    for what in [site.path("pixi.lock"), site.path(".pixi"), site.cache()] {
        drop(fs::remove_dir_all(&what));
        drop(fs::remove_file(&what));
    }
    site.needs("app = '*'");
    let stopped = Stopped::at(&site, &["install", "--json"], ".pixi/.doge-lock");
    site.write("pixi.lock", &theirs);
    let ran = stopped.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(site.lock_file(), theirs);
    assert!(site.prefix("conda-meta/lib-1.0-0.json").is_file(), "and is what is installed");
    site.install().assert_nothing_ran();
}

/// A run is about the manifest that it read; the next one about what is there then.
#[test]
fn a_manifest_that_is_edited_during_a_run_counts_for_the_next_one() {
    let site = Site::new();
    let stopped = Stopped::at(&site, &["install", "--json"], "conda-meta/app-2.0-0.json");
    site.needs("app = '*'\ntool = '*'");
    let ran = stopped.go_on();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
    assert!(!site.prefix("share/tool").exists());
    site.install();
    assert!(site.prefix("share/tool").is_file());
    site.install().assert_nothing_ran();
}
