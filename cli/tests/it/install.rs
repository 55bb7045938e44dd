//! `doge install`.

use doge_queries::testing::PackageBuilder;

use crate::site::{PLATFORM, Site, locked, tick};

#[test]
fn the_first_run_does_everything_once_and_the_second_does_nothing() {
    let site = Site::new();
    let first = site.install();
    assert_eq!(
        first.ran(),
        [
            "channel_index*2",
            "check_lock",
            "fetch_package*2",
            "install_pixi_environment",
            "install_workspace_environment",
            "link_prefix",
            "lock_workspace",
            "read_manifest",
            "record_closure",
            "solve_conda_environment",
            "solve_unit",
            "write_lock_file",
        ]
    );
    let output = std::process::Command::new(site.prefix("bin/app")).output().expect("it can be started");
    assert_eq!(output.stdout, b"app 2.0\n");
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1"]);
    let before = site.files();
    let second = site.install();
    second.assert_nothing_ran();
    assert_eq!(second.value()["observed"], 4);
    assert!(site.files() == before, "nothing is written");
}

#[test]
fn runs_that_do_nothing_pile_nothing_up_beside_the_store() {
    let site = Site::new();
    site.install();
    for _ in 0..5 {
        site.install().assert_nothing_ran();
    }
    // Stamps that have come to be believed are put there once.
    let pending = std::fs::read_dir(site.cache().join("doge/store-v3/pending")).map_or(0, Iterator::count);
    assert!(pending <= 1, "{pending} batches wait");
}

#[test]
fn what_is_locked_and_installed_needs_neither_channel_nor_results() {
    let site = Site::new();
    site.install();
    std::fs::remove_dir_all(site.cache()).expect("it is there");
    std::fs::rename(site.path("channel"), site.path("gone")).expect("it can be moved");
    assert_eq!(
        site.install().ran(),
        ["check_lock", "install_pixi_environment", "install_workspace_environment", "lock_workspace", "read_manifest"]
    );
}

#[test]
fn an_edit_that_is_taken_back_is_not_solved_again() {
    let site = Site::new();
    // Without a lock file of its own, each manifest would be solved to something else.
    site.needs("app = '1.*'");
    site.install();
    let before = site.lock_file();
    site.needs("app = '2.*'\ntool = '*'");
    let edited = site.install();
    assert_eq!(edited.executed()["solve_conda_environment"], 1);
    assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1", "tool-1.0"]);
    site.needs("app = '1.*'");
    let back = site.install();
    assert!(!back.executed().contains_key("solve_conda_environment"), "{:?}", back.ran());
    assert_eq!(site.lock_file(), before);
    assert!(!site.prefix("share/tool").exists());
    site.install().assert_nothing_ran();
}

#[test]
fn a_manifest_that_asks_for_less_keeps_what_is_locked() {
    let site = Site::new();
    site.needs("app = '1.*'\nlib = '1.0'\ntool = '*'");
    site.install();
    site.needs("app = '1.*'\ntool = '*'");
    let less = site.install();
    assert!(!less.executed().contains_key("solve_conda_environment"), "{:?}", less.ran());
    assert_eq!(locked(&site.lock_file()), ["app-1.0", "lib-1.0", "tool-1.0"]);
}

#[test]
fn a_comment_in_the_manifest_changes_only_how_it_is_read() {
    let site = Site::new();
    site.install();
    let before = site.lock_file();
    site.needs("app = '*' # the program");
    assert_eq!(site.install().ran(), ["install_workspace_environment", "lock_workspace", "read_manifest"]);
    assert_eq!(site.lock_file(), before);
}

#[test]
fn a_dry_run_says_what_would_run_and_changes_nothing() {
    let site = Site::new();
    let before = site.files();
    let dry = site.json(&["install", "--dry-run"]);
    dry.assert_nothing_ran();
    let work = dry.value()["dry_run"]["would_run"].clone();
    let kinds: Vec<&str> = work.as_array().expect("a list").iter().filter_map(|work| work["kind"].as_str()).collect();
    assert_eq!(kinds, ["read_manifest"], "what comes after it is known only then");
    assert!(site.files() == before);

    site.install();
    let dry = site.json(&["install", "--dry-run"]);
    assert_eq!(dry.value()["dry_run"]["would_run"], serde_json::json!([]));
    std::fs::remove_file(site.prefix("conda-meta/lib-1.1-0.json")).expect("it is there");
    let before = site.files();
    let dry = site.json(&["install", "--dry-run"]);
    assert!(dry.stderr.contains("would run: link prefix .pixi/envs/default"), "{}", dry.stderr);
    assert!(site.files() == before);
}

#[test]
fn without_persistence_nothing_is_used_and_nothing_kept() {
    let site = Site::new();
    site.json(&["install", "--no-persist"]);
    assert!(!site.cache().join("doge/store-v3").exists());
    site.install();
    let again = site.json(&["install", "--no-persist"]);
    assert!(again.executed().contains_key("check_lock"), "{:?}", again.ran());
    assert!(!again.executed().contains_key("link_prefix"), "{:?}", again.ran());
}

