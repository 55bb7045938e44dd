//! redb, at arm's length: the one place where it is called, and where its errors and panics end.
//!
//! A damaged file makes redb return errors, panic, or return bytes that were never written. The first two are
//! caught here and become [`Trouble`]; the third is what [`crate::codec`] is for.

use std::cell::Cell;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;

use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction,
};

use crate::files::Files;
use crate::medium::{Patience, StoreFile};

/// How processes share the file: one writes, any number read meanwhile, a refused open returns at once.
const MODE: ConcurrencyMode = ConcurrencyMode::SingleWriter;

pub(crate) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables, each with its name and its place among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(crate) enum In {
    Traces,
    Specs,
    Values,
    Stamps,
    Labels,
    Runs,
    Access,
    Meta,
    Names,
}

impl In {
    pub(crate) const ALL: [In; 9] =
        [In::Traces, In::Specs, In::Values, In::Stamps, In::Labels, In::Runs, In::Access, In::Meta, In::Names];

    pub(crate) fn name(self) -> &'static str {
        match self {
            In::Traces => "traces",
            In::Specs => "specs",
            In::Values => "values",
            In::Stamps => "stamps",
            In::Labels => "labels",
            In::Runs => "runs",
            In::Access => "access",
            In::Meta => "meta",
            In::Names => "names",
        }
    }

    fn definition(self) -> Table {
        TableDefinition::new(self.name())
    }
}

/// Why the file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("another process is writing")]
    Busy,
    #[error("its last writer was killed")]
    NeedsRepair,
    #[error("there is none yet")]
    Missing,
    #[error("{0}")]
    Io(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside of a call whose panic will be caught and taken for damage.
///
/// A panic hook that asks this can keep such panics from being printed.
pub fn is_inside_store() -> bool {
    INSIDE.get()
}

struct Inside(bool);

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

/// Something of redb's whose drop may panic as well.
struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    fn new(value: T) -> Self {
        Self(Some(value))
    }

    fn get(&self) -> Result<&T, redb::Error> {
        // It is taken only by what consumes the guard.
        self.0.as_ref().ok_or(redb::Error::DatabaseClosed)
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = guarded(|| {
            drop(value);
            Ok(())
        });
    }
}

/// Calls redb.
fn guarded<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Trouble> {
    let _inside = Inside(INSIDE.replace(true));
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::Damaged("redb gave up on what stands in it".to_owned())),
    }
}

fn trouble(error: &redb::Error) -> Trouble {
    match error {
        redb::Error::DatabaseAlreadyOpen => Trouble::Busy,
        redb::Error::RepairAborted => Trouble::NeedsRepair,
        redb::Error::LockProtocolMismatch | redb::Error::UpgradeRequired(_) | redb::Error::Unsupported => {
            Trouble::Unsupported(error.to_string())
        }
        redb::Error::Io(io) => match io.kind() {
            ErrorKind::NotFound => Trouble::Missing,
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                Trouble::Damaged(error.to_string())
            }
            ErrorKind::Unsupported => Trouble::Unsupported(error.to_string()),
            _ => Trouble::Io(error.to_string()),
        },
        // These tell of what happened to this handle, nothing of the file.
        redb::Error::PreviousIo
        | redb::Error::Backend(_)
        | redb::Error::DatabaseClosed
        | redb::Error::LockPoisoned(_)
        | redb::Error::TransactionPoisoned => Trouble::Io(error.to_string()),
        _ => Trouble::Damaged(error.to_string()),
    }
}

/// How files are opened.
#[derive(Clone)]
pub(crate) struct Medium {
    /// How much of a file redb keeps in memory, in bytes.
    pub(crate) cache: usize,
    /// How long its locks are waited for.
    pub(crate) patience: Patience,
    /// What goes wrong.
    #[cfg(feature = "testing")]
    pub(crate) faults: Option<crate::testing::Faults>,
}

