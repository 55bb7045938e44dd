//! What is kept beside the store, and when it is collected.
//!
//! Each sort of thing is listed by a function here, with its size, its last use and how it is removed; the order in which
//! things of all sorts go is the store's business ([`doge::storage::Collection`]). Packages and repodata are shared with
//! pixi and go only when somebody asks for that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use doge::names_in;
use doge::storage::{Acquired, Amounts, Collected, Collection, Kept, Store, StoreOptions, try_acquire};

use crate::backend::QUESTIONS;
use crate::build::{ARTIFACTS, BUILDS};
use crate::database::CacheDirs;
use crate::prefix::remove_tree;

/// What may be kept of what is collected by itself, in bytes, unless somebody says otherwise.
pub const MAX_BYTES: u64 = 4 << 30;
/// What was not used for so long is not kept, unless somebody says otherwise.
pub const MAX_AGE: Duration = Duration::from_secs(90 * 86_400);

/// How long a collection after a run may take.
const WITHIN: Duration = Duration::from_secs(1);
/// How long one after a run waits for somebody who writes.
const PATIENCE: Duration = Duration::from_millis(100);

/// How much is kept, and for how long. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In bytes.
    pub max_bytes: Option<u64>,
    /// Since the last use.
    pub max_age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: Some(MAX_BYTES), max_age: Some(MAX_AGE) }
    }
}

/// The store of these caches, for those who use it without the engine.
pub fn store(caches: &CacheDirs, read_only: bool) -> Store {
    Store::open(options(caches, read_only))
}

fn options(caches: &CacheDirs, read_only: bool) -> StoreOptions {
    let mut options = StoreOptions::new(&caches.store);
    options.read_only = read_only;
    options.names = names_in;
    options
}

/// Collects after a run in a workspace that wrote to the store, if that is due: a day after the last time, or when too
/// much is kept.
pub fn after_run(caches: &CacheDirs, workspace: &Path, limits: Limits) -> Option<Collected> {
    let mut options = options(caches, false);
    options.lease_deadline = PATIENCE;
    let store = Store::open(options);
    if !store.is_collection_due(limits.max_bytes) {
        return None;
    }
    let collection = Collection {
        max_bytes: limits.max_bytes,
        older_than: limits.max_age,
        within: Some(WITHIN),
        kept: kept(caches),
        ..Collection::default()
    };
    collect_in(workspace, limits, false);
    // What is not collected now is collected after a later run.
    store.collect(&collection).inspect_err(|error| tracing::debug!(%error, "nothing was collected")).ok()
}

/// What is kept beside the store and collected with it.
pub fn kept(caches: &CacheDirs) -> Vec<Kept> {
    let mut kept = Vec::new();
    for file in files_below(&caches.solutions) {
        kept.extend(Kept::file("solutions", file));
    }
    for file in files_below(&caches.logs()) {
        kept.extend(Kept::file("logs", file));
    }
    for file in files_below(&caches.store.join("locks")).into_iter().chain(files_below(&caches.sources.join("locks"))) {
        // As long as a run lives it may hold one of them or be about to.
        kept.extend(Kept::file("locks", file).map(|lock| Kept { needs_quiet: true, remove: remove_lock, ..lock }));
    }
    let sources = &caches.sources;
    for (kind, folder) in [
        ("checkouts", sources.join("unpacked")),
        ("repositories", sources.join("db")),
        ("source archives", sources.join("archives")),
        ("tools", caches.tools.join("envs")),
    ] {
        kept.extend(children(&folder).filter_map(|path| whole(kind, path)));
    }
    for repository in children(&sources.join("checkouts")) {
        kept.extend(children(&repository).filter_map(|path| whole("checkouts", path)));
    }
    kept
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Collects what builds leave in a workspace, what was not used for longest first, and says what there was and what went.
///
/// It has the limits of the cache and is counted apart: what one workspace holds takes no room from the results of others.
/// Nothing waits for runs that are under way: who builds has a lock, and an archive that is missed is built again.
pub fn collect_in(workspace: &Path, limits: Limits, dry_run: bool) -> BTreeMap<&'static str, Amounts> {
    let mut kept = kept_in(workspace);
    kept.sort_by_key(|kept| kept.last_use);
    let mut left: u64 = kept.iter().map(|kept| kept.bytes).sum();
    let now = SystemTime::now();
    let mut kinds: BTreeMap<&'static str, Amounts> = BTreeMap::new();
    for kept in kept {
        let amounts = kinds.entry(kept.kind).or_default();
        amounts.before.count += 1;
        amounts.before.bytes += kept.bytes;
        amounts.oldest.get_or_insert(kept.last_use);
        amounts.newest = Some(kept.last_use);
        let age = now.duration_since(kept.last_use).unwrap_or_default();
        let is_old = limits.max_age.is_some_and(|max| age >= max);
        let is_too_much = limits.max_bytes.is_some_and(|max| left > max);
        if (is_old || is_too_much) && (dry_run || (kept.remove)(&kept.path).is_ok()) {
            left -= kept.bytes;
            amounts.removed.count += 1;
            amounts.removed.bytes += kept.bytes;
        }
    }
    kinds
}

