//! Repositories on a server.

use std::fs;
use std::sync::Arc;

use super::super::{GitError, Places, Reference, RepositoryUrl, is_complete};
use super::fixture::{Fixture, files};
use super::server::{Rules, Server};
use crate::conda::NetworkOptions;
use crate::source::{CheckoutGitSpec, GitReferenceSpec, Logins, Written};
use crate::{CacheDirs, DatabaseOptions};

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

/// `me:s3cret`
const PASSWORD: &str = "Basic bWU6czNjcmV0";

/// Has a login for a host stored, as rattler stores it.
fn store(fixture: &mut Fixture, text: &str) {
    let file = fixture.path("credentials.json");
    fs::write(&file, text).expect("a file");
    let network = NetworkOptions { authentication_file: Some(file), ..NetworkOptions::default() };
    let logins = Logins::new(network, Written::default());
    fixture.options.stored = Some(Arc::new(move |server| logins.stored(server)));
}

/// All that an error says, with what to do.
fn told(error: &GitError) -> String {
    let help = miette::Diagnostic::help(error).map(|help| help.to_string()).unwrap_or_default();
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error:?} {error} {source} {help}")
}

#[test]
fn who_has_no_login_is_told_where_it_would_be_looked_for() {
    let fixture = Fixture::new();
    fixture.repository("a").commit("x", "1");
    let server = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    let url = RepositoryUrl::parse(&format!("{}/a/.git", server.address.replace("//", "//you:t0ken@"))).expect("one");
    let error = fixture.try_resolve(&url, Reference::DefaultBranch).expect_err("nobody knows a login");
    assert!(matches!(error, GitError::Login { .. }), "{error:?}");
    let told = told(&error);
    assert!(told.contains("credential helper of git") && told.contains("pixi auth login"), "{told}");
    assert!(!told.contains("t0ken"), "{told}");
    assert_eq!(server.logins(), [""; 0]);
}

