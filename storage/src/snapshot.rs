//! One state of the store: what was committed, and over it what waits beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{In, Reader, Trouble};
use crate::format::{
    Cursor, decode_access, decode_encoding, decode_labels, decode_spec, decode_stamp, decode_trace, decode_trace_above,
};
use crate::keys::{Fingerprint, Key, RunId};
use crate::logs;
use crate::store::Shared;
use crate::trace::{Batch, LabelEntry, RunEntry, Stamp, StoredSpec, Trace};

/// The traces that a key keeps of each scope.
pub(crate) const TRACES: usize = 8;
/// The traces that a key keeps of all scopes together.
const ALL_TRACES: usize = 256;
/// The specs that a label remembers.
pub(crate) const LABELS: usize = 8;
/// A piece of a value: large enough to be rare, small enough not to waste half of the power of two that redb
/// allocates for it.
pub(crate) const CHUNK: usize = 1_040_000 - 64;

/// The store as it was at one moment.
///
/// Cheap to clone. Entries that cannot be proven whole are as if they were not there.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reader: Option<Arc<Reader>>,
    /// The oldest first.
    pub(crate) waiting: Arc<[Arc<Batch>]>,
}

/// The key of a piece of a value.
pub(crate) fn chunk_key(fingerprint: Fingerprint, chunk: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(fingerprint.as_bytes());
    key[32..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(crate) fn trace_key(key: Key, trace: Fingerprint) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(key.as_bytes());
    bytes[32..].copy_from_slice(trace.as_bytes());
    bytes
}

/// Parts traces of a key, of which the scope and the time of recording are told, into those that are kept, the newest first,
/// and the others.
pub(crate) fn kept_traces<T>(mut traces: Vec<T>, of: impl Fn(&T) -> (u64, u64)) -> (Vec<T>, Vec<T>) {
    if traces.len() <= 1 {
        return (traces, Vec::new());
    }
    traces.sort_by_key(|trace| std::cmp::Reverse(of(trace).1));
    let mut of_scope: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut kept, mut others): (Vec<T>, Vec<T>) = traces.into_iter().partition(|trace| {
        let count = of_scope.entry(of(trace).0).or_default();
        *count += 1;
        *count <= TRACES
    });
    // Whoever has most gives first, so that one who comes seldom is not crowded out by those who come often.
    while kept.len() > ALL_TRACES {
        let mut of_scope: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for (place, trace) in kept.iter().enumerate() {
            let entry = of_scope.entry(of(trace).0).or_default();
            *entry = (entry.0 + 1, place);
        }
        let oldest_of_most = of_scope.into_values().max().map_or(0, |(_, place)| place);
        others.push(kept.remove(oldest_of_most));
    }
    (kept, others)
}

impl Snapshot {
    /// What redb says, unless it cannot be believed (any more).
    fn read<T: Default>(&self, read: impl FnOnce(&Reader) -> Result<T, Trouble>) -> T {
        let Some(reader) = self.reader.as_deref().filter(|_| !self.shared.is_suspect()) else { return T::default() };
        read(reader).unwrap_or_else(|trouble| {
            self.shared.suspect(&trouble);
            T::default()
        })
    }

    /// The payload of an entry, if it can be proven whole and decoded.
    fn open<T>(&self, table: In, key: &[u8], sealed: &[u8], decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        self.shared.open(table, key, sealed, decode)
    }

    fn entry<T>(&self, table: In, key: &[u8], decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let sealed = self.read(|reader| reader.get(table, key))?;
        self.open(table, key, &sealed, decode)
    }

    /// The traces of a key, the newest first: at most 8 of each scope, and 256 in all.
    pub fn traces(&self, key: Key) -> Vec<Trace> {
        let mut traces: Vec<Trace> = Vec::new();
        self.read(|reader| {
            reader.beginning_with(In::Traces, key.as_bytes(), |entry_key, sealed| {
                traces.extend(self.open(In::Traces, entry_key, sealed, decode_trace));
            })
        });
        for batch in self.waiting.iter() {
            for (_, trace) in batch.traces.iter().filter(|(other, _)| *other == key) {
                // What waits may have been committed already; then it is the same.
                let fingerprint = trace.fingerprint();
                traces.retain(|known| known.fingerprint() != fingerprint);
                traces.push(trace.clone());
            }
        }
        kept_traces(traces, |trace| (trace.scope, trace.recorded)).0
    }

