//! Repositories inside of others.

use std::fs;
use std::path::Path;

use super::super::{Commit, GitError, Reference, RepositoryUrl, is_complete};
use super::fixture::{Fixture, Repository, files, git};

/// A repository with `module` at `path`, as `address` in its `.gitmodules`.
fn with_module(repository: &Repository, address: &str, path: &str, module: Commit) -> Commit {
    let modules = repository.blob(&format!("[submodule \"m\"]\n\tpath = {path}\n\turl = {address}\n"));
    repository.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", path, &module.to_string())])
}

#[track_caller]
fn reason(fixture: &Fixture, url: &RepositoryUrl, commit: Commit) -> String {
    let error = fixture.try_checkout(url, commit).expect_err("the submodule is wrong");
    assert!(!is_complete(&fixture.places.checkout(url, commit, false)));
    match error {
        GitError::Submodule { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_submodule_with_a_relative_address_is_at_its_commit() {
    let fixture = Fixture::new();
    let sub = fixture.repository("group/sub");
    let old = sub.commit("s", "old");
    let parent = fixture.repository("group/parent");
    parent.commit("p", "1");
    parent.git(&["submodule", "--quiet", "add", "../sub", "lib/sub"]);
    let commit = parent.commit_all("with a submodule");
    sub.commit("s", "new");
    let path = fixture.checkout(&parent.url(), commit);
    assert_eq!(files(&path), [".gitmodules", "lib/sub/s", "p"]);
    assert_eq!(fs::read_to_string(path.join("lib/sub/s")).expect("a file"), "old");
    assert_eq!(git(&path.join("lib/sub"), &["rev-parse", "HEAD"], b""), old.to_string());
    assert_eq!(git(&path, &["status", "--porcelain"], b""), "");
    assert!(git(&path, &["submodule", "status"], b"").contains(&old.to_string()));
    // Submodules have their databases inside that of their parent, whose lock is held.
    assert!(fixture.places.database(&parent.url()).join("modules").join(sub.url().digest()).exists());
    assert!(!fixture.places.database(&sub.url()).exists());
}

#[test]
fn submodules_in_the_database_need_no_remote() {
    let fixture = Fixture::new();
    let sub = fixture.repository("sub");
    let inner = sub.commit("s", "1");
    let parent = fixture.repository("parent");
    let commit = with_module(&parent, "../sub", "m", inner);
    fixture.checkout(&parent.url(), commit);
    fs::remove_dir_all(&sub.path).expect("remotes can go");
    fs::remove_dir_all(&parent.path).expect("remotes can go");
    fs::remove_dir_all(&fixture.places.checkouts).expect("checkouts can go");
    let path = fixture.checkout(&parent.url(), commit);
    assert_eq!(fs::read_to_string(path.join("m/s")).expect("a file"), "1");
}

#[test]
fn a_damaged_database_of_a_submodule_is_fetched_anew() {
    let fixture = Fixture::new();
    let sub = fixture.repository("sub");
    let inner = sub.commit("s", "1");
    let parent = fixture.repository("parent");
    let commit = with_module(&parent, "../sub", "m", inner);
    let path = fixture.checkout(&parent.url(), commit);
    fs::remove_dir_all(&path).expect("checkouts can go");
    let database = fixture.places.database(&parent.url()).join("modules").join(sub.url().digest());
    fs::write(database.join("HEAD"), "").expect("a file");
    fixture.checkout(&parent.url(), commit);
}

#[test]
fn a_repository_may_contain_itself_at_an_older_commit() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.repository("a"), fixture.repository("b"));
    let oldest = a.commit("x", "1");
    let middle = with_module(&b, "../a", "a", oldest);
    let newest = with_module(&a, "../b", "b", middle);
    let path = fixture.checkout(&a.url(), newest);
    assert_eq!(files(&path), [".gitmodules", "b/.gitmodules", "b/a/x"]);
}

#[test]
fn submodules_are_not_nested_without_end() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let mut commit = repository.commit("x", "1");
    for _ in 0..9 {
        commit = with_module(&repository, "./", "m", commit);
    }
    let path = fixture.checkout(&repository.url(), commit);
    assert!(path.join("m/m/m/m/m/m/m/m/m/x").exists());
    commit = with_module(&repository, "./", "m", commit);
    let mut error = fixture.try_checkout(&repository.url(), commit).expect_err("it is too deep");
    while let GitError::InSubmodule { source, .. } = error {
        error = *source;
    }
    match error {
        GitError::Submodule { reason, .. } => assert!(reason.contains("too deep"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_submodule_that_is_not_described_is_an_error() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let inner = repository.commit("x", "1").to_string();
    let url = repository.url();
    let commit = repository.commit_tree(&[("160000", "m", &inner)]);
    assert!(reason(&fixture, &url, commit).contains("not in .gitmodules"));
    let modules = repository.blob("[submodule \"m\"]\n\tpath = m\n");
    let commit = repository.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", &inner)]);
    assert!(reason(&fixture, &url, commit).contains("no url"));
}

#[test]
fn names_and_addresses_that_lead_astray_are_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let inner = repository.commit("x", "1").to_string();
    for (name, address) in [
        ("../../hooks", "../a"),
        ("x/../../y", "../a"),
        ("m", "../../../../../../../../../../../../a"),
        ("m", "ext::sh -c 'touch /tmp/x'"),
        ("m", "-u./payload"),
        ("m", "a"),
    ] {
        let modules = repository.blob(&format!("[submodule \"{name}\"]\n\tpath = m\n\turl = \"{address}\"\n"));
        let commit = repository.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", &inner)]);
        reason(&fixture, &repository.url(), commit);
    }
}

#[test]
fn a_submodule_that_is_switched_off_stays_empty() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let inner = repository.commit("x", "1").to_string();
    let modules = repository.blob("[submodule \"m\"]\n\tpath = m\n\turl = ../nothing\n\tupdate = none\n");
    let commit = repository.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", &inner)]);
    let path = fixture.checkout(&repository.url(), commit);
    assert!(fs::read_dir(path.join("m")).expect("a directory").next().is_none());
}

#[test]
fn a_submodule_that_fails_is_named() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let inner = repository.commit("x", "1");
    let commit = with_module(&repository, "../nothing", "m", inner);
    let error = fixture.try_checkout(&repository.url(), commit).expect_err("there is no such repository");
    match error {
        GitError::InSubmodule { path, source, .. } => {
            assert_eq!(path, "m");
            assert!(matches!(*source, GitError::Unreachable { .. }), "{source:?}");
        }
        other => panic!("{other:?}"),
    }
}

