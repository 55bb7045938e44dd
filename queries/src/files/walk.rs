//! Looking up which files globs name.
//!
//! The walk is ours, not that of the `ignore` crate: we have to know each folder that was listed, and trees of sources
//! are small enough that threads cost more than they save.
//!
//! Symbolic links are followed, except into a folder that we are in. Of all files by which git can be told to ignore
//! something only `.git/info/exclude` counts, and only for what no glob matches: what a backend asks for, it gets.
//! That makes it a matter of which folders are entered.
//!
//! What vanishes during the walk, or must not be read, is not there.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::patterns::{GlobError, GlobSet, Matcher, Reach, Verdict};

/// What a walk found, and what that rests on. All paths are absolute if that of the source is; each list is sorted, and
/// has no path twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The symbolic links that were found, whatever they lead to. Another one in the same place changes its folder.
    pub links: Vec<PathBuf>,
    /// Each folder that was listed. What is added to one of them, or taken away, may change the result.
    pub folders: Vec<PathBuf>,
    /// What else the result depends on: roots that are not there, files that tell what git ignores, whether they are
    /// there or not, and links that lead to nothing that could be used.
    pub looked_for: Vec<PathBuf>,
}

/// Walks a folder for the files that any of the sets names. It costs a listing for each folder that may hold such a
/// file, and is synchronous.
///
/// # Errors
///
/// If a set is malformed, see [`Matcher::new`], or if a folder cannot be read for a reason other than permissions.
pub(crate) fn walk(sets: &[GlobSet], base: &Path) -> Result<Walked, GlobError> {
    let mut seen = Seen::default();
    for set in sets {
        let matcher = Matcher::new(set, base)?;
        Walk { matcher: &matcher, seen: &mut seen }.run()?;
    }
    let list = |paths: BTreeSet<PathBuf>| paths.into_iter().collect();
    Ok(Walked {
        files: list(seen.files),
        links: list(seen.links),
        folders: list(seen.folders),
        looked_for: list(seen.looked_for),
    })
}

#[derive(Default)]
struct Seen {
    files: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    looked_for: BTreeSet<PathBuf>,
}

struct Walk<'a> {
    matcher: &'a Matcher,
    seen: &'a mut Seen,
}

/// A folder that is about to be entered.
struct Place {
    /// Its path from the root of the walk.
    path: PathBuf,
    /// Where it really is.
    real: PathBuf,
    closed: bool,
    reach: Reach,
    /// What git ignores in it.
    excluded: Option<Rc<Gitignore>>,
}

/// A folder that we are in.
struct Entered {
    place: Place,
    rest: std::vec::IntoIter<Entry>,
}

struct Entry {
    name: OsString,
    kind: FileType,
}

