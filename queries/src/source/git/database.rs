//! Databases: bare repositories with what was fetched.
//!
//! **Invariant:** a database is used by one at a time (`lock`), so whatever is half-written in one that is being opened
//! was left by a process that is gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::hash::Kind::Sha1;
use gix::objs::Kind;
use gix::progress::Discard;

use super::error::{Cause, Failure, GitError};
use super::{Commit, Session};

/// Names of unfinished directories begin so.
pub(super) const UNFINISHED: &str = ".doge-";

/// Names of unfinished directories for this database begin so: its neighbours are under other locks.
fn unfinished(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    format!("{UNFINISHED}{name}-")
}

/// Opens a database, an empty one if there is none.
pub(super) fn open(path: &Path) -> Result<gix::Repository, Failure> {
    let damaged = |cause: Cause| Failure::Damaged { database: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        let unfinished = unfinished(path);
        sweep_directory(parent, &|name| name.starts_with(&unfinished)).map_err(GitError::io(parent, "read"))?;
    }
    if fs::symlink_metadata(path).is_err() {
        create(path)?;
    }
    sweep(path).map_err(|error| damaged(Cause::new(&error.to_string())))?;
    let options = isolated_options().config_overrides([
        // Names that a Mac takes for `.git` are refused everywhere: the files may be copied there.
        "core.protectHFS=true",
        "core.autocrlf=false",
        "core.logAllRefUpdates=false",
        "core.sshCommand=ssh -oBatchMode=yes",
        "ssh.variant=ssh",
    ]);
    gix::open_opts(path, options).map_err(|error| damaged(error.into()))
}

/// The same repository with the user's configuration: for credentials, proxy and certificates only.
pub(super) fn open_with_user_configuration(path: &Path) -> Option<gix::Repository> {
    let mut permissions = gix::open::Permissions::isolated();
    permissions.config = gix::open::permissions::Config::all();
    permissions.env.home = gix::sec::Permission::Allow;
    permissions.env.xdg_config_home = gix::sec::Permission::Allow;
    permissions.env.git_prefix = gix::sec::Permission::Allow;
    permissions.env.http_transport = gix::sec::Permission::Allow;
    let options = isolated_options()
        .permissions(permissions)
        .config_overrides(["gitoxide.credentials.helperStderr=false", "core.bare=true"]);
    // A broken configuration is no reason to fail: most repositories need none.
    gix::open_opts(path, options).ok()
}

fn isolated_options() -> gix::open::Options {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        // Ours, whoever owns the cache: nothing in it was written by the remote.
        .with(gix::sec::Trust::Full)
}

/// Whether the database has the commit.
pub(super) fn has(repository: &gix::Repository, commit: Commit) -> Result<bool, Failure> {
    match repository.try_find_header(commit.0) {
        Ok(header) => Ok(header.is_some_and(|header| matches!(header.kind(), Kind::Commit | Kind::Tag))),
        Err(error) => Err(Failure::Damaged { database: repository.git_dir().to_owned(), cause: error.into() }),
    }
}

/// The failure that an error of gix amounts to: the interrupt, damage to the database, or what `otherwise` makes of it.
///
/// Reads the whole database, which is worth it: a fetch that failed because of the network must not cost a good one.
pub(super) fn blame(
    session: Session<'_>,
    repository: &gix::Repository,
    error: &gix::Error,
    otherwise: impl FnOnce(Cause) -> GitError,
) -> Failure {
    if session.go_on().is_err() {
        return GitError::Interrupted.into();
    }
    unless_damaged(session, repository, otherwise(error.into()))
}

/// The answer that something is not there, unless the database is damaged: then it may only have been lost, and the
/// remote, which was told that we have it, did not send it.
pub(super) fn unless_damaged(session: Session<'_>, repository: &gix::Repository, error: GitError) -> Failure {
    match damage(repository, session.interrupt) {
        Some(_) if session.go_on().is_err() => GitError::Interrupted.into(),
        Some(cause) => Failure::Damaged { database: repository.git_dir().to_owned(), cause },
        None => error.into(),
    }
}

