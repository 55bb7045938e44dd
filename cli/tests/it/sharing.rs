//! What pixi and Doge share: environments, lock files, the caches of packages and of repodata.
//!
//! What pixi writes is made here, in its formats.

use std::fs;
use std::process::Stdio;

use crate::site::{Ran, Server, Site, contents, locked};

const MARKER: &str = r#"{"manifest_path":"/somewhere/pixi.toml","environment_name":"default","pixi_version":"0.60.0",
"environment_lock_file_hash":"0123456789abcdef"}"#;
const FINGERPRINT: &str = "0123456789abcdef";

/// Makes an environment look as if pixi had installed it.
fn by_pixi(site: &Site) {
    let meta = |name: &str| site.prefix("conda-meta").join(name);
    for ours in ["doge", ".doge-lock"] {
        fs::remove_file(meta(ours)).expect("it is there");
    }
    fs::write(meta("pixi"), MARKER).expect("it can be written");
    fs::write(meta(".pixi-environment-fingerprint"), FINGERPRINT).expect("it can be written");
    let place = site.prefix("").canonicalize().expect("it is there");
    fs::write(meta("pixi_env_prefix"), place.to_str().expect("it is text").trim_end_matches('/')).expect("written");
    fs::write(meta("history"), "").expect("it can be written");
}

#[test]
fn an_environment_that_pixi_installed_and_is_as_wanted_is_left_as_it_is() {
    let site = Site::new();
    site.install();
    by_pixi(&site);
    let before = contents(&site.prefix(""));
    let ran = site.install();
    assert!(!ran.executed().contains_key("link_prefix"), "{:?}", ran.ran());
    assert!(contents(&site.prefix("")) == before);
    site.install().assert_nothing_ran();
    // And so is one that pixi changes to the same again.
    fs::write(site.prefix("conda-meta/.pixi-environment-fingerprint"), "fedcba9876543210").expect("it can be written");
    assert!(!site.install().executed().contains_key("link_prefix"));
}

/// pixi believes its files, so they are gone before the first package is touched.
#[cfg(target_os = "linux")]
#[test]
fn pixi_is_told_that_an_environment_is_not_as_it_left_it_before_it_is_touched() {
    let site = Site::new();
    site.needs("app = '1.*'");
    site.install();
    by_pixi(&site);
    site.needs("app = '2.*'");
    let stopped = crate::interposed::Stopped::at(&site, &["install", "--json"], "default/bin/app");
    assert!(!site.prefix("conda-meta/pixi").exists());
    assert_eq!(fs::read(site.prefix("conda-meta/.pixi-environment-fingerprint")).expect("it is there"), b"");
    assert_eq!(stopped.go_on().code, 0);
    assert!(!site.prefix("conda-meta/pixi").exists());
    let place = fs::read_to_string(site.prefix("conda-meta/pixi_env_prefix")).expect("it is there");
    assert_eq!(fs::canonicalize(place).expect("it is there"), site.prefix("").canonicalize().expect("it is there"));
    site.install().assert_nothing_ran();
}

#[test]
fn an_environment_that_pixi_installed_elsewhere_is_linked_anew() {
    let site = Site::new();
    site.install();
    by_pixi(&site);
    fs::write(site.prefix("conda-meta/pixi_env_prefix"), "/somewhere/else").expect("it can be written");
    let ran = site.install();
    assert_eq!(ran.executed()["link_prefix"], 1);
    site.install().assert_nothing_ran();
}

