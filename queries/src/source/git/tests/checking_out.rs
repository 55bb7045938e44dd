//! Commits as directories, and what is left when something goes wrong on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::super::{Commit, GitError, Reference, RepositoryUrl, checkout, is_complete};
use super::fixture::{Fixture, files, git};

#[test]
fn the_files_of_the_commit_are_written() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    let commit = repository.commit("deep/er/y", "2");
    let path = fixture.checkout(&repository.url(), commit);
    assert_eq!(path, fixture.places.checkout(&repository.url(), commit, false));
    assert!(is_complete(&path));
    assert_eq!(files(&path), ["deep/er/y", "x"]);
    assert_eq!(fs::read_to_string(path.join("deep/er/y")).expect("a file"), "2");
}

#[test]
#[cfg(unix)]
fn executable_files_and_symbolic_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    fs::write(repository.path.join("run"), "#!/bin/sh\n").expect("a file");
    fs::set_permissions(repository.path.join("run"), fs::Permissions::from_mode(0o755)).expect("a mode");
    symlink("run", repository.path.join("link")).expect("a link");
    symlink("missing", repository.path.join("broken")).expect("a link");
    let commit = repository.commit("plain", "");
    let path = fixture.checkout(&repository.url(), commit);
    let mode = |name: &str| fs::metadata(path.join(name)).expect("a file").permissions().mode();
    assert_eq!(mode("run") & 0o111, 0o111);
    assert_eq!(mode("plain") & 0o111, 0);
    assert_eq!(fs::read_link(path.join("link")).expect("a link"), Path::new("run"));
    assert_eq!(fs::read_link(path.join("broken")).expect("a link"), Path::new("missing"));
    let others = fs::metadata(&path).expect("a directory").permissions().mode() & 0o055;
    assert_ne!(others, 0, "others may read it, as far as the umask lets them");
}

#[test]
fn attributes_of_the_repository_hold_and_nothing_is_converted_otherwise() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    fs::write(repository.path.join(".gitattributes"), "windows text eol=crlf\nfiltered filter=evil\n").expect("a file");
    fs::write(repository.path.join("windows"), "a\nb\n").expect("a file");
    fs::write(repository.path.join("filtered"), "as it is").expect("a file");
    let commit = repository.commit("plain", "a\nb\n");
    let path = fixture.checkout(&repository.url(), commit);
    let read = |name: &str| fs::read_to_string(path.join(name)).expect("a file");
    assert_eq!(read("windows"), "a\r\nb\r\n");
    assert_eq!(read("plain"), "a\nb\n");
    assert_eq!(read("filtered"), "as it is");
}

#[test]
fn tools_find_the_version_and_a_clean_repository_without_the_database() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    repository.git(&["tag", "--annotate", "v1.2", "--message", "v1.2"]);
    repository.git(&["tag", "light"]);
    let commit = repository.commit("x", "2");
    let path = fixture.checkout(&repository.url(), commit);
    fs::remove_dir_all(&fixture.places.databases).expect("databases can go");
    fs::remove_dir_all(&repository.path).expect("the remote can go");
    let described = git(&path, &["describe", "--dirty", "--long", "--match", "v*"], b"");
    assert_eq!(described, format!("v1.2-1-g{}", commit.short()));
    assert_eq!(git(&path, &["status", "--porcelain"], b""), "");
    assert_eq!(git(&path, &["rev-parse", "HEAD"], b""), commit.to_string());
    assert_eq!(git(&path, &["rev-list", "--count", "HEAD"], b""), "2");
    assert_eq!(git(&path, &["ls-files"], b""), "x");
    git(&path, &["fsck", "--strict", "--no-dangling"], b"");
    // The checkout is complete as long as nobody touches it.
    assert_eq!(fixture.checkout(&repository.url(), commit), path);
}

#[test]
fn a_tag_that_was_moved_is_known_where_it_is() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.git(&["tag", "latest"]);
    let url = repository.url();
    fixture.checkout(&url, first);
    let second = repository.commit("x", "2");
    repository.git(&["tag", "--force", "latest"]);
    assert_eq!(fixture.resolve(&url, Reference::Tag("latest".to_owned())), second);
    let path = fixture.checkout(&url, second);
    assert_eq!(git(&path, &["describe", "--tags"], b""), "latest");
}

