//! What lies in the package cache for a package: is it whole?
//!
//! rattler takes a directory for whole if it has an index and a list of its files. But prefixes may share files with
//! the cache by hard links, so whoever edits a file of an environment edits it here, too, and disks and people lose
//! files. So a package is looked at before it is linked: each file has to be there, of its kind and size. The content
//! is read only of what was modified after the package was extracted, which is a look at a time for all others. What
//! this does not find is damage that moves neither size nor time.

use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::time::Duration;
use std::time::SystemTime;

use rattler_cache::validation::{ValidationMode, validate_package_directory};
use rattler_conda_types::package::{IndexJson, PathType, PathsEntry, PathsJson};
use rattler_digest::{Sha256, Sha256Hash, compute_file_digest};
use rayon::prelude::*;

/// How many files are looked at in one go.
const AT_ONCE: usize = 100;

/// What a package says of itself.
pub(crate) struct Intact {
    pub(crate) index: IndexJson,
    /// Its files.
    pub(crate) paths: PathsJson,
}

/// A package, if all of its files are as they were extracted.
pub(crate) fn intact(package: &Path) -> Option<Intact> {
    let (index, paths) = validate_package_directory(package, ValidationMode::Skip).ok()?;
    let modified = |path: &Path| path.symlink_metadata().and_then(|metadata| metadata.modified()).ok();
    let info = package.join("info");
    // It is written when everything has been extracted. Earlier versions of rattler wrote it before: then times say
    // nothing, and all is read.
    let extracted = modified(&lock(package))
        .filter(|extracted| modified(&info.join("index.json")).is_some_and(|index| index <= *extracted));
    if let Some(extracted) = extracted {
        // Nothing says what should be in there.
        let others = ["paths.json", "link.json"].map(|name| modified(&info.join(name)));
        if others.into_iter().chain([modified(&info)]).flatten().any(|time| time > extracted) {
            return None;
        }
    }
    let are_intact = |entries: &[PathsEntry]| {
        let mut folder = Folder::new(package);
        entries.iter().all(|entry| is_intact(&mut folder, entry, extracted))
    };
    paths.paths.par_chunks(AT_ONCE).all(are_intact).then_some(Intact { index, paths })
}

fn is_intact(folder: &mut Folder<'_>, entry: &PathsEntry, extracted: Option<SystemTime>) -> bool {
    let Ok(file) = folder.look(&entry.relative_path) else { return false };
    match entry.path_type {
        PathType::SoftLink => file.kind == Kind::Symlink,
        PathType::Directory => file.kind == Kind::Directory,
        PathType::HardLink => {
            let is_old = extracted.is_some_and(|extracted| file.modified <= extracted);
            file.kind == Kind::File
                && entry.size_in_bytes.is_none_or(|size| size == file.size)
                && (is_old || has_digest(&folder.package.join(&entry.relative_path), entry))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

/// What is looked at of a file.
struct Look {
    kind: Kind,
    size: u64,
    modified: SystemTime,
}

/// The folder of a package that was looked into last. Files are looked at from inside of it: the way to them is long, and
/// there are thousands.
struct Folder<'a> {
    package: &'a Path,
    #[cfg(unix)]
    open: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Folder<'a> {
    fn new(package: &'a Path) -> Self {
        Self {
            package,
            #[cfg(unix)]
            open: None,
        }
    }

    #[cfg(unix)]
    fn look(&mut self, path: &Path) -> io::Result<Look> {
        use rustix::fs::{AtFlags, FileType, Mode, OFlags};

        let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        let (_, folder) = match &mut self.open {
            Some(open) if open.0 == parent => open,
            open => {
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                let folder = rustix::fs::open(self.package.join(parent), flags, Mode::empty())?;
                open.insert((parent.to_owned(), folder))
            }
        };
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        // Before 1970 is as old as anything.
        let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
        let since = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(stat.st_mtime_nsec as _));
        let modified = SystemTime::UNIX_EPOCH.checked_add(since).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Look { kind, size: u64::try_from(stat.st_size).unwrap_or_default(), modified })
    }

    #[cfg(not(unix))]
    fn look(&mut self, path: &Path) -> io::Result<Look> {
        let metadata = self.package.join(path).symlink_metadata()?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink,
            _ => Kind::Other,
        };
        Ok(Look { kind, size: metadata.len(), modified: metadata.modified()? })
    }
}

fn has_digest(path: &Path, entry: &PathsEntry) -> bool {
    let wanted = entry.sha256.as_ref();
    wanted.is_none_or(|wanted| compute_file_digest::<Sha256>(path).is_ok_and(|digest| digest == *wanted))
}

/// The file beside a package in which rattler keeps the digest of its archive.
fn lock(package: &Path) -> PathBuf {
    let mut path = package.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// The SHA-256 of the archive that a package was extracted from. rattler keeps it after a count of 8 bytes; where it does
/// not, nothing is known.
fn archive_of(package: &Path) -> Option<Sha256Hash> {
    let kept = std::fs::read(lock(package)).ok()?;
    Sha256Hash::try_from(kept.get(8..40)?).ok()
}

/// Whether what lies there was extracted from another archive: two builds of one package may have the same name.
pub(crate) fn is_of_another(package: &Path, archive: Option<&Sha256Hash>) -> bool {
    matches!((archive_of(package), archive), (Some(of), Some(archive)) if of != *archive)
}

/// Whether this archive was extracted there, and nobody has taken the package away. What has become of its files is for
/// [`intact`] to say.
pub(crate) fn is_there(package: &Path, archive: &Sha256Hash) -> bool {
    archive_of(package).is_some_and(|of| of == *archive) && package.join("info").join("index.json").is_file()
}

/// Takes a damaged package out of the cache, so that it is fetched again.
pub(crate) fn discard(package: &Path) -> io::Result<()> {
    let Some(cache) = package.parent() else { return Ok(()) };
    let discarded = tempfile::Builder::new().prefix(".damaged-").tempdir_in(cache).and_then(|aside| {
        // Removed aside: nobody finds it half gone.
        std::fs::rename(package, aside.path().join("package")).and_then(|()| aside.close())
    });
    discarded.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