#[test]
fn force_links_anew_all_or_what_is_named_each_time() {
    let site = Site::new();
    site.install();
    let time = |inside: &str| site.prefix(inside).metadata().expect("it is there").modified().expect("a time");
    for _ in 0..2 {
        tick();
        let (app, lib) = (time("conda-meta/app-2.0-0.json"), time("conda-meta/lib-1.1-0.json"));
        let forced = site.json(&["install", "--force=lib"]);
        assert_eq!(forced.executed()["link_prefix"], 1);
        assert_eq!(time("conda-meta/app-2.0-0.json"), app);
        assert!(time("conda-meta/lib-1.1-0.json") > lib);
    }
    tick();
    let app = time("conda-meta/app-2.0-0.json");
    site.json(&["install", "--force"]);
    assert!(time("conda-meta/app-2.0-0.json") > app);
    site.install().assert_nothing_ran();
}

#[test]
fn environments_and_prefixes_are_installed_where_they_are_asked_for() {
    let site = Site::new();
    site.manifest(
        "",
        "[dependencies]\napp = '*'\n[feature.tools.dependencies]\ntool = '*'\n[environments]\ntools = ['tools']\n\
         bare = { features = ['tools'], no-default-feature = true }",
    );
    let both = site.json(&["install", "-e", "tools", "-e", "bare"]);
    assert_eq!(both.value()["environments"][0]["name"], "tools");
    assert!(site.path(".pixi/envs/tools/share/tool").is_file());
    assert!(site.path(".pixi/envs/tools/bin/app").is_file());
    assert!(!site.path(".pixi/envs/bare/bin/app").exists());
    assert!(!site.path(".pixi/envs/default").exists());
    let elsewhere = site.path("elsewhere");
    site.json(&["install", "--prefix", elsewhere.to_str().expect("text")]);
    assert!(elsewhere.join("bin/app").is_file());
    site.json(&["install", "--all"]);
    assert!(site.prefix("bin/app").is_file());
    site.json(&["install", "--all"]).assert_nothing_ran();
}

#[test]
fn environments_of_a_solve_group_have_the_same_versions() {
    let site = Site::new();
    site.manifest(
        "",
        "[feature.a.dependencies]\nlib = '*'\n[feature.b.dependencies]\nlib = '<1.1'\ntool = '*'\n\
         [environments]\na = { features = ['a'], solve-group = 'one' }\nb = { features = ['b'], solve-group = 'one' }",
    );
    let ran = site.json(&["install", "-e", "a", "-e", "b"]);
    // One for the group and one for the default environment, which asks for nothing.
    assert_eq!(ran.executed()["solve_conda_environment"], 2);
    assert_eq!(std::fs::read(site.path(".pixi/envs/a/share/lib")).expect("it is there"), b"1.0\n");
    assert!(!site.path(".pixi/envs/a/share/tool").exists(), "each has its part of what was solved");
    assert!(site.path(".pixi/envs/b/share/tool").exists());
}

#[test]
fn another_platform_is_installed_if_it_is_asked_for() {
    let other = if PLATFORM == "osx-64" { "linux-64" } else { "osx-64" };
    let mut site = Site::new();
    let native = PackageBuilder::new("native", "1.0").subdir(other).file("share/native", other);
    site.channel.add(native).expect("it can be written");
    site.index();
    let manifest = site.read("pixi.toml").replace(&format!("'{PLATFORM}'"), &format!("'{PLATFORM}', '{other}'"));
    site.write("pixi.toml", &format!("{manifest}\n[target.{other}.dependencies]\nnative = '*'\n"));
    site.json(&["install", "--platform", other]);
    assert!(site.prefix("share/native").is_file());
    site.json(&["install", "--platform", other]).assert_nothing_ran();
    site.install();
    assert!(!site.prefix("share/native").exists());
}

#[test]
fn a_machine_that_lacks_what_a_package_needs_is_told_so_unless_told_otherwise() {
    let mut site = Site::new();
    site.channel.add(PackageBuilder::new("gpu", "1.0").depends(["__cuda >=11"])).expect("it can be written");
    site.index();
    site.manifest("", "[dependencies]\ngpu = '*'\n[system-requirements]\ncuda = '12'");
    let refused = site.run(&["install"]);
    refused.assert_fails_with(&["gpu needs `__cuda >=11`", "CONDA_OVERRIDE_CUDA"]);
    assert!(!site.prefix("").exists());
    let told = site.command(&["install"]).env("CONDA_OVERRIDE_CUDA", "12.2").output().expect("it can be started");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    site.run(&["install"]).assert_fails_with(&["gpu needs `__cuda >=11`"]);
}

#[test]
fn a_workspace_can_be_moved() {
    let site = Site::new();
    site.needs("lib = '*'\ntool = '*'");
    site.install();
    let there = site.cache().with_file_name("moved");
    std::fs::rename(site.path(""), &there).expect("it can be moved");
    let ran = |arguments: &[&str]| {
        let output = site.command(arguments).current_dir(&there).output().expect("it can be started");
        crate::site::Ran::of(output)
    };
    // The channel moved along, and what it has is not looked for where it was.
    std::fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
    let moved = ran(&["install", "--json"]);
    assert_eq!(moved.code, 0, "{}", moved.stderr);
    assert_eq!(
        moved.ran(),
        [
            "check_lock",
            "fetch_package*2",
            "install_pixi_environment",
            "install_workspace_environment",
            "link_prefix",
            "lock_workspace",
        ]
    );
    ran(&["install", "--json"]).assert_nothing_ran();
    // What is solved there has the new place in it, too.
    std::fs::remove_file(there.join("pixi.lock")).expect("it is there");
    std::fs::remove_dir_all(site.cache().join("pkgs")).expect("it is there");
    assert_eq!(ran(&["install", "--json"]).code, 0);
    assert!(!std::fs::read_to_string(there.join("pixi.lock")).expect("it is there").contains("workspace/channel"));
}
