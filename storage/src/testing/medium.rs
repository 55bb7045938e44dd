//! What lies between redb and the disk, with faults in it.
//!
//! Every operation on the file of a store is counted. One of them, told by its number, can fail in one of several
//! ways. What is written and when it is brought to the disk can be recorded, so that what a disk may hold after a
//! crash at any moment can be made from the record: everything up to the last sync, and of what came after it any
//! part, in any order, torn at sectors.
//!
//! Locks are those of the file itself, so that processes and handles see each other as they do without this.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

use crate::medium::{Patience, StoreFile};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and returns an error.
    Error,
    /// This one and all later ones do nothing and return an error, as those of a disk that is gone.
    Gone,
    /// Of a write, the first half is done, and an error returned. Other operations just fail.
    Torn,
    /// A sync does nothing and says that it went well. Other operations are done.
    Dropped,
    /// The process is killed before it.
    Kill,
}

/// What was done to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written.
    Write {
        /// From where on.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// The file was made longer or shorter.
    Length(u64),
    /// All of this is on the disk.
    Sync,
    /// Whoever uses the store notes where it is.
    Mark(u64),
}

/// What was done to the file, and what it was before.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The file before the first change.
    pub before: Vec<u8>,
    /// The changes.
    pub changes: Vec<Change>,
}

/// Faults of the medium that a store is on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    operations: u64,
    plan: Option<(u64, Fault)>,
    hit: Option<&'static str>,
    without_locks: bool,
    log: Option<Log>,
}

impl Faults {
    /// A medium on which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// A medium on which the operation of this number fails; the first is 0.
    pub fn at(operation: u64, fault: Fault) -> Self {
        let faults = Self::new();
        faults.state().plan = Some((operation, fault));
        faults
    }

    /// A medium on which byte ranges cannot be locked.
    pub fn without_locks() -> Self {
        let faults = Self::new();
        faults.state().without_locks = true;
        faults
    }

    /// Begins to record what is done to the file.
    pub fn record(&self) {
        self.state().log = Some(Log::default());
    }

    /// Notes a moment in the record.
    pub fn mark(&self, number: u64) {
        self.note(|| Change::Mark(number));
    }

    /// What was recorded.
    pub fn log(&self) -> Log {
        self.state().log.clone().unwrap_or_default()
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Which kind of operation failed, if one did.
    pub fn hit(&self) -> Option<&'static str> {
        self.state().hit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment, so a panic cannot leave it half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce() -> Change) {
        if let Some(log) = &mut self.state().log {
            log.changes.push(change());
        }
    }

    /// Opens a file on this medium.
    pub(crate) fn open(&self, path: &Path, write: bool, patience: &Patience) -> Result<Medium, redb::Error> {
        let file = StoreFile::open(path, write, patience)?;
        if write {
            let bytes = std::fs::read(path)?;
            if let Some(log) = self.state().log.as_mut().filter(|log| log.changes.is_empty()) {
                log.before = bytes;
            }
        }
        Ok(Medium { file, faults: self.clone() })
    }

    /// Counts an operation; how it fails, if it does.
    fn count(&self, operation: &'static str) -> Option<Fault> {
        let mut state = self.state();
        let number = state.operations;
        state.operations += 1;
        let fault = match state.plan {
            Some((at, Fault::Gone)) if number >= at => Fault::Gone,
            Some((at, fault)) if number == at => fault,
            _ => return None,
        };
        state.hit.get_or_insert(operation);
        drop(state);
        if fault == Fault::Kill {
            kill_this_process();
        }
        Some(fault)
    }

    /// A step that changes other files than the one of the store: it can be the last of a process.
    pub(crate) fn step(&self) {
        self.count("step");
    }
}

/// Nothing is dropped, flushed or unlocked by anybody but the system.
fn kill_this_process() -> ! {
    let killed = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    unreachable!("there is a program that kills: {killed:?}");
}

/// A file on a medium with faults.
#[derive(Debug)]
pub(crate) struct Medium {
    file: StoreFile,
    faults: Faults,
}

fn failed() -> io::Error {
    io::Error::other("the medium failed")
}

impl Medium {
    fn lockable(&self) -> Result<(), BackendError> {
        if self.faults.state().without_locks { Err(BackendError::Unsupported) } else { Ok(()) }
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        match self.faults.count("len") {
            None | Some(Fault::Dropped) => self.file.len(),
            Some(_) => Err(failed()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.faults.count("read") {
            None | Some(Fault::Dropped) => self.file.read(offset, out),
            Some(_) => Err(failed()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.faults.count("set_len") {
            None | Some(Fault::Dropped) => {}
            Some(_) => return Err(failed()),
        }
        self.file.set_len(len)?;
        self.faults.note(|| Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.faults.count("sync") {
            None => {}
            Some(Fault::Dropped) => return Ok(()),
            Some(_) => return Err(failed()),
        }
        // The disk of a test is the record of the changes; waiting for the real one would only take time.
        self.faults.note(|| Change::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let fault = self.faults.count("write");
        let data = match fault {
            None | Some(Fault::Dropped) => data,
            Some(Fault::Torn) => &data[..data.len() / 2],
            Some(_) => return Err(failed()),
        };
        self.file.write(offset, data)?;
        self.faults.note(|| Change::Write { offset, bytes: data.to_vec() });
        if fault == Some(Fault::Torn) { Err(failed()) } else { Ok(()) }
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?;
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?;
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?;
        self.file.query_lock_range(start, end)
    }
}

impl Log {
    /// How many times everything was brought to the disk.
    pub fn syncs(&self) -> usize {
        self.changes.iter().filter(|change| **change == Change::Sync).count()
    }

    /// What the disk may hold if everything stopped before the change of this number. `below(n)` is a number smaller
    /// than `n`; it decides what is there of that which was not synced.
    pub fn after_crash(&self, moment: usize, mut below: impl FnMut(usize) -> usize) -> Vec<u8> {
        let done = &self.changes[..moment];
        let synced = done.iter().rposition(|change| *change == Change::Sync).map_or(0, |place| place + 1);
        let mut disk = self.before.clone();
        for change in &done[..synced] {
            apply(&mut disk, change);
        }
        let mut loose: Vec<&Change> = done[synced..].iter().collect();
        // Sometimes nothing arrived, sometimes everything, mostly something.
        let odds = below(4);
        loose.retain(|_| odds == 3 || odds > below(3));
        for place in (1..loose.len()).rev() {
            loose.swap(place, below(place + 1));
        }
        for change in loose {
            match change {
                Change::Write { offset, bytes } if below(4) == 0 => {
                    for (sector, bytes) in bytes.chunks(SECTOR).enumerate().filter(|_| below(2) == 0) {
                        let offset = offset + (sector * SECTOR) as u64;
                        apply(&mut disk, &Change::Write { offset, bytes: bytes.to_vec() });
                    }
                }
                whole => apply(&mut disk, whole),
            }
        }
        disk
    }
}

fn apply(disk: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => {
            let start = *offset as usize;
            let end = start + bytes.len();
            if disk.len() < end {
                disk.resize(end, 0);
            }
            disk[start..end].copy_from_slice(bytes);
        }
        Change::Length(length) => disk.resize(*length as usize, 0),
        Change::Sync | Change::Mark(_) => {}
    }
}
