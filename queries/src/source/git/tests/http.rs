//! Repositories on a server.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{GitError, Reference, RepositoryUrl};
use super::fixture::{Fixture, files};
use super::server::{Rules, Server};

fn at(server: &Server, name: &str) -> RepositoryUrl {
    RepositoryUrl::parse(&format!("{}/{name}", server.address)).expect("an address")
}

#[test]
fn a_commit_comes_over_http_and_only_once() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.git(&["tag", "v1"]);
    let commit = repository.commit("x", "2");
    let server = Server::start(&fixture.path(""), Rules::default());
    let url = at(&server, "a/.git");
    assert_eq!(fixture.resolve(&url, Reference::DefaultBranch), commit);
    assert_eq!(fixture.resolve(&url, Reference::Tag("v1".to_owned())), first);
    let path = fixture.checkout(&url, commit);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "2");
    let asked = server.requests();
    fixture.checkout(&url, commit);
    fixture.checkout(&url, first);
    assert_eq!(server.requests(), asked);
}

#[test]
fn a_server_that_gives_only_tips_is_asked_for_everything() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.commit("x", "2");
    let server = Server::start(&fixture.path(""), Rules { refused: Some(first.to_string()), ..Rules::default() });
    let path = fixture.checkout(&at(&server, "a/.git"), first);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
}

#[test]
fn a_server_with_the_old_protocol_is_understood() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    let second = repository.commit("x", "2");
    let server = Server::start(&fixture.path(""), Rules { is_old: true, ..Rules::default() });
    let url = at(&server, "a/.git");
    assert_eq!(fixture.resolve(&url, Reference::Branch("main".to_owned())), second);
    let path = fixture.checkout(&url, first);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
    let lost = "1234567890123456789012345678901234567890".parse().expect("a commit");
    let error = fixture.try_checkout(&url, lost).expect_err("it is nowhere");
    assert!(matches!(error, GitError::NoSuchCommit { .. }), "{error:?}");
}

#[test]
fn a_login_is_asked_for_and_never_sent_in_clear_nor_shown() {
    let mut fixture = Fixture::new();
    fixture.repository("a").commit("x", "1");
    // `me:s3cret`
    let rules = Rules { authorization: Some("Basic bWU6czNjcmV0"), ..Rules::default() };
    let server = Server::start(&fixture.path(""), rules);
    let url = RepositoryUrl::parse(&format!("{}/a/.git", server.address.replace("//", "//you:t0ken@"))).expect("one");
    let error = fixture.try_resolve(&url, Reference::DefaultBranch).expect_err("nobody knows a login");
    assert!(matches!(error, GitError::Login { .. }), "{error:?}");
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    fixture.options.credentials = Some(Arc::new(move |_: &str| {
        counter.fetch_add(1, Ordering::Relaxed);
        Some(("me".to_owned(), "s3cret".to_owned()))
    }));
    let error = fixture.try_resolve(&url, Reference::DefaultBranch).expect_err("http is not encrypted");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(matches!(error, GitError::Login { .. }), "{error:?}");
    let all = format!("{error:?} {error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(all.contains("clear text"), "{all}");
    assert!(!all.contains("s3cret") && !all.contains("t0ken"), "{all}");
}

#[test]
fn a_server_that_is_not_there_and_a_repository_that_is_not_are_errors() {
    let fixture = Fixture::new();
    let server = Server::start(&fixture.path(""), Rules::default());
    let error = fixture.try_resolve(&at(&server, "nothing"), Reference::DefaultBranch).expect_err("nothing is there");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
    let url = RepositoryUrl::parse("http://127.0.0.1:1/a").expect("an address");
    let error = fixture.try_resolve(&url, Reference::DefaultBranch).expect_err("nobody listens");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_submodule_of_a_repository_on_a_server_is_never_one_of_this_machine() {
    let fixture = Fixture::new();
    let secret = fixture.repository("secret");
    let inner = secret.commit("s", "private").to_string();
    let public = fixture.repository("public");
    public.commit("p", "1");
    let server = Server::start(&fixture.path(""), Rules::default());
    let url = at(&server, "public/.git");
    for address in [secret.path.to_str().expect("UTF-8"), secret.url().as_str()] {
        let modules = public.blob(&format!("[submodule \"m\"]\n\tpath = m\n\turl = {address}\n"));
        let commit = public.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", &inner)]);
        match fixture.try_checkout(&url, commit) {
            Err(GitError::Submodule { reason, .. }) => assert!(reason.contains("local"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let modules = public.blob("[submodule \"m\"]\n\tpath = m\n\turl = ../../secret/.git\n");
    let commit = public.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", &inner)]);
    assert_eq!(files(&fixture.checkout(&url, commit)), [".gitmodules", "m/s"]);
}

#[test]
fn offline_a_submodule_is_taken_from_the_database_only() {
    let mut fixture = Fixture::new();
    let sub = fixture.repository("sub");
    let (one, other) = (sub.commit("s", "1").to_string(), sub.commit("s", "2").to_string());
    let lost = "1234567890123456789012345678901234567890";
    let parent = fixture.repository("parent");
    let modules = parent.blob("[submodule \"m\"]\n\tpath = m\n\turl = ../../sub/.git\n");
    let with = |inner: &str| parent.commit_tree(&[("100644", ".gitmodules", &modules), ("160000", "m", inner)]);
    let (first, unknown, last) = (with(&one), with(lost), with(&other));
    parent.git(&["branch", "keep", &first.to_string()]);
    parent.git(&["branch", "keep2", &unknown.to_string()]);
    let server = Server::start(&fixture.path(""), Rules::default());
    let url = at(&server, "parent/.git");
    fixture.resolve(&url, Reference::Rev(first.to_string()[..8].to_owned()));
    fixture.checkout(&url, last);
    fixture.options.offline = true;
    let path = fixture.checkout(&url, first);
    assert_eq!(fs::read_to_string(path.join("m/s")).expect("a file"), "1");
    match fixture.try_checkout(&url, unknown) {
        Err(GitError::InSubmodule { source, .. }) => assert!(matches!(*source, GitError::Offline { .. }), "{source:?}"),
        other => panic!("{other:?}"),
    }
}
