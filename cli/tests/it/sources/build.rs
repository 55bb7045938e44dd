//! What is built, and what is not.

use crate::site::PLATFORM;
use crate::sources::Sources;

#[test]
fn a_package_and_what_it_is_built_with_are_built_once_and_installed() {
    let sources = Sources::new();
    let ran = sources.install();
    assert_eq!(ran.executed()["backend_build"], 2);
    assert_eq!(ran.executed()["call_outputs"], 2);
    assert!(sources.site.prefix("bin/a").is_file());
    assert!(!sources.site.prefix("share/b/data.txt").exists(), "it was only built against");
    assert!(sources.site.read(".pixi/envs/default/share/a/inputs.txt").contains("host b 1.0"));
    sources.assert_settled();
}

#[test]
fn a_second_run_starts_no_backend_and_solves_nothing() {
    let sources = Sources::new();
    sources.install();
    // Without the program nothing that needs it can be done.
    let ran = crate::site::Ran::of(
        sources.command(&["install", "--json"]).env("PATH", "/nowhere").output().expect("it can be started"),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.assert_nothing_ran();
}

#[test]
fn what_is_needed_to_run_is_installed_with_it() {
    let sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\n[package.run-dependencies]\nb = { path = '../b' }\nlib = '>=1.1'\n", "");
    sources.install();
    assert!(sources.site.prefix("share/b/data.txt").is_file());
    assert!(sources.site.prefix("share/lib").is_file());
    sources.assert_settled();
}

#[test]
fn force_builds_again_and_the_result_stays() {
    let sources = Sources::new();
    sources.install();
    let ran = sources.json(&["install", "--force=a"]);
    assert_eq!(ran.executed()["backend_build"], 1);
    sources.assert_settled();
    let ran = sources.json(&["install", "--force"]);
    assert_eq!(ran.executed()["backend_build"], 2);
    sources.assert_settled();
}

/// A package that is built against another one and against one of a channel, by a backend that goes on from what it left.
fn incremental(lib: &str) -> Sources {
    let sources = Sources::new();
    built_against(&sources, lib);
    sources
}

fn built_against(sources: &Sources, lib: &str) {
    let tables = format!("[package.host-dependencies]\nb = {{ path = '../b' }}\nlib = '{lib}'\n");
    sources.package("a", &tables, "incremental = true");
}

fn object(sources: &Sources) -> String {
    sources.site.read(".pixi/envs/default/share/a/object.txt")
}

#[test]
fn a_build_goes_on_from_what_an_earlier_one_left_only_if_it_is_made_with_the_same() {
    let sources = incremental("1.0");
    sources.install();
    let first = object(&sources);
    assert!(first.contains("host lib 1.0"), "{first}");
    let left = |sources: &Sources| {
        let works = std::fs::read_dir(sources.site.path(".pixi/doge/bld/a")).expect("it was built there");
        let objects = works.map(|work| work.expect("it can be read").path().join("object.txt"));
        let times = objects.map(|object| std::fs::metadata(object).and_then(|object| object.modified()));
        times.map(|time| time.expect("it was left")).collect::<Vec<_>>()
    };
    let before = left(&sources);
    sources.site.write("a/content/bin/a", "#!/bin/sh\necho this is another a\n");
    sources.assert_builds(1);
    assert_eq!(left(&sources), before, "only a source changed");
    // What is of a channel bears older times than what was made of another version of it.
    built_against(&sources, "1.1");
    sources.assert_builds(1);
    assert!(object(&sources).contains("host lib 1.1"), "{}", object(&sources));
    sources.site.write("b/content/share/b/data.txt", "other data\n");
    sources.assert_builds(2);
    let fresh = incremental("1.1");
    fresh.site.write("b/content/share/b/data.txt", "other data\n");
    fresh.install();
    assert_eq!(object(&sources), object(&fresh));
    sources.assert_settled();
}

#[test]
fn force_begins_from_nothing() {
    let sources = incremental("1.0");
    sources.install();
    let built = object(&sources);
    let work = std::fs::read_dir(sources.site.path(".pixi/doge/bld/a")).expect("it was built there").flatten().next();
    let left = work.expect("it was built there").path().join("object.txt");
    std::fs::write(left, "what is wrong\n").expect("it can be written");
    sources.json(&["install", "--force=b"]);
    sources.json(&["install", "--force=a"]);
    assert_eq!(object(&sources), built);
    sources.assert_settled();
}

#[test]
fn what_was_built_and_is_gone_is_built_again_only_if_somebody_needs_it() {
    let sources = Sources::new();
    sources.install();
    std::fs::remove_dir_all(sources.site.path(".pixi/doge")).expect("it is there");
    std::fs::remove_dir_all(sources.site.cache().join("pkgs")).expect("it is there");
    sources.assert_settled();
    std::fs::remove_dir_all(sources.site.path(".pixi/envs")).expect("it is there");
    let ran = sources.install();
    assert!(ran.executed()["backend_build"] >= 1, "{:?}", ran.executed());
    assert!(sources.site.prefix("bin/a").is_file());
    sources.assert_settled();
}

#[test]
fn a_dependent_is_not_built_again_if_what_it_is_built_with_comes_to_the_same() {
    let sources = Sources::new();
    sources.package("b", "", "embed = false");
    sources.install();
    // It counts as input and does not become part of the package.
    sources.site.write("b/pixi.toml", &format!("{}# a remark\n", sources.site.read("b/pixi.toml")));
    sources.assert_builds(1);
    sources.assert_settled();
}

#[test]
fn a_workspace_that_was_moved_builds_nothing_and_works_in_the_new_place() {
    let sources = Sources::new();
    sources.site.write("a/content/bin/where", "#!/bin/sh\ncat @HOST_PREFIX@/share/a/stamp.txt\n");
    sources.install();
    let (old, new) = (sources.site.path(""), sources.site.root().join("moved"));
    std::fs::rename(&old, &new).expect("it can be moved");
    let mut command = sources.command(&["install", "--json"]);
    let ran = crate::site::Ran::of(command.current_dir(&new).output().expect("it can be started"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.executed().get("backend_build"), None, "{:?}", ran.executed());
    assert_eq!(ran.executed().get("call_outputs"), None, "{:?}", ran.executed());
    let said = std::process::Command::new(new.join(".pixi/envs/default/bin/where")).output().expect("it runs");
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn the_store_and_the_environment_are_all_that_a_second_run_needs() {
    let sources = Sources::new();
    sources.install();
    let (cache, other) = (sources.site.cache(), sources.site.root().join("restored"));
    std::fs::create_dir_all(&other).expect("it can be made");
    std::fs::rename(cache.join("doge"), other.join("doge")).expect("it can be moved");
    let mut command = sources.command(&["install", "--json"]);
    let ran = crate::site::Ran::of(command.env("DOGE_CACHE_DIR", &other).output().expect("it can be started"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.assert_nothing_ran();
}

#[test]
fn two_processes_build_each_package_once() {
    let sources = Sources::new();
    sources.package("b", "", "slow = 300\nlog = '../calls'");
    sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\n", "slow = 300\nlog = '../calls'");
    let start = || {
        let mut command = sources.command(&["install", "--json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("it can be started")
    };
    let (one, other) = (start(), start());
    for child in [one, other] {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let calls = sources.site.read("calls");
    for package in ["a", "b"] {
        let builds = calls.lines().filter(|line| line.starts_with(&format!("build {package}"))).count();
        assert_eq!(builds, 1, "{calls}");
    }
}

#[test]
fn packages_of_a_source_are_built_where_they_are_wanted() {
    let sources = Sources::new();
    let out = sources.site.root().join("out");
    let ran = sources.json(&["build", "a", "--output-dir", out.to_str().expect("it is text")]);
    assert_eq!(ran.executed()["backend_build"], 2);
    assert!(out.join("a-1.0-0.conda").is_file());
    let ran = sources.json(&["build", "a", "--output-dir", out.to_str().expect("it is text")]);
    ran.assert_nothing_ran();
    sources
        .run(&["build", "a", "--package", "nothing"])
        .assert_fails_with(&["offers no package `nothing`", "it offers a"]);
    sources.run(&["build"]).assert_fails_with(&["describes no package itself"]);
}

#[test]
fn a_dry_run_says_what_would_run_and_what_may() {
    let sources = Sources::new();
    sources.install();
    let said = sources.run(&["install", "--dry-run"]).stderr;
    assert!(said.contains("nothing would run"), "{said}");
    sources.site.write("b/content/share/b/data.txt", "other data\n");
    let said = sources.run(&["install", "--dry-run"]).stderr;
    assert!(said.contains("would run: ask for the packages of b"), "{said}");
    assert!(said.contains("known only when it has run"), "{said}");
    sources.assert_builds(2);
}

/// How many times a run is killed; `DOGE_TRIALS=50` for more.
fn trials() -> u64 {
    std::env::var("DOGE_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn a_kill_at_any_moment_of_a_build_leaves_nothing_that_is_trusted() {
    let slow = |sources: &Sources| {
        sources.package("b", "", "slow = 40\nslow_in = 'build'");
        sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\n", "slow = 40\nslow_in = 'build'");
    };
    let sources = Sources::new();
    slow(&sources);
    let trials = trials();
    for trial in 0..trials {
        sources.site.write("b/content/share/b/data.txt", &format!("data {trial}\n"));
        let mut command = sources.command(&["install"]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("it can be started");
        std::thread::sleep(std::time::Duration::from_millis(trial * 400 / trials));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    sources.install();
    sources.assert_settled();
    let fresh = Sources::new();
    slow(&fresh);
    fresh.site.write("b/content/share/b/data.txt", &sources.site.read("b/content/share/b/data.txt"));
    fresh.install();
    let files = |sources: &Sources| {
        let mut files = crate::site::contents(&sources.site.prefix(""));
        files.retain(|name, _| !name.starts_with("conda-meta"));
        files
    };
    assert_eq!(files(&sources), files(&fresh));
}

#[test]
fn a_backend_is_asked_once_for_environments_that_make_no_difference_to_it() {
    let sources = Sources::new();
    sources.site.manifest(
        "",
        "[dependencies]\na = { path = 'a' }\n[feature.other]\nchannel-priority = 'disabled'\n\
         [feature.other.system-requirements]\ncuda = '12'\n[environments]\nother = ['other']\n",
    );
    let ran = sources.json(&["install", "-e", "default", "-e", "other"]);
    let executed = ran.executed();
    assert_eq!((executed["call_outputs"], executed["backend_build"]), (2, 2), "{executed:?}");
    sources.json(&["install", "-e", "default", "-e", "other"]).assert_nothing_ran();
}

#[test]
fn what_a_backend_is_asked_at_once_is_answered_in_directories_of_their_own() {
    let sources = Sources::new();
    sources.site.manifest(
        "",
        "[feature.one]\nchannels = ['./one']\n[dependencies]\nb = { path = 'b' }\n[environments]\none = ['one']\n",
    );
    for directory in ["one/noarch", &format!("one/{PLATFORM}")] {
        sources.site.write(&format!("{directory}/repodata.json"), "{\"packages\":{},\"packages.conda\":{}}");
    }
    let ran = sources.json(&["install", "-e", "default", "-e", "one"]);
    // They are told of other channels.
    assert_eq!(ran.executed()["call_outputs"], 2, "{:?}", ran.executed());
    let work = sources.site.path(".pixi/doge/work");
    assert_eq!(std::fs::read_dir(&work).expect("it is there").count(), 2);
    sources.json(&["cache", "gc", "--older-than", "0s"]);
    assert_eq!(std::fs::read_dir(&work).expect("it is there").count(), 0, "nobody needs them any more");
}

/// It is waited for ten seconds, and then at the directory that is built in, which nobody else may use.
#[cfg(target_os = "linux")]
#[test]
fn what_a_process_builds_that_was_stopped_for_long_is_not_built_again() {
    use crate::interposed::signal;
    use crate::site::Ran;
    let sources = Sources::new();
    sources.package("b", "", "slow = 1500");
    let start = || {
        let mut command = sources.command(&["install", "--json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("it can be started")
    };
    let builds = sources.site.path(".pixi/doge/bld/b");
    let holder = start();
    while !std::fs::read_dir(&builds)
        .is_ok_and(|mut found| found.any(|it| it.is_ok_and(|it| it.path().join("out").is_dir())))
    {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    signal(holder.id(), "STOP");
    let mut other = start();
    crate::crowd::until(&mut other, "which is stopped (building)");
    signal(holder.id(), "CONT");
    let holder = Ran::of(holder.wait_with_output().expect("it ends"));
    assert_eq!(holder.executed()["backend_build"], 2, "{}", holder.stderr);
    let other = Ran::of(other.wait_with_output().expect("it ends"));
    assert_eq!(other.code, 0, "{}", other.stderr);
    let built: Vec<String> = other.ran().into_iter().filter(|kind| kind.starts_with("backend_build")).collect();
    assert_eq!(built, Vec::<String>::new(), "{}", other.stderr);
    sources.assert_settled();
}
