//! Files that are damaged: of packages in the cache, of archives on servers, of environments.
//!
//! The rule: what comes out is what a new environment is, or a clear error, and never something else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use doge_queries::testing::{Misbehaviour, PackageBuilder};

use crate::site::{Ran, Server, Site, contents, tick};

/// A workspace whose channel is behind a server, with a package of many kinds of files, installed.
struct Damaged {
    site: Site,
    server: Server,
    whole: BTreeMap<String, Vec<u8>>,
}

const ARCHIVE: &str = "module-1.0-0.conda";

impl Damaged {
    fn new() -> Self {
        let mut site = Site::new();
        let module = PackageBuilder::new("module", "1.0")
            .noarch_python()
            .depends(["python"])
            .file("site-packages/module/__init__.py", "version = '1.0'\n")
            .file("share/module/data", "0123456789")
            .entry_point("module = module:main");
        let python = PackageBuilder::new("python", "3.12.0").executable("bin/python", "#!/bin/sh\n");
        let linked =
            PackageBuilder::new("linked", "1.0").file("share/target", "target").symlink("share/link", "target");
        for package in [module, python, linked] {
            site.channel.add(package).expect("it can be written");
        }
        site.index();
        let server = Server::start(&site.path("channel"));
        site.needs("app = '*'\nmodule = '*'\nlinked = '*'");
        let url = server.url().to_string();
        site.write("pixi.toml", &site.read("pixi.toml").replace("./channel", &url));
        site.install();
        let whole = contents(&site.prefix(""));
        Self { site, server, whole }
    }

    fn cached(&self, inside: &str) -> PathBuf {
        self.site.cache().join("pkgs").join(inside)
    }

    /// The archives that were fetched since the last call.
    fn fetched(&self) -> Vec<String> {
        let requests = self.server.take_requests().into_iter();
        let names = requests.filter_map(|request| Some(request.path.rsplit_once('/')?.1.to_owned()));
        names.filter(|name| name.ends_with(".conda")).collect()
    }

    #[track_caller]
    fn assert_whole(&self, what: &str) {
        let now = contents(&self.site.prefix(""));
        let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&now), names(&self.whole), "{what}");
        for (name, content) in &self.whole {
            assert!(now[name] == *content, "{what}: {name} is another: {}", String::from_utf8_lossy(&now[name]));
        }
    }
}

fn truncate(path: &Path) {
    let length = path.metadata().expect("it is there").len();
    fs::File::options().write(true).open(path).and_then(|file| file.set_len(length / 2)).expect("it can be cut");
}

