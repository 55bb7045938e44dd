//! Commits that were made to write where they should not.

use std::fs;

use super::super::{Commit, GitError};
use super::fixture::{Fixture, Repository};

#[track_caller]
fn refused(fixture: &Fixture, repository: &Repository, commit: Commit, what: &str) {
    let url = repository.url();
    let error = fixture.try_checkout(&url, commit).expect_err(what);
    match &error {
        GitError::HostileTree { path, reason, .. } => {
            assert!(!path.is_empty() && !reason.is_empty(), "{what}: {error:?}");
        }
        other => panic!("{what}: {other:?}"),
    }
    let group = fixture.places.checkouts.join(url.digest());
    let left = fs::read_dir(&group).map(Iterator::count).unwrap_or_default();
    assert_eq!(left, 0, "{what}: nothing is left in {}", group.display());
}

#[test]
fn names_that_lead_out_of_the_checkout_are_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let blob = repository.blob("evil");
    for name in ["..", ".", ".git", ".GIT", ".Git", "git~1", ".git ", ".git.", ".g\u{200c}it", "a/b", "/etc", "../x"] {
        let commit = repository.commit_tree(&[("100644", name, &blob)]);
        refused(&fixture, &repository, commit, &format!("a file {name:?}"));
        let inner = repository.tree(&[("100644", "config", &blob)]);
        let commit = repository.commit_tree(&[("40000", name, &inner)]);
        refused(&fixture, &repository, commit, &format!("a directory {name:?}"));
        let deep = repository.tree(&[("40000", name, &inner)]);
        let commit = repository.commit_tree(&[("40000", "deep", &deep)]);
        refused(&fixture, &repository, commit, &format!("a directory {name:?} further down"));
    }
}

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let fixture = Fixture::new();
    let outside = fixture.path("outside");
    fs::create_dir_all(&outside).expect("a directory");
    let repository = fixture.repository("a");
    let link = repository.blob(outside.to_str().expect("UTF-8"));
    let blob = repository.blob("evil");
    let inner = repository.tree(&[("100644", "x", &blob)]);
    for entries in [
        vec![("120000", "a", link.as_str()), ("40000", "a", inner.as_str())],
        vec![("40000", "a", inner.as_str()), ("120000", "a", link.as_str())],
        // In between is a name that sorts between a file and what is below a directory of the same name.
        vec![("120000", "a", link.as_str()), ("100644", "a.", blob.as_str()), ("40000", "a", inner.as_str())],
    ] {
        let commit = repository.commit_tree(&entries);
        refused(&fixture, &repository, commit, &format!("{entries:?}"));
    }
    let module = repository.tree(&[("160000", "m", &repository.commit("x", "1").to_string())]);
    let modules = repository.blob("[submodule \"m\"]\n\tpath = a/m\n\turl = ../a\n");
    let commit =
        repository.commit_tree(&[("100644", ".gitmodules", &modules), ("120000", "a", &link), ("40000", "a", &module)]);
    refused(&fixture, &repository, commit, "a submodule behind a link");
    assert!(fs::read_dir(&outside).expect("a directory").next().is_none());
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let (one, other) = (repository.blob("1"), repository.blob("2"));
    let commit = repository.commit_tree(&[("100644", "x", &one), ("100644", "x", &other)]);
    refused(&fixture, &repository, commit, "two files");
    let commit = repository.commit_tree(&[("100644", "y", &one), ("100644", "x", &other)]);
    refused(&fixture, &repository, commit, "out of order");
}

#[test]
fn a_linked_modules_file_is_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let link = repository.blob("/etc/passwd");
    let commit = repository.commit_tree(&[("120000", ".gitmodules", &link)]);
    refused(&fixture, &repository, commit, "a link");
}

#[test]
fn a_tree_that_is_no_tree_is_an_error() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let blob = repository.blob("evil");
    let commit = repository.commit_tree(&[("100644", "", &blob)]);
    let error = fixture.try_checkout(&repository.url(), commit).expect_err("it has a file without a name");
    assert!(!fixture.places.checkout(&repository.url(), commit, false).exists(), "{error:?}");
}