    /// The traces of a key, those of a scope first, the newest first.
    pub fn traces_for(&self, key: Key, scope: u64) -> Vec<Trace> {
        let mut traces = self.traces(key);
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.rank(scope)));
        traces
    }

    /// The newest trace of a key in a scope, or of all if there is none in it, and whether there may be others; those are not
    /// decoded.
    pub fn newest_trace(&self, key: Key, scope: u64) -> (Option<Trace>, bool) {
        if self.waiting.iter().flat_map(|batch| &batch.traces).any(|(other, _)| *other == key) {
            let traces = self.traces_for(key, scope);
            let others = traces.len() > 1;
            return (traces.into_iter().next(), others);
        }
        let (mut newest, mut count) = (None::<Trace>, 0);
        self.read(|reader| {
            reader.beginning_with(In::Traces, key.as_bytes(), |entry_key, sealed| {
                count += 1;
                let known = newest.as_ref();
                let newer = self.open(In::Traces, entry_key, sealed, |bytes| decode_trace_above(bytes, known, scope));
                if let Some(Some(newer)) = newer {
                    newest = Some(newer);
                }
            })
        });
        (newest, count > 1)
    }

    /// The spec of a key.
    pub fn spec(&self, key: Key) -> Option<StoredSpec> {
        let waiting = self.waiting.iter().rev().find_map(|batch| batch.specs.get(&key).cloned());
        waiting.or_else(|| self.entry(In::Specs, key.as_bytes(), decode_spec))
    }

    /// The encoding of the spec of a key.
    pub fn encoded_spec(&self, key: Key) -> Option<Vec<u8>> {
        let waiting = self.waiting.iter().rev().find_map(|batch| batch.specs.get(&key));
        match waiting {
            Some(spec) => Some(spec.encoded.clone()),
            None => self.entry(In::Specs, key.as_bytes(), |payload| decode_encoding(payload).map(ToOwned::to_owned)),
        }
    }

    /// Whether there is a value, as far as its first piece tells.
    pub fn has_value(&self, fingerprint: Fingerprint) -> bool {
        self.waiting.iter().any(|batch| batch.values.contains_key(&fingerprint))
            || self.entry(In::Values, &chunk_key(fingerprint, 0), |_| Some(())).is_some()
    }

    /// A value: bytes whose fingerprint this certainly is.
    pub fn value(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        if let Some(value) = self.waiting.iter().rev().find_map(|batch| batch.values.get(&fingerprint)) {
            return (Fingerprint::of(value) == fingerprint).then(|| value.to_vec());
        }
        let first = chunk_key(fingerprint, 0);
        // The first piece begins with the length of the whole.
        let (length, mut value) = self.entry(In::Values, &first, |payload| {
            let mut cursor = Cursor::new(payload);
            let length = usize::try_from(u64::from_le_bytes(cursor.array()?)).ok()?;
            Some((length, payload[8..].to_vec()))
        })?;
        let mut chunk = 1;
        while value.len() < length {
            let key = chunk_key(fingerprint, chunk);
            let piece = self.entry(In::Values, &key, |payload| Some(payload.to_vec()))?;
            if piece.is_empty() {
                return None;
            }
            value.extend_from_slice(&piece);
            chunk += 1;
        }
        if value.len() == length && Fingerprint::of(&value) == fingerprint {
            return Some(value);
        }
        self.shared.suspect(&Trouble::Damaged("a value is not the one it is named for".to_owned()));
        None
    }

    /// Whether there is (the beginning of) a value; it is not read.
    pub fn contains_value(&self, fingerprint: Fingerprint) -> bool {
        self.waiting.iter().any(|batch| batch.values.contains_key(&fingerprint))
            || self.read(|reader| reader.get(In::Values, &chunk_key(fingerprint, 0))).is_some()
    }

    /// The last trusted look at something.
    pub fn stamp(&self, key: Key) -> Option<Stamp> {
        let waiting = self.waiting.iter().rev().find_map(|batch| batch.stamps.get(&key).cloned());
        waiting
            .or_else(|| self.entry(In::Stamps, key.as_bytes(), decode_stamp))
            .filter(|stamp| Fingerprint::of(&stamp.detail) == stamp.digest)
    }

    /// The last specs that had a label, the newest first, at most eight.
    pub fn label(&self, label: &str) -> Vec<LabelEntry> {
        let kept = self.entry(In::Labels, label.as_bytes(), decode_labels).unwrap_or_default();
        let waiting = self.waiting.iter().flat_map(|batch| &batch.labels).filter(|(other, _)| other == label);
        newest_labels(kept.into_iter().chain(waiting.map(|(_, entry)| *entry)))
    }

    /// The labels that contain a text, with their last specs.
    pub fn labels_containing(&self, part: &str) -> Vec<(String, Vec<LabelEntry>)> {
        let waiting = self.waiting.iter().flat_map(|batch| &batch.labels).map(|(label, _)| label.clone());
        let mut labels: Vec<String> = waiting.filter(|label| label.contains(part)).collect();
        self.read(|reader| {
            reader.beginning_with(In::Labels, b"", |label, _| {
                let label = std::str::from_utf8(label).ok().filter(|label| label.contains(part));
                labels.extend(label.map(ToOwned::to_owned));
            })
        });
        labels.sort();
        labels.dedup();
        labels.into_iter().map(|label| (label.clone(), self.label(&label))).collect()
    }

    /// The newest runs, the newest first, wherever their records are.
    pub fn runs(&self, limit: usize) -> Vec<RunEntry> {
        let mut runs: BTreeMap<RunId, Vec<u8>> = BTreeMap::new();
        for (key, sealed) in self.read(|reader| reader.last(In::Runs, limit)) {
            let Ok(id) = <[u8; 16]>::try_from(key.as_slice()) else { continue };
            let record = self.open(In::Runs, &key, &sealed, |payload| Some(payload.to_vec()));
            runs.extend(record.map(|record| (RunId::from_bytes(id), record)));
        }
        for batch in self.waiting.iter() {
            runs.extend(batch.runs.iter().map(|run| (run.id, run.record.clone())));
        }
        runs.extend(self.logged().into_iter().map(|run| (run.id, run.record)));
        runs.into_iter().rev().take(limit).map(|(id, record)| RunEntry { id, record }).collect()
    }

    /// The record of a run.
    pub fn run(&self, id: RunId) -> Option<RunEntry> {
        let waiting = self.waiting.iter().flat_map(|batch| &batch.runs).find(|run| run.id == id).cloned();
        let kept = || {
            let record = self.entry(In::Runs, id.as_bytes(), |payload| Some(payload.to_vec()))?;
            Some(RunEntry { id, record })
        };
        waiting.or_else(kept).or_else(|| self.logged().into_iter().find(|run| run.id == id))
    }

    fn logged(&self) -> Vec<RunEntry> {
        logs::read(&self.shared.files.log(crate::store::RUNS_LOG))
            .iter()
            .filter_map(|record| parse_run(record))
            .collect()
    }

    /// The day on which a key was last used, as far as the store knows.
    pub(crate) fn last_used(&self, key: Key) -> Option<u32> {
        self.entry(In::Access, key.as_bytes(), decode_access).map(|(day, _)| day)
    }

    pub(crate) fn size(&self, table: In) -> (u64, u64) {
        self.read(|reader| reader.size(table))
    }
}

/// The newest entries of a label, each key once.
pub(crate) fn newest_labels(entries: impl Iterator<Item = LabelEntry>) -> Vec<LabelEntry> {
    let mut newest: Vec<LabelEntry> = Vec::new();
    for entry in entries {
        match newest.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => known.run = known.run.max(entry.run),
            None => newest.push(entry),
        }
    }
    newest.sort_by_key(|entry| (std::cmp::Reverse(entry.run), entry.key));
    newest.truncate(LABELS);
    newest
}

/// A run as it stands in the log: its id, then its record.
pub(crate) fn parse_run(record: &[u8]) -> Option<RunEntry> {
    let (id, record) = record.split_first_chunk::<16>()?;
    Some(RunEntry { id: RunId::from_bytes(*id), record: record.to_vec() })
}
