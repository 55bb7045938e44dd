//! What can go wrong with a repository.
//!
//! What gix and programs say is kept as text, for it may name addresses: credentials are taken out of it once, here.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

use super::url::RepositoryUrl;
use super::{Commit, Reference};
use crate::redact::text_without_credentials;

/// Why a repository gave no commit or no checkout.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum GitError {
    /// A text that is not the address of a repository.
    #[error("`{text}` is not the address of a git repository: {reason}")]
    #[diagnostic(help("an address looks like https://example.com/owner/name.git, or is an absolute path"))]
    MalformedUrl {
        /// The text, without credentials.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A text that is not the name of a commit.
    #[error("`{text}` is not the full name of a commit")]
    #[diagnostic(help("the full name has 40 hexadecimal digits"))]
    MalformedCommit {
        /// The text.
        text: String,
    },
    /// The network would be needed and is off.
    #[error("{url} is not at hand, and downloading is off")]
    #[diagnostic(help("run once without `--offline`"))]
    Offline {
        /// The repository.
        url: RepositoryUrl,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{url} has no {reference}")]
    #[diagnostic(help("check its spelling, and whether it was pushed"))]
    NoSuchReference {
        /// The repository.
        url: RepositoryUrl,
        /// What was looked for.
        reference: Reference,
    },
    /// Several commits begin like that.
    #[error("`{prefix}` stands for several commits of {url}: {}", list(candidates))]
    #[diagnostic(help("give more digits"))]
    Ambiguous {
        /// The repository.
        url: RepositoryUrl,
        /// The beginning.
        prefix: String,
        /// The commits, at most ten.
        candidates: Vec<Commit>,
    },
    /// The repository does not give the commit.
    #[error("{url} has no commit {commit}")]
    #[diagnostic(help("it may have been removed by a forced push, or never been pushed: pin another one"))]
    NoSuchCommit {
        /// The repository.
        url: RepositoryUrl,
        /// The commit.
        commit: Commit,
    },
    /// A name that stands for a file, a directory or nothing a checkout could be made of.
    #[error("`{name}` of {url} is not a commit")]
    NotACommit {
        /// The repository.
        url: RepositoryUrl,
        /// The object.
        name: String,
    },
    /// The server cannot be reached, or does not speak git.
    #[error("{url} cannot be reached")]
    #[diagnostic(help("check the address, the network and the proxy"))]
    Unreachable {
        /// The repository.
        url: RepositoryUrl,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// The server wants to know who asks.
    #[error("{url} does not exist, or wants a login")]
    #[diagnostic(help(
        "check the address; a login is taken from a credential helper of git, and from where `pixi auth login` or \
         `rattler auth login` keep it for the host"
    ))]
    Login {
        /// The repository.
        url: RepositoryUrl,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// The server does not take the login that is known.
    #[error("{url} does not take the login that {from}")]
    #[diagnostic(help("correct it there, and check that it may read the repository"))]
    LoginRefused {
        /// The repository.
        url: RepositoryUrl,
        /// Who gives the login.
        from: &'static str,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// There is a login, which everybody on the way could read.
    #[error("{url} wants a login, which would be sent in clear text")]
    #[diagnostic(help("use the `https` address of the repository"))]
    LoginInClear {
        /// The repository.
        url: RepositoryUrl,
    },
    /// The transfer broke off.
    #[error("{url} could not be fetched")]
    #[diagnostic(help("try again; if it stays, see whether `git clone` of that address works"))]
    Fetch {
        /// The repository.
        url: RepositoryUrl,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// A program is needed that is not installed.
    #[error("{url} needs the program `{program}`, which is not installed")]
    #[diagnostic(help("local repositories are read by `git`, addresses with `ssh:` by `git` and `ssh`: install it"))]
    NoProgram {
        /// The repository.
        url: RepositoryUrl,
        /// The program.
        program: &'static str,
    },
    /// The copy of the repository in the cache is damaged, and so is a new one.
    #[error("{} is damaged again after it was made anew", database.display())]
    #[diagnostic(help("check the disk, and the repository itself with `git fsck`"))]
    Damaged {
        /// The copy.
        database: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// A path in the commit that nothing may be written to.
    #[error("{commit} of {url} holds the path `{path}`, which must not be written: {reason}")]
    #[diagnostic(help("the commit is malformed, maybe on purpose: do not use it"))]
    HostileTree {
        /// The repository.
        url: RepositoryUrl,
        /// The commit.
        commit: Commit,
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two files of the commit have one name on this file system.
    #[error("{commit} of {url} holds several files that are `{path}` on this file system")]
    #[diagnostic(help("use a case-sensitive file system for the cache directory"))]
    Collision {
        /// The repository.
        url: RepositoryUrl,
        /// The commit.
        commit: Commit,
        /// One of the paths.
        path: String,
    },
    /// The files could not be written.
    #[error("the checkout of {url} could not be written")]
    #[diagnostic(help("check the free space and the permissions of the cache directory"))]
    Write {
        /// The repository.
        url: RepositoryUrl,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// A submodule that cannot be had.
    #[error("the submodule at `{path}` of {url}: {reason}")]
    #[diagnostic(help("its entry in .gitmodules has to be corrected by whoever keeps the repository"))]
    Submodule {
        /// The repository that has it.
        url: RepositoryUrl,
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A submodule that could not be fetched or checked out.
    #[error("the submodule at `{path}` of {url} failed")]
    InSubmodule {
        /// The repository that has it.
        url: RepositoryUrl,
        /// Where it is.
        path: String,
        /// What went wrong.
        #[source]
        source: Box<GitError>,
    },
    /// Large files are wanted, and git-lfs is not there.
    #[error("{url} has large files (LFS), and the program `git lfs` is not installed")]
    #[diagnostic(help("install git and git-lfs, or leave `lfs` out of the source to get pointer files"))]
    NoLfs {
        /// The repository.
        url: RepositoryUrl,
    },
    /// git-lfs failed.
    #[error("the large files (LFS) of {url} could not be fetched")]
    #[diagnostic(help("see whether `git lfs pull` works in a clone of that address"))]
    Lfs {
        /// The repository.
        url: RepositoryUrl,
        /// What was said.
        #[source]
        source: Cause,
    },
    /// Large files are missing and may not be fetched.
    #[error("the large file `{path}` of {url} is not at hand")]
    #[diagnostic(help("run once without `--offline`, and see whether the server still has it"))]
    LfsNotReady {
        /// The repository.
        url: RepositoryUrl,
        /// One of them.
        path: String,
    },
    /// A file or a directory of ours could not be read or written.
    #[error("`{}` cannot be {action}", path.display())]
    #[diagnostic(help("check the permissions and the free space of the cache directory"))]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Whoever asked does not want it any more.
    #[error("interrupted")]
    Interrupted,
}

impl GitError {
    pub(super) fn io(path: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source: Arc::new(source) }
    }
}

fn list(commits: &[Commit]) -> String {
    commits.iter().map(Commit::short).collect::<Vec<_>>().join(", ")
}

/// What gix or a program said, from the outermost to the innermost, without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Cause(Arc<str>);

impl Cause {
    pub(super) fn new(text: &str) -> Self {
        Self(text_without_credentials(text.trim()).into())
    }
}

impl From<&gix::Error> for Cause {
    fn from(error: &gix::Error) -> Self {
        let mut said: Vec<String> = Vec::new();
        for error in error.iter_errors() {
            let text = error.to_string();
            // Many layers repeat what the one below says.
            if !text.is_empty() && !said.iter().any(|said| said.contains(&text)) {
                said.push(text);
            }
        }
        Self::new(&said.join(": "))
    }
}

impl From<gix::Error> for Cause {
    fn from(error: gix::Error) -> Self {
        Self::from(&error)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

/// Why an attempt ended: an answer, or a copy that has to be made anew before the next attempt.
#[derive(Debug)]
pub(super) enum Failure {
    Answer(GitError),
    Damaged { database: PathBuf, cause: Cause },
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::Answer(error)
    }
}
