//! The commands that tell what was done and what is kept.

use crate::site::Site;

#[test]
fn the_graph_of_the_last_run_that_did_something_names_everything_that_ran() {
    let site = Site::new();
    site.install();
    site.install();
    let graph = site.json(&["graph"]).value();
    let nodes = graph["nodes"].as_array().expect("a list");
    let ran = |node: &&serde_json::Value| node["outcome"] == "executed" || node["outcome"] == "cut_off";
    let kinds: std::collections::BTreeSet<&str> =
        nodes.iter().filter(ran).filter_map(|node| node["kind"].as_str()).collect();
    for kind in ["solve_conda_environment", "fetch_package", "link_prefix", "write_lock_file", "lock_workspace"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
    let dot = site.run(&["graph"]);
    assert!(dot.stdout.starts_with("digraph doge {"), "{}", dot.stdout);
    assert!(dot.stdout.contains("solve default@"), "{}", dot.stdout);
    assert!(dot.stderr.contains("1 later run did nothing"), "{}", dot.stderr);
    let id = graph["run"].as_str().expect("an id");
    assert_eq!(site.run(&["graph", "--run", id]).stdout, dot.stdout);
}

#[test]
fn runs_are_listed_the_newest_first_and_by_workspace() {
    let site = Site::new();
    site.install();
    site.json(&["solve"]);
    site.install();
    let runs = site.json(&["runs"]).value();
    let titles: Vec<&str> = runs.as_array().expect("a list").iter().filter_map(|run| run["title"].as_str()).collect();
    assert_eq!(titles, ["install --json", "solve --json", "install --json"]);
    assert_eq!(runs[0]["executed"], serde_json::json!({}));
    let elsewhere = site.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).expect("it can be made");
    std::fs::copy(site.path("pixi.toml"), elsewhere.join("pixi.toml")).expect("it can be copied");
    let listed = site.command(&["runs", "--json"]).current_dir(&elsewhere).output().expect("it can be started");
    assert_eq!(listed.stdout, b"[]\n");
    let listed = site.command(&["runs", "--json", "--all"]).current_dir(&elsewhere).output().expect("it starts");
    let all: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(all.as_array().expect("a list").len(), 3);
}

#[test]
fn why_means_the_newest_run_that_ran_it_and_tells_how_long_it_has_held() {
    let site = Site::new();
    site.install();
    site.install();
    let why = site.json(&["why", "solve"]).value();
    assert_eq!(why["held_since"], 1);
    assert_eq!(why["steps"][0]["kind"], "solve_conda_environment");
    let why = site.run(&["why", "package lib"]);
    assert!(why.stdout.contains("fetch_package"), "{}", why.stdout);
}

#[test]
fn the_caches_are_shown_and_only_results_are_cleared_unless_more_is_asked_for() {
    let site = Site::new();
    site.install();
    let dirs = site.json(&["cache", "dir"]).value();
    assert_eq!(dirs["packages"], site.cache().join("pkgs").to_str().expect("text"));
    let info = site.json(&["cache", "info"]).value();
    assert!(info["packages"]["files"].as_u64().expect("a number") > 2, "{info}");
    let traces = info["store"]["tables"].as_array().expect("a list").iter().find(|table| table["name"] == "traces");
    assert!(traces.expect("there is one")["entries"].as_u64().expect("a number") > 5, "{info}");
    site.json(&["cache", "clear"]);
    assert!(site.cache().join("pkgs/app-2.0-0/bin/app").is_file());
    let again = site.install();
    assert!(again.executed().contains_key("check_lock"), "{:?}", again.ran());
    assert!(!again.executed().contains_key("link_prefix"), "{:?}", again.ran());
    site.json(&["cache", "clear", "--packages", "--repodata"]);
    assert!(!site.cache().join("pkgs").exists());
    site.install().assert_nothing_ran();
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_2() {
    let site = Site::new();
    assert_eq!(site.run(&["install", "--locked", "--frozen"]).code, 2);
    assert_eq!(site.run(&["bark"]).code, 2);
}
