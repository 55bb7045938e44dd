//! The names of entries, read with suspicion.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::EntryProblem;

/// How much of a name is shown.
const SHOWN: usize = 200;

/// The path of an entry below the target, in normal components only: joined to a directory, it stays inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryName(PathBuf);

impl EntryName {
    /// Reads a name with `/` between its parts.
    ///
    /// A backslash is a character as any other on Unix, and some sources have it in their names. But a name that would
    /// leave the target if it were read on Windows is refused everywhere, since nothing harmless looks like that.
    pub(super) fn parse(name: &[u8]) -> Result<Self, EntryProblem> {
        if name.is_empty() {
            return Err(EntryProblem::Nameless);
        }
        if name.contains(&0) {
            return Err(EntryProblem::Nul);
        }
        if is_absolute(name) {
            return Err(EntryProblem::Absolute);
        }
        if goes_up(name) {
            return Err(EntryProblem::Parent);
        }
        let mut path = PathBuf::new();
        for part in parts(name) {
            if cfg!(windows) && part.iter().any(|byte| b"\\:*?\"<>|".contains(byte) || *byte < 32) {
                return Err(EntryProblem::NotHere);
            }
            path.push(os_string(part)?);
        }
        Ok(Self(path))
    }

    /// Whether it stands for the archive as a whole, as `./` does.
    pub(super) fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Whether a name begins at a root, that of a drive included.
pub(super) fn is_absolute(name: &[u8]) -> bool {
    match name {
        [b'/' | b'\\', ..] => true,
        [drive, b':', ..] => drive.is_ascii_alphabetic(),
        _ => false,
    }
}

/// Whether one of its parts is `..`, by either separator.
fn goes_up(name: &[u8]) -> bool {
    name.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..")
}

/// Whether it goes up only if backslashes are separators. That of links may go up, but not in disguise.
pub(super) fn goes_up_by_backslash(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/').any(|part| part.contains(&b'\\') && (is_absolute(part) || goes_up(part)))
}

/// The parts of a name that lead somewhere.
pub(super) fn parts(name: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// The name as the system has it.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other systems cannot have all names")]
pub(super) fn os_string(name: &[u8]) -> Result<OsString, EntryProblem> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(name.to_vec()))
}

/// The name as the system has it.
#[cfg(not(unix))]
pub(super) fn os_string(name: &[u8]) -> Result<OsString, EntryProblem> {
    str::from_utf8(name).map(OsString::from).map_err(|_| EntryProblem::NotHere)
}

/// A name for people to read. What steers a terminal is replaced, and what is too long is cut.
pub(super) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let shown = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
    let mut printable: String = shown.take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        printable.push('…');
    }
    printable
}