impl Medium {
    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_concurrency_mode(MODE).set_cache_size(self.cache);
        builder
    }

    fn read(&self, path: &Path) -> Result<ReadOnlyDatabase, redb::Error> {
        #[cfg(feature = "testing")]
        if let Some(faults) = &self.faults {
            return Ok(self.builder().open_read_only_with_backend(faults.open(path, false, &self.patience)?)?);
        }
        Ok(self.builder().open_read_only_with_backend(StoreFile::open(path, false, &self.patience)?)?)
    }

    fn write(&self, path: &Path) -> Result<Database, redb::Error> {
        #[cfg(feature = "testing")]
        if let Some(faults) = &self.faults {
            return Ok(self.builder().create_with_backend(faults.open(path, true, &self.patience)?)?);
        }
        Ok(self.builder().create_with_backend(StoreFile::open(path, true, &self.patience)?)?)
    }

    /// Makes the file if there is none.
    ///
    /// It is made under another name: whoever finds it finds it whole, and nobody takes one that is just being made for a
    /// damaged one. Where there can be no such name, it is made in its place by who opens it for writing.
    fn make(&self, files: &Files) -> Result<(), redb::Error> {
        #[cfg(feature = "testing")]
        if self.faults.is_some() {
            return Ok(());
        }
        let path = files.database();
        if path.exists() {
            return Ok(());
        }
        // What is left there half made goes with the batches that are left half written.
        let mut named = tempfile::Builder::new();
        // As any other file of the store: others may have to read it, too.
        #[cfg(unix)]
        named.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let aside = std::fs::create_dir_all(files.pending()).and_then(|()| named.tempfile_in(files.pending()));
        let Ok(aside) = aside else { return Ok(()) };
        self.builder().create(aside.path())?.close()?;
        // Somebody else may have been faster.
        drop(std::fs::hard_link(aside.path(), path));
        Ok(())
    }

    /// A step that changes other files than the one of the store, for tests that end a process at it.
    pub(crate) fn step(&self) {
        #[cfg(feature = "testing")]
        if let Some(faults) = &self.faults {
            faults.step();
        }
    }
}

/// A file that is open for reading.
pub(crate) struct ReadFile(Guarded<ReadOnlyDatabase>);

impl ReadFile {
    pub(crate) fn open(path: &Path, medium: &Medium) -> Result<Self, Trouble> {
        match guarded(|| Ok(Self(Guarded::new(medium.read(path)?)))) {
            // Its maker has not got further yet, or was killed before it did.
            Err(Trouble::Damaged(_)) if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) => {
                Err(Trouble::Missing)
            }
            opened => opened,
        }
    }

    pub(crate) fn begin(&self) -> Result<Reader, Trouble> {
        guarded(|| {
            let transaction = self.0.get()?.begin_read()?;
            Ok(Reader { tables: Guarded::new(Default::default()), transaction: Guarded::new(transaction) })
        })
    }
}

/// One state of the file.
pub(crate) struct Reader {
    tables: Guarded<OpenTables>,
    transaction: Guarded<ReadTransaction>,
}

/// The tables that were read so far; `None` for one to which nothing was ever written.
type OpenTables = [OnceLock<Option<OpenTable>>; In::ALL.len()];

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Entries with their keys.
pub(crate) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

