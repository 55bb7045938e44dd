//! The lock file.

use doge_queries::testing::PackageBuilder;

use crate::site::{Site, locked};

#[test]
fn locked_takes_a_lock_file_that_is_up_to_date_and_refuses_another() {
    let site = Site::new();
    site.run(&["install", "--locked"]).assert_fails_with(&["there is no lock file `pixi.lock`"]);
    site.install();
    let locked = site.json(&["install", "--locked"]);
    assert!(!locked.executed().contains_key("link_prefix"), "{:?}", locked.ran());
    site.needs("app = '*'\ntool = '*'");
    let before = site.files();
    for command in ["install", "solve"] {
        let refused = site.run(&[command, "--locked"]);
        refused.assert_fails_with(&["not up to date with the manifest", "tool", "run without `--locked`"]);
    }
    assert!(site.files() == before);
}

#[test]
fn frozen_takes_a_lock_file_as_it_is() {
    let site = Site::new();
    site.run(&["install", "--frozen"]).assert_fails_with(&["there is no lock file `pixi.lock`"]);
    site.install();
    let before = site.lock_file();
    site.needs("app = '1.*'\ntool = '*'");
    std::fs::remove_dir_all(site.prefix("")).expect("it is there");
    let frozen = site.json(&["install", "--frozen"]);
    assert!(!frozen.executed().contains_key("solve_conda_environment"), "{:?}", frozen.ran());
    assert!(site.prefix("conda-meta/app-2.0-0.json").is_file());
    assert_eq!(site.lock_file(), before);
}

#[test]
fn what_is_locked_stays_when_something_newer_appears_until_it_is_updated() {
    let mut site = Site::new();
    site.install();
    for version in ["1.2", "1.3"] {
        site.channel.add(PackageBuilder::new("lib", version).file("share/lib", version)).expect("it can be written");
    }
    site.channel.add(PackageBuilder::new("app", "3.0").depends(["lib"])).expect("it can be written");
    site.index();
    site.install().assert_nothing_ran();
    let kept = site.json(&["solve"]);
    assert!(!kept.executed().contains_key("solve_conda_environment"), "{:?}", kept.ran());
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
    site.json(&["solve", "--update=lib"]);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.3"]);
    site.json(&["install", "--update"]);
    assert_eq!(locked(&site.lock_file()), ["app-3.0", "lib-1.3"]);
    assert!(site.prefix("conda-meta/app-3.0-0.json").is_file());
}

#[test]
fn what_is_locked_and_gone_from_the_channel_is_solved_again() {
    let mut site = Site::new();
    site.install();
    site.channel.remove("noarch", "lib-1.1-0.conda");
    site.channel.add(PackageBuilder::new("lib", "1.2")).expect("it can be written");
    site.index();
    site.install().assert_nothing_ran();
    let solved = site.json(&["solve"]);
    assert_eq!(solved.executed()["solve_conda_environment"], 1);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.2"]);
}

#[test]
fn packages_of_a_channel_inside_the_workspace_are_written_relative() {
    let site = Site::new();
    site.install();
    let text = site.lock_file();
    assert!(text.contains("- conda: ./channel/noarch/app-2.0-0.conda"), "{text}");
    assert!(!text.contains(site.path("").to_str().expect("text")), "{text}");
    assert!(text.starts_with("version: 7\n"), "{text}");
}

#[test]
fn a_failed_solve_leaves_the_lock_file_alone() {
    let site = Site::new();
    site.install();
    let before = site.files();
    site.needs("app = '*'\nlib = '<1'");
    site.run(&["install"]).assert_fails_with(&["default", "lib"]);
    let after = site.files();
    assert_eq!(site.lock_file().as_bytes(), before[&site.path("pixi.lock")].0);
    assert!(after[&site.prefix("conda-meta/app-2.0-0.json")] == before[&site.prefix("conda-meta/app-2.0-0.json")]);
}

#[test]
fn what_is_too_new_is_not_taken() {
    let site = Site::new();
    site.manifest("exclude-newer = '2021-01-01'", "[dependencies]\napp = '*'");
    site.install();
    assert_eq!(locked(&site.lock_file()), ["app-1.0", "lib-1.0"]);
    site.install().assert_nothing_ran();
    site.manifest("exclude-newer = '1d'", "[dependencies]\napp = '*'");
    site.install();
    site.json(&["solve", "--update"]);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
    site.install();
    site.install().assert_nothing_ran();
    let solved = site.json(&["solve", "--update"]);
    assert!(!solved.executed().contains_key("solve_conda_environment"), "time alone is no reason: {:?}", solved.ran());
}

#[test]
fn the_strategy_decides_which_version_is_taken() {
    let site = Site::new();
    site.manifest("solve-strategy = 'lowest'", "[dependencies]\napp = '*'");
    site.install();
    assert_eq!(locked(&site.lock_file()), ["app-1.0", "lib-1.0"]);
}

#[test]
fn only_what_is_named_is_solved() {
    let site = Site::new();
    site.manifest(
        "",
        "[dependencies]\nlib = '*'\n[feature.t.dependencies]\ntool = '*'\n[environments]\nt = { features = ['t'], no-default-feature = true }",
    );
    let solved = site.json(&["solve", "-e", "t"]);
    assert_eq!(solved.executed()["solve_conda_environment"], 1);
    assert_eq!(locked(&site.lock_file()), ["tool-1.0"]);
    assert_eq!(site.json(&["solve"]).executed()["solve_conda_environment"], 1);
    assert_eq!(locked(&site.lock_file()), ["lib-1.1", "tool-1.0"]);
    let again = site.json(&["solve"]);
    assert!(!again.executed().contains_key("write_lock_file"), "{:?}", again.ran());
}

#[test]
fn an_environment_that_left_the_manifest_leaves_the_lock_file_when_it_is_solved() {
    let site = Site::new();
    site.manifest("", "[dependencies]\nlib = '*'\n[feature.t.dependencies]\ntool = '*'\n[environments]\nt = ['t']");
    site.install();
    site.needs("lib = '*'");
    let before = site.lock_file();
    site.install();
    assert_eq!(site.lock_file(), before, "what is there more than is needed does no harm");
    site.json(&["solve"]);
    assert_eq!(locked(&site.lock_file()), ["lib-1.1"]);
}
