//! Solving environments with packages that are built.

use crate::sources::Sources;

#[test]
fn packages_that_need_each_other_to_be_built_are_a_cycle_that_names_them() {
    let sources = Sources::new();
    sources.package("b", "[package.host-dependencies]\na = { path = '../a' }\n", "");
    sources.run(&["install"]).assert_fails_with(&[
        "dependency cycle",
        "the host environment of `a`",
        "the host environment of `b`",
    ]);
}

#[test]
fn a_cycle_through_what_is_needed_to_run_says_so() {
    let sources = Sources::new();
    sources.package("b", "[package.run-dependencies]\na = { path = '../a' }\n", "");
    sources.run(&["install"]).assert_fails_with(&[
        "dependency cycle",
        "`b`, which needs `a` to run",
        "the host environment of `a`",
    ]);
}

#[test]
fn a_cycle_of_three_kinds_of_edges_names_each() {
    let sources = Sources::new();
    sources.package("a", "[package.build-dependencies]\nb = { path = '../b' }\n", "");
    sources.package("b", "[package.run-dependencies]\nc = { path = '../c' }\n", "");
    sources.package("c", "[package.host-dependencies]\na = { path = '../a' }\n", "");
    sources.run(&["install"]).assert_fails_with(&[
        "the build environment of `a`",
        "`b`, which needs `c` to run",
        "the host environment of `c`",
    ]);
}

#[test]
fn packages_that_need_each_other_only_to_run_are_no_cycle() {
    let sources = Sources::new();
    sources.package("a", "[package.run-dependencies]\nb = { path = '../b' }\n", "");
    sources.package("b", "[package.run-dependencies]\na = { path = '../a' }\n", "");
    sources.install();
    assert!(sources.site.prefix("share/b/data.txt").is_file());
    sources.assert_settled();
}

#[test]
fn an_environment_of_a_build_that_cannot_be_solved_names_the_package() {
    let sources = Sources::new();
    sources.package("b", "[package.host-dependencies]\nnothing-like-it = '*'\n", "");
    sources.run(&["install"]).assert_fails_with(&["nothing-like-it", "the host environment of `b`"]);
}

#[test]
fn a_pin_takes_the_version_that_is_built_against() {
    let sources = Sources::new();
    sources.package(
        "a",
        "[package.host-dependencies]\nb = { path = '../b' }\n[package.run-dependencies]\nb = { pin-compatible = { lower-bound = 'x.x', upper-bound = 'x' } }\n",
        "",
    );
    sources.install();
    assert!(sources.site.lock_file().contains("b >=1.0,<2.0a0"), "{}", sources.site.lock_file());
    assert!(sources.site.prefix("share/b/data.txt").is_file(), "what was built against is built to run, too");
    sources.assert_settled();
}

#[test]
fn a_run_export_of_what_is_built_against_becomes_a_dependency() {
    let sources = Sources::new();
    sources.package("b", "[package.run-exports.weak]\nlib = '>=1.0'\n", "");
    sources.install();
    assert!(sources.site.lock_file().contains("- lib >=1.0"), "{}", sources.site.lock_file());
    assert!(sources.site.prefix("share/lib").is_file());
    sources.assert_settled();
}

#[test]
fn what_is_locked_stays_when_something_newer_appears() {
    let sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nlib = '*'\n", "");
    sources.site.needs("a = { path = 'a' }");
    sources.install();
    let before = sources.site.lock_file();
    assert!(before.contains("lib-1.1"), "{before}");
    let mut site = sources;
    let package = doge_queries::testing::PackageBuilder::new("lib", "3.0").file("share/lib", "3.0\n");
    site.site.channel.add(package).expect("it can be written");
    site.site.index();
    site.assert_settled();
    site.site.write("a/content/bin/a", "#!/bin/sh\necho changed\n");
    site.assert_builds(1);
    assert_eq!(site.site.lock_file(), before);
    let ran = site.json(&["install", "--update"]);
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    assert!(site.site.lock_file().contains("lib-3.0"));
}

