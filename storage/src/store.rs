//! The store: opening, committing, and what to do when that does not go well.
//!
//! Whatever happens, the work of those who use the store goes on: there is no error to return, only results that
//! are not found again. What happened is told by events, the same thing once.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::{In, Lease, Medium, ReadFile, Reader, Trouble, Writing};
use crate::codec::{Unsound, seal, unseal};
use crate::event::{StoreEvent, StoreListener};
use crate::files::{FileId, Files, file_id};
use crate::format::{
    decode_access, decode_labels, decode_names, decode_trace, encode_access, encode_labels, encode_names, encode_spec,
    encode_stamp, encode_trace,
};
use crate::in_use::InUse;
use crate::keys::{Fingerprint, Key};
use crate::logs;
use crate::medium::Patience;
use crate::pending::{self, Waiting};
use crate::snapshot::{CHUNK, Snapshot, TRACES, chunk_key, kept_traces, newest_labels, parse_run, trace_key};
use crate::sync::{Mutex, MutexGuard, thread};
use crate::trace::{Batch, LabelEntry, RunEntry};

pub(crate) const RUNS_LOG: &str = "runs.log";
pub(crate) const TOUCH_LOG: &str = "touch.log";

/// The records of runs that are kept.
const RUNS: u64 = 200;
/// With this many batches waiting, whoever would add one takes the lease instead.
const MANY: usize = 16;
/// A log that grew beyond this, in bytes, is taken in by whoever would add to it.
const LONG: u64 = 4 << 20;
/// The version of what the tables hold. Newer ones are not touched, older ones put aside.
const FORMAT: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";
const CLOCK_KEY: &[u8] = b"clock";

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The directory; the store takes one of its own in it, named for its version.
    pub directory: PathBuf,
    /// Who is told what happens.
    pub listener: Option<StoreListener>,
    /// How long another writer is waited for before a batch is put beside the store.
    pub lease_deadline: Duration,
    /// How long a lock is waited for that processes hold for moments only. Whoever still holds it then was most likely
    /// stopped, and the run goes on without the store.
    pub lock_deadline: Duration,
    /// How much of the file redb keeps in memory, in bytes.
    pub cache_size: usize,
    /// Never write anything.
    pub read_only: bool,
    /// Finds the values that an encoded spec or value names, so that they stay as long as it does.
    pub names: Names,
    /// What goes wrong.
    #[cfg(feature = "testing")]
    pub faults: Option<crate::testing::Faults>,
}

/// Finds the values that an encoding names, as whoever made the encoding knows them.
pub type Names = fn(&[u8]) -> Vec<Fingerprint>;

impl StoreOptions {
    /// A store in this directory: two seconds of patience with writers, ten with locks, 64 MiB of memory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            listener: None,
            lease_deadline: Duration::from_secs(2),
            lock_deadline: Duration::from_secs(10),
            cache_size: 64 << 20,
            read_only: false,
            names: |_| Vec::new(),
            #[cfg(feature = "testing")]
            faults: None,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is in the store, and on the disk.
    Stored,
    /// It waits beside the store. Every process sees it there.
    Spilled,
    /// It could not be written at all.
    Lost,
}

/// How large the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInfo {
    /// Where it is.
    pub directory: PathBuf,
    /// For each table its name, how many entries it has, and how many bytes they take.
    pub tables: Vec<(&'static str, u64, u64)>,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
    /// The batches that wait beside it.
    pub pending: usize,
    /// The damaged files that were put aside.
    pub quarantined: usize,
}

/// A store. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

/// What the handles and snapshots of a store share.
pub(crate) struct Shared {
    pub(crate) files: Files,
    pub(crate) options: StoreOptions,
    pub(crate) medium: Medium,
    pub(crate) in_use: InUse,
    /// The file cannot be believed any more; nothing is read from it until a writer has replaced it.
    suspect: AtomicBool,
    without: AtomicBool,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    file: Option<(FileId, Arc<ReadFile>)>,
    /// The file that is not to be believed, so that a writer puts aside that one and no other.
    suspected: Option<FileId>,
    waiting: Waiting,
}

pub(crate) fn today() -> u32 {
    (now_micros() / 1_000_000 / 86_400) as u32
}

