//! What is unpacked, while it is.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Limits;
use super::error::{EntryProblem, Limit, UnpackError};
use super::name::{EntryName, goes_up_by_backslash, is_absolute, os_string, parts, printable};

/// How many links are followed from one, as Linux does.
const MAX_FOLLOWED: usize = 40;
/// How long the target of a link may be, as on Linux.
const MAX_LINK: usize = 4095;
/// How much is copied in one go.
const PIECE: usize = 1 << 16;

/// A directory into which entries are unpacked.
///
/// As long as entries come, there are directories and regular files in it and nothing else. So no write can follow a
/// link, whatever the order of the entries.
pub(super) struct Tree<'a> {
    root: PathBuf,
    archive: &'a Path,
    limits: Limits,
    cancelled: &'a dyn Fn() -> bool,
    now: SystemTime,
    entries: u64,
    size: u64,
    /// How many bytes the names of those that follow have.
    names: u64,
    /// Those that were made: none is ever replaced by something else.
    directories: HashSet<PathBuf>,
    /// The links to make, with their targets.
    links: BTreeMap<PathBuf, Vec<u8>>,
    buffer: Vec<u8>,
}

/// What is known of a file besides its content.
pub(super) struct FileFacts {
    pub(super) executable: bool,
    /// If that is told.
    pub(super) modified: Option<SystemTime>,
}

impl<'a> Tree<'a> {
    /// Begins below a directory that nobody else knows.
    pub(super) fn new(
        temporary: &Path,
        archive: &'a Path,
        limits: Limits,
        cancelled: &'a dyn Fn() -> bool,
    ) -> Result<Self, UnpackError> {
        // That directory is for its owner only. What becomes the target shall be as any other directory.
        let root = temporary.join("root");
        fs::create_dir(&root).map_err(|source| UnpackError::write(&root, source))?;
        Ok(Self {
            root,
            archive,
            limits,
            cancelled,
            now: SystemTime::now(),
            entries: 0,
            size: 0,
            names: 0,
            directories: HashSet::from([PathBuf::new()]),
            links: BTreeMap::new(),
            buffer: vec![0; PIECE],
        })
    }

