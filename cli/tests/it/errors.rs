//! Errors say what, where and what to do; nothing is changed.

use crate::site::{Server, Site};

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    let site = Site::new();
    let before = site.files();
    site.run(&["install", "-e", "nope"]).assert_fails_with(&["`nope`", "default"]);
    site.run(&["install", "--platform", "win-64"]).assert_fails_with(&["win-64", "is for"]);
    site.run(&["solve", "--platform", "win-64"]).assert_fails_with(&["win-64"]);
    site.run(&["graph"]).assert_fails_with(&["no run of this workspace", "doge install"]);
    site.run(&["why", "solve"]).assert_fails_with(&["no run of this workspace is on record", "doge install"]);
    site.run(&["install", "--manifest-path", "nowhere/pixi.toml"]).assert_fails_with(&["nowhere"]);
    assert!(site.files() == before);
    site.install();
    site.run(&["solve", "--update=nope"]).assert_fails_with(&["no environment of the workspace has a package `nope`"]);
    site.run(&["why", "nope"]).assert_fails_with(&["`nope`", "solve_conda_environment"]);
    site.run(&["graph", "--run", "nope"]).assert_fails_with(&["`nope` is not the id of a run", "doge runs"]);
}

#[test]
fn what_cannot_be_solved_names_what_stands_in_the_way() {
    let site = Site::new();
    site.needs("app = '2.*'\nlib = '1.0'");
    let before = site.files();
    let failed = site.run(&["install", "--json"]);
    failed.assert_fails_with(&["default", "app", "lib >=1.1"]);
    let value = failed.value();
    assert_eq!(value["ok"], false);
    assert!(value["error"]["message"].as_str().expect("a message").contains("lib"), "{value}");
    assert!(value["error"]["help"].as_str().expect("advice").contains("relax"), "{value}");
    assert!(value["failed"].as_u64().expect("a number") > 0);
    let after = site.files();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert_eq!(new, [&site.path(".pixi/.gitignore")]);
}

#[test]
fn a_manifest_is_shown_with_the_place_that_is_wrong() {
    let site = Site::new();
    site.needs("app = 7");
    site.run(&["install"]).assert_fails_with(&["pixi.toml", "app = 7"]);
    site.write("pixi.toml", "[workspace\n");
    let value = site.run(&["install", "--json"]).value();
    assert_eq!(value["ok"], false);
    assert!(value["error"]["message"].as_str().expect("a message").contains("not valid TOML"), "{value}");
    site.run(&["solve"]).assert_fails_with(&["not valid TOML", "pixi.toml"]);
}

#[test]
fn what_is_not_done_is_said() {
    let site = Site::new();
    site.manifest("", "[dependencies]\nlib = '*'\n[pypi-dependencies]\nrequests = '*'\n");
    let ran = site.install();
    assert!(ran.stderr.contains("packages of the Python index are not installed (requests)"), "{}", ran.stderr);
    assert_eq!(ran.value()["warnings"].as_array().expect("a list").len(), 1);
}

#[test]
fn a_lock_file_that_cannot_be_understood_is_left_alone() {
    let site = Site::new();
    for (text, said) in [
        ("version: 99\n", "version"),
        ("<<<<<<< ours\nversion: 6\n=======\nversion: 7\n>>>>>>> theirs\n", "conflict"),
        ("not: [a lock file\n", "pixi.lock"),
    ] {
        site.write("pixi.lock", text);
        site.run(&["install"]).assert_fails_with(&[said]);
        assert_eq!(site.lock_file(), text);
    }
}

#[test]
fn a_channel_that_is_not_there_is_named() {
    let site = Site::new();
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", "./elsewhere"));
    site.run(&["install"]).assert_fails_with(&["there is no channel at ./elsewhere", "check the address"]);
    let server = Server::start(&site.path("channel"));
    let url = server.url().to_string();
    drop(server);
    site.write("pixi.toml", &site.read("pixi.toml").replace("./elsewhere", &url));
    site.run(&["install"]).assert_fails_with(&["could not be fetched", "check the address"]);
}

#[test]
fn a_channel_that_is_malformed_is_named() {
    let site = Site::new();
    site.write("channel/noarch/repodata.json", "{\"packages\": [");
    site.run(&["install"]).assert_fails_with(&["malformed", "noarch"]);
}
