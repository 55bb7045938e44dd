//! Repositories in a temporary directory, and places of our own beside them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use super::super::{Commit, GitError, Options, Places, Reference, RepositoryUrl, checkout, resolve};

pub(super) struct Fixture {
    root: tempfile::TempDir,
    pub(super) places: Places,
    pub(super) options: Options,
    pub(super) interrupt: AtomicBool,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let places = Places::below(&root.path().join("cache"));
        Self { root, places, options: Options::default(), interrupt: AtomicBool::new(false) }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A new repository, empty.
    pub(super) fn repository(&self, name: &str) -> Repository {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory");
        let repository = Repository { path };
        repository.git(&["init", "--quiet"]);
        repository
    }

    #[track_caller]
    pub(super) fn resolve(&self, url: &RepositoryUrl, reference: Reference) -> Commit {
        self.try_resolve(url, reference).expect("the reference stands for a commit")
    }

    pub(super) fn try_resolve(&self, url: &RepositoryUrl, reference: Reference) -> Result<Commit, GitError> {
        resolve(url, &reference, &self.places, &self.options, &self.interrupt)
    }

    #[track_caller]
    pub(super) fn checkout(&self, url: &RepositoryUrl, commit: Commit) -> PathBuf {
        self.try_checkout(url, commit).expect("the commit can be checked out")
    }

    pub(super) fn try_checkout(&self, url: &RepositoryUrl, commit: Commit) -> Result<PathBuf, GitError> {
        checkout(url, commit, false, &self.places, &self.options, &self.interrupt)
    }
}

/// A repository with a worktree.
pub(super) struct Repository {
    pub(super) path: PathBuf,
}

impl Repository {
    pub(super) fn url(&self) -> RepositoryUrl {
        RepositoryUrl::parse(self.path.to_str().expect("UTF-8")).expect("an address")
    }

    #[track_caller]
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments, b"")
    }

    /// Writes a file and commits everything.
    #[track_caller]
    pub(super) fn commit(&self, name: &str, content: &str) -> Commit {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
        self.commit_all(&format!("{name} is {content}"))
    }

    #[track_caller]
    pub(super) fn commit_all(&self, message: &str) -> Commit {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.commit_of("HEAD")
    }

    #[track_caller]
    pub(super) fn commit_of(&self, name: &str) -> Commit {
        self.git(&["rev-parse", &format!("{name}^{{commit}}")]).parse().expect("a commit")
    }

    /// Stores a tree as it is given, however malformed, and commits it. Entries are mode, name and object.
    #[track_caller]
    pub(super) fn commit_tree(&self, entries: &[(&str, &str, &str)]) -> Commit {
        let tree = self.tree(entries);
        let commit = self.git(&["commit-tree", &tree, "-m", "made by hand"]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
        commit.parse().expect("a commit")
    }

    #[track_caller]
    pub(super) fn tree(&self, entries: &[(&str, &str, &str)]) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            write!(content, "{mode} {name}\0").expect("memory");
            let id: gix::ObjectId = id.parse().expect("an object");
            content.extend_from_slice(id.as_slice());
        }
        git(&self.path, &["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], &content)
    }

    #[track_caller]
    pub(super) fn blob(&self, content: &str) -> String {
        git(&self.path, &["hash-object", "-w", "--stdin"], content.as_bytes())
    }
}

/// Runs git, independent of who runs the tests and when.
#[track_caller]
pub(super) fn git(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Doge", "-c", "user.email=doge@example.com", "-c", "protocol.file.allow=always"])
        .args(["-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false", "-c", "advice.detachedHead=false"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2020-02-02T20:20:20Z")
        .env("GIT_COMMITTER_DATE", "2020-02-02T20:20:20Z")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git is installed");
    child.stdin.take().expect("a pipe").write_all(input).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The files below a directory, without `.git`, sorted.
pub(super) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).expect("a directory") {
            let entry = entry.expect("an entry");
            if entry.file_name() == ".git" {
                continue;
            }
            if entry.file_type().expect("a type").is_dir() {
                directories.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(directory).expect("below");
                found.push(path.to_str().expect("UTF-8").replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}