    pub(super) fn archive(&self) -> &'a Path {
        self.archive
    }

    /// Reads the name of an entry.
    pub(super) fn name(&self, name: &[u8]) -> Result<EntryName, UnpackError> {
        EntryName::parse(name).map_err(|problem| self.refused(name, problem))
    }

    /// The error for an entry that is not unpacked.
    pub(super) fn refused(&self, name: &[u8], problem: EntryProblem) -> UnpackError {
        UnpackError::Refused { archive: self.archive.to_path_buf(), entry: printable(name), problem }
    }

    /// Counts an entry. Each has to be counted, also if nothing is made of it.
    pub(super) fn count(&mut self) -> Result<(), UnpackError> {
        self.check_cancelled()?;
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(self.too_large(Limit::Entries(self.limits.entries)));
        }
        Ok(())
    }

    /// Makes a directory, which may be there already.
    pub(super) fn directory(&mut self, name: &EntryName) -> Result<(), UnpackError> {
        self.make_parents(name)?;
        self.make_directory(name, name.path())
    }

    /// Writes a file, in place of one that came before it.
    ///
    /// Its size is how many bytes have to come, no more and no fewer.
    pub(super) fn file(
        &mut self,
        name: &EntryName,
        facts: &FileFacts,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        self.check_is_named(name)?;
        if size > self.limits.size - self.size {
            return Err(self.too_large(Limit::Size(self.limits.size)));
        }
        self.make_parents(name)?;
        let path = self.root.join(name.path());
        let mut file = self.create(name, &path, facts.executable)?;
        let mut written = 0;
        loop {
            self.check_cancelled()?;
            let read = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UnpackError::read(self.archive, error)),
            };
            written += read as u64;
            // It is what was looked at above that bounds this, not what a library lets through.
            if written > size {
                break;
            }
            file.write_all(&self.buffer[..read]).map_err(|source| UnpackError::write(&path, source))?;
        }
        self.size += written;
        if written != size {
            let name = printable(name.path().as_os_str().as_encoded_bytes());
            let found = format!(
                "`{name}` has {} bytes than the {size} it should have",
                if written < size { "fewer" } else { "more" }
            );
            return Err(UnpackError::corrupt(self.archive, found));
        }
        if let Some(modified) = facts.modified {
            let modified = modified.min(self.now);
            file.set_modified(modified).map_err(|source| UnpackError::write(&path, source))?;
        }
        Ok(())
    }

    /// Takes note of a symbolic link.
    pub(super) fn symlink(&mut self, name: &EntryName, target: &[u8]) -> Result<(), UnpackError> {
        self.check_is_named(name)?;
        let outside = || EntryProblem::LinkOutside(printable(target));
        if is_absolute(target) || goes_up_by_backslash(target) {
            return Err(self.refused_name(name, outside()));
        }
        if target.contains(&0) {
            return Err(self.refused_name(name, EntryProblem::Nul));
        }
        if target.is_empty() || target.len() > MAX_LINK {
            return Err(self.refused_name(name, EntryProblem::NotHere));
        }
        self.make_parents(name)?;
        if self.root.join(name.path()).symlink_metadata().is_ok() {
            return Err(self.conflict(name, name.path()));
        }
        self.hold(name.path().as_os_str().len() + target.len())?;
        self.links.insert(name.path().to_path_buf(), target.to_vec());
        Ok(())
    }

    /// Links a file to one that came before it. They stay one file, as they were when they were packed.
    pub(super) fn hard_link(&mut self, name: &EntryName, target: &[u8]) -> Result<(), UnpackError> {
        self.check_is_named(name)?;
        let no_file = || EntryProblem::HardLink(printable(target));
        let to = EntryName::parse(target).map_err(|_| self.refused_name(name, no_file()))?;
        if let Some(link) = self.links.get(to.path()).cloned() {
            return self.symlink(name, &link);
        }
        // Its directories are real, or there would be no such file yet.
        let original = self.root.join(to.path());
        if !original.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(self.refused_name(name, no_file()));
        }
        if to == *name {
            return Ok(());
        }
        self.make_parents(name)?;
        let path = self.root.join(name.path());
        self.vacate(name, &path)?;
        fs::hard_link(&original, &path).map_err(|source| UnpackError::write(&path, source))
    }

    /// Makes the links, and gives the whole to the target.
    pub(super) fn finish(mut self, target: &Path) -> Result<(), UnpackError> {
        let mut base = self.root.clone();
        let mut links = std::mem::take(&mut self.links);
        match self.tops(&links)? {
            Tops::None => return Err(UnpackError::Empty { archive: self.archive.to_path_buf() }),
            Tops::Directory(top) => {
                base.push(&top);
                let below =
                    |(path, link): (PathBuf, Vec<u8>)| Some((path.strip_prefix(&top).ok()?.to_path_buf(), link));
                links = links.into_iter().filter_map(below).collect();
            }
            Tops::Other => {}
        }
        // All are looked at before the first is made: what they lead through are other links.
        for (path, link) in &links {
            self.check_cancelled()?;
            check_stays_inside(&links, path).map_err(|Escape { is_loop }| {
                let problem = if is_loop { EntryProblem::LinkLoop } else { EntryProblem::LinkOutside };
                self.refused(path.as_os_str().as_encoded_bytes(), problem(printable(link)))
            })?;
        }
        for (path, link) in &links {
            self.check_cancelled()?;
            let target =
                os_string(link).map_err(|problem| self.refused(path.as_os_str().as_encoded_bytes(), problem))?;
            let path = base.join(path);
            make_symlink(Path::new(&target), &path).map_err(|source| UnpackError::write(&path, source))?;
        }
        // Renaming would replace an empty directory.
        if target.symlink_metadata().is_ok() {
            return Err(UnpackError::Occupied { target: target.to_path_buf() });
        }
        fs::rename(&base, target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
                UnpackError::Occupied { target: target.to_path_buf() }
            }
            _ => UnpackError::write(target, error),
        })
    }

    /// What lies at the top, with the links that are still to come.
    fn tops(&self, links: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Tops, UnpackError> {
        let failed = |source| UnpackError::write(&self.root, source);
        let mut entries = fs::read_dir(&self.root).map_err(failed)?;
        let first = entries.next().transpose().map_err(failed)?;
        let has_link = links.keys().any(|path| path.components().nth(1).is_none());
        Ok(match first {
            None if has_link => Tops::Other,
            None => Tops::None,
            Some(top) if !has_link && entries.next().is_none() && top.file_type().map_err(failed)?.is_dir() => {
                Tops::Directory(top.file_name().into())
            }
            Some(_) => Tops::Other,
        })
    }

    fn make_parents(&mut self, name: &EntryName) -> Result<(), UnpackError> {
        let Some(parent) = name.path().parent() else { return Ok(()) };
        if self.directories.contains(parent) {
            return Ok(());
        }
        let mut path = PathBuf::new();
        for part in parent {
            path.push(part);
            if !self.directories.contains(&path) {
                self.count()?;
                self.make_directory(name, &path)?;
            }
        }
        Ok(())
    }

    /// Makes a directory for an entry, in one that is there.
    fn make_directory(&mut self, name: &EntryName, path: &Path) -> Result<(), UnpackError> {
        if self.directories.contains(path) {
            return Ok(());
        }
        if self.links.contains_key(path) {
            return Err(self.conflict(name, path));
        }
        let directory = self.root.join(path);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // On file systems that do not tell upper from lower case, it may be a directory of another name.
                if !directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                    return Err(self.conflict(name, path));
                }
            }
            Err(error) => return Err(UnpackError::write(&directory, error)),
        }
        self.hold(path.as_os_str().len())?;
        self.directories.insert(path.to_path_buf());
        Ok(())
    }

    /// Counts what is held in memory from now on.
    fn hold(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.names = self.names.saturating_add(bytes as u64);
        if self.names > self.limits.names { Err(self.too_large(Limit::Names(self.limits.names))) } else { Ok(()) }
    }

    /// A new file, never one that is there: that one may have other names.
    fn create(&self, name: &EntryName, path: &Path, executable: bool) -> Result<File, UnpackError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, if executable { 0o777 } else { 0o666 });
        #[cfg(not(unix))]
        let _ = executable;
        if self.links.contains_key(name.path()) {
            return Err(self.conflict(name, name.path()));
        }
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.vacate(name, path)?;
                options.open(path)
            }
            opened => opened,
        }
        .map_err(|source| UnpackError::write(path, source))
    }

    /// Removes a file, if there is one, in favour of another.
    fn vacate(&self, name: &EntryName, path: &Path) -> Result<(), UnpackError> {
        if self.links.contains_key(name.path()) {
            return Err(self.conflict(name, name.path()));
        }
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {
                fs::remove_file(path).map_err(|source| UnpackError::write(path, source))
            }
            Ok(_) => Err(self.conflict(name, name.path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(UnpackError::write(path, error)),
        }
    }

    /// The archive as a whole is a directory, and can be nothing else.
    fn check_is_named(&self, name: &EntryName) -> Result<(), UnpackError> {
        if name.is_root() { Err(self.refused(b".", EntryProblem::Nameless)) } else { Ok(()) }
    }

    fn check_cancelled(&self) -> Result<(), UnpackError> {
        if (self.cancelled)() { Err(UnpackError::Cancelled { archive: self.archive.to_path_buf() }) } else { Ok(()) }
    }

    fn conflict(&self, name: &EntryName, path: &Path) -> UnpackError {
        self.refused_name(name, EntryProblem::Conflict(printable(path.as_os_str().as_encoded_bytes())))
    }

    fn refused_name(&self, name: &EntryName, problem: EntryProblem) -> UnpackError {
        self.refused(name.path().as_os_str().as_encoded_bytes(), problem)
    }

    fn too_large(&self, limit: Limit) -> UnpackError {
        UnpackError::TooLarge { archive: self.archive.to_path_buf(), limit }
    }
}

