//! Git repositories: which commit a reference stands for, and the files of a commit in a directory.
//!
//! Everything here blocks and is called from the blocking pool. git is spoken by gix; the program `git` is needed only
//! for repositories on this machine (it reads them for us), for ssh, and for large files (LFS).
//!
//! # On disk
//!
//! - `db/<digest>` is a bare repository with what was fetched so far, whole histories, never shallow unless the remote
//!   is. `db/<digest>/modules/<digest>` are the databases of its submodules: they are under the same lock, so two
//!   repositories that share a submodule fetch it twice. `db/<digest>/lfs` holds large files.
//! - `checkouts/<digest>/<12 digits of the commit>[-lfs]` is a checkout.
//!
//! A checkout is what `git clone --recurse-submodules` would give: the files of the commit, and a real repository in
//! `.git` with a detached `HEAD`, the history, the tags and an index; so setuptools-scm and its like find the version,
//! and do not find a repository further up instead. Nothing in it refers to the database: packs are hard links (copies
//! where there are none), so it costs no space, and the database may be deleted. Our own files are in `.git` only;
//! `.git/doge-checkout` says that the checkout is complete,
//! and what is in it: one that was changed since is made anew when somebody wants to use it. Who uses one shares the lock
//! [`Places::use_lock`] meanwhile, and it is replaced under that lock only. What git itself writes when it is asked
//! something (the index) is no change.
//!
//! What git shows in a checkout and in its submodules follows from the commit, not from what else was fetched before:
//! only tags of its history are there, the address is the canonical one, and abbreviations have a fixed length. The one
//! thing that a commit does not say is which tags its history has: they are those that the remote had when it was asked
//! last before the checkout was made. Tags that are pushed later are not in it. (Without any, setuptools-scm and its
//! like would find no version.) The packs may hold more, which nothing leads to.
//!
//! # Crashes and concurrency
//!
//! [`resolve`] and [`checkout`] hold one lock per [`RepositoryUrl::digest`] while they work on its database, among
//! threads as among processes: `locks/git-<digest>.lock`, which lies beside what it protects and not in it, for a
//! database may be deleted. So of several that want one commit one fetches it. A checkout that is complete, and
//! [`is_complete`], need none. **Invariant:** a directory with its final name is whole: databases and checkouts are made
//! beside it and renamed. What a killed process leaves (`.doge-…` beside checkouts and databases; lock files and temporary
//! packs in a database) is swept away by the next one that holds the lock. Nothing is synced to disk: after a loss of
//! power a damaged database is noticed when it is read, deleted and fetched anew, once.
//!
//! # Configuration
//!
//! The user's git configuration does not change what a checkout holds: no filter drivers, no `autocrlf`, no `insteadOf`,
//! no hooks, no global attributes. Databases are opened with [`gix::open::Permissions::isolated`]. A second view, with
//! system, global and environment configuration allowed, serves two things only: `credential.*` and, for http,
//! `http.proxy`, `http.sslCAInfo` and `http.followRedirects`. `http.<url>.*` is not looked at, `http.sslVerify` and
//! `http.extraHeader` are ignored. The variables for proxies are read by the HTTP client. Logins are sent over https only,
//! and over http to this machine; they come from the address as it was written, from git's credential helpers, and from
//! the credential store, in this order ([`Options`]). ssh is the program `ssh` with its own configuration. Nobody is ever
//! asked on the terminal. `text`, `eol`, `ident` and `working-tree-encoding` of the repository's own `.gitattributes`
//! hold.

mod checkout;
mod database;
mod error;
mod fetch;
mod lfs;
mod lock;
mod login;
mod programs;
mod submodule;
mod url;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use doge::storage::Locks;
use gix::ObjectId;
use serde::{Deserialize, Serialize};

pub(super) use checkout::MARKER;
pub use error::{Cause, GitError};
pub use login::{Credentials, Login};
pub use programs::Programs;
pub use url::RepositoryUrl;

use error::Failure;

/// A commit by its full name. Repositories with SHA-256 names are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Commit(ObjectId);

impl Commit {
    /// The first twelve digits, as in names of directories and in messages.
    pub fn short(&self) -> String {
        self.0.to_hex_with_len(12).to_string()
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Commit {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let malformed = || GitError::MalformedCommit { text: text.to_owned() };
        if text.len() != 40 {
            return Err(malformed());
        }
        ObjectId::from_hex(text.as_bytes()).map(Self).map_err(|_| malformed())
    }
}

impl TryFrom<String> for Commit {
    type Error = GitError;

