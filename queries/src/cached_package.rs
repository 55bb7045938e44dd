//! What lies in the package cache for a package: is it whole?
//!
//! rattler takes a directory for whole if it has an index and a list of its files. But prefixes may share files with
//! the cache by hard links, so whoever edits a file of an environment edits it here, too, and disks and people lose
//! files. So a package is looked at before it is linked: each file has to be there, of its kind and size. The content
//! is read only of what was modified after the package was extracted, which is a look at a time for all others. What
//! this does not find is damage that moves neither size nor time.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
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
    let is_intact = |entry: &PathsEntry| is_entry_intact(package, entry, extracted);
    paths.paths.par_iter().with_min_len(AT_ONCE).all(is_intact).then_some(Intact { index, paths })
}

fn is_entry_intact(package: &Path, entry: &PathsEntry, extracted: Option<SystemTime>) -> bool {
    let path = package.join(&entry.relative_path);
    let Ok(metadata) = path.symlink_metadata() else { return false };
    match entry.path_type {
        PathType::SoftLink => metadata.is_symlink(),
        PathType::Directory => metadata.is_dir(),
        PathType::HardLink => {
            metadata.is_file()
                && entry.size_in_bytes.is_none_or(|size| size == metadata.len())
                && (is_old(&metadata, extracted) || has_digest(&path, entry))
        }
    }
}

fn is_old(metadata: &Metadata, extracted: Option<SystemTime>) -> bool {
    matches!((metadata.modified(), extracted), (Ok(modified), Some(extracted)) if modified <= extracted)
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