pub(crate) fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Whether this program can use a file of this version.
fn check_format(format: u32) -> Result<(), Trouble> {
    match format {
        FORMAT => Ok(()),
        newer if newer > FORMAT => {
            Err(Trouble::Unsupported(format!("it is of version {newer}, this program knows {FORMAT}")))
        }
        // It lacks what this version relies on. What it holds is made again.
        older => Err(Trouble::Damaged(format!("it is of version {older}, which is not used any more"))),
    }
}

impl Shared {
    pub(crate) fn is_suspect(&self) -> bool {
        // The flag guards no other memory: who reads it late reads one more entry, which proves itself.
        self.suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, event: StoreEvent) {
        tracing::debug!(%event, "store");
        if let Some(listener) = &self.options.listener {
            listener(event);
        }
    }

    fn open_state(&self) -> MutexGuard<'_, Open> {
        // Each change of the state is one assignment, so a panic cannot leave it half-done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong with the file: it is not read any more.
    pub(crate) fn suspect(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Damaged(_) => {
                if !self.suspect.swap(true, Ordering::Relaxed) {
                    let mut open = self.open_state();
                    open.suspected = open.file.as_ref().map(|(id, _)| *id);
                    drop(open);
                    self.emit(StoreEvent::DidDiscard { table: "store", reason: trouble.to_string() });
                }
            }
            other => self.without(other),
        }
    }

    /// The file that is there now is the one that is not to be believed.
    pub(crate) fn suspect_current(&self) {
        let current = file_id(&self.files.database());
        self.open_state().suspected = current;
    }

    /// The run goes on without the store; that is said once.
    pub(crate) fn without(&self, trouble: &Trouble) {
        if !self.without.swap(true, Ordering::Relaxed) {
            self.emit(StoreEvent::WillRunWithout { reason: trouble.to_string() });
        }
    }

    /// The payload of an entry, if it can be proven whole and decoded.
    pub(crate) fn open<T>(
        &self,
        table: In,
        key: &[u8],
        sealed: &[u8],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let opened = unseal(table.name(), key, sealed).and_then(|payload| decode(&payload).ok_or(Unsound::Content));
        match opened {
            Ok(value) => Some(value),
            Err(unsound) => {
                self.emit(StoreEvent::DidDiscard { table: table.name(), reason: unsound.reason().to_owned() });
                if unsound.is_damage() {
                    self.suspect(&Trouble::Damaged(format!("an entry of {}: {}", table.name(), unsound.reason())));
                }
                None
            }
        }
    }

    /// The file as it is now, opened if need be.
    fn reader(&self) -> Option<Arc<Reader>> {
        if self.is_suspect() {
            return None;
        }
        let path = self.files.database();
        let Some(id) = file_id(&path) else {
            // That it is not there is no trouble, that nobody may look is. Who writes hears of that then.
            let error = fs::metadata(&path).err().filter(|error| error.kind() != io::ErrorKind::NotFound);
            if let (Some(error), true) = (error, self.options.read_only) {
                self.without(&Trouble::Io(error.to_string()));
            }
            return None;
        };
        let known = self.open_state().file.clone().filter(|(known, _)| *known == id);
        let file = match known {
            Some((_, file)) => file,
            None => {
                let file = Arc::new(self.open_file(&path)?);
                // If the file was replaced while it was opened, the next snapshot opens it again.
                self.open_state().file = Some((id, file.clone()));
                file
            }
        };
        let reader = match file.begin() {
            Ok(reader) => reader,
            Err(trouble) => {
                self.suspect(&trouble);
                return None;
            }
        };
        match reader.get(In::Meta, FORMAT_KEY) {
            Ok(Some(sealed)) => {
                let format = self.open(In::Meta, FORMAT_KEY, &sealed, |payload| {
                    Some(u32::from_le_bytes(payload.try_into().ok()?))
                })?;
                if let Err(trouble) = check_format(format) {
                    self.suspect(&trouble);
                    return None;
                }
            }
            Ok(None) => {}
            Err(trouble) => {
                self.suspect(&trouble);
                return None;
            }
        }
        Some(Arc::new(reader))
    }

    fn open_file(&self, path: &std::path::Path) -> Option<ReadFile> {
        let trouble = match ReadFile::open(path, &self.medium) {
            Ok(file) => return Some(file),
            // The last writer was killed. Opening once for writing repairs the file in about a millisecond.
            Err(Trouble::NeedsRepair) if !self.options.read_only => match Lease::take(&self.files, &self.medium) {
                Ok(lease) => match lease.close().and_then(|()| ReadFile::open(path, &self.medium)) {
                    Ok(file) => return Some(file),
                    Err(trouble) => trouble,
                },
                // Somebody is repairing or writing it right now: this run does without, and says nothing.
                Err(Trouble::Busy) => return None,
                Err(trouble) => trouble,
            },
            Err(Trouble::Busy | Trouble::Missing) => return None,
            Err(trouble) => trouble,
        };
        if matches!(trouble, Trouble::Damaged(_)) {
            self.open_state().suspected = file_id(path);
            self.suspect.store(true, Ordering::Relaxed);
            self.emit(StoreEvent::DidDiscard { table: "store", reason: trouble.to_string() });
        } else {
            self.without(&trouble);
        }
        None
    }

    fn waiting(&self) -> Waiting {
        let known = std::mem::take(&mut self.open_state().waiting);
        let waiting = pending::read(&self.files.pending(), &known);
        for (path, batch) in &waiting {
            if let (Err(reason), None) = (batch, known.get(path)) {
                self.emit(StoreEvent::DidDiscard { table: "pending", reason: (*reason).to_owned() });
            }
        }
        self.open_state().waiting = waiting.clone();
        waiting
    }
}

