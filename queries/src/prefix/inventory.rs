//! The inventory: which files each package brought, for the day when its record is lost.
//!
//! A record is the only one to know the files of its package. If somebody takes it away or spoils it, and the package is
//! not wanted any more, nobody would remove them: the package cache tells what a package brings, but may have lost it,
//! too. So what the records say is written down once more, and read only when one of them may be missing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::prefix::files::{INVENTORY, meta, replace};
use crate::prefix::journal::Planned;

/// The version of its layout; another one is as good as none.
const VERSION: u32 = 1;

/// Which files the packages brought, by file name of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inventory {
    version: u32,
    packages: BTreeMap<String, Planned>,
}

impl Inventory {
    pub(crate) fn new(packages: impl IntoIterator<Item = Planned>) -> Self {
        let packages = packages.into_iter().map(|mut package| {
            // The order in a record is a matter of what happened to it.
            package.paths.sort();
            (package.record.clone(), package)
        });
        Self { version: VERSION, packages: packages.collect() }
    }

    /// What was written last. One that cannot be read knows nothing.
    pub(crate) fn read(prefix: &Path) -> io::Result<Self> {
        match std::fs::read(meta(prefix, INVENTORY)) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes).ok().filter(|read: &Self| read.version == VERSION);
                let mut read = read.unwrap_or_else(|| Self::new([]));
                read.packages.retain(|record, package| *record == package.record);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::new([])),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, prefix: &Path) -> io::Result<()> {
        replace(&meta(prefix, INVENTORY), &serde_json::to_vec(self)?)
    }

    /// The packages that it knows.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Planned> {
        self.packages.values()
    }

    /// Forgets the packages for whose records this does not hold.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.packages.retain(|record, _| is_kept(record));
    }
}