#[cfg(target_os = "linux")]
#[test]
fn while_pixi_changes_an_environment_nobody_else_does() {
    let site = Site::new();
    site.install();
    site.needs("app = '*'\ntool = '*'");
    let lock = site.prefix("conda-meta/.pixi-environment-fingerprint");
    let held = fs::File::options().write(true).open(lock).expect("it is there");
    held.lock().expect("locks work here");
    let mut command = site.command(&["install", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    crate::crowd::until(&mut child, "waiting for pixi, which is changing the environment");
    assert!(!site.prefix("share/tool").exists());
    drop(held);
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(site.prefix("share/tool").is_file());
}

/// What a lock file of version 7 says, as earlier versions said it.
fn older(text: &str, version: u8) -> String {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        line.map(ToOwned::to_owned)
    };
    let (environments, packages) = text.split_once("\npackages:\n").expect("there are packages");
    let (_, channels) = environments.split_once("environments:\n").expect("there are environments");
    let mut older = format!("version: {version}\nenvironments:\n{channels}\npackages:\n");
    for package in packages.split("- conda: ").skip(1) {
        let (url, rest) = package.split_once('\n').expect("there is more");
        if version >= 6 {
            older.push_str(&format!("- conda: {url}\n{rest}"));
            continue;
        }
        let stem = url.rsplit_once('/').expect("it is a URL").1.trim_end_matches(".conda");
        let mut parts = stem.rsplitn(3, '-');
        let (build, version, name) = (parts.next(), parts.next(), parts.next());
        older.push_str(&format!(
            "- kind: conda\n  name: {}\n  version: '{}'\n  build: '{}'\n  subdir: noarch\n  noarch: generic\n  url: {url}\n",
            name.expect("a name"),
            version.expect("a version"),
            build.expect("a build"),
        ));
        for name in ["sha256", "md5", "size", "timestamp"] {
            if let Some(value) = field(rest, name) {
                older.push_str(&format!("  {name}: {value}\n"));
            }
        }
        if let Some((_, depends)) = rest.split_once("depends:\n") {
            let depends: Vec<&str> = depends.lines().take_while(|line| line.starts_with("  - ")).collect();
            older.push_str(&format!("  depends:\n{}\n", depends.join("\n")));
        }
    }
    older
}

#[test]
fn lock_files_of_earlier_versions_are_used_as_they_are_and_become_new_only_if_they_have_to_change() {
    let site = Site::new();
    let server = Server::start(&site.path("channel"));
    let manifest = |needs: &str| {
        site.needs(needs);
        site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", server.url().as_str()));
    };
    manifest("app = '*'");
    site.install();
    let newest = site.lock_file();
    assert!(newest.starts_with("version: 7\n"));
    for version in [4, 5, 6] {
        manifest("app = '*'");
        let text = older(&newest, version);
        site.write("pixi.lock", &text);
        drop(fs::remove_dir_all(site.prefix("")));
        let ran = site.install();
        assert!(!ran.executed().contains_key("solve_conda_environment"), "{version}: {:?}", ran.ran());
        assert_eq!(site.lock_file(), text, "{version}");
        assert!(site.prefix("bin/app").is_file(), "{version}");
        site.install().assert_nothing_ran();
        site.json(&["install", "--locked"]);
        assert_eq!(site.lock_file(), text, "{version}");

        manifest("app = '*'\ntool = '*'");
        let ran = site.install();
        let said = format!("the lock file was of version {version} and is now of version 7");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(locked(&site.lock_file()), ["app-2.0", "lib-1.1", "tool-1.0"]);
        assert!(site.lock_file().starts_with("version: 7\n"));
    }
}

/// The caches are where pixi has them, and hold what rattler put there, whoever asked it to.
#[test]
fn packages_and_repodata_in_the_caches_of_pixi_are_used() {
    let site = Site::new();
    let server = Server::start(&site.path("channel"));
    server.cache_control(Some("public, max-age=3600"));
    site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", server.url().as_str()));
    let cache = site.root().join("pixi-cache");
    let install = || {
        let mut command = site.command(&["install", "--json"]);
        let ran =
            Ran::of(command.env_remove("DOGE_CACHE_DIR").env("PIXI_CACHE_DIR", &cache).output().expect("started"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    install();
    assert!(cache.join("pkgs/app-2.0-0/bin/app").is_file());
    assert!(cache.join("repodata").is_dir());
    server.take_requests();
    // All that is ours is gone.
    fs::remove_dir_all(cache.join("doge")).expect("it is there");
    fs::remove_dir_all(site.path(".pixi")).expect("it is there");
    fs::remove_file(site.path("pixi.lock")).expect("it is there");
    install();
    assert_eq!(server.take_requests(), []);
    assert!(site.prefix("bin/app").is_file());
}