impl Store {
    /// Opens a store. Nothing is written, and nothing but the directory of waiting batches is read before the first
    /// snapshot is.
    pub fn open(options: StoreOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                files: Files::new(&options.directory),
                medium: Medium {
                    cache: options.cache_size,
                    patience: Patience::new(options.lock_deadline, options.listener.clone()),
                    #[cfg(feature = "testing")]
                    faults: options.faults.clone(),
                },
                options,
                in_use: InUse::default(),
                suspect: AtomicBool::new(false),
                without: AtomicBool::new(false),
                open: Mutex::default(),
            }),
        }
    }

    /// Where the store is.
    pub fn directory(&self) -> &std::path::Path {
        &self.shared.files.directory
    }

    /// The file that is committed to, if there is one. Another one takes its place when it is found damaged.
    pub fn file(&self) -> Option<FileId> {
        file_id(&self.shared.files.database())
    }

    /// The store as it is now.
    pub fn snapshot(&self) -> Snapshot {
        // First what waits, then what is committed: a batch that is taken in between the two is seen in both places,
        // never in none.
        let waiting = self.shared.waiting();
        Snapshot {
            reader: self.shared.reader(),
            waiting: waiting.into_values().filter_map(Result::ok).collect(),
            shared: self.shared.clone(),
        }
    }

    /// Writes a batch, waiting for other writers up to the deadline. Blocks.
    pub fn commit(&self, batch: Batch) -> Committed {
        if self.shared.options.read_only {
            return Committed::Lost;
        }
        match self.try_commit(&batch) {
            Ok(()) => Committed::Stored,
            Err(trouble) => {
                let spilled = self.put_aside(&batch);
                match (spilled, trouble) {
                    (Ok(()), Trouble::Busy) => {
                        self.shared.emit(StoreEvent::DidSpill);
                        Committed::Spilled
                    }
                    (Ok(()), trouble) => {
                        self.shared.without(&trouble);
                        Committed::Spilled
                    }
                    (Err(error), _) => {
                        self.shared.without(&Trouble::Io(error.to_string()));
                        Committed::Lost
                    }
                }
            }
        }
    }

    /// Puts a batch beside the store, without waiting for anybody or for the disk. With many there already, it is
    /// committed together with them.
    pub fn spill(&self, batch: Batch) -> Committed {
        if self.shared.options.read_only {
            return Committed::Lost;
        }
        if pending::count(&self.shared.files.pending()) >= MANY {
            return self.commit(batch);
        }
        match self.put_aside(&batch) {
            Ok(()) => Committed::Spilled,
            Err(error) => {
                self.shared.without(&Trouble::Io(error.to_string()));
                Committed::Lost
            }
        }
    }

    fn put_aside(&self, batch: &Batch) -> io::Result<()> {
        let mut batch = batch.clone();
        let now = now_micros();
        for (place, (_, trace)) in batch.traces.iter_mut().enumerate() {
            trace.recorded = now + place as u64;
        }
        pending::put(&self.shared.files.pending(), &batch)
    }

    /// Appends the record of a run that wrote nothing else. Lost only with the machine's power.
    pub fn log_run(&self, run: &RunEntry) {
        let mut record = run.id.as_bytes().to_vec();
        record.extend_from_slice(&run.record);
        self.append(RUNS_LOG, &record);
    }

    /// Remembers that keys were used, if the store does not know that of today or yesterday.
    ///
    /// The keys as a whole have a name, which is used when all of them are: who uses the same keys again asks for one day
    /// in the place of theirs.
    pub fn log_touched(&self, snapshot: &Snapshot, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        let all = Key::of_all(keys);
        let used_before = |key: Key, day: u32| snapshot.last_used(key).is_none_or(|used| used < day);
        if !used_before(all, today().saturating_sub(1)) {
            return;
        }
        // What is in the log already counts as used on the day on which the log is taken in.
        let logged: HashSet<Key> = touched(&logs::read(&self.shared.files.log(TOUCH_LOG))).collect();
        if logged.contains(&all) {
            return;
        }
        let is_new = |key: &&Key| !logged.contains(key) && used_before(**key, today());
        let record: Vec<u8> = keys.iter().filter(is_new).chain([&all]).flat_map(|key| *key.as_bytes()).collect();
        self.append(TOUCH_LOG, &record);
    }

    fn append(&self, log: &str, record: &[u8]) {
        if self.shared.options.read_only {
            return;
        }
        let path = self.shared.files.log(log);
        if let Err(error) = logs::append(&path, record) {
            self.shared.without(&Trouble::Io(error.to_string()));
        } else if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LONG) {
            // Nobody has written for a very long time.
            self.commit(Batch::default());
        }
    }

    /// How large the store is.
    pub fn info(&self) -> StoreInfo {
        let snapshot = self.snapshot();
        let files = &self.shared.files;
        let sizes = In::ALL.map(|table| (table, snapshot.size(table)));
        StoreInfo {
            directory: files.directory.clone(),
            tables: sizes.into_iter().map(|(table, (count, bytes))| (table.name(), count, bytes)).collect(),
            file_bytes: fs::metadata(files.database()).map_or(0, |metadata| metadata.len()),
            pending: pending::count(&files.pending()),
            quarantined: fs::read_dir(files.quarantine()).map_or(0, |listing| listing.count()),
        }
    }

    /// Makes the file as small as it can be. Takes long, and everybody who reads waits meanwhile.
    ///
    /// # Errors
    ///
    /// Says why it was not done.
    pub fn compact(&self) -> io::Result<()> {
        let mut lease = self.lease().map_err(|trouble| io::Error::other(trouble.to_string()))?;
        let compacted = lease.compact();
        lease.close().and(compacted).map(drop).map_err(|trouble| io::Error::other(trouble.to_string()))
    }

    /// Removes everything that the store keeps.
    ///
    /// # Errors
    ///
    /// Fails if somebody is writing for longer than the deadline, or if a file cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        let files = &self.shared.files;
        if !files.directory.exists() {
            return Ok(());
        }
        // Under the lease, so that nobody's commit goes into a file that is about to go.
        let lease = match self.lease() {
            Ok(lease) => Some(lease),
            Err(Trouble::Busy) => return Err(io::Error::other(Trouble::Busy.to_string())),
            Err(_) => None,
        };
        let removed = fs::remove_dir_all(&files.directory);
        // The file is gone; there is nothing to close properly.
        drop(lease);
        let mut open = self.shared.open_state();
        *open = Open::default();
        self.shared.suspect.store(false, Ordering::Relaxed);
        removed
    }

    /// Takes the lease, waiting for other writers up to the deadline.
    pub(crate) fn lease(&self) -> Result<Lease, Trouble> {
        let deadline = Instant::now() + self.shared.options.lease_deadline;
        let mut pause = Duration::from_micros(100);
        loop {
            match Lease::take(&self.shared.files, &self.shared.medium) {
                Err(Trouble::Busy) if Instant::now() < deadline => {
                    // Writers that woke together must not meet again: everybody waits a little differently.
                    let jitter = u64::from(std::process::id()) * 2_654_435_761 % 1000 + now_micros() % 1000;
                    thread::sleep(pause + pause * (jitter % 1000) as u32 / 1000);
                    pause = (pause * 2).min(Duration::from_millis(5));
                }
                taken => return taken,
            }
        }
    }

    fn try_commit(&self, batch: &Batch) -> Result<(), Trouble> {
        self.commit_and(batch, |_| Ok(()))
    }

    /// Commits, and then does more under the same lease.
    pub(crate) fn commit_and<T>(
        &self,
        batch: &Batch,
        mut more: impl FnMut(&mut Lease) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let files = &self.shared.files;
        fs::create_dir_all(&files.directory).map_err(|error| Trouble::Io(error.to_string()))?;
        // A damaged file is replaced once; a new file that is damaged again is a reason to give up.
        for _ in 0..2 {
            let before = file_id(&files.database());
            let mut lease = match self.lease() {
                Ok(lease) => lease,
                Err(Trouble::Damaged(_)) => {
                    self.quarantine(before);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            let id = file_id(&files.database());
            if self.shared.is_suspect() && id.is_some() && id == self.shared.open_state().suspected {
                // Under the lease nobody else is writing to it, and nobody else can be putting it aside.
                self.put_file_aside();
                drop(lease);
                self.trust_again();
                continue;
            }
            let written = self.write(&lease, batch).and_then(|absorbed| Ok((absorbed, more(&mut lease)?)));
            match written {
                Ok((absorbed, done)) => {
                    lease.close()?;
                    if file_id(&files.database()) != id {
                        // Somebody put the file aside meanwhile; what was written is gone with it.
                        continue;
                    }
                    absorbed.done(&self.shared);
                    self.trust_again();
                    return Ok(done);
                }
                Err(Trouble::Damaged(reason)) => {
                    self.shared.emit(StoreEvent::DidDiscard { table: "store", reason });
                    self.put_file_aside();
                    drop(lease);
                    self.trust_again();
                }
                Err(trouble) => {
                    // Whether it closes well or not, the next who opens it sees the last commit.
                    let _ = lease.close();
                    return Err(trouble);
                }
            }
        }
        Err(Trouble::Damaged("it was damaged twice in a row".to_owned()))
    }

    /// Whatever was wrong was wrong with a file that is not there any more.
    pub(crate) fn trust_again(&self) {
        let mut open = self.shared.open_state();
        let current = file_id(&self.shared.files.database());
        if open.suspected.is_none() || open.suspected != current {
            open.suspected = None;
            self.shared.suspect.store(false, Ordering::Relaxed);
        }
        if open.file.as_ref().is_some_and(|(id, _)| Some(*id) != current) {
            open.file = None;
        }
    }

    /// Puts aside a file that cannot even be opened, if it is still the one that could not.
    fn quarantine(&self, damaged: Option<FileId>) {
        // There is no lease on a file that cannot be opened; a lock beside it keeps others from doing the same.
        let guard =
            crate::locks::try_acquire(&self.shared.files.log("quarantine.lock"), "putting a damaged store aside");
        if let Ok(crate::locks::Acquired::Guard(_guard)) = guard
            && damaged.is_some()
            && file_id(&self.shared.files.database()) == damaged
        {
            self.put_file_aside();
        }
        self.trust_again();
    }

    pub(crate) fn put_file_aside(&self) {
        let files = &self.shared.files;
        let path = files.quarantine().join(format!("{}.redb", crate::keys::RunId::new().to_hex()));
        // If it cannot be put aside, it cannot be replaced either, and the run goes on without.
        self.shared.medium.step();
        let moved = fs::create_dir_all(files.quarantine()).and_then(|()| fs::rename(files.database(), &path));
        self.shared.medium.step();
        if moved.is_ok() {
            self.shared.emit(StoreEvent::DidQuarantine { path });
        }
    }

    fn write(&self, lease: &Lease, batch: &Batch) -> Result<Absorbed, Trouble> {
        let files = &self.shared.files;
        let waiting = pending::read(&files.pending(), &Waiting::new());
        let runs = logs::drain(&files.log(RUNS_LOG));
        let touches = logs::drain(&files.log(TOUCH_LOG));
        self.shared.medium.step();
        lease.write(|writing| {
            let writing = Entries { shared: &self.shared, writing };
            let mut clock = writing.begin()?;
            for waiting in waiting.values().flatten() {
                writing.batch(waiting, &mut clock)?;
            }
            writing.batch(batch, &mut clock)?;
            let logged = Batch {
                runs: runs.records.iter().filter_map(|record| parse_run(record)).collect(),
                touches: touched(&touches.records).collect(),
                ..Batch::default()
            };
            writing.batch(&logged, &mut clock)?;
            writing.end(clock)
        })?;
        Ok(Absorbed { waiting, runs, touches })
    }
}

/// The keys in the records of the log of what was used.
pub(crate) fn touched(records: &[Vec<u8>]) -> impl Iterator<Item = Key> {
    let keys = records.iter().flat_map(|record| record.chunks_exact(32));
    keys.filter_map(|key| Some(Key::from_bytes(key.try_into().ok()?)))
}

/// What a commit took in and what can be removed now.
struct Absorbed {
    waiting: Waiting,
    runs: logs::Drained,
    touches: logs::Drained,
}

impl Absorbed {
    fn done(self, shared: &Shared) {
        shared.medium.step();
        pending::remove(&shared.files.pending(), self.waiting.keys());
        shared.medium.step();
        self.runs.remove();
        shared.medium.step();
        self.touches.remove();
        let batches = self.waiting.values().filter(|batch| batch.is_ok()).count();
        if batches > 0 {
            shared.emit(StoreEvent::DidAbsorb { batches });
        }
    }
}

/// Writing entries, sealed, with the limits kept.
struct Entries<'a> {
    shared: &'a Shared,
    writing: &'a Writing<'a>,
}

