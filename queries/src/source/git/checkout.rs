//! Commits as directories.
//!
//! A checkout is made in a directory of its own beside the final one and renamed when it is complete. The paths of a
//! commit are checked before the first file is written: gix checks each part of a path, we check what they make
//! together, so that nothing is ever written through a symbolic link of the same commit.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::Kind;
use gix::progress::Discard;
use gix::worktree::stack::state::attributes::Source;

use super::error::{Cause, Failure, GitError};
use super::url::RepositoryUrl;
use super::{Commit, Session, database, fetch, lfs, submodule};
use crate::source::inventory;

/// Says that a checkout is complete, of which commit, and what is in it.
pub(in crate::source) const MARKER: &str = "doge-checkout";

/// What a marker begins with. To be changed when checkouts come to hold something else.
const FORMAT: &str = "doge checkout 3";

/// How many digits git shows where it is not said how many. Otherwise it shows as many as a database of that size needs.
const ABBREVIATION: usize = 12;

/// The commit of a finished checkout.
pub(super) fn completed(path: &Path) -> Option<Commit> {
    let marker = fs::read_to_string(path.join(".git").join(MARKER)).ok()?;
    let mut lines = marker.lines();
    (lines.next() == Some(FORMAT)).then_some(())?;
    lines.next()?.parse().ok()
}

/// The commit of a finished checkout in which nothing was changed.
pub(super) fn unchanged(path: &Path) -> Option<Commit> {
    let commit = completed(path)?;
    let marker = fs::read_to_string(path.join(".git").join(MARKER)).ok()?;
    (inventory::of(path).ok().as_deref() == marker.lines().nth(2)).then_some(commit)
}

/// Makes the checkout, in place of whatever is there.
pub(super) fn make(
    session: Session<'_>,
    url: &RepositoryUrl,
    commit: Commit,
    lfs: bool,
    database: &Path,
    target: &Path,
) -> Result<(), Failure> {
    // Before directories are made: most failures are failures to fetch.
    fetch::fetch_commit(session, url, commit, database)?;
    let Some(parent) = target.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(GitError::io(parent, "created"))?;
    database::sweep_directory(parent, &|name| name.starts_with(database::UNFINISHED))
        .map_err(GitError::io(parent, "read"))?;
    let staging = tempfile::Builder::new()
        .prefix(database::UNFINISHED)
        .tempdir_in(parent)
        .map_err(GitError::io(parent, "written to"))?;
    // Not the temporary directory itself, which nobody else may enter.
    let directory = staging.path().join("new");
    let work = Work { session, url, commit, lfs, database, root_database: database };
    submodule::fill(work, &directory, &[])?;
    session.go_on()?;
    let marker = directory.join(".git").join(MARKER);
    let inventory = inventory::of(&directory).map_err(GitError::io(&directory, "looked at"))?;
    fs::write(&marker, format!("{FORMAT}\n{commit}\n{inventory}\n")).map_err(GitError::io(&marker, "written"))?;
    // Somebody may have changed the old one, or begun to delete it.
    match fs::rename(target, staging.path().join("old")) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(GitError::io(target, "replaced")(error).into()),
    }
    match fs::rename(&directory, target) {
        Ok(()) => Ok(()),
        // Someone without the lock was faster.
        Err(_) if completed(target) == Some(commit) => Ok(()),
        Err(error) => Err(GitError::io(target, "written")(error).into()),
    }
}

/// One repository of a checkout.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) session: Session<'a>,
    pub(super) url: &'a RepositoryUrl,
    pub(super) commit: Commit,
    pub(super) lfs: bool,
    /// The database that has the commit.
    pub(super) database: &'a Path,
    /// The database of the outermost repository, which has those of the submodules in it.
    pub(super) root_database: &'a Path,
}

