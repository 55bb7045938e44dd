//! Logs: what runs that wrote nothing leave for the next writer.
//!
//! A record is appended by one write without a sync. Each is framed with its length and a seal, so that a torn tail
//! or damage costs the records it hits and no others' integrity: reading stops at the first that is not whole.
//!
//! A writer moves the log aside before it reads it, so that nothing is appended to what it is about to remove. Who
//! opened the file just before it was moved may still append to it: after the commit the tail that was not read is
//! put back.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::codec::{seal, unseal};

/// The longest record that is believed.
const LONGEST: usize = 64 << 20;

/// Appends a record.
pub(crate) fn append(path: &Path, payload: &[u8]) -> io::Result<()> {
    let sealed = seal("log", b"", payload);
    let mut framed = Vec::with_capacity(sealed.len() + 4);
    framed.extend_from_slice(&u32::try_from(sealed.len()).map_err(io::Error::other)?.to_le_bytes());
    framed.extend_from_slice(&sealed);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).open(path)?.write_all(&framed)
}

/// The whole records at the beginning, and how many bytes they take.
fn parse(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut records = Vec::new();
    let mut read = 0;
    while let Some((length, rest)) = bytes[read..].split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length > LONGEST {
            break;
        }
        let Some(sealed) = rest.get(..length) else { break };
        let Ok(payload) = unseal("log", b"", sealed) else { break };
        records.push(payload.into_owned());
        read += 4 + length;
    }
    (records, read)
}

/// The log and what writers moved aside and did not come to remove.
fn all(path: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return paths };
    let aside = format!("{}.", name.to_string_lossy());
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let other = entry.file_name();
        if other == name || other.to_string_lossy().starts_with(&aside) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    paths
}

/// All records that can be read.
pub(crate) fn read(path: &Path) -> Vec<Vec<u8>> {
    all(path).into_iter().filter_map(|path| fs::read(path).ok()).flat_map(|bytes| parse(&bytes).0).collect()
}

/// A log that a writer has moved aside.
pub(crate) struct Drained {
    log: PathBuf,
    aside: Vec<(PathBuf, usize)>,
    pub(crate) records: Vec<Vec<u8>>,
}

/// Moves the log aside and reads it.
pub(crate) fn drain(path: &Path) -> Drained {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", crate::keys::RunId::new().to_hex()));
    // Without a log there is nothing to move.
    let _ = fs::rename(path, aside);
    let mut drained = Drained { log: path.to_owned(), aside: Vec::new(), records: Vec::new() };
    for path in all(path).into_iter().filter(|other| other != path) {
        let Ok(bytes) = fs::read(&path) else { continue };
        let (records, read) = parse(&bytes);
        drained.records.extend(records);
        // What follows the last whole record never becomes one: records are appended whole.
        drained.aside.push((path, if read < bytes.len() { bytes.len() } else { read }));
    }
    drained
}

impl Drained {
    /// What was read is in the store: removes it. Records that came in meanwhile go back to the log.
    pub(crate) fn remove(self) {
        for (path, read) in self.aside {
            if let Ok(bytes) = fs::read(&path) {
                let (late, _) = parse(bytes.get(read..).unwrap_or_default());
                for record in late {
                    // A record of a run that did nothing is all that can be lost here.
                    let _ = append(&self.log, &record);
                }
            }
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_tail_costs_only_itself() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("runs.log");
        for record in [b"one".as_slice(), b"two", b"three"] {
            append(&path, record).expect("it can be written");
        }
        let whole = fs::read(&path).expect("it can be read");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("it can be written");
            let records = read(&path);
            assert!(records.len() < 3);
            assert!(records.iter().zip([b"one".as_slice(), b"two"]).all(|(a, b)| a == b));
        }
    }

    #[test]
    fn draining_takes_everything_and_loses_nothing_that_comes_late() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("runs.log");
        append(&path, b"one").expect("it can be written");
        let drained = drain(&path);
        assert_eq!(drained.records, [b"one".to_vec()]);
        assert_eq!(read(&path), [b"one".to_vec()], "until the commit it can still be read");
        // Somebody had the file open when it was moved; somebody else begins a new one.
        append(&drained.aside[0].0.clone(), b"late").expect("it can be written");
        append(&path, b"new").expect("it can be written");
        drained.remove();
        let mut records = read(&path);
        records.sort();
        assert_eq!(records, [b"late".to_vec(), b"new".to_vec()]);
    }
}