enum Tops {
    /// There is nothing.
    None,
    /// All lies below it.
    Directory(PathBuf),
    Other,
}

/// Where a link ends that does not stay inside.
struct Escape {
    is_loop: bool,
}

/// Follows a link through all others, component by component as the system does.
///
/// What is not there is taken for a directory: whoever makes it later must not make a way out.
fn check_stays_inside(links: &BTreeMap<PathBuf, Vec<u8>>, link: &Path) -> Result<(), Escape> {
    // It is as if the link itself were walked to: from its directory, with its name to come.
    let mut at = link.to_path_buf();
    let mut pending: Vec<&[u8]> = Vec::new();
    let mut followed = 0;
    loop {
        if let Some(target) = links.get(&at) {
            followed += 1;
            if followed > MAX_FOLLOWED {
                return Err(Escape { is_loop: true });
            }
            at.pop();
            pending.extend(parts(target).rev());
        }
        match pending.pop() {
            None => return Ok(()),
            Some(b"..") if !at.pop() => return Err(Escape { is_loop: false }),
            Some(b"..") => {}
            Some(part) => at.push(os_string(part).map_err(|_| Escape { is_loop: false })?),
        }
    }
}

#[cfg(unix)]
fn make_symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Windows wants to know what a link leads to. One to a link that is not made yet counts as one to a file.
#[cfg(windows)]
fn make_symlink(target: &Path, path: &Path) -> io::Result<()> {
    if path.parent().is_some_and(|parent| parent.join(target).is_dir()) {
        std::os::windows::fs::symlink_dir(target, path)
    } else {
        std::os::windows::fs::symlink_file(target, path)
    }
}

/// What a mode of Unix says an entry is.
pub(super) enum UnixKind {
    File,
    Directory,
    Symlink,
    /// What is refused.
    Other(&'static str),
    /// It does not say.
    Unknown,
}

impl UnixKind {
    pub(super) fn of(mode: u32) -> Self {
        match mode & 0o170_000 {
            0 => Self::Unknown,
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 | 0o060_000 => Self::Other("a device"),
            0o010_000 => Self::Other("a pipe"),
            0o140_000 => Self::Other("a socket"),
            _ => Self::Other("of a kind that is not known"),
        }
    }
}

/// The target of a link, where it is kept as content. One that is too long is cut, but not to a length that passes.
pub(super) fn read_link(content: &mut dyn Read, archive: &Path) -> Result<Vec<u8>, UnpackError> {
    let mut target = Vec::new();
    let mut content = content.take(MAX_LINK as u64 + 1);
    content.read_to_end(&mut target).map_err(|error| UnpackError::read(archive, error))?;
    Ok(target)
}