#[test]
fn a_commit_that_no_branch_has_any_more_is_fetched_by_its_name() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    let lost = repository.commit("x", "2");
    repository.git(&["reset", "--quiet", "--hard", &first.to_string()]);
    repository.commit("x", "3");
    let path = fixture.checkout(&repository.url(), lost);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "2");
    let path = fixture.checkout(&repository.url(), first);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
}

#[test]
fn a_commit_that_is_nowhere_is_an_error() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    let nowhere = "1234567890123456789012345678901234567890".parse().expect("a commit");
    let error = fixture.try_checkout(&repository.url(), nowhere).expect_err("it is nowhere");
    assert!(matches!(error, GitError::NoSuchCommit { .. }), "{error:?}");
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]).parse().expect("an object");
    let error = fixture.try_checkout(&repository.url(), tree).expect_err("it is a tree");
    assert!(matches!(error, GitError::NotACommit { .. } | GitError::NoSuchCommit { .. }), "{error:?}");
}

#[test]
fn a_commit_in_the_database_needs_no_remote() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    let second = repository.commit("x", "2");
    let url = repository.url();
    fixture.checkout(&url, second);
    fs::remove_dir_all(&repository.path).expect("the remote can go");
    let path = fixture.checkout(&url, first);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
    fs::remove_dir_all(&fixture.places.checkouts).expect("checkouts can go");
    fixture.checkout(&url, second);
}

#[test]
fn the_history_of_a_checkout_ends_where_that_of_the_remote_does() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    let first = repository.commit("x", "2");
    repository.git(&["checkout", "--quiet", "-b", "side"]);
    let second = repository.commit("x", "3");
    let (from, to) = (repository.url(), fixture.path("b"));
    git(&fixture.path(""), &["clone", "--quiet", "--bare", "--no-single-branch", "--depth=1", from.as_str(), "b"], b"");
    let url = RepositoryUrl::parse(to.to_str().expect("UTF-8")).expect("an address");
    // Both are fetched.
    fixture.resolve(&url, Reference::Rev(first.to_string()[..8].to_owned()));
    for commit in [first, second] {
        let path = fixture.checkout(&url, commit);
        assert_eq!(git(&path, &["log", "--format=%H"], b""), commit.to_string());
        assert_eq!(fs::read_to_string(path.join(".git/shallow")).expect("a file"), format!("{commit}\n"));
    }
}

#[test]
fn names_that_differ_in_case_or_follow_a_shorter_one_can_be_fetched() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit("x", "1");
    repository.git(&["branch", "topic"]);
    let url = repository.url();
    fixture.resolve(&url, Reference::Rev(first.to_string()[..8].to_owned()));
    repository.git(&["branch", "--delete", "--force", "topic"]);
    repository.git(&["branch", "topic/one"]);
    repository.git(&["branch", "Main"]);
    let second = repository.commit("x", "2");
    assert_eq!(fixture.resolve(&url, Reference::Rev(second.to_string()[..8].to_owned())), second);
}

/// Damages a fresh database, in which nothing is linked to a checkout.
fn damaged(how: impl FnOnce(&Path)) {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    // Content that does not compress, so that there is something to damage.
    let content: String = (0u32..4000).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let commit = repository.commit("x", &content);
    let url = repository.url();
    fixture.resolve(&url, Reference::Rev(commit.to_string()[..8].to_owned()));
    how(&fixture.places.database(&url));
    let path = fixture.checkout(&url, commit);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), content);
    let second = repository.commit("x", "2");
    fixture.checkout(&url, second);
}

fn change(database: &Path, extension: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let packs = fs::read_dir(database.join("objects/pack")).expect("packs");
    let path = packs
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .expect("a pack");
    let mut content = fs::read(&path).expect("a file");
    how(&mut content);
    fs::remove_file(&path).expect("it can go");
    fs::write(&path, content).expect("a file");
}

