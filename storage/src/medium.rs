//! The file that redb works on, with an end to waiting.
//!
//! redb holds the lock of the file's header while it brings the header to the disk, and waits for that of others without
//! a word and without an end: so for a process that was stopped meanwhile.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use crate::event::{StoreEvent, StoreListener};

/// After this long somebody who waits is told so.
const SOON: Duration = Duration::from_secs(1);

/// How long a lock is waited for, and who is told. Clones share it.
#[derive(Clone)]
pub(crate) struct Patience {
    limit: Duration,
    /// It ran out: until a lock is had again, others that are held are not waited for at all.
    ran_out: Arc<AtomicBool>,
    listener: Option<StoreListener>,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Patience {
    pub(crate) fn new(limit: Duration, listener: Option<StoreListener>) -> Self {
        Self { limit, ran_out: Arc::default(), listener }
    }

    fn wait(&self, take: impl Fn() -> Result<bool, BackendError>) -> Result<(), BackendError> {
        let since = Instant::now();
        let mut pause = Duration::from_micros(50);
        let mut said = false;
        // The flag guards no other memory: who reads it late waits once more.
        while !take()? {
            let waited = since.elapsed();
            if waited >= self.limit || self.ran_out.load(Ordering::Relaxed) {
                self.ran_out.store(true, Ordering::Relaxed);
                let reason =
                    format!("another process does not give back its lock (waited {waited:.0?}); is one stopped?");
                return Err(BackendError::Io(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
            if waited >= SOON && !said {
                said = true;
                if let Some(listener) = &self.listener {
                    listener(StoreEvent::WillWait);
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
        self.ran_out.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// The file of a store.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: FileBackend,
    patience: Patience,
}

impl StoreFile {
    /// Opens it; for writing, it is made if there is none.
    pub(crate) fn open(path: &Path, write: bool, patience: &Patience) -> Result<Self, redb::Error> {
        let file = if write {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?
        } else {
            File::open(path)?
        };
        Ok(Self { file: FileBackend::new(file)?, patience: patience.clone() })
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.patience.wait(|| self.file.try_lock_range(start, end))
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.patience.wait(|| self.file.try_lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