impl Work<'_> {
    /// Writes the files of one commit, without submodules, into a directory that is empty or not there.
    pub(super) fn write(self, directory: &Path) -> Result<(gix::Repository, gix::index::State), Failure> {
        let repository = database::open(self.database)?;
        fs::create_dir_all(directory).map_err(GitError::io(directory, "created"))?;
        let files = gix::fs::Capabilities::probe_dir(directory);
        let (head, mut index) = self.index(&repository, files)?;
        self.write_files(&repository, &mut index, files, directory)?;
        self.session.go_on()?;
        self.write_repository(&repository, head, &mut index, files, directory)?;
        if self.lfs {
            lfs::fetch(self, &repository, &index, directory)?;
        }
        Ok((repository, index))
    }

    /// The commit itself, and its files as they will be in the index.
    fn index(
        self,
        repository: &gix::Repository,
        files: gix::fs::Capabilities,
    ) -> Result<(Commit, gix::index::State), Failure> {
        let damaged = |error: gix::Error| Failure::Damaged { database: self.database.to_owned(), cause: error.into() };
        let object = repository.find_object(self.commit.0).map_err(damaged)?;
        let commit = match object.kind {
            Kind::Commit => object.into_commit(),
            Kind::Tag => match object.peel_to_kind(Kind::Commit) {
                Ok(object) => object.into_commit(),
                Err(_) => return Err(self.not_a_commit()),
            },
            Kind::Tree | Kind::Blob => return Err(self.not_a_commit()),
        };
        let head = Commit(commit.id);
        let tree = commit.tree_id().map_err(damaged)?.detach();
        let protection = gix::validate::path::component::Options {
            protect_windows: cfg!(windows),
            protect_hfs: true,
            protect_ntfs: true,
        };
        let index = gix::index::State::from_tree(&tree, &repository.objects, protection).map_err(|error| {
            if error.is_validation() {
                let path = error.to_string();
                let path =
                    path.strip_prefix("The path \"").and_then(|path| path.split_once("\" is")).map(|(path, _)| path);
                self.hostile(path.unwrap_or_default().into(), Cause::from(&error).to_string())
            } else {
                damaged(error)
            }
        })?;
        self.check_paths(&index, files.ignore_case)?;
        Ok((head, index))
    }

    fn not_a_commit(self) -> Failure {
        GitError::NotACommit { url: self.url.clone(), name: self.commit.to_string() }.into()
    }

    fn hostile(self, path: &BStr, reason: String) -> Failure {
        let path = path.to_string();
        GitError::HostileTree { url: self.url.clone(), commit: self.commit, path, reason }.into()
    }

    /// Refuses paths that are there twice, or inside something that is not a directory.
    fn check_paths(self, index: &gix::index::State, ignore_case: bool) -> Result<(), Failure> {
        let name = |path: &[u8]| -> BString { if ignore_case { path.to_lowercase().into() } else { path.into() } };
        let mut last: Option<&BStr> = None;
        let mut files = HashSet::with_capacity(index.entries().len());
        for entry in index.entries() {
            let path = entry.path(index);
            // Git writes trees sorted, and so they are read. Anything else hides doubles.
            if last.is_some_and(|last| last >= path) {
                return Err(self.hostile(path, "it is out of order, or there twice".to_owned()));
            }
            last = Some(path);
            if !files.insert(name(path)) {
                let path = path.to_string();
                return Err(GitError::Collision { url: self.url.clone(), commit: self.commit, path }.into());
            }
        }
        for entry in index.entries() {
            let path = entry.path(index);
            let mut parents = path.find_iter("/").map(|end| &path[..end]);
            if parents.any(|parent| files.contains(&name(parent))) {
                return Err(self.hostile(path, "it is inside something that is not a directory".to_owned()));
            }
        }
        Ok(())
    }

    fn write_files(
        self,
        repository: &gix::Repository,
        index: &mut gix::index::State,
        files: gix::fs::Capabilities,
        directory: &Path,
    ) -> Result<(), Failure> {
        let written = |source| GitError::Write { url: self.url.clone(), source };
        let failed = |error: gix::Error| database::blame(self.session, repository, &error, written);
        let mut options = repository.checkout_options(Source::IdMapping).map_err(failed)?;
        options.fs = files;
        options.destination_is_initially_empty = true;
        let objects = repository.objects.clone().into_arc().map_err(|error| written(Cause::new(&error.to_string())))?;
        let outcome = gix::worktree::state::checkout(
            index,
            directory,
            objects,
            &Discard,
            &Discard,
            self.session.interrupt,
            options,
        )
        .map_err(failed)?;
        // An interrupted checkout is no error to gix.
        self.session.go_on()?;
        if let Some(record) = outcome.errors.into_iter().next() {
            return Err(failed(record.error));
        }
        if let Some(collision) = outcome.collisions.into_iter().next() {
            let path = collision.path.to_string();
            return Err(GitError::Collision { url: self.url.clone(), commit: self.commit, path }.into());
        }
        Ok(())
    }

    /// Writes `.git`, which refers to nothing outside of it.
    ///
    /// What git shows of it follows from the commit, whatever else is in the database: what is neither in its history nor
    /// has a name is there only for who knows its full name.
    fn write_repository(
        self,
        repository: &gix::Repository,
        head: Commit,
        index: &mut gix::index::State,
        files: gix::fs::Capabilities,
        directory: &Path,
    ) -> Result<(), Failure> {
        let git = directory.join(".git");
        let lfs = if self.lfs { lfs::CONFIG } else { "" };
        let config = format!(
            "[core]\n\
             \trepositoryformatversion = 0\n\
             \tbare = false\n\
             \tfilemode = {}\n\
             \tsymlinks = {}\n\
             \tignorecase = {}\n\
             \tautocrlf = false\n\
             \tabbrev = {ABBREVIATION}\n\
             [gc]\n\
             \tauto = 0\n\
             [remote \"origin\"]\n\
             \turl = {}\n\
             \tfetch = +refs/heads/*:refs/remotes/origin/*\n\
             {lfs}",
            files.executable_bit,
            files.symlink,
            files.ignore_case,
            quoted(self.url.canonical().as_str()),
        );
        database::write_skeleton(&git, &format!("{head}\n"), &config)?;
        for index in database::packs(self.database) {
            for extension in ["pack", "idx"] {
                let from = index.with_extension(extension);
                if let Some(name) = from.file_name() {
                    link(&from, &git.join("objects/pack").join(name))?;
                }
            }
        }
        let past = self
            .past(repository, head)
            .map_err(|error| Failure::Damaged { database: self.database.to_owned(), cause: error.into() })?;
        self.session.go_on()?;
        if !past.shallow.is_empty() {
            let file = git.join("shallow");
            fs::write(&file, past.shallow).map_err(GitError::io(&file, "written"))?;
        }
        let packed = git.join("packed-refs");
        fs::write(&packed, past.tags).map_err(GitError::io(&packed, "written"))?;
        let state = std::mem::replace(index, gix::index::State::new(gix::hash::Kind::Sha1));
        let mut file = gix::index::File::from_state(state, git.join("index"));
        let written = file.write(Default::default());
        *index = file.into();
        written.map_err(|error| GitError::Write { url: self.url.clone(), source: error.into() }.into())
    }
}

