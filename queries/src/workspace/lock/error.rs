//! Why a lock file cannot be read.

use std::{io, path::PathBuf, sync::Arc};

use miette::Diagnostic;
use rattler_lock::ParseCondaLockError;
use thiserror::Error;

use super::pin::SourceFormError;

/// A lock file that cannot be read. Every case names the file and says what helps.
#[derive(Debug, Clone, Error, Diagnostic)]
#[non_exhaustive]
pub enum LockFileError {
    /// The file is there and cannot be read.
    #[error("the lock file `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file is not text.
    #[error("the lock file `{}` is not UTF-8 text", path.display())]
    #[diagnostic(help("delete it to solve again, or restore it from version control"))]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in the file.
    #[error("the lock file `{}` is empty", path.display())]
    #[diagnostic(help("delete it to solve again, or restore it from version control"))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A merge left its marks.
    #[error("the lock file `{}` has an unresolved merge conflict in line {line}", path.display())]
    #[diagnostic(help(
        "take the file of one side, as with `git checkout --ours {}`, and solve: the manifest decides what changes",
        path.display()
    ))]
    Conflict {
        /// The file.
        path: PathBuf,
        /// The line of the first mark, counted from one.
        line: usize,
    },
    /// The file was written by something newer.
    #[error("the lock file `{}` has format version {found}, of which only those up to {supported} are known", path.display())]
    #[diagnostic(help("use a newer release, or delete the file to solve again"))]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that can be read.
        supported: u16,
    },
    /// What the file says of a package that is built from source makes no sense.
    #[error("`{package}` in the lock file `{}` cannot be understood", path.display())]
    #[diagnostic(help("delete the file to solve again, or restore it from version control"))]
    Source {
        /// The file.
        path: PathBuf,
        /// The package, as the file names it.
        package: String,
        /// What makes no sense.
        #[source]
        source: SourceFormError,
    },
    /// The file is not a lock file, or a damaged one.
    #[error("the lock file `{}` cannot be understood", path.display())]
    #[diagnostic(help("delete it to solve again, or restore it from version control"))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: Arc<ParseCondaLockError>,
    },
}