impl Entries<'_> {
    fn get<T>(&self, table: In, key: &[u8], decode: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, Trouble> {
        let Some(sealed) = self.writing.get(table, key)? else { return Ok(None) };
        match self.shared.open(table, key, &sealed, decode) {
            Some(value) => Ok(Some(value)),
            // The transaction must not build on a file of which this much is known.
            None if self.shared.is_suspect() => Err(Trouble::Damaged(format!("an entry of {}", table.name()))),
            None => Ok(None),
        }
    }

    fn put(&self, table: In, key: &[u8], payload: &[u8]) -> Result<(), Trouble> {
        self.writing.put(table, key, &seal(table.name(), key, payload))
    }

    /// Checks the format, or writes it; the time that the last trace was recorded at.
    fn begin(&self) -> Result<u64, Trouble> {
        let number = |payload: &[u8]| Some(u32::from_le_bytes(payload.try_into().ok()?));
        match self.get(In::Meta, FORMAT_KEY, number)? {
            Some(format) => check_format(format)?,
            None => self.put(In::Meta, FORMAT_KEY, &FORMAT.to_le_bytes())?,
        }
        let clock = |payload: &[u8]| Some(u64::from_le_bytes(payload.try_into().ok()?));
        Ok(self.get(In::Meta, CLOCK_KEY, clock)?.unwrap_or(0))
    }

    fn end(&self, clock: u64) -> Result<(), Trouble> {
        for run in self.writing.keys_beyond(In::Runs, RUNS)? {
            self.writing.remove(In::Runs, &run)?;
        }
        self.put(In::Meta, CLOCK_KEY, &clock.to_le_bytes())
    }

    fn batch(&self, batch: &Batch, clock: &mut u64) -> Result<(), Trouble> {
        let specs = batch.specs.iter().map(|(key, spec)| {
            let mut payload = Vec::new();
            encode_spec(spec, &mut payload);
            (key.as_bytes().as_slice(), seal(In::Specs.name(), key.as_bytes(), &payload))
        });
        self.writing.put_all(In::Specs, specs)?;
        for (fingerprint, value) in &batch.values {
            self.value(*fingerprint, value)?;
        }
        let stamps = batch.stamps.iter().map(|(key, stamp)| {
            let mut payload = Vec::new();
            encode_stamp(stamp, &mut payload);
            (key.as_bytes().as_slice(), seal(In::Stamps.name(), key.as_bytes(), &payload))
        });
        self.writing.put_all(In::Stamps, stamps)?;
        for (key, trace) in &batch.traces {
            let mut trace = trace.clone();
            // Time may stand still or run backwards; the order of recording must not.
            *clock = now_micros().max(*clock + 1);
            trace.recorded = *clock;
            let mut payload = Vec::new();
            encode_trace(&trace, &mut payload);
            self.put(In::Traces, &trace_key(*key, trace.fingerprint()), &payload)?;
        }
        let mut keys: Vec<Key> = batch.traces.iter().map(|(key, _)| *key).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            self.evict(key)?;
        }
        self.labels(batch)?;
        let runs = batch.runs.iter().map(|run| {
            let key = run.id.as_bytes().as_slice();
            (key, seal(In::Runs.name(), key, &run.record))
        });
        self.writing.put_all(In::Runs, runs)?;
        self.touch(batch)
    }

    /// Writes a value unless it is there: equal values are one.
    fn value(&self, fingerprint: Fingerprint, value: &[u8]) -> Result<(), Trouble> {
        if self.get(In::Names, fingerprint.as_bytes(), decode_names)?.is_some()
            && self.get(In::Values, &chunk_key(fingerprint, 0), |_| Some(()))?.is_some()
        {
            return Ok(());
        }
        let mut pieces = value.chunks(CHUNK);
        let mut bytes = 0;
        let mut first = (value.len() as u64).to_le_bytes().to_vec();
        first.extend_from_slice(pieces.next().unwrap_or_default());
        let later = pieces.map(<[u8]>::to_vec);
        for (chunk, piece) in std::iter::once(first).chain(later).enumerate() {
            let chunk = u32::try_from(chunk).map_err(|_| Trouble::Io("a value is too large".to_owned()))?;
            let key = chunk_key(fingerprint, chunk);
            let sealed = seal(In::Values.name(), &key, &piece);
            bytes += (key.len() + sealed.len()) as u64;
            self.writing.put(In::Values, &key, &sealed)?;
        }
        let mut payload = Vec::new();
        encode_names(bytes, &(self.shared.options.names)(value), &mut payload);
        self.put(In::Names, fingerprint.as_bytes(), &payload)
    }

    /// Keeps the newest traces of a key and removes the others.
    fn evict(&self, key: Key) -> Result<(), Trouble> {
        let entries = self.writing.beginning_with(In::Traces, key.as_bytes())?;
        // So few are kept whatever their scopes.
        if entries.len() <= TRACES {
            return Ok(());
        }
        let traces: Vec<(u64, u64, Vec<u8>)> = entries
            .into_iter()
            .map(|(key, sealed)| {
                // One that cannot be read is as old as can be.
                let trace = self.shared.open(In::Traces, &key, &sealed, decode_trace);
                let (scope, recorded) = trace.map_or((0, 0), |trace| (trace.scope, trace.recorded));
                (scope, recorded, key)
            })
            .collect();
        for (_, _, key) in &kept_traces(traces, |(scope, recorded, _)| (*scope, *recorded)).1 {
            self.writing.remove(In::Traces, key)?;
        }
        Ok(())
    }

    fn labels(&self, batch: &Batch) -> Result<(), Trouble> {
        let mut labels: BTreeMap<&str, Vec<LabelEntry>> = BTreeMap::new();
        for (label, entry) in &batch.labels {
            labels.entry(label).or_default().push(*entry);
        }
        for (label, new) in labels {
            let known = self.get(In::Labels, label.as_bytes(), decode_labels)?.unwrap_or_default();
            let mut payload = Vec::new();
            encode_labels(&newest_labels(known.into_iter().chain(new)), &mut payload);
            self.put(In::Labels, label.as_bytes(), &payload)?;
        }
        Ok(())
    }

    /// Remembers when keys were last used, and how much belongs to them.
    fn touch(&self, batch: &Batch) -> Result<(), Trouble> {
        let today = today();
        let mut used: BTreeMap<Key, u64> = BTreeMap::new();
        for (key, trace) in &batch.traces {
            let value = batch.values.get(&trace.value).map_or(0, |value| value.len() as u64);
            let dependencies: usize = trace.groups.iter().map(Vec::len).sum();
            *used.entry(*key).or_default() += value + 65 * dependencies as u64;
        }
        for key in batch.touches.iter().chain(batch.stamps.keys()) {
            used.entry(*key).or_default();
        }
        for (key, size) in used {
            let known = self.get(In::Access, key.as_bytes(), decode_access)?;
            let size = if size > 0 { size } else { known.map_or(0, |(_, size)| size) };
            let mut payload = Vec::new();
            encode_access(today, size, &mut payload);
            self.put(In::Access, key.as_bytes(), &payload)?;
        }
        Ok(())
    }
}