impl Reader {
    /// The table; `None` if nothing was ever written to it.
    fn table(&self, table: In) -> Result<Option<&OpenTable>, redb::Error> {
        let known = &self.tables.get()?[table as usize];
        if let Some(open) = known.get() {
            return Ok(open.as_ref());
        }
        let open = match self.transaction.get()?.open_table(table.definition()) {
            Ok(open) => Some(open),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(known.get_or_init(|| open).as_ref())
    }

    pub(crate) fn get(&self, table: In, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        guarded(|| {
            let Some(table) = self.table(table)? else { return Ok(None) };
            Ok(table.get(key)?.map(|entry| entry.value().to_vec()))
        })
    }

    /// Shows the entries whose keys begin with `prefix`, in the order of keys.
    pub(crate) fn beginning_with(
        &self,
        table: In,
        prefix: &[u8],
        mut show: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Trouble> {
        guarded(|| {
            let Some(table) = self.table(table)? else { return Ok(()) };
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                show(key.value(), value.value());
            }
            Ok(())
        })
    }

    /// The last entries by key, the very last first.
    pub(crate) fn last(&self, table: In, limit: usize) -> Result<Entries, Trouble> {
        guarded(|| {
            let mut entries = Vec::new();
            let Some(table) = self.table(table)? else { return Ok(entries) };
            for entry in table.range::<&[u8]>(..)?.rev().take(limit) {
                let (key, value) = entry?;
                entries.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(entries)
        })
    }

    /// Shows every entry, in the order of keys, until it is told to stop.
    pub(crate) fn each(&self, table: In, mut show: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), Trouble> {
        guarded(|| {
            let Some(table) = self.table(table)? else { return Ok(()) };
            for entry in table.range::<&[u8]>(..)? {
                let (key, value) = entry?;
                if show(key.value(), value.value()).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// How many entries the table has, and how many bytes they take.
    pub(crate) fn size(&self, table: In) -> Result<(u64, u64), Trouble> {
        guarded(|| {
            let Some(table) = self.table(table)? else { return Ok((0, 0)) };
            Ok((table.len()?, table.stats()?.stored_bytes()))
        })
    }
}

/// The right to write: as long as it is held, nobody else can.
pub(crate) struct Lease(Guarded<Database>);

impl Lease {
    /// Takes the lease, making the file if there is none. Returns at once if somebody else has it.
    pub(crate) fn take(files: &Files, medium: &Medium) -> Result<Self, Trouble> {
        guarded(|| {
            medium.make(files)?;
            Ok(Self(Guarded::new(medium.write(&files.database())?)))
        })
    }

    /// What was committed last.
    pub(crate) fn begin(&self) -> Result<Reader, Trouble> {
        guarded(|| {
            let transaction = self.0.get()?.begin_read()?;
            Ok(Reader { tables: Guarded::new(Default::default()), transaction: Guarded::new(transaction) })
        })
    }

    /// Writes in one transaction: all of it or nothing.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&Writing<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut transaction = guarded(|| Ok(self.0.get()?.begin_write()?))?;
        guarded(|| {
            transaction.set_quick_repair(true);
            Ok(())
        })?;
        match write(&Writing(&transaction)) {
            Ok(value) => {
                guarded(|| Ok(transaction.commit()?))?;
                Ok(value)
            }
            Err(trouble) => {
                // Nothing of it may stay; if it cannot be taken back, the file repairs itself when it is next opened.
                let _ = guarded(|| Ok(transaction.abort()?));
                Err(trouble)
            }
        }
    }

    /// Gives the lease back. Without this the next reader takes the file for one whose writer was killed.
    pub(crate) fn close(mut self) -> Result<(), Trouble> {
        guarded(|| Ok(self.0.0.take().ok_or(redb::Error::DatabaseClosed)?.close()?))
    }

    pub(crate) fn compact(&mut self) -> Result<bool, Trouble> {
        guarded(|| Ok(self.0.0.as_mut().ok_or(redb::Error::DatabaseClosed)?.compact()?))
    }
}

/// A write transaction.
pub(crate) struct Writing<'a>(&'a WriteTransaction);

impl Writing<'_> {
    pub(crate) fn get(&self, table: In, key: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        guarded(|| {
            let table = self.0.open_table(table.definition())?;
            let found = table.get(key)?.map(|entry| entry.value().to_vec());
            Ok(found)
        })
    }

    pub(crate) fn put_all<'b>(
        &self,
        table: In,
        entries: impl IntoIterator<Item = (&'b [u8], Vec<u8>)>,
    ) -> Result<(), Trouble> {
        guarded(|| {
            let mut table = self.0.open_table(table.definition())?;
            for (key, entry) in entries {
                table.insert(key, entry.as_slice())?;
            }
            Ok(())
        })
    }

    pub(crate) fn put(&self, table: In, key: &[u8], entry: &[u8]) -> Result<(), Trouble> {
        guarded(|| {
            self.0.open_table(table.definition())?.insert(key, entry)?;
            Ok(())
        })
    }

    pub(crate) fn remove(&self, table: In, key: &[u8]) -> Result<(), Trouble> {
        self.remove_all(table, [key])
    }

    pub(crate) fn remove_all<'b>(&self, table: In, keys: impl IntoIterator<Item = &'b [u8]>) -> Result<(), Trouble> {
        guarded(|| {
            let mut table = self.0.open_table(table.definition())?;
            for key in keys {
                table.remove(key)?;
            }
            Ok(())
        })
    }

    pub(crate) fn beginning_with(&self, table: In, prefix: &[u8]) -> Result<Entries, Trouble> {
        guarded(|| {
            let table = self.0.open_table(table.definition())?;
            let mut entries = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                entries.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(entries)
        })
    }

    /// The keys that begin with `prefix`; what belongs to them is not looked at.
    pub(crate) fn keys_beginning_with(&self, table: In, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Trouble> {
        guarded(|| {
            let table = self.0.open_table(table.definition())?;
            let mut keys = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, _) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                keys.push(key.value().to_vec());
            }
            Ok(keys)
        })
    }

    /// The first keys, so that at most `keep` stay if these are removed.
    pub(crate) fn keys_beyond(&self, table: In, keep: u64) -> Result<Vec<Vec<u8>>, Trouble> {
        guarded(|| {
            let table = self.0.open_table(table.definition())?;
            let beyond = table.len()?.saturating_sub(keep);
            let mut keys = Vec::new();
            for entry in table.range::<&[u8]>(..)?.take(usize::try_from(beyond).unwrap_or(usize::MAX)) {
                keys.push(entry?.0.value().to_vec());
            }
            Ok(keys)
        })
    }
}