/// What is known of the history of a commit, as files of git.
#[derive(Default)]
struct Past {
    /// The tags of its commits.
    tags: String,
    /// Those of its commits whose parents are not there.
    shallow: String,
}

impl Work<'_> {
    /// Looks through the history of a commit, unless nothing is known of any. An interrupt ends that early.
    fn past(self, repository: &gix::Repository, head: Commit) -> gix::Result<Past> {
        let mut tags = Vec::new();
        for tag in repository.references()?.tags()? {
            let mut tag = tag?;
            let Some(id) = tag.try_id().map(gix::Id::detach) else { continue };
            // Some stand for files.
            let Ok(commit) = tag.peel_to_commit() else { continue };
            tags.push((commit.id, format!("{id} {}\n", tag.name().as_bstr())));
        }
        let shallow = repository.shallow_commits()?;
        let shallow: Vec<gix::ObjectId> = shallow.iter().flat_map(|commits| commits.iter().copied()).collect();
        let mut wanted: HashSet<gix::ObjectId> =
            tags.iter().map(|(commit, _)| *commit).chain(shallow.clone()).collect();
        let mut found = HashSet::new();
        if !wanted.is_empty() {
            for commit in repository.rev_walk([head.0]).all()? {
                let id = commit?.id;
                if wanted.remove(&id) {
                    found.insert(id);
                }
                if wanted.is_empty() || self.session.go_on().is_err() {
                    break;
                }
            }
        }
        tags.retain(|(commit, _)| found.contains(commit));
        let mut shallow: Vec<String> =
            shallow.iter().filter(|id| found.contains(*id)).map(|id| format!("{id}\n")).collect();
        shallow.sort_unstable();
        Ok(Past { tags: tags.into_iter().map(|(_, line)| line).collect(), shallow: shallow.concat() })
    }
}

/// A value as git's configuration has it.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Packs never change, so a link is as good as a copy.
fn link(from: &Path, to: &Path) -> Result<(), GitError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => fs::copy(from, to).map(|_| ()).map_err(GitError::io(to, "written")),
    }
}
