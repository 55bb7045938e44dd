//! Solving environments with packages that are built.

use crate::site::PLATFORM;
use crate::sources::{Sources, git, other_workspace};

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
fn what_is_locked_to_build_with_is_refused_by_locked_and_taken_by_frozen_if_the_package_wants_something_else() {
    let sources = Sources::new();
    sources.install();
    let before = sources.site.lock_file();
    let host = |text: &str| sources.package("a", &format!("[package.host-dependencies]\n{text}\n"), "");
    let b = "b = { path = '../b' }";
    for (wanted, reason) in [
        (format!("{b}\nlib = '*'"), "the host environment of `a`: no locked package is `lib`"),
        // What cannot be solved at all is not tried.
        (
            "b = { path = '../b', version = '7.*' }".to_owned(),
            "the host environment of `a`: no locked package is `b 7.*`",
        ),
        (String::new(), "the host environment of `a`: nothing needs the locked packages b"),
        (
            format!("{b}\n[package.build-dependencies]\nlib = '*'"),
            "the build environment of `a`: no locked package is `lib`",
        ),
        (format!("{b}\n[package.run-dependencies]\nlib = '*'"), "`a` is locked, but its metadata is not what it was"),
    ] {
        host(&wanted);
        sources.run(&["install", "--locked"]).assert_fails_with(&["is not up to date with the manifest", reason]);
        for again in 0..2 {
            let ran = sources.json(&["install", "--frozen"]);
            assert!(ran.stderr.contains(reason), "{again} {reason}: {}", ran.stderr);
            assert!(ran.value()["warnings"].to_string().contains(reason), "{}", ran.stdout);
            for kind in ["solve_conda_environment", "solve_unit", "channel_index"] {
                assert_eq!(ran.executed().get(kind), None, "{reason}: {:?}", ran.executed());
            }
            let inputs = sources.site.read(".pixi/envs/default/share/a/inputs.txt");
            assert!(inputs.contains("host b 1.0") && !inputs.contains("lib"), "{reason}: {inputs}");
        }
        assert_eq!(sources.site.lock_file(), before);
        assert!(sources.json(&["solve", "--frozen"]).stderr.contains(reason));
    }
    host(b);
    let ran = sources.json(&["install", "--frozen"]);
    assert_eq!(ran.value()["warnings"].as_array().map(Vec::len), Some(0), "{}", ran.stdout);
    sources.json(&["install", "--locked"]);
}

#[test]
fn what_cannot_be_built_as_it_is_locked_is_told_by_frozen() {
    let sources = Sources::new();
    sources.install();
    let host = "[package.host-dependencies]\nb = { path = '../b' }\nlib = '*'\n";
    let pin = "[package.run-dependencies]\nlib = { pin-compatible = { lower-bound = 'x.x', upper-bound = 'x' } }\n";
    sources.package("a", &format!("{host}{pin}"), "");
    let reason = "the host environment of `a`: no locked package is `lib`";
    sources
        .run(&["install", "--frozen"])
        .assert_fails_with(&["`a` cannot be built as it is locked in `pixi.lock`", reason]);
    sources.run(&["install", "--locked"]).assert_fails_with(&["is not up to date", reason]);
    sources.install();
    sources.json(&["install", "--locked"]);
}

#[test]
fn what_cannot_be_meant_in_a_lock_file_is_told_with_where_it_stands() {
    let sources = Sources::new();
    sources.site.needs("a = { path = 'a' }\nlib = '*'");
    sources.install();
    let lock = sources.site.lock_file();
    for mode in ["--locked", "--frozen"] {
        sources.site.write("pixi.lock", &lock.replace("@ a\n", "@ nowhere\n"));
        let ran = sources.run(&["install", mode]);
        ran.assert_fails_with(&["there is no source at nowhere", "`a`, which `pixi.lock` has from nowhere"]);
    }
    // One name, from a channel and from source, and twice from source where it is built.
    let entry =
        |text: &str| lock.lines().find(|line| line.trim().starts_with(text)).expect("it is there").trim().to_owned();
    let (b, lib) = (entry("- conda_source: b["), entry("- conda: ./channel/noarch/lib"));
    let other = b.replace("@ b", "@ c");
    sources.package("c", "", "");
    let manifest = sources.site.read("c/pixi.toml").replace("name = 'c'", "name = 'b'");
    sources.site.write("c/pixi.toml", &manifest);
    let twice = |indent: &str, line: &str| {
        lock.replacen(&format!("{indent}{line}\n"), &format!("{indent}{line}\n{indent}{other}\n"), 1)
            + &format!("{other}\n")
    };
    sources.site.write("pixi.lock", &twice("  ", &b));
    sources.run(&["install", "--frozen"]).assert_fails_with(&[
        "`a` cannot be built as it is locked",
        "the host environment of `a`",
        "`b`",
    ]);
    let both = twice("      ", &lib).replacen(&other, &format!("{other}\n      {b}"), 1);
    sources.site.write("pixi.lock", &both);
    sources
        .run(&["install", "--frozen"])
        .assert_fails_with(&["`pixi.lock` has two packages `b` for environment `default`"]);
    for text in [twice("  ", &b), both] {
        sources.site.write("pixi.lock", &text);
        sources.run(&["install", "--locked"]).assert_fails_with(&["is not up to date with the manifest"]);
    }
}

