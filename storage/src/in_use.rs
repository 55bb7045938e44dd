//! Whether somebody is using the store.
//!
//! A run holds a shared lock on the file `in-use` as long as it lives. Who collects takes it exclusively, without
//! waiting: then no run is under way that may still ask for something which it has seen. Who does not get it takes
//! only what nobody has used for a day.
//!
//! A run that begins while somebody collects does not wait. What it saw may be gone when it writes, so it writes whatever
//! its results need as if nothing had been there; what it comes to miss is work to do again.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::PoisonError;

use crate::sync::Mutex;

pub(crate) const NAME: &str = "in-use";

/// What this process holds of the lock.
#[derive(Default)]
pub(crate) struct InUse(Mutex<Option<File>>);

impl InUse {
    /// Takes a share of the lock, once. Does nothing where there is no store yet, or if locks do not work here.
    pub(crate) fn hold(&self, path: &Path) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = open(path).filter(|file| file.try_lock_shared().is_ok());
        }
    }

    /// Whether this process has a share of the lock.
    pub(crate) fn is_held(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Gives the share back.
    pub(crate) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Gives the share back, and takes the lock for itself if nobody else has a share.
    pub(crate) fn alone(&self, path: &Path) -> Option<Alone> {
        // A share of ours would be in our way.
        self.release();
        open(path).filter(|file| file.try_lock().is_ok()).map(Alone)
    }
}

/// Nobody else is using the store.
#[derive(Debug)]
pub(crate) struct Alone(#[expect(dead_code, reason = "closing it releases the lock")] File);

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path).ok()
}
