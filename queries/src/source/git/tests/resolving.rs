//! Which commit a reference stands for.

use std::collections::BTreeMap;

use super::super::{Commit, GitError, Reference, RepositoryUrl};
use super::fixture::{Fixture, git};

fn branch(name: &str) -> Reference {
    Reference::Branch(name.to_owned())
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.to_owned())
}

fn rev(name: &str) -> Reference {
    Reference::Rev(name.to_owned())
}

#[test]
fn branches_tags_and_the_default_branch_stand_for_their_commits() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "--annotate", "heavy", "--message", "heavy"]);
    repository.git(&["tag", "--annotate", "twice", "heavy", "--message", "a tag of a tag"]);
    repository.git(&["branch", "old/one"]);
    let second = repository.commit("x", "2");
    let url = repository.url();
    for (reference, commit) in [
        (Reference::DefaultBranch, second),
        (branch("main"), second),
        (branch("old/one"), first),
        (tag("light"), first),
        (tag("heavy"), first),
        (tag("twice"), first),
        (rev("main"), second),
        (rev("heavy"), first),
        (rev("HEAD"), second),
        (rev("refs/heads/old/one"), first),
        (rev(&first.to_string()), first),
    ] {
        assert_eq!(fixture.resolve(&url, reference.clone()), commit, "{reference}");
    }
}

#[test]
fn the_default_branch_is_what_head_points_to() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    repository.git(&["checkout", "--quiet", "-b", "trunk"]);
    let trunk = repository.commit("x", "2");
    assert_eq!(fixture.resolve(&repository.url(), Reference::DefaultBranch), trunk);
}

#[test]
fn a_branch_precedes_a_tag_of_the_same_name() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.git(&["tag", "both"]);
    let second = repository.commit("x", "2");
    repository.git(&["branch", "both"]);
    let url = repository.url();
    assert_eq!(fixture.resolve(&url, rev("both")), second);
    assert_eq!(fixture.resolve(&url, tag("both")), first);
}

#[test]
fn a_moved_branch_is_seen() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    let url = repository.url();
    assert_eq!(fixture.resolve(&url, branch("main")), first);
    fixture.checkout(&url, first);
    let second = repository.commit("x", "2");
    assert_eq!(fixture.resolve(&url, branch("main")), second);
    repository.git(&["reset", "--quiet", "--hard", &first.to_string()]);
    assert_eq!(fixture.resolve(&url, branch("main")), first);
}

#[test]
fn an_abbreviation_is_fetched_once_and_then_found_without_the_remote() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.commit("x", "2");
    let url = repository.url();
    let short = rev(&first.to_string()[..10]);
    assert_eq!(fixture.resolve(&url, short.clone()), first);
    std::fs::rename(&repository.path, fixture.path("gone")).expect("the remote can go");
    assert_eq!(fixture.resolve(&url, short), first);
}

#[test]
fn an_abbreviated_annotated_tag_stands_for_its_commit() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    repository.git(&["tag", "--annotate", "heavy", "--message", "heavy"]);
    let object = repository.git(&["rev-parse", "refs/tags/heavy"]);
    assert_eq!(fixture.resolve(&repository.url(), rev(&object[..12])), commit);
}

#[test]
fn a_few_hexadecimal_digits_are_a_name_first() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    let prefix = first.to_string()[..4].to_owned();
    let second = repository.commit("x", "2");
    repository.git(&["branch", &prefix]);
    let url = repository.url();
    fixture.checkout(&url, second);
    assert_eq!(fixture.resolve(&url, rev(&prefix)), second);
    repository.git(&["branch", "--delete", "--force", &prefix]);
    assert_eq!(fixture.resolve(&url, rev(&prefix)), first);
}

#[test]
fn an_abbreviation_of_several_commits_is_an_error_that_names_them() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let mut stream = String::new();
    for number in 0..1000 {
        stream.push_str(&format!(
            "commit refs/heads/n{number}\ncommitter D <d@example.com> 1580000000 +0000\ndata 4\n{number:04}\n"
        ));
    }
    git(&repository.path, &["fast-import", "--quiet"], stream.as_bytes());
    let commits = repository.git(&["for-each-ref", "--format=%(objectname)", "refs/heads"]);
    let mut by_prefix: BTreeMap<&str, Vec<Commit>> = BTreeMap::new();
    for commit in commits.lines() {
        by_prefix.entry(&commit[..4]).or_default().push(commit.parse().expect("a commit"));
    }
    let (prefix, mut same) = by_prefix.into_iter().find(|(_, same)| same.len() > 1).expect("a thousand is enough");
    same.sort();
    match fixture.try_resolve(&repository.url(), rev(prefix)) {
        Err(GitError::Ambiguous { prefix: named, candidates, .. }) => {
            assert_eq!(named, prefix);
            assert_eq!(candidates, same);
        }
        other => panic!("{other:?}"),
    }
    let whole = same[0].to_string();
    assert_eq!(fixture.resolve(&repository.url(), rev(&whole[..20])), same[0]);
}

#[test]
fn what_the_remote_does_not_have_is_named_with_the_repository() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    let blob = repository.git(&["rev-parse", "HEAD:x"]);
    let url = repository.url();
    for reference in [
        branch("nothing"),
        branch("mai"),
        branch("*"),
        branch("../main"),
        branch(""),
        tag("main"),
        tag("a b"),
        rev("nothing"),
        rev("1234567"),
        rev("refs/heads/*"),
        rev(&blob[..12]),
        rev(""),
        rev("-x"),
        rev("main~1"),
    ] {
        let error = fixture.try_resolve(&url, reference.clone()).expect_err("there is no such thing");
        assert!(matches!(error, GitError::NoSuchReference { .. }), "{reference}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(&reference.to_string()) && message.contains(url.as_str()), "{message}");
    }
    assert_eq!(fixture.resolve(&url, branch("main")), commit);
}

#[test]
fn an_empty_repository_has_no_default_branch() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let error = fixture.try_resolve(&repository.url(), Reference::DefaultBranch).expect_err("nothing is there");
    assert!(matches!(error, GitError::NoSuchReference { .. }), "{error:?}");
}

#[test]
fn a_directory_that_is_no_repository_cannot_be_reached() {
    let fixture = Fixture::new();
    let url = RepositoryUrl::parse(fixture.path("nothing").to_str().expect("UTF-8")).expect("an address");
    let error = fixture.try_resolve(&url, Reference::DefaultBranch).expect_err("nothing is there");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
}

#[test]
fn offline_only_this_machine_is_asked() {
    let mut fixture = Fixture::new();
    fixture.options.offline = true;
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    assert_eq!(fixture.resolve(&repository.url(), branch("main")), commit);
    let url = RepositoryUrl::parse("https://doge.invalid/a").expect("an address");
    let error = fixture.try_resolve(&url, branch("main")).expect_err("the network is off");
    assert!(matches!(error, GitError::Offline { .. }), "{error:?}");
    let error = fixture.try_checkout(&url, commit).expect_err("the network is off");
    assert!(matches!(error, GitError::Offline { .. }), "{error:?}");
}

#[test]
fn nothing_is_written_outside_of_the_database() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    fixture.resolve(&repository.url(), branch("main"));
    assert!(!fixture.places.checkouts.exists());
    let databases: Vec<_> = std::fs::read_dir(&fixture.places.databases)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(databases, [fixture.places.database(&repository.url())]);
}