#[test]
fn frozen_installs_what_is_locked_of_sources_though_the_manifest_has_none() {
    let sources = Sources::new();
    sources.install();
    std::fs::remove_dir_all(sources.site.path(".pixi/envs")).expect("it is there");
    sources.site.needs("app = '*'");
    sources.json(&["install", "--frozen"]);
    assert!(sources.site.prefix("bin/a").is_file());
    assert!(!sources.site.prefix("bin/app").exists());
}

#[test]
fn frozen_asks_no_backend_for_what_is_not_installed() {
    let sources = Sources::new();
    let other = if PLATFORM == "osx-64" { "linux-64" } else { "osx-64" };
    let text =
        sources.site.read("pixi.toml").replace(&format!("['{PLATFORM}']"), &format!("['{PLATFORM}', '{other}']"));
    sources.site.write("pixi.toml", &text);
    sources.install();
    std::fs::remove_dir_all(sources.site.cache()).expect("it is there");
    let ran = sources.json(&["install", "--frozen"]);
    assert_eq!(ran.executed()["call_outputs"], 2, "{:?}", ran.executed());
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

/// A package `foo` in a directory of another name.
fn foo(sources: &Sources, directory: &str, tables: &str) {
    let text = format!(
        "[package]\nname = 'foo'\nversion = '1.0'\n{tables}\n\
         [package.build]\nbackend = {{ name = 'doge-test-backend', version = '*' }}\n"
    );
    sources.site.write(&format!("{directory}/pixi.toml"), &text);
}

/// `a` and `b` both run with a package `foo`, each with one of its own.
fn two_foos() -> Sources {
    let sources = Sources::new();
    foo(&sources, "x", "");
    foo(&sources, "y", "");
    sources.package("a", "[package.run-dependencies]\nfoo = { path = '../x' }\n", "");
    sources.package("b", "[package.run-dependencies]\nfoo = { path = '../y' }\n", "");
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }");
    sources
}

#[test]
fn a_package_from_two_places_is_an_error_that_names_both_and_who_asks() {
    let sources = two_foos();
    let parts = [
        "would have `foo` from two places: x, for `a` of a; and y, for `b` of b",
        "give one of the packages another name",
    ];
    sources.run(&["install"]).assert_fails_with(&parts);
    assert!(!sources.site.path("pixi.lock").exists());
    // Whatever versions they ask for, it is the places that are told.
    sources.package("a", "[package.run-dependencies]\nfoo = { path = '../x', version = '1.*' }\n", "");
    sources.package("b", "[package.run-dependencies]\nfoo = { path = '../y', version = '2.*' }\n", "");
    sources.run(&["install"]).assert_fails_with(&parts);
    sources.site.needs("a = { path = 'a' }\nfoo = { path = 'y' }");
    sources.run(&["install"]).assert_fails_with(&["y, for default@", "and x, for `a` of a"]);
    sources.package("b", "[package.run-dependencies]\nfoo = { path = '../x' }\n", "");
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }");
    sources.install();
    sources.assert_settled();
}

#[test]
fn an_extra_that_is_asked_for_counts_as_well() {
    let sources = two_foos();
    sources.package("a", "[package.extra-dependencies.test]\nfoo = { path = '../x' }\n", "");
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }");
    sources.install();
    let without = sources.site.lock_file();
    assert!(without.contains("] @ y\n") && !without.contains("] @ x\n"), "{without}");
    let both = ["would have `foo` from two places: x, for `a` of a; and y, for `b` of b"];
    sources.site.needs("a = { path = 'a', extras = ['test'] }\nb = { path = 'b' }");
    sources.run(&["install", "--locked"]).assert_fails_with(&["`foo` is wanted from source at x by `a`"]);
    sources.run(&["install"]).assert_fails_with(&both);
    // Another package may ask for it, too.
    sources.package("c", "[package.run-dependencies]\na = { path = '../a', extras = ['test'] }\n", "");
    sources.site.needs("b = { path = 'b' }\nc = { path = 'c' }");
    sources.run(&["install"]).assert_fails_with(&both);
    sources.package("b", "[package.run-dependencies]\nfoo = { path = '../x' }\n", "");
    sources.install();
    sources.assert_settled();
}