impl Walk<'_> {
    fn run(mut self) -> Result<(), GlobError> {
        let Some(reach) = self.matcher.reach() else { return Ok(()) };
        let root = self.matcher.root();
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if !is_absence(&error) => return Err(unreadable(root, error)),
            Ok(_) | Err(_) => {
                self.seen.looked_for.insert(root.to_owned());
                return Ok(());
            }
        }
        let real = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let excluded = self.excluded_above(root);
        // Recursion would leave the depth of a tree to the size of the stack.
        let mut within = Vec::new();
        within.extend(self.enter(Place { path: PathBuf::new(), real, closed: false, reach, excluded })?);
        while let Some(folder) = within.last_mut() {
            let Some(entry) = folder.rest.next() else {
                within.pop();
                continue;
            };
            if let Some(place) = self.visit(&entry, &within) {
                within.extend(self.enter(place)?);
            }
        }
        Ok(())
    }

    /// Lists a folder. Nothing if a marker says that there is nothing more to be found in it.
    fn enter(&mut self, mut place: Place) -> Result<Option<Entered>, GlobError> {
        let folder = self.matcher.root().join(&place.path);
        let entries = entries(&folder)?;
        self.seen.folders.insert(folder.clone());
        if self.is_ended_by_marker(&place, &entries) {
            return Ok(None);
        }
        if find(&entries, ".git".as_ref()).is_some() {
            place.excluded = self.excluded(&folder);
        }
        Ok(Some(Entered { place, rest: entries.into_iter() }))
    }

    fn is_ended_by_marker(&mut self, place: &Place, entries: &[Entry]) -> bool {
        let mut found = None;
        for marker in self.matcher.markers() {
            let Some(entry) = find(entries, marker) else { continue };
            let marker = place.path.join(marker);
            let path = self.matcher.root().join(&marker);
            if entry.kind.is_symlink() {
                self.seen.looked_for.insert(path.clone());
                if !path.is_file() {
                    continue;
                }
            } else if !entry.kind.is_file() {
                continue;
            }
            if !self.matcher.takes_marker(&marker) {
                return true;
            }
            found.get_or_insert(path);
        }
        let is_found = found.is_some();
        self.seen.files.extend(found);
        is_found
    }

    /// Looks at an entry of the innermost folder that we are in, and tells if it is one to be entered.
    fn visit(&mut self, entry: &Entry, within: &[Entered]) -> Option<Place> {
        let parent = &within.last()?.place;
        let path = parent.path.join(&entry.name);
        let absolute = self.matcher.root().join(&path);
        let is_link = entry.kind.is_symlink();
        let is_taken = (is_link || entry.kind.is_file()) && self.is_taken(parent, &path, &absolute);
        let entered = if is_link || entry.kind.is_dir() { self.place(parent, entry, path, &absolute) } else { None };
        if !is_link {
            self.seen.files.extend(is_taken.then_some(absolute));
            return entered;
        }
        if !is_taken && entered.is_none() {
            return None;
        }
        self.seen.links.insert(absolute.clone());
        match (fs::metadata(&absolute), entered) {
            (Ok(target), _) if target.is_file() && is_taken => {
                self.seen.files.insert(absolute);
                return None;
            }
            (Ok(target), Some(mut place)) if target.is_dir() => {
                place.real = fs::canonicalize(&absolute).unwrap_or(place.real);
                let is_above = within.first().is_some_and(|root| root.place.real.starts_with(&place.real));
                if !is_above && within.iter().all(|folder| folder.place.real != place.real) {
                    return Some(place);
                }
            }
            _ => {}
        }
        // What it leads to may become something else, which the folder that the link is in does not tell.
        self.seen.looked_for.insert(absolute);
        None
    }

    fn is_taken(&self, parent: &Place, path: &Path, absolute: &Path) -> bool {
        match self.matcher.verdict(path, false, parent.closed) {
            Verdict::Take { .. } => true,
            Verdict::Pass => false,
            Verdict::Silent => !parent.excludes(absolute, false),
        }
    }

    /// What it would be to enter an entry. Nothing if no file in there can be found.
    fn place(&self, parent: &Place, entry: &Entry, path: PathBuf, absolute: &Path) -> Option<Place> {
        let reach = self.matcher.below(&parent.reach, &entry.name)?;
        let closed = match self.matcher.verdict(&path, true, parent.closed) {
            Verdict::Take { closed } => closed,
            Verdict::Pass => return None,
            Verdict::Silent if parent.excludes(absolute, true) => return None,
            Verdict::Silent => false,
        };
        let real = parent.real.join(&entry.name);
        Some(Place { path, real, closed, reach, excluded: parent.excluded.clone() })
    }

    /// What git ignores in a folder because of the repository that it is in.
    fn excluded_above(&mut self, folder: &Path) -> Option<Rc<Gitignore>> {
        for above in folder.ancestors().skip(1) {
            let git = above.join(".git");
            if fs::symlink_metadata(&git).is_ok() {
                // Tells that it is a repository, and changes less often than the folder that it is in.
                self.seen.looked_for.insert(git.join("HEAD"));
                return self.excluded(above);
            }
            self.seen.looked_for.insert(git);
        }
        None
    }

    /// What git ignores in the repository that has its `.git` in a folder.
    fn excluded(&mut self, folder: &Path) -> Option<Rc<Gitignore>> {
        let mut git = folder.join(".git");
        if git.is_file() {
            // Of a work tree, or of a submodule: the file tells where the repository is.
            let content = fs::read_to_string(&git);
            self.seen.looked_for.insert(git);
            git = folder.join(content.ok()?.strip_prefix("gitdir:")?.trim());
            let common = git.join("commondir");
            if let Ok(content) = fs::read_to_string(&common) {
                git = git.join(content.trim());
            }
            self.seen.looked_for.insert(common);
        }
        let path = git.join("info").join("exclude");
        let mut builder = GitignoreBuilder::new(folder);
        // Lines that make no sense are left out, as git does.
        let _ = builder.add(&path);
        self.seen.looked_for.insert(path);
        builder.build().ok().map(Rc::new)
    }
}

impl Place {
    fn excludes(&self, absolute: &Path, is_folder: bool) -> bool {
        self.excluded.as_ref().is_some_and(|excluded| excluded.matched(absolute, is_folder).is_ignore())
    }
}

/// What is in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<Entry>, GlobError> {
    let pass = |error: io::Error| if is_absence(&error) { Ok(()) } else { Err(unreadable(folder, error)) };
    let mut entries = Vec::new();
    match fs::read_dir(folder) {
        Ok(listing) => {
            for entry in listing {
                match entry.and_then(|entry| Ok(Entry { name: entry.file_name(), kind: entry.file_type()? })) {
                    Ok(entry) => entries.push(entry),
                    Err(error) => pass(error)?,
                }
            }
        }
        Err(error) => pass(error)?,
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    // Some file systems list an entry twice while others are added.
    entries.dedup_by(|a, b| a.name == b.name);
    Ok(entries)
}

fn find<'a>(entries: &'a [Entry], name: &OsStr) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.name.as_os_str().cmp(name)).ok().and_then(|index| entries.get(index))
}

/// Whether there is nothing for us, whatever else there is.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

fn unreadable(path: &Path, source: io::Error) -> GlobError {
    GlobError::Read { path: path.to_owned(), source: Arc::new(source) }
}
