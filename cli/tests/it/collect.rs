//! Collecting, verifying and damaging what is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::site::{Ran, Site};

const DAY: Duration = Duration::from_secs(86_400);

fn store(site: &Site) -> std::path::PathBuf {
    site.cache().join("doge/store-v3/store.redb")
}

fn bytes_below(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.clone(), fs::read(path).expect("it can be read"));
            }
        }
    }
    files
}

fn removed(ran: &Ran, kind: &str) -> u64 {
    ran.value()["kinds"][kind]["removed"]["count"].as_u64().unwrap_or(0)
}

#[test]
fn what_the_last_run_used_stays_and_nothing_runs_after_a_collection() {
    let site = Site::new();
    site.install();
    let gc = site.json(&["cache", "gc"]);
    assert_eq!(gc.value()["alone"], true);
    assert_eq!(removed(&gc, "traces"), 0);
    site.install().assert_nothing_ran();
    // One change runs exactly its chain: what it stands on is there to the last byte.
    site.needs("app = '*'\ntool = '*'");
    let before = site.install().ran();
    site.needs("app = '*'");
    site.install();
    site.json(&["cache", "gc"]);
    site.json(&["cache", "verify"]);
    site.needs("app = '*'\ntool = '*'");
    site.install();
    assert!(before.iter().any(|kind| kind.starts_with("solve_")), "{before:?}");
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_the_real_one_does() {
    let site = Site::new();
    site.install();
    let before = bytes_below(&site.cache());
    let dry = site.json(&["cache", "gc", "--max-size=0", "--dry-run"]);
    assert!(before == bytes_below(&site.cache()));
    assert_eq!(dry.value()["removed"], dry.value()["before"]);
    let real = site.json(&["cache", "gc", "--max-size=0"]);
    for kind in ["traces", "specs", "values", "runs", "labels", "locks", "solutions"] {
        assert!(removed(&real, kind) > 0, "{kind}: {}", real.stdout);
        assert_eq!(removed(&real, kind), removed(&dry, kind), "{kind}");
    }
    // Packages and repodata are shared with others.
    assert!(site.cache().join("pkgs/app-2.0-0/bin/app").is_file());
    // Everything is decided anew, and found to be as it was.
    let again = site.install();
    assert!(again.executed().contains_key("check_lock"), "{:?}", again.ran());
    assert!(!again.executed().contains_key("link_prefix"), "{:?}", again.ran());
    site.install().assert_nothing_ran();
}

#[test]
fn packages_and_repodata_are_collected_if_that_is_asked_for_and_only_when_nobody_is_at_work() {
    let site = Site::new();
    site.install();
    let gc = site.json(&["cache", "gc", "--max-size=0", "--packages", "--repodata"]);
    assert!(removed(&gc, "packages") >= 2, "{}", gc.stdout);
    assert!(!site.cache().join("pkgs/app-2.0-0").exists());
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    let again = site.install();
    assert!(again.executed().contains_key("link_prefix"));
    assert!(site.prefix("bin/app").is_file());
}

#[test]
fn after_a_run_it_collects_by_itself_when_a_day_has_passed_and_a_run_that_did_nothing_writes_nothing() {
    let site = Site::new();
    site.install();
    let solutions = site.cache().join("doge/solutions/other");
    fs::create_dir_all(&solutions).expect("it can be made");
    let old = solutions.join("old");
    fs::write(&old, b"an old solution").expect("it can be written");
    let long_ago = SystemTime::now() - 100 * DAY;
    fs::File::options().append(true).open(&old).and_then(|file| file.set_modified(long_ago)).expect("it is ours");
    let in_use = site.cache().join("doge/store-v3/in-use");
    let is_of_yesterday = |days: u32| {
        let file = fs::File::options().append(true).open(&in_use).expect("it is there");
        file.set_modified(SystemTime::now() - days * DAY).expect("it is ours");
    };

    // Nothing ran: nothing is collected, though it would be time.
    is_of_yesterday(2);
    let before = fs::read(store(&site)).expect("it can be read");
    site.install().assert_nothing_ran();
    assert!(old.exists());
    assert!(before == fs::read(store(&site)).expect("it can be read"));
    // Something ran: too early, then in time.
    is_of_yesterday(0);
    site.needs("app = '*'\ntool = '*'");
    site.install();
    assert!(old.exists());
    is_of_yesterday(2);
    site.needs("app = '*'\nother = '*'");
    site.install();
    assert!(!old.exists());
    site.install().assert_nothing_ran();
    // From now on the time of the last collection counts.
    fs::write(&old, b"an old solution").expect("it can be written");
    fs::File::options().append(true).open(&old).and_then(|file| file.set_modified(long_ago)).expect("it is ours");
    site.needs("app = '*'");
    site.install();
    assert!(old.exists());
}

#[test]
fn limits_that_cannot_be_understood_are_said_before_anything_is_done() {
    let site = Site::new();
    let ran = site.command(&["install"]).env("DOGE_CACHE_MAX_SIZE", "much").output().expect("it starts");
    Ran::of(ran).assert_fails_with(&["DOGE_CACHE_MAX_SIZE", "much"]);
    assert_eq!(site.run(&["cache", "gc", "--max-size", "3 parsecs"]).code, 2);
    assert!(!site.cache().exists());
}

#[test]
fn what_is_kept_is_shown_by_kind_with_its_age() {
    let site = Site::new();
    site.install();
    let info = site.json(&["cache", "info"]).value();
    for kind in ["traces", "specs", "values", "labels", "runs", "locks", "solutions"] {
        let kind = &info["kinds"][kind];
        assert!(kind["count"].as_u64() > Some(0) && kind["bytes"].as_u64() > Some(0), "{kind}");
        assert!(kind["oldest_use"].is_string() && kind["newest_use"].is_string(), "{kind}");
    }
    let text = site.run(&["cache", "info"]).stdout;
    assert!(text.lines().any(|line| line.contains("traces") && line.contains("last used")), "{text}");
}

#[test]
fn verifying_finds_damage_puts_it_aside_and_keeps_what_is_whole() {
    let site = Site::new();
    site.install();
    let whole = site.json(&["cache", "verify"]).value();
    assert_eq!((whole["ok"].as_bool(), whole["findings"].as_array().map(Vec::len)), (Some(true), Some(0)));
    // One flipped bit in the sealed spec of a package.
    let mut image = fs::read(store(&site)).expect("it can be read");
    // There the kind stands behind its length; records of runs name it in another way.
    let place = image.windows(14).position(|window| window == b"\x0dfetch_package").expect("its spec is there");
    image[place + 1] ^= 1;
    fs::write(store(&site), image).expect("it can be written");
    let ran = site.run(&["cache", "verify", "--json"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    let found = ran.value();
    assert!(found["repaired"] == true && found["taken_over"].as_u64() > Some(3), "{found}");
    assert_eq!(found["findings"][0]["place"], "specs");
    assert_eq!(site.json(&["cache", "verify"]).value()["ok"], true);
    assert!(site.json(&["cache", "info"]).value()["store"]["quarantined"] == 1);
    // What was whole was taken over: nothing is solved or linked again.
    let again = site.install();
    assert!(!again.executed().contains_key("link_prefix"), "{:?}", again.ran());
    assert!(!again.executed().contains_key("solve_conda_environment"), "{:?}", again.ran());
    site.install().assert_nothing_ran();
}

/// Damage anywhere in the store, met by a run that has something to do: it ends well, and so does the next.
#[test]
fn no_run_fails_because_of_a_damaged_store() {
    let site = Site::new();
    site.install();
    site.needs("app = '*'\ntool = '*'");
    site.install();
    let image = fs::read(store(&site)).expect("it can be read");
    let pages = image.len() / 4096;
    let factor: f64 = std::env::var("DOGE_TRIALS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1.0);
    let trials = ((9.0 * factor) as usize).max(1);
    for trial in 0..trials {
        let mut damaged = image.clone();
        let page = trial * pages / trials * 4096;
        match trial % 3 {
            0 => damaged[page..page + 4096].fill(0),
            1 => damaged[page + trial % 4096] ^= 1 << (trial % 8),
            _ => damaged.iter_mut().skip(page).take(512).for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7)),
        }
        fs::write(store(&site), damaged).expect("it can be written");
        site.needs(if trial % 2 == 0 { "app = '*'" } else { "app = '*'\nother = '*'" });
        let ran = site.run(&["install", "--json"]);
        assert_eq!(ran.code, 0, "trial {trial}: {}", ran.stderr);
        assert!(site.prefix("bin/app").is_file());
        assert_eq!(site.prefix("share/other").is_file(), trial % 2 == 1, "trial {trial}");
        let next = site.run(&["install", "--json"]);
        assert_eq!(next.code, 0, "trial {trial}: {}", next.stderr);
    }
    site.run(&["cache", "verify"]);
    site.install();
    site.install().assert_nothing_ran();
}

#[test]
fn installs_and_collections_at_once_fail_none_of_them() {
    let site = Site::new();
    site.install();
    for round in 0..4 {
        site.needs(if round % 2 == 0 { "app = '*'\ntool = '*'" } else { "app = '*'" });
        let start = |arguments: &[&str]| {
            let mut command = site.command(arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started")
        };
        let children = [
            start(&["install", "--json"]),
            start(&["cache", "gc", "--max-size=0", "--json"]),
            start(&["install", "--json"]),
        ];
        for child in children {
            let ran = Ran::of(child.wait_with_output().expect("it was ours"));
            assert_eq!(ran.code, 0, "round {round}: {}", ran.stderr);
        }
        assert_eq!(site.prefix("share/tool").is_file(), round % 2 == 0);
    }
    site.install();
    site.install().assert_nothing_ran();
    site.json(&["cache", "verify"]);
}

/// What tells of earlier runs.
const TELLING: [&[&str]; 7] =
    [&["why"], &["why", "solve"], &["runs"], &["runs", "show"], &["runs", "show", "00"], &["graph"], &["trace"]];

#[test]
fn a_store_that_cannot_be_read_is_not_taken_for_a_new_one() {
    let site = Site::new();
    site.install();
    let whole = fs::read(store(&site)).expect("it can be read");
    fs::write(store(&site), vec![7; whole.len()]).expect("it can be written");
    for command in TELLING {
        let ran = site.run(command);
        ran.assert_fails_with(&["cannot be read: it is damaged", "store-v3", "doge cache verify"]);
        assert!(!ran.stderr.contains("install` first"), "{command:?}: {}", ran.stderr);
    }
    let error = site.run(&["why", "--json"]).value()["error"]["message"].to_string();
    assert!(error.contains("cannot be read"), "{error}");
    // What lies beside it is shown, and that it may not be all.
    fs::write(store(&site), &whole).expect("it can be written");
    site.install();
    fs::write(store(&site), vec![7; whole.len()]).expect("it can be written");
    let ran = site.run(&["runs"]).succeeded();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("warning: the store at") && ran.stderr.contains("may not be all"), "{}", ran.stderr);
    for command in [&["why"][..], &["graph"], &["runs", "show"], &["trace"]] {
        site.run(command).assert_fails_with(&["cannot be read: it is damaged"]);
    }
    // The next run makes another one.
    site.install();
    assert!(site.run(&["why"]).succeeded().stderr.is_empty());
    // Where nobody can look, nothing is known either.
    let directory = store(&site).parent().expect("it has one").to_owned();
    fs::remove_dir_all(&directory).expect("it is there");
    fs::write(&directory, "no folder").expect("it can be written");
    site.run(&["why"]).assert_fails_with(&["cannot be read", "Not a directory"]);
    assert!(site.json(&["install"]).stderr.contains("going on without the store"));
}

#[test]
fn runs_that_were_collected_are_not_taken_for_none() {
    let site = Site::new();
    for command in TELLING.into_iter().filter(|command| !command.contains(&"00")) {
        let ran = site.run(command);
        assert_eq!(ran.code, i32::from(command != ["runs"]), "{command:?}");
        let said: Vec<&str> = ran.stderr.split_whitespace().collect();
        let said = said.join(" ");
        assert!(said.contains("no run of this workspace is on record"), "{command:?}: {said}");
        assert!(said.contains("run `doge install` first"), "{command:?}: {said}");
    }
    site.install();
    site.json(&["cache", "gc", "--older-than", "0s"]);
    for command in TELLING.into_iter().filter(|command| !command.contains(&"00")) {
        let ran = site.run(command);
        let said: Vec<&str> = ran.stderr.split_whitespace().collect();
        let said = said.join(" ");
        assert!(said.contains("no run of this workspace is on record"), "{command:?}: {said}");
        assert!(said.contains("collected or not kept") && !said.contains("install` first"), "{command:?}: {said}");
    }
    site.install();
    site.run(&["why"]).succeeded();
}

#[test]
fn a_collection_leaves_the_directory_that_a_backend_answers_in() {
    let sources = crate::sources::Sources::new();
    sources.site.needs("b = { path = 'b' }");
    sources.package("b", "", "slow = 1500\nslow_in = 'outputs'");
    let mut run = sources.command(&["install"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    let works = sources.site.path(".pixi/doge/work");
    let there = || fs::read_dir(&works).map_or(0, |works| works.flatten().filter(|work| work.path().is_dir()).count());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while there() == 0 {
        assert!(std::time::Instant::now() < deadline, "the backend is asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    sources.site.json(&["cache", "gc", "--older-than", "0s"]);
    assert_eq!(there(), 1);
    assert!(run.wait().expect("it ends").success());
    sources.site.json(&["cache", "gc", "--older-than", "0s"]);
    assert_eq!(there(), 0);
}