/// Everything that git shows of a repository, and what lies in its `.git`, except for how objects are packed.
fn shown(directory: &Path) -> Vec<String> {
    let git = |arguments: &[&str]| git(directory, arguments, b"");
    let mut shown = vec![
        git(&["for-each-ref"]),
        git(&["log", "--all", "--format=%H"]),
        git(&["rev-parse", "HEAD"]),
        git(&["rev-parse", "--short", "HEAD"]),
        git(&["describe", "--tags", "--always"]),
        git(&["remote", "--verbose"]),
    ];
    let inside = directory.join(".git");
    for name in files(&inside) {
        // These have times of files in them.
        let has_times = name == "index" || name == "doge-checkout";
        if !has_times && !name.starts_with("objects/") {
            let content = fs::read(inside.join(&name)).expect("a file");
            shown.push(format!("{name}: {}", String::from_utf8_lossy(&content)));
        }
    }
    shown
}

#[test]
fn a_checkout_is_the_same_whatever_was_fetched_before() {
    let fixture = Fixture::new();
    let (sub, parent) = (fixture.repository("sub"), fixture.repository("parent.git"));
    let tagged = |repository: &Repository, name: &str| {
        let commit = repository.commit("x", name);
        repository.git(&["tag", name]);
        repository.git(&["tag", "--annotate", "--message", name, &format!("annotated-{name}")]);
        commit
    };
    let inner: Vec<Commit> = ["1", "2", "3"].map(|name| tagged(&sub, name)).into();
    let outer: Vec<Commit> = inner
        .iter()
        .enumerate()
        .map(|(number, inner)| {
            let modules = "[submodule \"m\"]\n\tpath = m\n\turl = ../sub\n";
            fs::write(parent.path.join(".gitmodules"), modules).expect("a file");
            parent.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{inner},m")]);
            parent.git(&["add", ".gitmodules"]);
            parent.git(&["commit", "--quiet", "--allow-empty", "--message", &number.to_string()]);
            parent.git(&["tag", &number.to_string()]);
            parent.commit_of("HEAD")
        })
        .collect();
    // On a side that is nobody's past.
    sub.git(&["checkout", "--quiet", "-b", "side", &inner[0].to_string()]);
    tagged(&sub, "side");
    let at_once = fixture.checkout(&parent.url(), outer[1]);
    let later = Fixture::new();
    // Another spelling of the same address, and what came before and after.
    let url = RepositoryUrl::parse(&format!("file://{}/", parent.path.display())).expect("an address");
    later.resolve(&url, Reference::Rev(outer[2].to_string()[..8].to_owned()));
    later.checkout(&url, outer[2]);
    later.checkout(&url, outer[0]);
    let later = later.checkout(&url, outer[1]);
    assert_eq!(files(&at_once), files(&later));
    assert_eq!(shown(&at_once), shown(&later));
    assert_eq!(shown(&at_once.join("m")), shown(&later.join("m")));
    let tags = git(&at_once.join("m"), &["tag"], b"");
    assert_eq!(tags.lines().collect::<Vec<_>>(), ["1", "2", "annotated-1", "annotated-2"]);
    assert_eq!(git(&at_once.join("m"), &["describe", "--tags"], b""), "annotated-2");
    assert_eq!(git(&at_once, &["tag"], b"").lines().collect::<Vec<_>>(), ["0", "1"]);
}