#[test]
fn what_is_built_against_is_chosen_anew_by_name() {
    let mut sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nlib = '*'\napp = '*'\n", "");
    sources.site.needs("a = { path = 'a' }");
    sources.install();
    for name in ["lib", "app"] {
        let package = doge_queries::testing::PackageBuilder::new(name, "3.0").file(format!("share/{name}"), "3.0\n");
        sources.site.channel.add(package).expect("it can be written");
    }
    sources.site.index();
    let ran = sources.json(&["solve"]);
    assert_eq!(ran.executed().get("write_lock_file"), None, "what is locked will do: {:?}", ran.executed());
    let ran = sources.json(&["install", "--update=app"]);
    assert_eq!(ran.executed()["backend_build"], 1, "{:?}", ran.executed());
    let lock = sources.site.lock_file();
    assert!(lock.contains("app-3.0") && lock.contains("lib-1.1"), "{lock}");
    sources.assert_builds(0);
    sources.assert_settled();
    sources.json(&["solve", "--update=lib"]);
    let lock = sources.site.lock_file();
    assert!(lock.contains("app-3.0") && lock.contains("lib-3.0"), "{lock}");
    sources.assert_builds(1);
    sources.assert_settled();
}

#[test]
fn locked_and_frozen_hold_for_what_is_built() {
    let sources = Sources::new();
    sources.run(&["install", "--locked"]).assert_fails_with(&["there is no lock file"]);
    sources.install();
    let ran = sources.json(&["install", "--locked"]);
    assert_eq!(ran.executed().get("backend_build"), None, "{:?}", ran.executed());
    sources.json(&["install", "--frozen"]);
    sources.package(
        "a",
        "[package.host-dependencies]\nb = { path = '../b' }\n[package.run-dependencies]\nlib = '*'\n",
        "",
    );
    sources.run(&["install", "--locked"]).assert_fails_with(&["is not up to date", "a"]);
    let before = sources.site.lock_file();
    sources.json(&["install", "--frozen"]);
    assert_eq!(sources.site.lock_file(), before);
    sources.install();
    assert!(sources.site.lock_file().contains("lib"));
    sources.assert_settled();
}

#[test]
fn variants_are_told_apart() {
    let sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nlib = '*'\n", "");
    sources.site.manifest("[workspace.build-variants]\nlib = ['1.0', '1.1']", "[dependencies]\na = { path = 'a' }\n");
    sources.install();
    sources.assert_settled();
    let shown = sources.json(&["metadata", "a"]).value();
    let variants: Vec<&str> = shown.as_array().expect("a list").iter().filter_map(|p| p["variant"].as_str()).collect();
    assert_eq!(variants, ["lib=1.0", "lib=1.1"]);
}

#[test]
fn what_it_takes_to_work_on_a_package_is_installed_without_the_package() {
    let sources = Sources::new();
    sources.package("a", "[package.host-dependencies]\nb = { path = '../b' }\nlib = '*'\n", "");
    sources.site.manifest("", "[dev]\na = { path = 'a' }\n");
    sources.install();
    assert!(sources.site.prefix("share/b/data.txt").is_file());
    assert!(sources.site.prefix("share/lib").is_file());
    assert!(!sources.site.prefix("bin/a").exists());
    sources.assert_settled();
}

#[test]
fn packages_of_a_group_agree_on_what_is_built() {
    let sources = Sources::new();
    sources.site.manifest(
        "",
        "[feature.one.dependencies]\na = { path = 'a' }\n[feature.two.dependencies]\nb = { path = 'b' }\n\
         [environments]\none = { features = ['one'], solve-group = 'g' }\ntwo = { features = ['two'], solve-group = 'g' }\n",
    );
    sources.json(&["install", "-e", "one", "-e", "two"]);
    assert!(sources.site.path(".pixi/envs/one/bin/a").is_file());
    assert!(sources.site.path(".pixi/envs/two/share/b/data.txt").is_file());
    sources.json(&["install", "-e", "one", "-e", "two"]).assert_nothing_ran();
}
