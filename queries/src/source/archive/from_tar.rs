//! The entries of a tar.

use std::io::{self, BufRead, Read};
use std::time::{Duration, SystemTime};

use tar::EntryType;

use super::Compression;
use super::error::{EntryProblem, UnpackError};
use super::meter::{Meter, Metered};
use super::tree::{FileFacts, Tree};

/// The window that an "LZMA alone" may ask for, in KiB. Its tools make none larger than 64 MiB unless told to.
const MAX_LZMA_MEMORY: u32 = 1 << 20;

pub(super) fn read(
    file: impl BufRead,
    compression: Compression,
    meter: &Meter<'_>,
    tree: &mut Tree<'_>,
) -> Result<(), UnpackError> {
    let archive = tree.archive();
    let failed = |error| UnpackError::read(archive, error);
    match compression {
        Compression::Plain => {
            let mut reader = Metered::new(file, meter);
            read_entries(&mut reader, meter, tree)?;
            // What ends before its end marker was cut between two entries, which nothing else would tell.
            if meter.has_ended() {
                return Err(UnpackError::corrupt(archive, "there is no end marker"));
            }
            Ok(())
        }
        Compression::Gzip => read_compressed(flate2::bufread::MultiGzDecoder::new(file), meter, tree),
        Compression::Bzip2 => read_compressed(bzip2::bufread::MultiBzDecoder::new(file), meter, tree),
        Compression::Xz => read_compressed(lzma_rust2::XzReader::new(file, true), meter, tree),
        Compression::Lzma => {
            let reader = lzma_rust2::LzmaReader::new_mem_limit(file, MAX_LZMA_MEMORY, None).map_err(failed)?;
            read_compressed(reader, meter, tree)
        }
        Compression::Zstd => read_compressed(zstd::Decoder::with_buffer(file).map_err(failed)?, meter, tree),
    }
}

/// Reads to the end also what comes after the entries: only then has the compression checked that all of it is right.
fn read_compressed(reader: impl Read, meter: &Meter<'_>, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let mut reader = Metered::new(reader, meter);
    read_entries(&mut reader, meter, tree)?;
    skip(&mut reader, tree)
}

fn read_entries(reader: &mut dyn Read, meter: &Meter<'_>, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    let archive = tree.archive();
    let failed = |error| UnpackError::read(archive, error);
    let mut entries = tar::Archive::new(reader);
    let mut entries = entries.entries().map_err(failed)?;
    while let Some(entry) = meter.header(|| entries.next()) {
        read_entry(entry.map_err(failed)?, tree)?;
    }
    Ok(())
}

fn read_entry(mut entry: tar::Entry<'_, impl Read>, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
    tree.count()?;
    let archive = tree.archive();
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        // Git writes the commit there.
        return skip(&mut entry, tree);
    }
    let raw = entry.path_bytes().into_owned();
    let name = tree.name(&raw)?;
    let link = entry.link_name_bytes().unwrap_or_default().into_owned();
    match kind {
        // Before there was a kind for directories, they were files whose names ended like that.
        EntryType::Regular if raw.ends_with(b"/") && entry.size() == 0 => tree.directory(&name),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            if is_pax_sparse(&mut entry) {
                return Err(tree.refused(&raw, EntryProblem::Kind("a sparse file in the format of pax")));
            }
            let header = entry.header();
            let failed = |error| UnpackError::corrupt(archive, error);
            let mode = header.mode().map_err(failed)?;
            // Some leave it blank, and some have one that is too far away for the system.
            let modified = header.mtime().ok().map(Duration::from_secs);
            let modified = modified.and_then(|modified| SystemTime::UNIX_EPOCH.checked_add(modified));
            let facts = FileFacts { executable: mode & 0o111 != 0, modified };
            let size = entry.size();
            tree.file(&name, &facts, size, &mut entry)
        }
        EntryType::Directory => {
            tree.directory(&name)?;
            skip(&mut entry, tree)
        }
        EntryType::Symlink => {
            tree.symlink(&name, &link)?;
            skip(&mut entry, tree)
        }
        EntryType::Link => {
            tree.hard_link(&name, &link)?;
            skip(&mut entry, tree)
        }
        EntryType::Char | EntryType::Block => Err(tree.refused(&raw, EntryProblem::Kind("a device"))),
        EntryType::Fifo => Err(tree.refused(&raw, EntryProblem::Kind("a pipe"))),
        _ => Err(tree.refused(&raw, EntryProblem::Kind("of a kind that is not known"))),
    }
}

/// Whether what would be written is not the file, but a list of its holes with the rest of it.
fn is_pax_sparse(entry: &mut tar::Entry<'_, impl Read>) -> bool {
    let extensions = entry.pax_extensions().ok().flatten();
    extensions.into_iter().flatten().flatten().any(|extension| extension.key_bytes().starts_with(b"GNU.sparse."))
}

fn skip(reader: &mut impl Read, tree: &Tree<'_>) -> Result<(), UnpackError> {
    io::copy(reader, &mut io::sink()).map(|_| ()).map_err(|error| UnpackError::read(tree.archive(), error))
}
