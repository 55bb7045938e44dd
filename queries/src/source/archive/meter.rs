//! A reader that knows when it is enough.
//!
//! The tar library holds the headers of an entry in memory, however long they say they are, and skips what it is not
//! asked for. Neither passes by here uncounted.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::Path;

use super::Limits;
use super::error::{Limit, UnpackError};

/// Counts what a [`Metered`] reader gives.
pub(super) struct Meter<'a> {
    cancelled: &'a dyn Fn() -> bool,
    limits: Limits,
    read: Cell<u64>,
    /// What is left for the header that is being read, if one is.
    header: Cell<Option<u64>>,
    ended: Cell<bool>,
    stopped: Cell<Option<Stop>>,
}

#[derive(Clone, Copy)]
enum Stop {
    Cancelled,
    Limit(Limit),
}

impl<'a> Meter<'a> {
    pub(super) fn new(limits: Limits, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self {
            cancelled,
            limits,
            read: Cell::new(0),
            header: Cell::new(None),
            ended: Cell::new(false),
            stopped: Cell::new(None),
        }
    }

    /// Does something that reads a header, and no more than one may have.
    pub(super) fn header<T>(&self, read: impl FnOnce() -> T) -> T {
        self.header.set(Some(self.limits.header));
        let result = read();
        self.header.set(None);
        result
    }

    /// Whether the end was seen of what is read.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// The error in place of one that came from a reader which was stopped.
    pub(super) fn reason(&self, archive: &Path, error: UnpackError) -> UnpackError {
        let archive = archive.to_path_buf();
        match self.stopped.get() {
            Some(Stop::Cancelled) => UnpackError::Cancelled { archive },
            Some(Stop::Limit(limit)) => UnpackError::TooLarge { archive, limit },
            None => error,
        }
    }

    fn count(&self, read: u64) -> Option<Stop> {
        self.read.set(self.read.get().saturating_add(read));
        if self.read.get() > self.limits.size {
            return Some(Stop::Limit(Limit::Size(self.limits.size)));
        }
        let left = self.header.get()?.checked_sub(read);
        self.header.set(Some(left.unwrap_or(0)));
        left.is_none().then_some(Stop::Limit(Limit::Header(self.limits.header)))
    }
}

/// A reader that is counted and can be cancelled.
pub(super) struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter<'a>,
}

impl<'a, R> Metered<'a, R> {
    pub(super) fn new(inner: R, meter: &'a Meter<'a>) -> Self {
        Self { inner, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stop = (self.meter.cancelled)().then_some(Stop::Cancelled);
        let mut read = 0;
        if stop.is_none() {
            read = self.inner.read(buffer)?;
            if read == 0 && !buffer.is_empty() {
                self.meter.ended.set(true);
            }
            stop = self.meter.count(read as u64);
        }
        if stop.is_some() {
            self.meter.stopped.set(stop);
            return Err(io::Error::other("reading was stopped"));
        }
        Ok(read)
    }
}