    fn try_from(text: String) -> Result<Self, GitError> {
        text.parse()
    }
}

impl From<Commit> for String {
    fn from(commit: Commit) -> Self {
        commit.to_string()
    }
}

/// What a source asks of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// What the remote's `HEAD` points to.
    #[default]
    DefaultBranch,
    /// The tip of a branch.
    Branch(String),
    /// The commit of a tag, lightweight or annotated.
    Tag(String),
    /// A full or abbreviated commit, a branch, a tag or a full name (`refs/…`), whichever there is.
    ///
    /// 40 hexadecimal digits are that commit. 7 to 39 of them are looked for in the database first, then as a name, then
    /// among all commits of the remote; 4 to 6 are a name first, for `cafe` is a likelier branch. A branch precedes a
    /// tag.
    Rev(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultBranch => f.write_str("default branch"),
            Self::Branch(name) => write!(f, "branch `{name}`"),
            Self::Tag(name) => write!(f, "tag `{name}`"),
            Self::Rev(name) => write!(f, "branch, tag or commit `{name}`"),
        }
    }
}

/// Where databases and checkouts are kept. On one file system, so that packs can be linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// One bare repository per address.
    pub databases: PathBuf,
    /// Checkouts, grouped by address.
    pub checkouts: PathBuf,
    /// Locks between those who work on a database.
    pub locks: PathBuf,
}

impl Places {
    /// `db`, `checkouts` and `locks` below `root`.
    pub fn below(root: &Path) -> Self {
        Self { databases: root.join("db"), checkouts: root.join("checkouts"), locks: root.join("locks") }
    }

    /// The database of a repository, whether it is there or not.
    pub fn database(&self, url: &RepositoryUrl) -> PathBuf {
        self.databases.join(url.digest())
    }

    /// The file that whoever works on the database of a repository has locked.
    pub fn lock(&self, url: &RepositoryUrl) -> PathBuf {
        Locks::new(&self.locks).path(&format!("git-{}", url.digest()))
    }

    /// The file that whoever uses a checkout shares the lock of, and whoever replaces it has locked.
    pub fn use_lock(&self, url: &RepositoryUrl, commit: Commit, lfs: bool) -> PathBuf {
        let suffix = if lfs { "-lfs" } else { "" };
        Locks::new(&self.locks).path(&format!("checkout-{}-{}{suffix}", url.digest(), commit.short()))
    }

    /// The directory of a checkout, whether it is there or not.
    pub fn checkout(&self, url: &RepositoryUrl, commit: Commit, lfs: bool) -> PathBuf {
        let suffix = if lfs { "-lfs" } else { "" };
        self.checkouts.join(url.digest()).join(format!("{}{suffix}", commit.short()))
    }
}

/// Hears the name of whoever holds what is needed.
pub type Waiting = Arc<dyn Fn(&str) + Send + Sync>;

/// How remotes may be asked.
#[derive(Clone, Default)]
pub struct Options {
    /// Ask repositories on this machine only. What is in a database is taken from there all the same.
    pub offline: bool,
    /// Logins that stand in the address, as somebody wrote it. Asked before the credential helpers of git, or after
    /// all others if there is a name only.
    pub written: Option<Credentials>,
    /// Asked when no credential helper of git knows the server.
    pub stored: Option<Credentials>,
    /// Told who is waited for.
    pub waiting: Option<Waiting>,
    /// What runs meanwhile.
    pub programs: Programs,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("offline", &self.offline)
            .field("written", &self.written.as_ref().map(|_| ".."))
            .field("stored", &self.stored.as_ref().map(|_| ".."))
            .field("waiting", &self.waiting.as_ref().map(|_| ".."))
            .finish()
    }
}

impl Options {
    fn waiting_for(&self, holder: &str) {
        if let Some(waiting) = &self.waiting {
            waiting(holder);
        }
    }
}

