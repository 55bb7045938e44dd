//! The entries of a 7z.

use std::io::{Read, Seek};
use std::path::Path;

use sevenz_rust2::{Archive, ArchiveEntry, ArchiveReader, Error, Password};

use super::error::{EntryProblem, UnpackError};
use super::tree::{FileFacts, Tree, UnixKind, read_link};

/// Says that the upper half of the attributes is the mode of Unix.
const HAS_MODE: u32 = 0x8000;
/// A link of Windows, whose content is not the path that it leads to.
const REPARSE_POINT: u32 = 0x400;

pub(super) fn read(mut file: impl Read + Seek, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let path = tree.archive();
    let password = Password::empty();
    let mut archive = Archive::read(&mut file, &password).map_err(|error| failed(path, error))?;
    let count = archive.files.len();
    if count == 0 {
        // The library takes for granted that who has blocks has files.
        return Err(UnpackError::Empty { archive: path.to_path_buf() });
    }
    sort(&mut archive);
    let mut reader = ArchiveReader::from_archive(archive, file, password);
    reader.set_thread_count(1);
    let mut seen = 0;
    let mut refused = None;
    let result = reader.for_each_entries(|entry, content| {
        seen += 1;
        read_entry(entry, content, tree).map(|()| true).map_err(|error| {
            refused = Some(error);
            // Nothing less than an error of its own keeps the library from going on with the next block.
            Error::Other("an entry was refused".into())
        })
    });
    if let Some(error) = refused {
        return Err(error);
    }
    result.map_err(|error| failed(path, error))?;
    if seen != count {
        return Err(UnpackError::corrupt(path, "it has more entries, or fewer, than it lists"));
    }
    Ok(())
}

/// Lists what has no content last.
///
/// The library takes the files of a block to be next to each other in the list, but other programs have directories and
/// empty files among them. With the list as it is, the last of them would be lost without a word.
fn sort(archive: &mut Archive) {
    let map = &mut archive.stream_map;
    // How many with content come before each.
    let mut before = Vec::with_capacity(archive.files.len() + 1);
    let mut count = 0;
    for file in &archive.files {
        before.push(count);
        count += usize::from(file.has_stream);
    }
    before.push(count);
    for first in &mut map.block_first_file_index {
        *first = before.get(*first).copied().unwrap_or(count);
    }
    let blocks = std::mem::take(&mut map.file_block_index);
    let files = std::mem::take(&mut archive.files).into_iter().zip(blocks);
    let (mut files, empty): (Vec<_>, Vec<_>) = files.partition(|(file, _)| file.has_stream);
    files.extend(empty.into_iter().map(|(file, _)| (file, None)));
    (archive.files, map.file_block_index) = files.into_iter().unzip();
}

fn read_entry(entry: &ArchiveEntry, content: &mut dyn Read, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    tree.count()?;
    let name = entry.name().replace('\\', "/").into_bytes();
    let path = tree.name(&name)?;
    let attributes = if entry.has_windows_attributes { entry.windows_attributes() } else { 0 };
    let mode = if attributes & HAS_MODE == 0 { 0 } else { attributes >> 16 };
    if entry.is_anti_item() {
        return Err(tree.refused(&name, EntryProblem::Kind("a note to remove one")));
    }
    match UnixKind::of(mode) {
        UnixKind::Symlink => {
            let target = read_link(content, tree.archive())?;
            tree.symlink(&path, &target)
        }
        UnixKind::Other(kind) => Err(tree.refused(&name, EntryProblem::Kind(kind))),
        _ if attributes & REPARSE_POINT != 0 => {
            Err(tree.refused(&name, EntryProblem::Kind("a reparse point of Windows")))
        }
        _ if entry.is_directory() => tree.directory(&path),
        UnixKind::Directory => Err(tree.refused(&name, EntryProblem::Kind("a directory with content"))),
        UnixKind::File | UnixKind::Unknown => {
            let modified = entry.has_last_modified_date.then(|| entry.last_modified_date().into());
            let facts = FileFacts { executable: mode & 0o111 != 0, modified };
            tree.file(&path, &facts, entry.size(), content)
        }
    }
}

fn failed(archive: &Path, error: Error) -> UnpackError {
    match error {
        Error::Io(error, _) | Error::FileOpen(error, _) => UnpackError::read(archive, error),
        Error::PasswordRequired | Error::MaybeBadPassword(_) => {
            UnpackError::Encrypted { archive: archive.to_path_buf() }
        }
        Error::UnsupportedCompressionMethod(method) if method.starts_with("AES") => {
            UnpackError::Encrypted { archive: archive.to_path_buf() }
        }
        Error::UnsupportedCompressionMethod(method) => {
            UnpackError::UnsupportedMethod { archive: archive.to_path_buf(), method }
        }
        error => UnpackError::corrupt(archive, error),
    }
}
