//! Where the files of a store are, and what tells one file from another at the same path.

use std::fs;
use std::path::{Path, PathBuf};

/// The version of the layout of directory and tables; part of the path, so that versions never meet.
const LAYOUT: u32 = 3;

/// The paths of one store.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
}

impl Files {
    pub(crate) fn new(parent: &Path) -> Self {
        Self { directory: parent.join(format!("store-v{LAYOUT}")) }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join("store.redb")
    }

    pub(crate) fn pending(&self) -> PathBuf {
        self.directory.join("pending")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.directory.join("quarantine")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What tells a file from another that came to the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// The file at a path, if there is one.
#[cfg(unix)]
pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    Some(FileId { device: metadata.dev(), inode: metadata.ino() })
}

/// Where there are no inodes, the time of creation does.
#[cfg(not(unix))]
pub(crate) fn file_id(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    let created = metadata.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(FileId { device: 0, inode: created.as_nanos() as u64 })
}
