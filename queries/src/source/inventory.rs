//! What a checkout holds, in one number, to see whether it still does.
//!
//! It is made of names, kinds, sizes and times of modification, whether a file is a program, and where links lead; not of
//! contents, which would have to be read. So an edit that moves neither size nor time is not found. Times of directories
//! do not count: what is added or removed shows by itself, and what comes and goes does no harm.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Files of git that it writes when it is only asked something, and what is ours. They do not count.
const OF_GIT: [&str; 4] = ["index", "index.lock", "lfs", super::git::MARKER];

/// Where in a tree something is that does not count as other things do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Files,
    /// In a `.git`.
    Git,
    /// In its `objects`: they are named by what is in them, so it matters only that those that were there are there.
    Objects,
    Packs,
}

impl Place {
    fn of(self, name: &str) -> Self {
        match (self, name) {
            (Self::Files, ".git") => Self::Git,
            (Self::Git, "objects") => Self::Objects,
            (Self::Objects, "pack") => Self::Packs,
            // `info` may lead to objects elsewhere.
            (Self::Objects, _) => Self::Files,
            (place, _) => place,
        }
    }

    fn counts(self, name: &str) -> bool {
        match self {
            Self::Files | Self::Packs => true,
            Self::Git => !OF_GIT.contains(&name),
            Self::Objects => name == "pack" || name == "info",
        }
    }
}

/// The number of what is in a directory. Costs a look at every file.
///
/// # Errors
///
/// If something cannot be looked at.
pub(super) fn of(directory: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    add(&mut hasher, directory, Place::Files)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn add(hasher: &mut blake3::Hasher, directory: &Path, place: Place) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let shown = name.to_string_lossy();
        if !place.counts(&shown) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        let mut field = |kind: &[u8], bytes: &[u8]| {
            hasher.update(kind);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(b"name", name.as_encoded_bytes());
        if metadata.is_dir() {
            field(b"directory", &[]);
            add(hasher, &path, place.of(&shown))?;
            hasher.update(b"end");
        } else if metadata.is_symlink() {
            field(b"link", fs::read_link(&path)?.as_os_str().as_encoded_bytes());
        } else if metadata.is_file() {
            field(if is_program(&metadata) { b"program" } else { b"file" }, &metadata.len().to_le_bytes());
            if place != Place::Packs {
                field(b"time", &modified(&metadata).to_le_bytes());
            }
        } else {
            field(b"other", &[]);
        }
    }
    Ok(())
}

/// In nanoseconds, before 1970 too.
fn modified(metadata: &Metadata) -> i128 {
    let nanoseconds = |time: std::time::Duration| i128::try_from(time.as_nanos()).unwrap_or_default();
    match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => nanoseconds(after),
        Ok(Err(before)) => -nanoseconds(before.duration()),
        Err(_) => 0,
    }
}

#[cfg(unix)]
fn is_program(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_program(_metadata: &Metadata) -> bool {
    false
}
