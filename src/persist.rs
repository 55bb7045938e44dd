//! The engine's side of the store: what is read from it, and what goes into the next batch.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use doge_storage::{
    Batch, Dependency, FileId, Fingerprint, Key, LabelEntry, RunId, Snapshot, Stamp, Store, StoredSpec, Trace,
};
use futures::channel::oneshot;
use rustc_hash::FxBuildHasher;

use crate::intern::{AtHand, names_in};
use crate::look::Sighting;
use crate::node::{Flag, NodeIndex, Status, World};
use crate::registry::KindIndex;
use crate::spec::SharedSpec;
use crate::sync::{Mutex, MutexGuard, mpsc, thread};
use crate::table::Table;
use crate::value::Cell;

/// A batch is written before it grows beyond this, in bytes of values.
const FLUSH_AT: usize = 8 << 20;

/// With more bytes than this waiting to be written, nothing goes on until they are.
pub(crate) const BACKLOG: usize = 64 << 20;

/// So many values are known to be in the store at the beginning of a session; with more, all are forgotten. Who does
/// not know that a value is there gives it to the writer, which leaves out what it finds there.
const KEPT_VALUES: usize = 1 << 14;

/// What the planner knows of the store.
pub(crate) struct Persist {
    store: Store,
    snapshot: Snapshot,
    batch: Batch,
    batch_bytes: usize,
    /// Values in the store or in a batch, as far as this process knows.
    kept_values: HashSet<Fingerprint, FxBuildHasher>,
    at_hand: Arc<AtHand>,
    writer: Writer,
    /// Something was given to the writer.
    wrote: bool,
    /// Somebody may have been collecting when this session looked: what it saw then may be gone, and counts as new when
    /// it is written.
    unsure: bool,
    /// The file in which everything is that is known to be in the store.
    file: Option<FileId>,
    pub(crate) run: RunId,
    scope: Option<String>,
    scope_number: u64,
}

