//! Putting a lock file on disk so that whoever reads it sees the old one or the new one, whole.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use fs_err as fs;
use miette::Diagnostic;
use thiserror::Error;

use crate::whole::{aside, directory_of};

/// What [`write_if_changed`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// The file holds this text already. Nothing was written.
    Unchanged,
    /// There was no file.
    Created,
    /// The file was replaced.
    Updated {
        /// The format version it had, if that could be told.
        from_version: Option<u16>,
    },
}

/// A lock file that cannot be written.
#[derive(Debug, Error, Diagnostic)]
#[error("the lock file `{}` cannot be written", path.display())]
#[non_exhaustive]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Writes a lock file unless it holds the text already.
///
/// The text is written to a temporary file beside the target, brought to disk, given the permissions the target has,
/// and renamed over it. If `path` is a symbolic link, the file it leads to is replaced and the link stays. Costs one
/// read if nothing changed, else a write, two syncs and a rename.
///
/// Two writers at once do not damage the file, but the last one wins: hold a lock over reading and writing.
///
/// # Errors
///
/// If the file or its directory cannot be written. The old file is then untouched.
pub fn write_if_changed(path: &Path, text: &str) -> Result<Written, WriteError> {
    replace(path, text).map_err(|source| WriteError { path: path.to_owned(), source })
}

fn replace(path: &Path, text: &str) -> io::Result<Written> {
    let target = follow(path)?;
    let old = match fs::read(&target) {
        Ok(old) if old == text.as_bytes() => return Ok(Written::Unchanged),
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut temporary = aside(&target)?;
    temporary.write_all(text.as_bytes())?;
    if old.is_some() {
        fs::set_permissions(temporary.path(), fs::metadata(&target)?.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    sync_directory(directory_of(&target))?;
    Ok(match old {
        Some(old) => Written::Updated { from_version: version_of(&old) },
        None => Written::Created,
    })
}

/// The file a path leads to, also if the last link leads to nothing yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    // As many links in a row as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let link = fs::read_link(&target)?;
                target = target.parent().unwrap_or(Path::new("")).join(link);
            }
            // Whether it cannot be looked at or is simply not there is found out by reading it.
            _ => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// A rename is on disk once its directory is.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The format version of a lock file, without parsing all of it.
fn version_of(bytes: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("version:"))?;
    line.trim().parse().ok()
}