#[test]
fn a_password_that_is_stored_for_a_host_is_sent_to_it() {
    let mut fixture = Fixture::new();
    let commit = fixture.repository("a").commit("x", "1");
    let server = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    store(&mut fixture, r#"{"127.0.0.1":{"BasicHTTP":{"username":"me","password":"s3cret"}}}"#);
    let url = at(&server, "a/.git");
    assert_eq!(fixture.resolve(&url, Reference::DefaultBranch), commit);
    let path = fixture.checkout(&url, commit);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
    assert!(server.logins().iter().all(|login| login == PASSWORD));
    let config = fs::read_to_string(path.join(".git/config")).expect("a file");
    assert!(!config.contains("s3cret") && !config.contains("bWU6"), "{config}");
}

#[test]
fn a_password_that_is_written_into_the_address_is_sent_to_it() {
    let mut fixture = Fixture::new();
    let commit = fixture.repository("a").commit("x", "1");
    let server = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    let address = format!("{}/a/.git", server.address);
    let manifest = format!("a = {{ git = '{}' }}", address.replace("//", "//me:s3cret@"));
    fs::write(fixture.path("pixi.toml"), manifest).expect("a file");
    let written = Written::default();
    written.look_in(&fixture.path(""));
    let (logins, url) = (Logins::new(NetworkOptions::default(), written), at(&server, "a/.git"));
    let repository = url.clone();
    fixture.options.written = Some(Arc::new(move |server| logins.written(&repository, server)));
    store(&mut fixture, r#"{"127.0.0.1":{"BasicHTTP":{"username":"me","password":"0ther"}}}"#);
    fixture.checkout(&url, commit);
}

#[test]
fn a_login_that_is_not_taken_is_told_without_it() {
    let mut fixture = Fixture::new();
    fixture.repository("a").commit("x", "1");
    let server = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    store(&mut fixture, r#"{"127.0.0.1":{"BasicHTTP":{"username":"me","password":"wr0ng"}}}"#);
    let error = fixture.try_resolve(&at(&server, "a/.git"), Reference::DefaultBranch).expect_err("it is wrong");
    assert!(matches!(error, GitError::LoginRefused { .. }), "{error:?}");
    let told = told(&error);
    assert!(told.contains("is stored for its host"), "{told}");
    // `me:wr0ng`
    assert!(!told.contains("wr0ng") && !told.contains("bWU6d3Iwbmc"), "{told}");
    assert_eq!(server.logins(), ["Basic bWU6d3Iwbmc="], "it is tried once");
}

#[test]
fn a_token_is_sent_as_the_server_takes_it() {
    // `x-access-token:t0ken`
    let as_password = "Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=";
    for (stored, way, expected) in [
        ("BearerToken", "Bearer", "Bearer t0ken"),
        ("CondaToken", "Bearer", "Bearer t0ken"),
        ("BearerToken", "Basic", as_password),
    ] {
        let mut fixture = Fixture::new();
        let commit = fixture.repository("a").commit("x", "1");
        let rules = Rules { authorization: Some(expected), way: Some(way), ..Rules::default() };
        let server = Server::start(&fixture.path(""), rules);
        store(&mut fixture, &format!(r#"{{"127.0.0.1":{{"{stored}":"t0ken"}}}}"#));
        fixture.checkout(&at(&server, "a/.git"), commit);
    }
}

#[test]
fn a_login_stays_with_the_host_it_is_for() {
    let mut fixture = Fixture::new();
    let commit = fixture.repository("a").commit("x", "1");
    let other = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    let open = Server::start(&fixture.path(""), Rules::default());
    store(&mut fixture, r#"{"localhost":{"BasicHTTP":{"username":"me","password":"s3cret"}}}"#);
    let url = |server: &Server| {
        RepositoryUrl::parse(&format!("{}/a/.git", server.address_at("localhost"))).expect("an address")
    };
    // Whoever leads to another host does not get it there, whether it wants one there or first here.
    let moved = Rules { moved_to: Some(other.address.clone()), ..Rules::default() };
    let server = Server::start(&fixture.path(""), moved);
    let error = fixture.try_resolve(&url(&server), Reference::DefaultBranch).expect_err("that host has no login");
    assert!(matches!(error, GitError::Login { .. }), "{error:?}");
    for to in [&other, &open] {
        let moved = Rules { authorization: Some(PASSWORD), moved_to: Some(to.address.clone()), ..Rules::default() };
        let server = Server::start(&fixture.path(""), moved);
        let error = fixture.try_checkout(&url(&server), commit).expect_err("it leads elsewhere with a login");
        assert!(!told(&error).contains("s3cret"), "{error:?}");
        assert_eq!(server.logins(), [PASSWORD]);
    }
    assert_eq!((other.logins(), open.logins()), (Vec::new(), Vec::new()));
    // A login for the other host is for it, though the way there leads over this one.
    store(&mut fixture, r#"{"127.0.0.1":{"BasicHTTP":{"username":"me","password":"s3cret"}}}"#);
    let server = Server::start(&fixture.path(""), Rules { moved_to: Some(other.address.clone()), ..Rules::default() });
    fixture.checkout(&url(&server), commit);
    assert_eq!(server.logins(), [""; 0]);
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

#[test]
fn nothing_of_a_login_is_kept() {
    let mut fixture = Fixture::new();
    let commit = fixture.repository("a").commit("x", "1");
    let server = Server::start(&fixture.path(""), Rules { authorization: Some(PASSWORD), ..Rules::default() });
    let (workspace, cache) = (fixture.path("workspace"), fixture.path("cache"));
    fs::create_dir_all(&workspace).expect("a directory");
    let url = format!("{}/a/.git", server.address);
    let manifest = format!("[dependencies]\na = {{ git = '{}' }}\n", url.replace("//", "//me:s3cret@"));
    fs::write(workspace.join("pixi.toml"), manifest).expect("a file");
    let options = DatabaseOptions::new(&workspace, CacheDirs::below(&cache));
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let database = options.builder().expect("no file is named").build().expect("it can be opened");
        let reference = GitReferenceSpec { url: url.clone(), reference: Reference::DefaultBranch };
        let found = database.observe(&reference).await.expect("the login is found");
        assert_eq!(*found, commit.to_string());
        let spec = CheckoutGitSpec { url: url.clone(), commit: commit.to_string(), lfs: false };
        let place = database.act(&spec).await.expect("the login is found");
        assert!(cache.join("sources").join(&place.directory).join("x").is_file());
        database.close().await.expect("it is open");
    });
    assert!(!server.logins().is_empty());
    let mut places = vec![cache];
    while let Some(path) = places.pop() {
        if path.is_dir() {
            places.extend(fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else {
            let bytes = fs::read(&path).expect("a file");
            for secret in ["s3cret", "bWU6czNjcmV0"] {
                let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!is_there, "{}", path.display());
            }
        }
    }
    // To be sure that it was looked for where it would be.
    fixture.places = Places::below(&fixture.path("cache/sources"));
    assert!(is_complete(&fixture.places.checkout(&at(&server, "a/.git"), commit, false)));
}
