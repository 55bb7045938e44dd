//! What others do to an environment is noticed and put right.

use std::fs;

use crate::site::{Ran, Site, tick};

fn time(site: &Site, inside: &str) -> std::time::SystemTime {
    site.prefix(inside).metadata().expect("it is there").modified().expect("a time")
}

#[test]
fn a_record_that_was_deleted_is_linked_anew_and_nothing_else_is() {
    let site = Site::new();
    site.install();
    fs::remove_file(site.prefix("conda-meta/lib-1.1-0.json")).expect("it is there");
    let app = time(&site, "conda-meta/app-2.0-0.json");
    tick();
    assert_eq!(site.install().ran(), ["link_prefix"]);
    assert_eq!(time(&site, "conda-meta/app-2.0-0.json"), app);
    assert!(site.prefix("conda-meta/lib-1.1-0.json").is_file());
    let why = site.run(&["why", "install_pixi_environment"]);
    assert!(why.stdout.contains("lib is missing"), "{}", why.stdout);
    site.install().assert_nothing_ran();
}

/// Nobody else knows which files were its own, least of all when its package has left the cache, too.
#[test]
fn a_package_whose_record_was_taken_away_leaves_nothing_behind_though_it_is_not_wanted_any_more() {
    for lost in [None, Some("{")] {
        for with_its_package in [false, true] {
            let site = Site::new();
            site.needs("app = '*'\ntool = '*'");
            site.install();
            let record = site.prefix("conda-meta/tool-1.0-0.json");
            match lost {
                None => fs::remove_file(&record).expect("it is there"),
                Some(text) => fs::write(&record, text).expect("it can be written"),
            }
            if with_its_package {
                fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
            }
            site.needs("app = '*'");
            assert!(site.prefix("share/tool").exists());
            site.install();
            assert!(!site.prefix("share/tool").exists(), "{lost:?}, with its package: {with_its_package}");
            assert!(!record.exists());
            site.install().assert_nothing_ran();
        }
    }
}

/// What it had linked is known to its journal, and the next change, which is cut off, too, writes one of its own.
#[test]
fn what_a_change_that_was_cut_off_has_linked_is_not_forgotten() {
    let site = Site::new();
    site.needs("app = '*'\ntool = '*'");
    site.install();
    // As if the first change had been cut off when everything was linked.
    for name in ["doge", "doge-files", "pixi_env_prefix"] {
        fs::remove_file(site.prefix("conda-meta").join(name)).expect("it is there");
    }
    let journal = r#"{"version":1,"removes":[],"links":[
        {"name":"tool","record":"tool-1.0-0.json","paths":["share/tool"]}]}"#;
    fs::write(site.prefix("conda-meta/doge-journal"), journal).expect("it can be written");
    // A change of something else, which cannot come to its end.
    site.needs("app = '*'\ntool = '*'\nother = '*'");
    fs::create_dir_all(site.prefix("share").join("other/in the way")).expect("it can be made");
    let ran = site.run(&["install"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("could not be linked"), "{}", ran.stderr);
    fs::remove_dir_all(site.prefix("share/other")).expect("it is there");

    fs::remove_file(site.prefix("conda-meta/tool-1.0-0.json")).expect("it is there");
    fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
    site.needs("app = '*'");
    site.install();
    assert!(!site.prefix("share/tool").exists());
    site.install().assert_nothing_ran();
}

/// What says which files are to be removed lies where others can write.
#[test]
fn what_lies_outside_of_the_environment_is_not_touched() {
    let site = Site::new();
    site.install();
    let precious = site.path("precious.json");
    fs::write(&precious, "mine").expect("it can be written");
    std::os::unix::fs::symlink(site.path("."), site.prefix("").join("out")).expect("it can be linked");
    let outside = precious.to_str().expect("it is text").to_owned();
    for (record, path) in [
        (outside.as_str(), "share/x"),
        ("../../../../precious.json", "share/x"),
        ("gone-1.0-0.json", "../../../precious.json"),
        ("gone-1.0-0.json", "out/precious.json"),
        ("", "share/x"),
        ("gone-1.0-0.json", "a\\u0000b"),
    ] {
        let package = format!(r#"{{"name":"gone","record":"{record}","paths":["{path}"]}}"#);
        let journal = format!(r#"{{"version":1,"removes":[],"links":[{package}]}}"#);
        let files = format!(r#"{{"version":1,"packages":{{"{record}":{package}}}}}"#);
        fs::write(site.prefix("conda-meta").join("doge-journal"), journal).expect("it can be written");
        fs::write(site.prefix("conda-meta").join("doge-files"), files).expect("it can be written");
        site.install();
        assert_eq!(fs::read_to_string(&precious).expect("it is there"), "mine", "{record} {path}");
    }
    site.install().assert_nothing_ran();
}

#[test]
fn a_record_that_was_edited_is_linked_anew() {
    let site = Site::new();
    site.install();
    let path = site.prefix("conda-meta/lib-1.1-0.json");
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, text.replace("\"lib\"", "\"lib\" ")).expect("it can be written");
    let ran = site.install();
    assert_eq!(ran.executed()["link_prefix"], 1);
    site.install().assert_nothing_ran();
    fs::write(&path, "{").expect("it can be written");
    assert_eq!(site.install().executed()["link_prefix"], 1);
    site.install().assert_nothing_ran();
}

#[test]
fn a_prefix_that_was_deleted_or_emptied_is_made_again() {
    let site = Site::new();
    site.install();
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    site.install();
    assert!(site.prefix("bin/app").is_file());
    fs::remove_dir_all(site.prefix("conda-meta")).expect("it is there");
    site.install();
    assert!(site.prefix("conda-meta/app-2.0-0.json").is_file());
    site.install().assert_nothing_ran();
}

#[test]
fn a_package_that_somebody_else_installed_is_removed() {
    let site = Site::new();
    site.needs("app = '*'\ntool = '*'");
    site.install();
    let tool = fs::read(site.prefix("conda-meta/tool-1.0-0.json")).expect("it is there");
    site.needs("app = '*'");
    site.install();
    fs::write(site.prefix("share/tool"), "1.0\n").expect("it can be written");
    fs::write(site.prefix("conda-meta/tool-1.0-0.json"), tool).expect("it can be written");
    site.install();
    assert!(!site.prefix("share/tool").exists());
    assert!(!site.prefix("conda-meta/tool-1.0-0.json").exists());
}

#[test]
fn a_package_that_left_the_cache_is_fetched_again() {
    let site = Site::new();
    site.install();
    fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
    site.install().assert_nothing_ran();
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    let ran = site.install();
    assert_eq!(ran.executed()["link_prefix"], 1);
    assert_eq!(ran.executed()["fetch_package"], 2);
    assert!(site.prefix("bin/app").is_file());
}

#[test]
fn scripts_of_packages_run_only_if_that_is_asked_for() {
    let mut site = Site::new();
    let script = doge_queries::testing::PackageBuilder::new("scripted", "1.0")
        .file("share/scripted", "x")
        .post_link("#!/bin/sh\ntouch \"$PREFIX/was-here\"\n");
    site.channel.add(script).expect("it can be written");
    site.index();
    site.needs("scripted = '*'");
    site.install();
    assert!(!site.prefix("was-here").exists());
    fs::remove_dir_all(site.prefix("")).expect("it is there");
    let ran: Ran = site.json(&["install", "--link-scripts"]);
    assert_eq!(ran.executed()["link_prefix"], 1);
    assert!(site.prefix("was-here").exists());
}
