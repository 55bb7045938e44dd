//! A store that is busy, and one that has lost things.

use std::io;

use crate::backend::{In, Trouble};
use crate::store::Store;

fn error(trouble: &Trouble) -> io::Error {
    io::Error::other(trouble.to_string())
}

impl Store {
    /// Holds the write lease while something happens, as another process does that writes.
    ///
    /// # Errors
    ///
    /// Fails if the lease cannot be taken.
    pub fn while_busy<T>(&self, during: impl FnOnce() -> T) -> io::Result<T> {
        std::fs::create_dir_all(self.directory())?;
        let lease = self.lease().map_err(|trouble| error(&trouble))?;
        let done = during();
        lease.close().map_err(|trouble| error(&trouble))?;
        Ok(done)
    }

    /// Removes entries of the file, told by the name of their table and their key, as a collection may; how many.
    ///
    /// # Errors
    ///
    /// Fails if the lease cannot be taken or the file cannot be written.
    pub fn lose(&self, mut lose: impl FnMut(&'static str, &[u8]) -> bool) -> io::Result<usize> {
        let lease = self.lease().map_err(|trouble| error(&trouble))?;
        let lost = lease.write(|writing| {
            let mut lost = 0;
            for table in [In::Traces, In::Specs, In::Values, In::Stamps] {
                for (key, _) in writing.beginning_with(table, &[])? {
                    if lose(table.name(), &key) {
                        writing.remove(table, &key)?;
                        lost += 1;
                    }
                }
            }
            Ok(lost)
        });
        let closed = lease.close();
        let lost = lost.map_err(|trouble| error(&trouble))?;
        closed.map_err(|trouble| error(&trouble))?;
        Ok(lost)
    }
}