impl Persist {
    pub(crate) fn new(store: Store, writer: Writer, at_hand: Arc<AtHand>, run: RunId, scope: Option<String>) -> Self {
        // Before anything is read: what is seen must stay as long as this run may ask for it.
        store.hold();
        let unsure = !store.is_held();
        let file = store.file();
        let snapshot = store.snapshot();
        let scope_number = scope_number(scope.as_deref());
        Self {
            unsure,
            file,
            store,
            snapshot,
            batch: Batch::default(),
            batch_bytes: 0,
            kept_values: HashSet::default(),
            at_hand,
            writer,
            wrote: false,
            run,
            scope,
            scope_number,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Sees what other processes, and this one's writer, committed meanwhile.
    pub(crate) fn renew(&mut self) {
        // There was perhaps no store when this run began.
        self.store.hold();
        self.unsure |= !self.store.is_held();
        self.file = self.file.or_else(|| self.store.file());
        self.snapshot = self.store.snapshot();
    }

    /// The traces of a key, those of this scope first, the newest first.
    pub(crate) fn traces(&mut self, key: Key) -> Vec<Trace> {
        self.snapshot.traces_for(key, self.scope_number)
    }

    /// The newest trace of a key, of this scope if there is one, and whether there may be others.
    pub(crate) fn newest_trace(&mut self, key: Key) -> (Option<Trace>, bool) {
        self.snapshot.newest_trace(key, self.scope_number)
    }

    /// Whether a spec of this key was recorded under a label.
    pub(crate) fn had(&mut self, label: &str, key: Key) -> bool {
        let entries = self.snapshot.label(&scoped(label, self.scope.as_deref()));
        entries.iter().any(|entry| entry.key == key)
    }

    pub(crate) fn spec(&mut self, key: Key) -> Option<Vec<u8>> {
        if let Some(spec) = self.batch.specs.get(&key) {
            return Some(spec.encoded.clone());
        }
        self.snapshot.encoded_spec(key)
    }

    /// The encoding of a value, if it can be produced together with everything that it names.
    pub(crate) fn whole_value(&mut self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        let bytes = self.value(fingerprint)?;
        self.has_what_is_named(&bytes).then_some(bytes)
    }

    /// Whether all values that are named are there, directly and below. From now on they are.
    pub(crate) fn has_what_is_named(&mut self, encoded: &[u8]) -> bool {
        let mut names = names_in(encoded);
        while let Some(name) = names.pop() {
            if self.at_hand.get(name).is_some() {
                continue;
            }
            let Some(bytes) = self.value(name) else { return false };
            names.extend(names_in(&bytes));
            self.at_hand.keep(name, bytes.into());
        }
        true
    }

    pub(crate) fn value(&mut self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        if let Some(bytes) = self.batch.values.get(&fingerprint) {
            return Some(bytes.to_vec());
        }
        if let Some(bytes) = self.at_hand.get(fingerprint) {
            return Some(bytes.to_vec());
        }
        let value = self.snapshot.value(fingerprint).or_else(|| {
            // Another process, or a task of this one, may have written it since.
            self.renew();
            self.snapshot.value(fingerprint)
        });
        if value.is_none() {
            // When it is made again, it is to be written again.
            self.kept_values.remove(&fingerprint);
        }
        value
    }

    pub(crate) fn stamp(&mut self, key: Key) -> Option<Stamp> {
        self.snapshot.stamp(key)
    }

    pub(crate) fn keep_value(&mut self, fingerprint: Fingerprint, bytes: Arc<[u8]>) {
        if self.kept_values.insert(fingerprint) || self.unsure {
            self.batch_bytes += bytes.len();
            self.batch.values.insert(fingerprint, bytes);
        }
    }

    /// Keeps the values that are named, directly and below, as far as they are at hand.
    fn keep_what_is_named(&mut self, encoded: &[u8]) {
        let mut names = names_in(encoded);
        while let Some(name) = names.pop() {
            if let Some(bytes) = self.at_hand.get(name).filter(|_| !self.batch.values.contains_key(&name)) {
                names.extend(names_in(&bytes));
                self.keep_value(name, bytes);
            }
        }
    }

    fn keep_spec(&mut self, key: Key, spec: &SharedSpec) {
        let Some(stored) = stored_spec(spec) else { return };
        self.batch_bytes += stored.encoded.len();
        self.batch.specs.insert(key, stored);
    }

    /// Notes that this is now the newest spec of its label.
    pub(crate) fn keep_label(&mut self, key: Key, spec: &SharedSpec) {
        if let Some(label) = spec.label() {
            let label = scoped(&label, self.scope.as_deref());
            self.batch.labels.push((label, LabelEntry { key, run: self.run }));
        }
    }

    /// Takes in what a task has already committed, so that it is not written twice.
    pub(crate) fn note_committed(&mut self, values: impl IntoIterator<Item = Fingerprint>) {
        self.kept_values.extend(values);
    }

    /// Remembers the stamp and the value of an observation.
    pub(crate) fn keep_sighting(&mut self, stamp_key: Key, sighting: &Sighting) {
        let Some(value) = sighting.fingerprint() else { return };
        if sighting.by_stamp.is_some() {
            return;
        }
        if let Some(bytes) = &sighting.bytes {
            self.keep_value(value, bytes.clone());
        }
        if sighting.settled && !sighting.stamp.is_empty() {
            let digest = Fingerprint::of(&sighting.stamp);
            self.batch.stamps.insert(stamp_key, Stamp { digest, value, detail: sighting.stamp.to_vec() });
        }
    }

    /// Whether another file took the place of the one in which was what this session found in the store: from now on
    /// nothing is known to be in it.
    pub(crate) fn has_lost_its_file(&mut self) -> bool {
        let file = self.store.file();
        let is_lost = self.file.is_some() && file.is_some() && file != self.file;
        self.file = file;
        if is_lost {
            self.kept_values.clear();
        }
        is_lost
    }

    /// Remembers that these were used: with the batch if one is written anyway, else in a log.
    pub(crate) fn touch(&mut self, keys: &[Key], executed: bool) {
        if executed {
            self.batch.touches.extend_from_slice(keys);
        } else {
            self.store.log_touched(&self.snapshot, keys);
        }
    }

    /// A new session begins: it sees what others committed, and its records carry an id of its own.
    pub(crate) fn begin_run(&mut self) {
        self.renew();
        self.at_hand.clear();
        self.run = RunId::new();
        if self.kept_values.len() > KEPT_VALUES {
            self.kept_values.clear();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.batch_bytes >= FLUSH_AT
    }

    /// Gives the batch to the writer, if there is anything in it. The future ends when it is written.
    pub(crate) fn flush(&mut self, write: Write) -> Option<oneshot::Receiver<()>> {
        self.batch_bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        if write == Write::Spill {
            // A writer leaves out what the store has. What is put beside it is read by every run until one writes.
            batch.values.retain(|fingerprint, _| !self.snapshot.has_value(*fingerprint));
        }
        if batch.is_empty() {
            return None;
        }
        self.wrote = true;
        Some(self.writer.write(batch, write))
    }

    /// How many bytes wait to be written.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// More was given to the writer than may wait: how many bytes, and a future that ends when they are written.
    pub(crate) fn backlog(&self) -> Option<(usize, oneshot::Receiver<()>)> {
        let waiting = self.writer.waiting();
        (waiting > self.writer.most).then(|| (waiting, self.writer.write(Batch::default(), Write::Spill)))
    }

    /// A future that ends when everything that was given to the writer is written.
    pub(crate) fn all_written(&self) -> Option<oneshot::Receiver<()>> {
        // The writer works in order and skips empty batches.
        self.wrote.then(|| self.writer.write(Batch::default(), Write::Spill))
    }

    /// Nothing is written from now on. A future that ends when what was given to the writer is.
    pub(crate) fn end(&self) -> Option<oneshot::Receiver<()>> {
        self.writer.end()
    }

    pub(crate) fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }
}

/// The label as the store knows it.
pub(crate) fn scoped(label: &str, scope: Option<&str>) -> String {
    scope.map_or_else(|| label.to_owned(), |scope| format!("{label} in {scope}"))
}

/// The spec as the store keeps it; `None` if it has no encoding.
pub(crate) fn stored_spec(spec: &SharedSpec) -> Option<StoredSpec> {
    let mut encoded = Vec::new();
    spec.encode(&mut encoded).ok()?;
    Some(StoredSpec { kind: spec.kind().name().to_owned(), encoded, label: spec.label() })
}

/// The number that traces of a scope are told apart by.
pub(crate) fn scope_number(scope: Option<&str>) -> u64 {
    let hash = scope.map(|scope| Fingerprint::of(scope.as_bytes()));
    hash.and_then(|hash| hash.as_bytes().first_chunk().copied()).map_or(0, u64::from_le_bytes)
}

impl Table {
    /// Puts a finished world of a node into the next batch, with everything that is needed to check it again.
    pub(crate) fn keep(&self, node: NodeIndex, world: &World, bytes: Option<Arc<[u8]>>) {
        let mut persist = self.persist.borrow_mut();
        let Some(persist) = persist.as_mut() else { return };
        self.keep_spec_of(persist, node);
        let groups = world
            .groups()
            .map(|group| {
                group
                    .iter()
                    .map(|dep| {
                        self.keep_spec_of(persist, dep.node());
                        let (key, role) = self.with(dep.node(), |node| (node.key, node.role()));
                        Dependency { key, role: role as u8, fingerprint: dep.fingerprint() }
                    })
                    .collect()
            })
            .collect();
        let value = world.cell.fingerprint();
        if let Some(bytes) = bytes {
            persist.keep_value(value, bytes);
        }
        let (key, spec) = self.with(node, |node| (node.key, node.spec.clone()));
        if let Some(spec) = spec {
            persist.keep_label(key, &spec);
        }
        let trace = Trace { groups, value, cost: world.cost, scope: persist.scope_number, recorded: 0 };
        persist.batch.traces.push((key, trace));
    }

    /// Sees to it that the store has the spec of a node. A node known by key only came from the store.
    fn keep_spec_of(&self, persist: &mut Persist, node: NodeIndex) {
        let new = self.change(node, |node| {
            let new = (persist.unsure || !node.is(Flag::Kept)).then(|| node.spec.clone()).flatten();
            node.set(Flag::Kept, true);
            new.map(|spec| (node.key, spec))
        });
        if let Some((key, spec)) = new {
            persist.keep_spec(key, &spec);
        }
    }

    /// Puts all that a session stands on into the next batch, whatever of it was thought to be in the store.
    pub(crate) fn keep_all(&self, roots: impl IntoIterator<Item = NodeIndex>) {
        let reached = self.reached_in_session(roots);
        self.indices().for_each(|node| self.change(node, |node| node.set(Flag::Kept, false)));
        for node in self.indices().filter(|node| reached[node.as_usize()]) {
            let (kind, status, world) =
                self.with(node, |node| (node.kind, node.status(), node.worlds().into_iter().next()));
            let (Status::Verified | Status::Executed | Status::CutOff, Some(world)) = (status, world) else { continue };
            let bytes = self.bytes_of(kind, &world.cell);
            self.keep(node, &world, bytes);
        }
    }

    /// The encoding of a value that is in memory. Of what it names, only what was read from the store is.
    pub(crate) fn bytes_of(&self, kind: KindIndex, cell: &Cell) -> Option<Arc<[u8]>> {
        let bytes = cell.get().and_then(|value| self.encode(kind, value).ok()).and_then(|(_, bytes)| bytes)?;
        if let Some(persist) = self.persist.borrow_mut().as_mut() {
            persist.keep_what_is_named(&bytes);
        }
        Some(bytes)
    }

    pub(crate) fn keep_value(&self, fingerprint: Fingerprint, bytes: Vec<u8>) {
        if let Some(persist) = self.persist.borrow_mut().as_mut() {
            persist.keep_value(fingerprint, bytes.into());
        }
    }
}

/// How a batch is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// Under the write lease.
    Commit,
    /// Aside, without waiting for anybody and without a sync; the next writer takes it in.
    Spill,
}

/// A batch for the writer.
struct Job {
    batch: Batch,
    bytes: usize,
    write: Write,
    done: oneshot::Sender<()>,
}

/// The thread that writes to the store, so that neither the planner nor a task waits for a disk. It starts when there is
/// something to write: a run that finds everything as it was has nothing.
#[derive(Clone)]
pub(crate) struct Writer {
    jobs: Arc<Mutex<Jobs>>,
    /// The bytes of what it was given and has not written yet.
    waiting: Arc<AtomicUsize>,
    /// How many may wait.
    most: usize,
}

/// Where the writer's jobs go.
enum Jobs {
    /// Nowhere yet.
    Unstarted(Store),
    Queue(mpsc::Sender<Job>),
    /// Nothing is written any more.
    Ended,
}

impl Writer {
    /// Its thread ends when it is told to or when the last handle is gone, after writing what it was given.
    pub(crate) fn new(store: Store, most: usize) -> Self {
        Self { jobs: Arc::new(Mutex::new(Jobs::Unstarted(store))), waiting: Arc::default(), most }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // It is changed in single steps, so a panic cannot leave it half-done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Writes a batch; the returned future ends when it is written, or at once if nothing is written any more.
    pub(crate) fn write(&self, batch: Batch, write: Write) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        let bytes = batch.size();
        let job = Job { batch, bytes, write, done };
        let mut jobs = self.jobs();
        if let Jobs::Unstarted(store) = &*jobs {
            let (sender, queue) = mpsc::channel();
            let (of_thread, waiting) = (store.clone(), self.waiting.clone());
            let work = move || work_off(&of_thread, &queue, &waiting);
            if thread::Builder::new().name("doge-writer".into()).spawn(work).is_err() {
                // There are too many threads at the moment, so whoever has something to write does it.
                write_all(store, job.batch, write);
                let _ = job.done.send(());
                return written;
            }
            *jobs = Jobs::Queue(sender);
        }
        if let Jobs::Queue(queue) = &*jobs {
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
            // If the thread died, the receiver reports that by ending.
            let _ = queue.send(job);
        }
        written
    }