/// Which commit a reference stands for now.
///
/// Costs one question to the remote, for abbreviated commits that are not in the database a fetch of all branches and
/// tags; nothing at all for a full commit, which is not looked for: [`checkout`] does. Writes to the database only.
///
/// # Errors
///
/// [`GitError::NoSuchReference`] if the remote does not have it, [`GitError::Ambiguous`] if an abbreviation stands for
/// several commits, and whatever may happen on the way to the remote.
pub fn resolve(
    url: &RepositoryUrl,
    reference: &Reference,
    places: &Places,
    options: &Options,
    interrupt: &AtomicBool,
) -> Result<Commit, GitError> {
    if let Reference::Rev(name) = reference
        && let Ok(commit) = name.parse()
    {
        return Ok(commit);
    }
    let session = Session { options, interrupt };
    let _lock = lock::acquire(session, url, places)?;
    repairing(|| fetch::resolve(session, url, reference, &places.database(url)))
}

/// The files of a commit, in a directory that stays as it is.
///
/// A complete checkout is taken as it is, without a look at the remote or the database. One in which anything was changed
/// is made anew, once nobody uses it. A commit that is in the database is not fetched. Otherwise the remote is asked for that commit, and if it does not give commits by name, for all its
/// branches and tags. With `lfs` large files are fetched by the program `git lfs`, if there are any; without, pointer
/// files stay.
///
/// # Errors
///
/// [`GitError::NoSuchCommit`] if the remote does not have it, and everything that may happen to a fetch, to files and
/// to submodules. After an error, and after [`GitError::Interrupted`], there is no checkout.
///
/// The interrupt is heeded between steps, while a pack is received, while files are written and while others are waited
/// for. A server that says
/// nothing is given up after a minute.
pub fn checkout(
    url: &RepositoryUrl,
    commit: Commit,
    lfs: bool,
    places: &Places,
    options: &Options,
    interrupt: &AtomicBool,
) -> Result<PathBuf, GitError> {
    checkout_by(url, commit, lfs, places, options, interrupt, false)
}

/// The same; who is alone with the checkout already holds its lock.
pub(crate) fn checkout_by(
    url: &RepositoryUrl,
    commit: Commit,
    lfs: bool,
    places: &Places,
    options: &Options,
    interrupt: &AtomicBool,
    is_alone: bool,
) -> Result<PathBuf, GitError> {
    let target = places.checkout(url, commit, lfs);
    let is_there = || checkout::unchanged(&target) == Some(commit);
    if is_there() {
        return Ok(target);
    }
    let session = Session { options, interrupt };
    // This one first: who builds for hours in a checkout that it has changed must not keep others from the database.
    let unused = || lock::acquire_checkout(session, &places.use_lock(url, commit, lfs), url);
    let _unused = (!is_alone).then(unused).transpose()?;
    let _lock = lock::acquire(session, url, places)?;
    // Whoever had the lock may have wanted the same.
    if !is_there() {
        repairing(|| checkout::make(session, url, commit, lfs, &places.database(url), &target))?;
    }
    Ok(target)
}

/// Whether a directory is a checkout that was finished and not changed since. Costs a look at each of its files.
pub fn is_complete(path: &Path) -> bool {
    checkout::unchanged(path).is_some()
}

/// What tells a checkout from one that was made in its place: the file that says that it is complete.
pub(crate) fn made(checkout: &Path) -> PathBuf {
    checkout.join(".git").join(MARKER)
}

/// What one call works with.
#[derive(Clone, Copy)]
struct Session<'a> {
    options: &'a Options,
    interrupt: &'a AtomicBool,
}

impl Session<'_> {
    fn go_on(self) -> Result<(), GitError> {
        // A flag that guards no other memory; a late look costs one more step.
        if self.interrupt.load(Ordering::Relaxed) { Err(GitError::Interrupted) } else { Ok(()) }
    }

    fn may_ask(self, url: &RepositoryUrl) -> Result<(), GitError> {
        if self.options.offline && !url.is_local() { Err(GitError::Offline { url: url.clone() }) } else { Ok(()) }
    }
}

/// Tries again after a damaged database was deleted: once for each.
fn repairing<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, GitError> {
    let mut deleted = BTreeSet::new();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Answer(error)) => return Err(error),
            Err(Failure::Damaged { database, cause }) => {
                if !deleted.insert(database.clone()) {
                    return Err(GitError::Damaged { database, source: cause });
                }
                database::delete(&database)?;
            }
        }
    }
}
