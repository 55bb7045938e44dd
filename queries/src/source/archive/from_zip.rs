//! The entries of a zip.

use std::io::{Read, Seek};
use std::path::Path;
use std::time::{Duration, SystemTime};

use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{CompressionMethod, ExtraField, ZipArchive};

use super::error::{EntryProblem, UnpackError};
use super::tree::{FileFacts, Tree, UnixKind, read_link};

pub(super) fn read(file: impl Read + Seek, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let archive = tree.archive();
    let mut zip = ZipArchive::new(file).map_err(|error| failed(archive, error))?;
    // Of entries with one name, only one can be had. Whoever looks into the archive may see another.
    if zip.has_duplicate_names() {
        return Err(UnpackError::corrupt(archive, "there are two entries of one name"));
    }
    for index in 0..zip.len() {
        tree.count()?;
        read_entry(zip.by_index(index).map_err(|error| failed(archive, error))?, tree)?;
    }
    Ok(())
}

fn read_entry(mut entry: ZipFile<'_, impl Read>, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let archive = tree.archive();
    // Slashes are what should separate, but some on Windows write the other ones.
    let name = entry.name().map_err(|error| failed(archive, error))?.replace('\\', "/").into_bytes();
    let path = tree.name(&name)?;
    // Else it would be an error of reading, which says that the archive is damaged.
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        let method = entry.compression().to_string();
        return Err(UnpackError::UnsupportedMethod { archive: archive.to_path_buf(), method });
    }
    let mode = entry.unix_mode().unwrap_or_default();
    match UnixKind::of(mode) {
        UnixKind::Symlink => {
            let target = read_link(&mut entry, archive)?;
            tree.symlink(&path, &target)
        }
        UnixKind::Other(kind) => Err(tree.refused(&name, EntryProblem::Kind(kind))),
        UnixKind::Directory => tree.directory(&path),
        UnixKind::File | UnixKind::Unknown if name.ends_with(b"/") => tree.directory(&path),
        UnixKind::File | UnixKind::Unknown => {
            let facts = FileFacts { executable: mode & 0o111 != 0, modified: modified(&entry) };
            let size = entry.size();
            tree.file(&path, &facts, size, &mut entry)
        }
    }
}

/// The time of a file. Where only that of a wall clock is told, it is read as UTC: nobody knows where the clock hung,
/// and this way it is the same everywhere.
fn modified(entry: &ZipFile<'_, impl Read>) -> Option<SystemTime> {
    let stamp = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(stamp) => stamp.mod_time(),
        _ => None,
    });
    let seconds = match stamp {
        Some(seconds) => u64::from(seconds),
        None => {
            let time = entry.last_modified()?;
            let days = days_since_1970(time.year().into(), time.month().into(), time.day().into());
            let [hour, minute, second] = [time.hour(), time.minute(), time.second()].map(u64::from);
            ((days * 24 + hour) * 60 + minute) * 60 + second
        }
    };
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// For the years of a zip, which begin in 1980.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    (before_year + before_month + day).saturating_sub(719_469)
}

fn failed(archive: &Path, error: ZipError) -> UnpackError {
    match error {
        ZipError::Io(error) => UnpackError::read(archive, error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword => {
            UnpackError::Encrypted { archive: archive.to_path_buf() }
        }
        ZipError::UnsupportedArchive(method) => {
            UnpackError::UnsupportedMethod { archive: archive.to_path_buf(), method: method.to_owned() }
        }
        error => UnpackError::corrupt(archive, error),
    }
}
