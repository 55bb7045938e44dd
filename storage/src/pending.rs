//! Batches that wait beside the store for the next writer.
//!
//! Each is a file of its own, written aside and renamed, sealed like an entry. They are never changed: a writer
//! takes some in and then removes exactly those.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::codec::{seal_from, unseal};
use crate::format::{decode_batch, encode_batch};
use crate::trace::Batch;

const TABLE: &str = "pending";
const SUFFIX: &str = "q";

/// Every run reads the batches that wait, and each waits only until the next writer: a small one is sooner read than expanded.
const COMPRESS_FROM: usize = 64 << 10;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Puts a batch beside the store.
pub(crate) fn put(directory: &Path, batch: &Batch) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // Only uniqueness within the process matters. The name begins with the time, so that names sort by age.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let run = crate::keys::RunId::new();
    let name = format!("{:020}-{}-{number}.{SUFFIX}", run.micros(), std::process::id());
    let mut payload = Vec::new();
    encode_batch(batch, &mut payload);
    let aside = directory.join(format!("{name}.tmp"));
    fs::write(&aside, seal_from(COMPRESS_FROM, TABLE, name.as_bytes(), &payload))?;
    fs::rename(&aside, directory.join(&name)).inspect_err(|_| drop(fs::remove_file(&aside)))
}

/// The batches that wait, by path, the oldest first; `Err` for one that is not whole.
pub(crate) type Waiting = BTreeMap<PathBuf, Result<Arc<Batch>, &'static str>>;

/// Reads the batches that wait, taking those from `known` that were read before.
pub(crate) fn read(directory: &Path, known: &Waiting) -> Waiting {
    let Ok(listing) = fs::read_dir(directory) else { return Waiting::new() };
    let mut waiting = Waiting::new();
    for entry in listing.filter_map(Result::ok) {
        let path = entry.path();
        if !is_batch(&path) {
            continue;
        }
        if let Some(batch) = known.get(&path) {
            waiting.insert(path, batch.clone());
            continue;
        }
        match fs::read(&path) {
            Ok(sealed) => {
                waiting.insert(path.clone(), parse(&path, &sealed));
            }
            // A writer has just taken it in.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => {
                waiting.insert(path, Err("it cannot be read"));
            }
        }
    }
    waiting
}

fn parse(path: &Path, sealed: &[u8]) -> Result<Arc<Batch>, &'static str> {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let payload = unseal(TABLE, name, sealed).map_err(|unsound| unsound.reason())?;
    decode_batch(&payload).map(Arc::new).ok_or("it cannot be decoded")
}

/// How old a half-written batch is before nobody can be writing it any more.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Removes batches that were taken in, and what dead processes left half-written.
pub(crate) fn remove<'a>(directory: &Path, taken: impl IntoIterator<Item = &'a PathBuf>) {
    for path in taken {
        // Whatever stays is taken in once more, which changes nothing.
        let _ = fs::remove_file(path);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if !is_batch(&entry.path()) && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_batch(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == SUFFIX)
}

/// How many batches wait.
pub(crate) fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |listing| listing.flatten().filter(|entry| is_batch(&entry.path())).count())
}
