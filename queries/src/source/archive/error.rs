//! What can go wrong with an archive.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

/// Why an archive could not be unpacked.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum UnpackError {
    /// The name is not that of an archive which can be unpacked.
    #[error("`{file_name}` cannot be unpacked: {}", compression.map_or_else(
        || "its ending is not that of an archive".to_owned(),
        |compression| format!("{compression} is not supported"),
    ))]
    #[diagnostic(help("supported are {known}"))]
    UnsupportedArchive {
        /// The name.
        file_name: String,
        /// What it is compressed with, if that is known by its name.
        compression: Option<&'static str>,
        /// The endings which are supported.
        known: String,
    },
    /// Something inside is compressed in a way that is not supported.
    #[error("`{}` is compressed in a way that is not supported: {method}", archive.display())]
    #[diagnostic(help("pack it anew, as a .tar.gz for example"))]
    UnsupportedMethod {
        /// The archive.
        archive: PathBuf,
        /// The way.
        method: String,
    },
    /// It needs a password.
    #[error("`{}` is encrypted", archive.display())]
    #[diagnostic(help("there is no way to give a password, so use an archive that needs none"))]
    Encrypted {
        /// The archive.
        archive: PathBuf,
    },
    /// It is not what its name says, or not all of it.
    #[error("`{}` is damaged, incomplete, or not the kind of archive that its name says", archive.display())]
    #[diagnostic(help("remove it and fetch it again; a server may have sent a page with an error in its place"))]
    Corrupt {
        /// The archive.
        archive: PathBuf,
        /// What was found.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing is in it.
    #[error("there is nothing in `{}`", archive.display())]
    #[diagnostic(help("remove it and fetch it again, and check its address"))]
    Empty {
        /// The archive.
        archive: PathBuf,
    },
    /// An entry that is not unpacked, lest it do harm.
    #[error("`{entry}` in `{}` is refused: {problem}", archive.display())]
    #[diagnostic(help("if you trust the archive, pack it anew without that entry"))]
    Refused {
        /// The archive.
        archive: PathBuf,
        /// The name of the entry, in printable characters.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// It is too much.
    #[error("`{}` is larger than a source should be: it has more than {limit}", archive.display())]
    #[diagnostic(help("it may be made to fill the disk; if you trust it, unpack it yourself and use the directory"))]
    TooLarge {
        /// The archive.
        archive: PathBuf,
        /// What there is too much of.
        limit: Limit,
    },
    /// The archive could not be read.
    #[error("`{}` cannot be read", archive.display())]
    Read {
        /// The archive.
        archive: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file could not be written.
    #[error("`{}` cannot be written", path.display())]
    #[diagnostic(help("check that the disk is not full, and that you may write there"))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// There is something in the place of the target.
    #[error("`{}` exists already", target.display())]
    #[diagnostic(help("remove it first: what is unpacked is never mixed with something else"))]
    Occupied {
        /// The target.
        target: PathBuf,
    },
    /// Nobody wants it any more.
    #[error("unpacking `{}` was cancelled", archive.display())]
    Cancelled {
        /// The archive.
        archive: PathBuf,
    },
}

/// Why an entry is not unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// It has no name, or that of the archive as a whole.
    #[error("it has no name")]
    Nameless,
    /// Its name begins at the root of a file system.
    #[error("its path is absolute")]
    Absolute,
    /// Its name goes up.
    #[error("its path has a `..`")]
    Parent,
    /// Its name has a byte which no name may have.
    #[error("its name has a NUL byte")]
    Nul,
    /// Its name cannot be had on this system.
    #[error("there can be no such name on this system")]
    NotHere,
    /// A device, pipe, or socket, or what only some programs know.
    #[error("it is neither a file, nor a directory, nor a link, but {0}")]
    Kind(&'static str),
    /// A symbolic link to outside.
    #[error("it links to `{0}`, outside of the archive")]
    LinkOutside(String),
    /// A symbolic link that leads nowhere.
    #[error("it links to `{0}`, which goes around in circles or through too many links")]
    LinkLoop(String),
    /// A hard link to what is not there.
    #[error("it is a hard link to `{0}`, which is no file that comes before it in the archive")]
    HardLink(String),
    /// Something is there already, or is no directory.
    #[error("`{0}` is in the archive already, and is not the same kind of thing")]
    Conflict(String),
}

/// What an archive has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Limit {
    /// Entries.
    #[error("{0} entries")]
    Entries(u64),
    /// Bytes, in total.
    #[error("{0} bytes")]
    Size(u64),
    /// Bytes, in what describes one entry.
    #[error("{0} bytes in the header of an entry")]
    Header(u64),
    /// Bytes, in the names of directories and links.
    #[error("{0} bytes in the names of its directories and links")]
    Names(u64),
}

impl UnpackError {
    /// What an error is that came from reading: the system's are told from those of a decoder by their number.
    pub(super) fn read(archive: &Path, error: io::Error) -> Self {
        let archive = archive.to_path_buf();
        if error.raw_os_error().is_some() {
            Self::Read { archive, source: Arc::new(error) }
        } else {
            Self::Corrupt { archive, source: Arc::new(error) }
        }
    }

    pub(super) fn write(path: &Path, error: io::Error) -> Self {
        Self::Write { path: path.to_path_buf(), source: Arc::new(error) }
    }

    pub(super) fn corrupt(archive: &Path, found: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Corrupt { archive: archive.to_path_buf(), source: found.into().into() }
    }
}