/// What builds leave in a workspace: packages, and directories to go on from.
fn kept_in(workspace: &Path) -> Vec<Kept> {
    let artifacts = children(&workspace.join(ARTIFACTS)).flat_map(|folder| children(&folder));
    let works = children(&workspace.join(BUILDS)).flat_map(|package| children(&package));
    let work = |kind| move |path| Some(Kept { remove: remove_work, ..whole(kind, path)? });
    let artifact = |path| Some(Kept { remove: remove_artifact, ..whole("artifacts", path)? });
    let artifacts = artifacts.flat_map(|folder| children(&folder)).filter_map(artifact);
    let questions = children(&workspace.join(QUESTIONS)).filter_map(work("questions"));
    artifacts.chain(works.filter_map(work("builds"))).chain(questions).collect()
}

/// Files that are read or written whenever what they are in is used.
const WITNESSES: [&str; 4] = [".git/doge-checkout", "conda-meta/doge-complete", "HEAD", ".lock"];

/// Something that goes as a whole, and that a run may need as long as it lives.
fn whole(kind: &'static str, path: PathBuf) -> Option<Kept> {
    let metadata = fs::symlink_metadata(&path).ok()?;
    let witnesses = WITNESSES.iter().filter_map(|name| fs::symlink_metadata(path.join(name)).ok());
    // To list a folder is to read it, so only of a file it says something when it was read. Most file systems note that
    // once a day.
    let times = witnesses.chain(metadata.is_file().then(|| metadata.clone()));
    let read = times.filter_map(|witness| Some(witness.modified().ok()?.max(witness.accessed().ok()?))).max();
    let last_use = metadata.modified().ok()?.max(read.unwrap_or(SystemTime::UNIX_EPOCH));
    let bytes = if metadata.is_dir() { size_of(&path).1 } else { metadata.len() };
    Some(Kept { kind, bytes, path, last_use, needs_quiet: true, remove: remove_whole })
}

/// Removes a package that was built, and the directory that it is alone in.
fn remove_artifact(path: &Path) -> io::Result<()> {
    remove_whole(path)?;
    // Another one may be there, too.
    let _ = path.parent().map(fs::remove_dir);
    Ok(())
}

/// Removes a directory that builds go on from or backends answer in, unless somebody is at work in it.
fn remove_work(path: &Path) -> io::Result<()> {
    match try_acquire(&path.join(".lock"), "removing what a build left")? {
        Acquired::Guard(_guard) => remove_whole(path),
        Acquired::Held(holder) => Err(io::Error::other(format!("{holder} works there"))),
    }
}

/// Removes a file or a folder, which disappears at once.
fn remove_whole(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    let aside = path.with_file_name(format!(".removing-{}-{}", std::process::id(), doge::RunId::new()));
    fs::rename(path, &aside)?;
    remove_tree(&aside)
}

/// Extracted packages, each a directory.
pub fn packages(caches: &CacheDirs) -> Vec<Kept> {
    let listing = fs::read_dir(&caches.packages).into_iter().flatten().flatten();
    let package = |entry: fs::DirEntry| {
        let path = entry.path();
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
        let written = metadata.modified().ok()?;
        // Whoever takes a package from the cache locks this file, and some write to it.
        let locked = fs::metadata(lock_of(&path)).and_then(|metadata| metadata.modified()).ok();
        let last_use = written.max(locked.unwrap_or(SystemTime::UNIX_EPOCH));
        Some(Kept {
            kind: "packages",
            bytes: size_of(&path).1,
            path,
            last_use,
            needs_quiet: true,
            remove: remove_package,
        })
    };
    listing.filter_map(package).collect()
}

/// What is known of channels, each a file.
pub fn repodata(caches: &CacheDirs) -> Vec<Kept> {
    let files = files_below(&caches.repodata).into_iter();
    files.filter_map(|file| Some(Kept { needs_quiet: true, ..Kept::file("repodata", file)? })).collect()
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

/// How many files there are below a directory, and how many bytes they have. What cannot be looked at counts nothing.
pub fn size_of(path: &Path) -> (u64, u64) {
    let mut size = (0, 0);
    for file in files_below(path) {
        if let Ok(metadata) = fs::symlink_metadata(file) {
            size = (size.0 + 1, size.1 + metadata.len());
        }
    }
    size
}

fn remove_lock(path: &Path) -> io::Result<()> {
    match try_acquire(path, "removing a lock that nobody has taken for long")? {
        Acquired::Guard(_guard) => fs::remove_file(path),
        Acquired::Held(holder) => Err(io::Error::other(format!("{holder} has it"))),
    }
}

fn lock_of(package: &Path) -> PathBuf {
    let mut path = package.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Removes an extracted package, unless somebody has locked it. It disappears at once, not file by file.
fn remove_package(path: &Path) -> io::Result<()> {
    let lock = fs::OpenOptions::new().append(true).create(true).open(lock_of(path))?;
    lock.try_lock().map_err(|_| io::Error::other("somebody is using it"))?;
    let aside = path.with_file_name(format!(".removing-{}-{}", std::process::id(), doge::RunId::new()));
    fs::rename(path, &aside)?;
    fs::remove_dir_all(aside)
}