    /// Takes nothing any more, from whichever task; a future that ends when what it was given is written, if it is not yet.
    fn end(&self) -> Option<oneshot::Receiver<()>> {
        let Jobs::Queue(queue) = std::mem::replace(&mut *self.jobs(), Jobs::Ended) else { return None };
        if self.waiting() == 0 {
            return None;
        }
        let (done, written) = oneshot::channel();
        let _ = queue.send(Job { batch: Batch::default(), bytes: 0, write: Write::Spill, done });
        Some(written)
    }
}

/// What the writer's thread does.
fn work_off(store: &Store, queue: &mpsc::Receiver<Job>, waiting: &AtomicUsize) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
        let Job { mut batch, mut bytes, write, done } = job;
        let mut done = vec![done];
        // A commit takes its time whatever is in it, so what came meanwhile is written together.
        while bytes < FLUSH_AT
            && let Ok(job) = queue.try_recv()
        {
            if job.write != write {
                next = Some(job);
                break;
            }
            bytes += job.bytes;
            batch.merge(job.batch);
            done.push(job.done);
        }
        write_all(store, batch, write);
        // Only the number matters: whoever reads it late waits a little longer, or less.
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        for done in done {
            // Nobody may be waiting any more.
            let _ = done.send(());
        }
    }
}

/// What became of it is an event of the store; nobody who waits can do anything about it.
fn write_all(store: &Store, batch: Batch, write: Write) {
    // There was perhaps no store to hold before. What is committed must not be collected behind our back.
    if !batch.is_empty() {
        store.make_and_hold();
    }
    match write {
        _ if batch.is_empty() => {}
        Write::Commit => drop(store.commit(batch)),
        Write::Spill => drop(store.spill(batch)),
    }
    // Somebody may have been collecting just now.
    store.hold();
}
