//! A run that is interrupted, as by Ctrl-C, at whatever it is doing just then.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use doge_queries::testing::PackageBuilder;

use crate::interposed::{Stopped, signal};
use crate::site::{Ran, Site, contents};

#[test]
fn a_run_that_is_interrupted_ends_at_once_whatever_it_is_doing_and_the_next_one_ends_right() {
    let site = Site::new();
    site.install();
    let expected = contents(&site.prefix(""));
    let lock_file = site.lock_file();
    let stages = [
        "channel/noarch/repodata.json",
        ".pixi/.doge-lock",
        "workspace/.pixi.lock.",
        "pkgs/.lib-1.1-0",
        "conda-meta/.doge-lock",
        "conda-meta/doge-journal",
        "default/share/lib",
        "conda-meta/lib-1.1-0.json",
        "conda-meta/pixi_env_prefix",
    ];
    for stage in stages {
        for what in [site.cache(), site.path(".pixi")] {
            std::fs::remove_dir_all(what).expect("it is there");
        }
        std::fs::remove_file(site.path("pixi.lock")).expect("it is there");
        let stopped = Stopped::at(&site, &["install", "--json"], stage);
        // It sees the signal when it goes on.
        signal(stopped.id(), "INT");
        let began = Instant::now();
        let ran = stopped.go_on();
        assert!(began.elapsed() < Duration::from_secs(1), "{stage}: {:?}", began.elapsed());
        // What was left to do may have been done before the signal was seen.
        assert!(ran.code == 130 || ran.code == 0, "{stage}: {} {}", ran.code, ran.stderr);
        if let Ok(text) = std::fs::read_to_string(site.path("pixi.lock")) {
            assert_eq!(text, lock_file, "{stage}");
        }
        site.install();
        assert!(contents(&site.prefix("")) == expected, "{stage}");
        assert_eq!(site.lock_file(), lock_file, "{stage}");
        site.install().assert_nothing_ran();
    }
}

#[test]
fn a_run_that_waits_for_another_can_be_interrupted() {
    let site = Site::new();
    for lock in ["conda-meta/app-2.0-0.json", "pkgs/.lib-1.1-0", "workspace/.pixi.lock."] {
        for what in [site.cache(), site.path(".pixi")] {
            drop(std::fs::remove_dir_all(what));
        }
        drop(std::fs::remove_file(site.path("pixi.lock")));
        let holder = Stopped::at(&site, &["install", "--json"], lock);
        let mut command = site.command(&["install", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
        crate::crowd::until(&mut child, "waiting for process");
        signal(child.id(), "INT");
        let began = Instant::now();
        let ran = Ran::of(child.wait_with_output().expect("it ends"));
        assert!(began.elapsed() < Duration::from_secs(1), "{lock}: {:?}", began.elapsed());
        assert_eq!(ran.code, 130, "{lock}: {}", ran.stderr);
        assert_eq!(holder.go_on().code, 0, "{lock}");
        site.install().assert_nothing_ran();
    }
}

#[test]
fn no_script_of_a_package_outlives_the_run_that_started_it() {
    let mut site = Site::new();
    let started = site.root().join("started");
    let script = format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n", started.display());
    site.channel.add(PackageBuilder::new("slow", "1.0").file("share/slow", "x").post_link(script)).expect("written");
    site.index();
    site.needs("slow = '*'");
    let mut command = site.command(&["install", "--link-scripts", "--json"]);
    // A terminal sends the signal to the whole group of what runs in front.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it can be started");
    let script: u32 = loop {
        match std::fs::read_to_string(&started).ok().and_then(|text| text.trim().parse().ok()) {
            Some(id) => break id,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().expect("there is such a program").success());
    let began = Instant::now();
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    let took = began.elapsed();
    // It is given a moment to die.
    let is_gone = || {
        let alive = Command::new("kill").args(["-0", &script.to_string()]).stderr(Stdio::null()).status();
        !alive.expect("there is such a program").success()
    };
    let outlived = !(0..50).any(|_| {
        is_gone() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }
    });
    if outlived {
        signal(script, "KILL");
    }
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    assert!(!outlived, "the script still runs");
}