#[test]
fn what_is_built_against_comes_from_one_place_too() {
    let sources = two_foos();
    sources.package(
        "a",
        "[package.host-dependencies]\nfoo = { path = '../x' }\nb = { path = '../b' }\n[package.run-dependencies]\n",
        "",
    );
    sources.site.needs("a = { path = 'a' }");
    sources.run(&["install"]).assert_fails_with(&[
        "the host environment of `a` would have `foo` from two places: x, for the host environment of `a`; and y, for `b`",
    ]);
    // What runs is another environment than what is built against.
    sources.package("a", "[package.host-dependencies]\nfoo = { path = '../x' }\n", "");
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }");
    sources.install();
    sources.assert_settled();
}

#[test]
fn features_that_take_a_package_from_two_places_are_an_error_only_in_one_environment() {
    let sources = two_foos();
    let features =
        "[feature.one.dependencies]\nfoo = { path = 'x' }\n[feature.two.dependencies]\nfoo = { path = 'y' }\n";
    sources.site.manifest("", &format!("{features}[environments]\ndefault = ['one', 'two']\n"));
    let both = ["would have `foo` from two places: x and y", "by feature `one`", "by feature `two`"];
    sources.run(&["install"]).assert_fails_with(&[&["environment `default`"], &both[..]].concat());
    // Others are none the worse for it.
    sources.site.manifest("", &format!("{features}[environments]\ndefault = ['one', 'two']\nother = ['one']\n"));
    let ran = sources.json(&["solve"]);
    let parts = ["environment `default` is left out", "would have `foo` from two places: x and y"];
    assert!(parts.iter().all(|part| ran.stderr.contains(part)), "{}", ran.stderr);
    assert_eq!(ran.value()["warnings"].as_array().map(Vec::len), Some(1), "{}", ran.stdout);
    assert!(!sources.json(&["solve", "-e", "other"]).stderr.contains("left out"));
    sources.json(&["install", "-e", "other"]);
    let group = "one = { features = ['one'], solve-group = 'g' }\ntwo = { features = ['two'], solve-group = 'g' }\n";
    sources.site.manifest("", &format!("{features}[environments]\n{group}"));
    for command in ["install", "solve"] {
        sources.run(&[command, "-e", "one"]).assert_fails_with(&[&["solve group `g`"], &both[..]].concat());
    }
    sources.site.manifest("", &format!("{features}[environments]\none = ['one']\ntwo = ['two']\n"));
    sources.json(&["install", "-e", "one", "-e", "two"]);
    sources.json(&["install", "-e", "one", "-e", "two"]).assert_nothing_ran();
}

#[test]
fn a_lock_file_with_a_package_from_another_place_than_it_is_needed_from_is_not_up_to_date() {
    let sources = two_foos();
    sources.package("b", "", "");
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }\n");
    sources.install();
    let lock = sources.site.lock_file();
    sources.site.write("pixi.lock", &lock.replace("@ x\n", "@ y\n"));
    sources.site.needs("a = { path = 'a' }\nb = { path = 'b' }\nfoo = { path = 'y' }");
    sources.run(&["install", "--locked"]).assert_fails_with(&["`foo` is wanted from source at x by `a`"]);
}

#[test]
fn a_directory_that_is_named_from_the_root_and_from_the_workspace_is_one_place() {
    let sources = two_foos();
    let root = sources.site.path("x").display().to_string();
    for named in [root.as_str(), "../x/pixi.toml"] {
        sources.package("a", &format!("[package.run-dependencies]\nfoo = {{ path = '{named}' }}\n"), "");
        sources.package("b", "[package.run-dependencies]\nfoo = { path = '../x' }\n", "");
        for needs in ["a = { path = 'a' }\nb = { path = 'b' }", "a = { path = 'a' }\nfoo = { path = 'x' }"] {
            sources.site.needs(needs);
            sources.install();
            sources.assert_settled();
        }
    }
}

#[test]
fn one_commit_that_is_asked_for_in_two_ways_is_one_place() {
    let sources = Sources::new();
    let repository = sources.site.root().join("repository");
    let package = |name: &str, tables: &str| {
        let text = format!(
            "[package]\nname = '{name}'\nversion = '1.0'\n{tables}\n\
             [package.build]\nbackend = {{ name = 'doge-test-backend', version = '*' }}\n"
        );
        std::fs::create_dir_all(repository.join(name)).expect("it can be made");
        std::fs::write(repository.join(name).join("pixi.toml"), text).expect("it can be written");
    };
    package("one", "[package.run-dependencies]\ntwo = { path = '../two' }\n");
    package("two", "");
    std::fs::write(repository.join("pixi.toml"), other_workspace()).expect("it can be written");
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "first"]);
    let url = format!("git = 'file://{}'", repository.display());
    let needs =
        format!("one = {{ {url}, subdirectory = 'one' }}\ntwo = {{ {url}, branch = 'main', subdirectory = 'two' }}\n");
    sources.site.needs(&needs);
    sources.install();
    sources.assert_settled();
}