type Damage = (&'static str, fn(&Damaged));

#[test]
fn a_package_that_is_damaged_in_the_cache_is_fetched_again_when_it_is_linked() {
    let damages: [Damage; 11] = [
        ("a file is gone", |d| fs::remove_file(d.cached("module-1.0-0/share/module/data")).expect("it is there")),
        ("a file is cut off", |d| truncate(&d.cached("module-1.0-0/share/module/data"))),
        ("a file is another of the same size", |d| {
            fs::write(d.cached("module-1.0-0/share/module/data"), "9876543210").expect("it can be written");
        }),
        ("a file is a folder", |d| {
            let path = d.cached("module-1.0-0/share/module/data");
            fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("it can be replaced");
        }),
        ("a file was edited in the environment that shares it", |d| {
            fs::write(d.site.prefix("share/module/data"), "9876543210").expect("it can be written");
        }),
        ("the list of files is cut off", |d| truncate(&d.cached("module-1.0-0/info/paths.json"))),
        ("the index is gone", |d| fs::remove_file(d.cached("module-1.0-0/info/index.json")).expect("it is there")),
        ("what says how to link it is gone", |d| {
            fs::remove_file(d.cached("module-1.0-0/info/link.json")).expect("it is there");
        }),
        ("all is gone", |d| fs::remove_dir_all(d.cached("module-1.0-0")).expect("it is there")),
        ("it is a file", |d| {
            let path = d.cached("module-1.0-0");
            fs::remove_dir_all(&path).and_then(|()| fs::write(&path, "x")).expect("it can be replaced");
        }),
        ("it was extracted half", |d| {
            fs::remove_dir_all(d.cached("module-1.0-0/info")).expect("it is there");
            fs::create_dir(d.cached(".module-1.0-0abcdef")).expect("it can be made");
        }),
    ];
    let damaged = Damaged::new();
    for (what, damage) in damages {
        // What is modified within a tick of the clock has the time of what was there before.
        tick();
        damage(&damaged);
        fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
        damaged.fetched();
        damaged.site.install();
        assert_eq!(damaged.fetched(), [ARCHIVE], "{what}");
        damaged.assert_whole(what);
        damaged.site.install().assert_nothing_ran();
    }
}

#[test]
fn a_link_in_the_cache_that_is_gone_is_noticed() {
    let damaged = Damaged::new();
    fs::remove_file(damaged.cached("linked-1.0-0/share/link")).expect("it is there");
    damaged.fetched();
    damaged.site.json(&["install", "--force=linked"]);
    assert_eq!(damaged.fetched(), ["linked-1.0-0.conda"]);
    damaged.assert_whole("a link is gone");
}

#[test]
fn a_package_that_is_whole_is_not_fetched_again_though_nothing_is_remembered_of_it() {
    let damaged = Damaged::new();
    fs::remove_dir_all(damaged.site.cache().join("doge")).expect("it is there");
    fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
    damaged.fetched();
    damaged.site.install();
    assert_eq!(damaged.fetched(), Vec::<String>::new());
    damaged.assert_whole("the store is gone");
}

/// Earlier versions of rattler wrote the file beside a package before they extracted it.
#[test]
fn a_package_whose_times_say_nothing_is_read_and_used_if_it_is_whole() {
    let damaged = Damaged::new();
    let old = std::time::SystemTime::UNIX_EPOCH;
    for name in ["module-1.0-0", "linked-1.0-0"] {
        let lock = fs::File::options().write(true).open(damaged.cached(&format!("{name}.lock"))).expect("it is there");
        lock.set_modified(old).expect("times can be set");
    }
    fs::write(damaged.cached("linked-1.0-0/share/target"), "tarGet").expect("it can be written");
    fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
    damaged.fetched();
    damaged.site.install();
    assert_eq!(damaged.fetched(), ["linked-1.0-0.conda"], "and if not, fetched again");
    damaged.assert_whole("times say nothing");
}

#[test]
fn a_damaged_package_is_an_error_if_nothing_may_be_fetched() {
    let damaged = Damaged::new();
    fs::remove_file(damaged.cached("module-1.0-0/share/module/data")).expect("it is there");
    fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
    damaged
        .site
        .run(&["install", "--offline"])
        .assert_fails_with(&["`module-1.0-0.conda` is not in the package cache"]);
    damaged.site.install();
    damaged.assert_whole("with a network again");
}

#[test]
fn an_archive_that_is_not_what_the_channel_says_is_an_error_and_leaves_nothing() {
    let damaged = Damaged::new();
    let path = format!("/noarch/{ARCHIVE}");
    let archive = fs::read(damaged.site.path(&format!("channel{path}"))).expect("it is there");
    for body in [archive[..archive.len() / 2].to_vec(), b"not an archive".to_vec(), {
        let mut other = archive.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        other
    }] {
        fs::remove_dir_all(damaged.cached("module-1.0-0")).expect("it is there");
        fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
        damaged.server.misbehave(&path, Misbehaviour::Body(body));
        damaged.site.run(&["install"]).assert_fails_with(&["package `module-1.0-0.conda` could not be fetched"]);
        assert!(!damaged.site.prefix("bin/app").exists(), "nothing is linked");
        assert!(!damaged.cached("module-1.0-0").exists());
        damaged.server.behave();
        damaged.site.install();
        damaged.assert_whole("a good archive");
    }
}

#[test]
fn an_archive_that_is_not_what_the_lock_file_says_can_be_chosen_anew() {
    let damaged = Damaged::new();
    let lock = damaged.site.lock_file();
    let entry = lock.rfind(ARCHIVE).expect("it is locked");
    let hash = entry + lock[entry..].find("sha256: ").expect("with its hash") + "sha256: ".len();
    let mut other = lock.clone();
    other.replace_range(hash..hash + 64, &"0".repeat(64));
    damaged.site.write("pixi.lock", &other);
    fs::remove_dir_all(damaged.cached("module-1.0-0")).expect("it is there");
    fs::remove_dir_all(damaged.site.prefix("")).expect("it is there");
    let advice = "choose it anew with `doge install --update=module`";
    damaged.site.run(&["install"]).assert_fails_with(&["package `module-1.0-0.conda` could not be fetched", advice]);
    assert_eq!(damaged.site.lock_file(), other);
    assert_eq!(damaged.site.run(&["install", "--update=module"]).code, 0);
    assert_eq!(damaged.site.lock_file(), lock);
    damaged.assert_whole("chosen anew");
}

/// Both are called the same, and the cache has one place for them.
#[test]
fn packages_of_one_name_from_two_channels_are_not_taken_for_each_other() {
    let damaged = Damaged::new();
    let mut other = Site::new();
    other.channel.add(PackageBuilder::new("tool", "1.0").file("share/tool", "another\n")).expect("it can be written");
    other.index();
    other.needs("tool = '*'");
    damaged.site.needs("tool = '*'");
    for _ in 0..2 {
        for (site, content) in [(&damaged.site, "1.0\n"), (&other, "another\n")] {
            drop(fs::remove_dir_all(site.prefix("")));
            let output = site
                .command(&["install", "--json"])
                .env("DOGE_CACHE_DIR", damaged.site.cache())
                .output()
                .expect("it can be started");
            let ran = Ran::of(output);
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert_eq!(fs::read_to_string(site.prefix("share/tool")).expect("it is there"), content);
        }
    }
}

#[test]
fn what_is_damaged_in_an_environment_is_put_right() {
    fn meta(damaged: &Damaged, name: &str) -> PathBuf {
        damaged.site.prefix("conda-meta").join(name)
    }
    let damages: [Damage; 9] = [
        ("a record is cut off", |d| truncate(&meta(d, "module-1.0-0.json"))),
        ("a record is empty", |d| fs::write(meta(d, "module-1.0-0.json"), "").expect("it can be written")),
        ("a record leads nowhere", |d| {
            let path = meta(d, "module-1.0-0.json");
            fs::remove_file(&path).expect("it is there");
            std::os::unix::fs::symlink("nowhere", path).expect("it can be linked");
        }),
        ("the journal is nonsense", |d| fs::write(meta(d, "doge-journal"), "{").expect("it can be written")),
        ("what we say of it is nonsense", |d| fs::write(meta(d, "doge"), "{").expect("it can be written")),
        ("all records are gone", |d| fs::remove_dir_all(meta(d, "")).expect("it is there")),
        ("a record of another package", |d| {
            fs::copy(meta(d, "module-1.0-0.json"), meta(d, "other-1.0-0.json")).map(drop).expect("it can be copied");
        }),
        ("a record twice", |d| {
            let text = fs::read_to_string(meta(d, "lib-1.1-0.json")).expect("it is there");
            let text = text.replace("\"1.1\"", "\"1.0\"").replace("lib-1.1-0", "lib-1.0-0");
            fs::write(meta(d, "lib-1.0-0.json"), text).expect("it can be written");
        }),
        ("all is gone", |d| fs::remove_dir_all(d.site.prefix("")).expect("it is there")),
    ];
    let damaged = Damaged::new();
    for (what, damage) in damages {
        damage(&damaged);
        let ran = damaged.site.run(&["install", "--json"]);
        assert_eq!(ran.code, 0, "{what}: {}", ran.stderr);
        damaged.assert_whole(what);
        damaged.site.install().assert_nothing_ran();
    }
}

type InTheWay = (&'static str, fn(&Path));

#[test]
fn what_stands_in_the_way_of_an_environment_is_named() {
    let damaged = Damaged::new();
    let in_the_way: [InTheWay; 4] = [
        ("conda-meta is a file", |prefix| {
            fs::create_dir(prefix).and_then(|()| fs::write(prefix.join("conda-meta"), "x")).expect("it can be written");
        }),
        ("the prefix is a file", |prefix| fs::write(prefix, "x").expect("it can be written")),
        ("the prefix leads nowhere", |prefix| {
            std::os::unix::fs::symlink("nowhere", prefix).expect("it can be linked");
        }),
        ("a record is a folder", |prefix| {
            fs::create_dir_all(prefix.join("conda-meta/module-1.0-0.json")).expect("it can be made");
        }),
    ];
    for (what, put) in in_the_way {
        let prefix = damaged.site.prefix("");
        fs::remove_dir_all(&prefix).expect("it is there");
        let prefix = damaged.site.path(".pixi/envs/default");
        put(&prefix);
        let ran = damaged.site.run(&["install"]);
        assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
        assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(".pixi/envs/default"), "{what}: {}", ran.stderr);
        if prefix.is_dir() { fs::remove_dir_all(&prefix) } else { fs::remove_file(&prefix) }.expect("it is there");
        damaged.site.install();
        damaged.assert_whole(what);
    }
}