/// What is wrong with a database, if anything: packs that differ from their checksums, references to what is not there.
fn damage(repository: &gix::Repository, interrupt: &AtomicBool) -> Option<Cause> {
    let check = || -> gix::Result<()> {
        for pack in packs(repository.git_dir()) {
            let bundle = gix::odb::pack::Bundle::at(&pack, Sha1)?;
            bundle.index.verify_checksum(&mut Discard, interrupt)?;
            bundle.pack.verify_checksum(&mut Discard, interrupt)?;
        }
        for reference in repository.references()?.all()? {
            let reference = reference?;
            if let Some(id) = reference.try_id() {
                // The error names the object.
                repository.find_header(id.detach())?;
            }
        }
        Ok(())
    };
    check().err().map(Cause::from)
}

/// The packs that have an index: the others are not finished.
pub(super) fn packs(database: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(database.join("objects/pack")) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .collect()
}

/// Deletes a database. One that could be deleted only half is not left under its name.
pub(super) fn delete(path: &Path) -> Result<(), GitError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let aside = tempfile::Builder::new()
        .prefix(&unfinished(path))
        .tempdir_in(parent)
        .map_err(GitError::io(parent, "written to"))?;
    match fs::rename(path, aside.path().join("database")) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(GitError::io(path, "deleted")(error)),
    }
}

fn create(path: &Path) -> Result<(), GitError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(GitError::io(parent, "created"))?;
    let staging = tempfile::Builder::new()
        .prefix(&unfinished(path))
        .tempdir_in(parent)
        .map_err(GitError::io(parent, "written to"))?;
    let new = staging.path().join("database");
    let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
    write_skeleton(&new, "ref: refs/heads/main\n", config)?;
    fs::rename(&new, path).map_err(GitError::io(path, "created"))
}

/// The least that makes a directory a repository.
pub(super) fn write_skeleton(path: &Path, head: &str, config: &str) -> Result<(), GitError> {
    for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
        let directory = path.join(directory);
        fs::create_dir_all(&directory).map_err(GitError::io(&directory, "created"))?;
    }
    for (name, content) in [("HEAD", head), ("config", config)] {
        let file = path.join(name);
        fs::write(&file, content).map_err(GitError::io(&file, "written"))?;
    }
    Ok(())
}

/// Removes what a killed process left: locks, which would stop us, and temporary packs, which only take space.
fn sweep(database: &Path) -> io::Result<()> {
    let is_left = |name: &str| name.ends_with(".lock") || name.starts_with(".tmp");
    for directory in ["", "objects/pack"] {
        sweep_directory(&database.join(directory), &is_left)?;
    }
    let mut references = vec![database.join("refs")];
    while let Some(directory) = references.pop() {
        sweep_directory(&directory, &is_left)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                references.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Removes the entries of a directory that were left. What cannot be removed is left for the next one.
pub(super) fn sweep_directory(directory: &Path, is_left: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_left) {
            let path = entry.path();
            let _ = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
    Ok(())
}

/// The commits that begin with `prefix`, tags that begin so counting for theirs. `None` if it is no abbreviation.
pub(super) fn commits_with_prefix(repository: &gix::Repository, prefix: &str) -> Result<Option<Vec<Commit>>, Failure> {
    let Ok(prefix) = gix::hash::Prefix::from_hex(prefix) else { return Ok(None) };
    let damaged =
        |error: gix::Error| Failure::Damaged { database: repository.git_dir().to_owned(), cause: error.into() };
    let mut found = std::collections::HashSet::new();
    repository.objects.lookup_prefix(prefix, Some(&mut found)).map_err(damaged)?;
    let mut commits = Vec::new();
    for id in found {
        let object = repository.find_object(id).map_err(damaged)?;
        let commit: Option<ObjectId> = match object.kind {
            Kind::Commit => Some(id),
            Kind::Tag => object.peel_to_kind(Kind::Commit).ok().map(|commit| commit.id),
            Kind::Tree | Kind::Blob => None,
        };
        commits.extend(commit.map(Commit));
    }
    commits.sort_unstable();
    commits.dedup();
    Ok(Some(commits))
}