#[test]
fn a_database_with_a_changed_pack_is_fetched_anew() {
    damaged(|database| {
        change(database, "pack", |content| {
            let middle = content.len() / 2;
            content[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
        });
    });
}

#[test]
fn a_database_with_a_truncated_pack_is_fetched_anew() {
    damaged(|database| change(database, "pack", |content| content.truncate(content.len() / 3)));
}

#[test]
fn a_database_with_an_empty_index_is_fetched_anew() {
    damaged(|database| change(database, "idx", Vec::clear));
}

#[test]
fn a_database_without_its_packs_is_fetched_anew() {
    damaged(|database| fs::remove_dir_all(database.join("objects/pack")).expect("packs can go"));
}

#[test]
fn a_database_without_head_is_fetched_anew() {
    damaged(|database| fs::write(database.join("HEAD"), "").expect("a file"));
}

#[test]
fn a_database_with_malformed_references_is_fetched_anew() {
    damaged(|database| {
        change(database, "idx", Vec::clear);
        fs::write(database.join("packed-refs"), "\0\0 nonsense").expect("a file");
    });
}

#[test]
fn what_a_killed_fetch_left_does_not_stand_in_the_way() {
    damaged(|database| {
        for lock in ["packed-refs.lock", "HEAD.lock", "shallow.lock", "refs/heads/main.lock"] {
            fs::write(database.join(lock), "").expect("a file");
        }
        fs::write(database.join("objects/pack/.tmpAbCdEf"), "half a pack").expect("a file");
        fs::write(database.join("objects/pack/pack-1234.pack"), "a pack without an index").expect("a file");
        let name = database.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let unfinished = database.with_file_name(format!(".doge-{name}-x"));
        fs::create_dir_all(unfinished.join("database/objects")).expect("a directory");
    });
}

#[test]
fn what_a_killed_checkout_left_is_not_taken_for_one() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    let commit = repository.commit("y", "2");
    let url = repository.url();
    let target = fixture.places.checkout(&url, commit, false);
    // One that was being made, and one whose deletion had begun.
    let unfinished = target.with_file_name(".doge-abcdef");
    fs::create_dir_all(unfinished.join("new/.git")).expect("a directory");
    fs::create_dir_all(target.join(".git")).expect("a directory");
    fs::write(target.join("z"), "from another life").expect("a file");
    assert!(!is_complete(&target) && !is_complete(&unfinished.join("new")));
    assert_eq!(fixture.checkout(&url, commit), target);
    assert!(is_complete(&target));
    assert_eq!(files(&target), ["x", "y"]);
    let left: Vec<_> = fs::read_dir(target.parent().expect("a parent")).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_checkout_of_another_commit_under_the_same_name_is_replaced() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    let path = fixture.checkout(&repository.url(), commit);
    let marker = path.join(".git/doge-checkout");
    let content = fs::read_to_string(&marker).expect("a marker");
    let name = commit.to_string();
    let (rest, last) = name.split_at(39);
    let other = if last == "0" { "1" } else { "0" };
    fs::write(&marker, content.replace(&name, &format!("{rest}{other}"))).expect("a file");
    fs::write(path.join("x"), "of the other").expect("a file");
    fixture.checkout(&repository.url(), commit);
    assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
}

/// A checkout with a file, a link, a program and a submodule, whose remotes are gone.
fn checked_out() -> (Fixture, RepositoryUrl, Commit, PathBuf) {
    let fixture = Fixture::new();
    fixture.repository("sub").commit("s", "1");
    let repository = fixture.repository("a");
    repository.commit("x", "1");
    let (blob, link) = (repository.blob("#!/bin/sh\n"), repository.blob("x"));
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("100755,{blob},program")]);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("120000,{link},link")]);
    repository.git(&["checkout", "--quiet", "--", "."]);
    repository.git(&["submodule", "--quiet", "add", "../sub", "deep/m"]);
    let commit = repository.commit_all("all");
    let url = repository.url();
    let path = fixture.checkout(&url, commit);
    for remote in ["a", "sub"] {
        fs::remove_dir_all(fixture.path(remote)).expect("remotes can go");
    }
    (fixture, url, commit, path)
}

#[cfg(unix)]
#[test]
fn a_checkout_in_which_something_was_changed_is_made_anew() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (fixture, url, commit, path) = checked_out();
    let changes: [(&str, &dyn Fn()); 11] = [
        ("an edit of the same size", &|| fs::write(path.join("x"), "2").expect("a file")),
        ("a file more", &|| fs::write(path.join("deep/y"), "").expect("a file")),
        ("a directory more", &|| fs::create_dir(path.join("build")).expect("a directory")),
        ("a file less", &|| fs::remove_file(path.join("x")).expect("a file")),
        ("a program that is none", &|| {
            fs::set_permissions(path.join("program"), PermissionsExt::from_mode(0o644)).expect("a file");
        }),
        ("a link that leads elsewhere", &|| {
            fs::remove_file(path.join("link")).expect("a link");
            symlink("y", path.join("link")).expect("a link");
        }),
        ("a file in a submodule", &|| fs::write(path.join("deep/m/s"), "2").expect("a file")),
        ("a tag", &|| drop(git(&path, &["tag", "more"], b""))),
        ("a tag in a submodule", &|| drop(git(&path.join("deep/m"), &["tag", "more"], b""))),
        ("a setting", &|| drop(git(&path, &["config", "a.b", "c"], b""))),
        ("a repository without its objects", &|| {
            fs::remove_dir_all(path.join(".git/objects/pack")).expect("a directory");
        }),
    ];
    for (what, change) in changes {
        assert!(is_complete(&path), "before {what}");
        change();
        assert!(!is_complete(&path), "{what}");
        assert_eq!(fixture.checkout(&url, commit), path);
        assert!(is_complete(&path), "after {what}");
        assert_eq!(files(&path), [".gitmodules", "deep/m/s", "link", "program", "x"], "{what}");
        assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1", "{what}");
        assert_eq!(git(&path, &["tag"], b""), "", "{what}");
    }
}

