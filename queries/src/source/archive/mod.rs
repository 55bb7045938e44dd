//! Unpacking the archive of a source: tar in its compressions, zip and 7z.
//!
//! An archive comes from anywhere and may say anything. Three things hold whatever it says:
//!
//! * **Nothing is written outside of the target.** Names are read into an `EntryName`, which cannot leave the
//!   directory it is joined to. Symbolic links are made when all else has been written: until then there is
//!   none that a write could follow. Each is then followed through all others, and has to end inside.
//! * **The target is whole or not there.** All is unpacked into a temporary directory beside the target and renamed in
//!   the end. A killed process leaves that directory, which begins with [`TEMPORARY`], and may be removed. Nothing is
//!   synced: who wants to know after a power cut whether a target is whole has to write a marker after it.
//! * **There is an end to it.** [`MAX_ENTRIES`] and [`MAX_SIZE`] bound what is written. Memory is bounded by the window
//!   that a compression asks for, by the index of a zip or 7z, which its library reads as a whole, and by [`MAX_NAMES`].
//!
//! What is unpacked does not depend on the archive alone where that would do harm: of the permissions only "is it
//! executable" is taken, as git does, the rest comes from the umask. So there are no setuid bits, and no directories
//! that cannot be removed again. Owners and extended attributes are left out.
//!
//! Files keep their times of modification, since build tools compare them: a `configure` that looks older than its
//! `configure.ac` is made anew, with tools that may not be there. Times to come are set to now, for make takes them for
//! a skewed clock, and whoever compares them with the start of a build takes the file for changed. Directories and
//! links get the time at which they were unpacked; nobody builds by these.
//!
//! This does no downloading and looks at no digest.

mod error;
mod from_7z;
mod from_tar;
mod from_zip;
mod meter;
mod name;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

pub use self::error::{EntryProblem, Limit, UnpackError};
use self::meter::Meter;
use self::tree::Tree;

/// How many entries an archive may have, counting the directories that it only implies.
pub const MAX_ENTRIES: u64 = 2_000_000;
/// How many bytes the files of an archive may have in total: 16 GiB. In a tar, this includes its headers and padding.
pub const MAX_SIZE: u64 = 16 << 30;
/// How long the headers of one entry of a tar may be, with long names and extensions. They are held in memory.
pub const MAX_HEADER: u64 = 1 << 20;
/// How many bytes the names of directories and links, and what links lead to, may have in total: 256 MiB. They are held in
/// memory until all is written.
pub const MAX_NAMES: u64 = 256 << 20;
/// What the name of a temporary directory begins with.
pub const TEMPORARY: &str = ".unpacking-";

/// The kind of an archive, which its file name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// A tar, in some compression.
    Tar(Compression),
    /// A zip, whose files are stored or deflated.
    Zip,
    /// A 7z.
    SevenZ,
}

/// What a tar is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Nothing.
    Plain,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// The format from before xz, known as "LZMA alone".
    Lzma,
    /// Zstandard.
    Zstd,
}

const ENDINGS: [(&str, ArchiveKind); 16] = [
    (".tar", ArchiveKind::Tar(Compression::Plain)),
    (".tar.gz", ArchiveKind::Tar(Compression::Gzip)),
    (".tgz", ArchiveKind::Tar(Compression::Gzip)),
    (".tar.bz2", ArchiveKind::Tar(Compression::Bzip2)),
    (".tbz", ArchiveKind::Tar(Compression::Bzip2)),
    (".tbz2", ArchiveKind::Tar(Compression::Bzip2)),
    (".tb2", ArchiveKind::Tar(Compression::Bzip2)),
    (".tar.xz", ArchiveKind::Tar(Compression::Xz)),
    (".txz", ArchiveKind::Tar(Compression::Xz)),
    (".tar.lzma", ArchiveKind::Tar(Compression::Lzma)),
    (".tlz", ArchiveKind::Tar(Compression::Lzma)),
    (".tar.zst", ArchiveKind::Tar(Compression::Zstd)),
    (".tar.zstd", ArchiveKind::Tar(Compression::Zstd)),
    (".tzst", ArchiveKind::Tar(Compression::Zstd)),
    (".zip", ArchiveKind::Zip),
    (".7z", ArchiveKind::SevenZ),
];

/// What is an archive, but cannot be read.
const REFUSED: [(&str, &str); 5] =
    [(".lz", "lzip"), (".lzo", "lzo"), (".tzo", "lzo"), (".z", "compress"), (".taz", "compress")];

impl ArchiveKind {
    /// The kind of the archive with that name, in whatever case it is written.
    ///
    /// # Errors
    ///
    /// [`UnpackError::UnsupportedArchive`] if the ending is not that of an archive which can be unpacked.
    pub fn of(file_name: &str) -> Result<Self, UnpackError> {
        let name = file_name.to_ascii_lowercase();
        if let Some((_, kind)) = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)) {
            return Ok(*kind);
        }
        let refused = REFUSED.iter().find(|(ending, _)| name.ends_with(ending));
        Err(UnpackError::UnsupportedArchive {
            file_name: file_name.to_owned(),
            compression: refused.map(|(_, compression)| *compression),
            known: ENDINGS.map(|(ending, _)| ending).join(", "),
        })
    }
}

/// What an archive may come to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    entries: u64,
    size: u64,
    header: u64,
    names: u64,
}

/// Unpacks an archive into a target, which must not exist while its parent must.
///
/// If all lies below one directory, that directory becomes the target. A file that comes twice in a tar is there as it
/// came last, which is how files are added to one. A name that is a file and something else is refused, and so are
/// devices and the like, and links to outside.
///
/// It blocks, and asks between any two pieces of work whether it is cancelled.
///
/// # Errors
///
/// If the archive cannot be read, holds what must not be unpacked, or comes to more than the limits allow; if the
/// target exists or cannot be written; or if it was cancelled. There is nothing at the target then, unless it was there
/// before.
pub fn unpack(
    archive: &Path,
    kind: ArchiveKind,
    target: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), UnpackError> {
    let limits = Limits { entries: MAX_ENTRIES, size: MAX_SIZE, header: MAX_HEADER, names: MAX_NAMES };
    unpack_within(limits, archive, kind, target, cancelled)
}

fn unpack_within(
    limits: Limits,
    archive: &Path,
    kind: ArchiveKind,
    target: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), UnpackError> {
    if target.symlink_metadata().is_ok() {
        return Err(UnpackError::Occupied { target: target.to_path_buf() });
    }
    let file = File::open(archive).map_err(|source| UnpackError::read(archive, source))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .map_err(|source| UnpackError::write(parent, source))?;
    let mut tree = Tree::new(temporary.path(), archive, limits, cancelled)?;
    let file = BufReader::with_capacity(1 << 16, file);
    match kind {
        ArchiveKind::Tar(compression) => {
            let meter = Meter::new(limits, cancelled);
            from_tar::read(file, compression, &meter, &mut tree).map_err(|error| meter.reason(archive, error))?;
        }
        ArchiveKind::Zip => from_zip::read(file, &mut tree)?,
        ArchiveKind::SevenZ => from_7z::read(file, &mut tree)?,
    }
    tree.finish(target)?;
    // What is left of it is an empty directory or two: not worth an error now that the target is there.
    let _ = temporary.close();
    Ok(())
}