#[test]
fn what_git_writes_when_it_is_asked_is_no_change() {
    let (fixture, url, commit, path) = checked_out();
    let marker = || fs::metadata(path.join(".git/doge-checkout")).and_then(|marker| marker.modified()).expect("a file");
    let before = marker();
    for directory in [path.clone(), path.join("deep/m")] {
        // So that git has something to write into its index.
        fs::remove_file(directory.join(".git/index")).expect("a file");
        git(&directory, &["read-tree", "HEAD"], b"");
        git(&directory, &["update-index", "--refresh"], b"");
        git(&directory, &["status"], b"");
        git(&directory, &["describe", "--always", "--dirty"], b"");
        git(&directory, &["log", "--all"], b"");
    }
    assert!(is_complete(&path));
    assert_eq!(fixture.checkout(&url, commit), path);
    assert_eq!(marker(), before);
}

#[test]
fn an_interrupt_leaves_no_checkout() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    let url = repository.url();
    fixture.interrupt.store(true, Ordering::Relaxed);
    let error = fixture.try_checkout(&url, commit).expect_err("it is interrupted");
    assert!(matches!(error, GitError::Interrupted), "{error:?}");
    assert!(!fixture.places.checkout(&url, commit, false).exists());
    fixture.interrupt.store(false, Ordering::Relaxed);
    fixture.checkout(&url, commit);
}

#[test]
fn two_threads_make_one_checkout() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    let url = repository.url();
    let check = || {
        let target = fixture.places.checkout(&url, commit, false);
        // What is there is whole.
        if is_complete(&target) {
            assert_eq!(fs::read_to_string(target.join("x")).expect("a file"), "1");
        }
        let path = fixture.checkout(&url, commit);
        assert_eq!(fs::read_to_string(path.join("x")).expect("a file"), "1");
        fs::metadata(path.join(".git/doge-checkout")).and_then(|marker| marker.modified()).expect("a marker")
    };
    let (one, other) = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(check), scope.spawn(check));
        (one.join().expect("no panic"), other.join().expect("no panic"))
    });
    assert_eq!(one, other, "the second one took what the first one made");
}

#[test]
fn pointers_to_large_files_stay_and_large_files_need_the_program() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:\
                   2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\nsize 3\n";
    let blob = repository.blob(pointer);
    let attributes = repository.blob("large filter=lfs diff=lfs merge=lfs -text\n");
    let tree = [("100644", ".gitattributes", attributes.as_str()), ("100644", "large", &blob), ("100644", "z", &blob)];
    let commit = repository.commit_tree(&tree);
    let url = repository.url();
    let path = fixture.checkout(&url, commit);
    assert_eq!(fs::read_to_string(path.join("large")).expect("a file"), pointer);
    let error = checkout(&url, commit, true, &fixture.places, &fixture.options, &fixture.interrupt)
        .expect_err("there is no such large file");
    assert!(matches!(error, GitError::NoLfs { .. } | GitError::Lfs { .. } | GitError::LfsNotReady { .. }), "{error:?}");
    assert!(!fixture.places.checkout(&url, commit, true).exists());
}

#[test]
fn a_repository_without_large_files_needs_no_program() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let commit = repository.commit("x", "1");
    let path = checkout(&repository.url(), commit, true, &fixture.places, &fixture.options, &fixture.interrupt)
        .expect("there are no large files");
    assert_eq!(path, fixture.places.checkout(&repository.url(), commit, true));
    assert!(path.to_str().expect("UTF-8").ends_with("-lfs"));
    assert!(!is_complete(&fixture.places.checkout(&repository.url(), commit, false)));
}
