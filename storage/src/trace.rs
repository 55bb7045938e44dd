//! What the store keeps, in the words of whoever uses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::keys::{Fingerprint, Key, RunId};

/// Something that a result was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// The spec that was asked.
    pub key: Key,
    /// What the spec stands for. The store does not know what it means.
    pub role: u8,
    /// The value that was the answer.
    pub fingerprint: Fingerprint,
}

/// What a result was made from, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What was asked, in the order of asking; the members of a group were asked together.
    pub groups: Vec<Vec<Dependency>>,
    /// The result.
    pub value: Fingerprint,
    /// How long it took to make.
    pub cost: Duration,
    /// What whoever recorded it is told apart by, such as a workspace of several on one store, as a number; it is not part
    /// of what it says. The same trace of another scope takes its place.
    pub scope: u64,
    /// When it was recorded, in microseconds since 1970. Set by the store; what is handed in does not matter.
    pub recorded: u64,
}

impl Trace {
    /// What tells this trace from others of the same key: the blake3 of its groups.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = blake3::Hasher::new();
        for group in &self.groups {
            hasher.update(&(group.len() as u64).to_le_bytes());
            for dependency in group {
                hasher.update(dependency.key.as_bytes());
                hasher.update(&[dependency.role]);
                hasher.update(dependency.fingerprint.as_bytes());
            }
        }
        Fingerprint::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Which of several goes first for somebody of this scope: the highest.
    pub(crate) fn rank(&self, scope: u64) -> (bool, u64) {
        (self.scope == scope, self.recorded)
    }
}

/// A spec, kept so that it can be shown and run again by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSpec {
    /// The name of its kind.
    pub kind: String,
    /// Its encoding.
    pub encoded: Vec<u8>,
    /// Its label.
    pub label: Option<String>,
}

/// What was seen of something outside, on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The fingerprint of `detail`.
    pub digest: Fingerprint,
    /// The value that belongs to it.
    pub value: Fingerprint,
    /// The stamp, as whoever made it encoded it.
    pub detail: Vec<u8>,
}

/// A spec that had a label in some run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelEntry {
    /// Its key.
    pub key: Key,
    /// The run.
    pub run: RunId,
}

/// The record of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Its id.
    pub id: RunId,
    /// The record, as whoever made it encoded it.
    pub record: Vec<u8>,
}

/// What one commit writes. Everything in it is named by its content or is newer than what it replaces, so writing
/// a batch twice does what writing it once does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Specs by key.
    pub specs: BTreeMap<Key, StoredSpec>,
    /// Traces with the key they belong to, the oldest first.
    pub traces: Vec<(Key, Trace)>,
    /// Values by fingerprint.
    pub values: BTreeMap<Fingerprint, Arc<[u8]>>,
    /// Stamps by whatever names the observation and its place.
    pub stamps: BTreeMap<Key, Stamp>,
    /// Labels, the oldest first.
    pub labels: Vec<(String, LabelEntry)>,
    /// Records of runs.
    pub runs: Vec<RunEntry>,
    /// Keys that were used.
    pub touches: Vec<Key>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
            && self.traces.is_empty()
            && self.values.is_empty()
            && self.stamps.is_empty()
            && self.labels.is_empty()
            && self.runs.is_empty()
            && self.touches.is_empty()
    }

    /// How many bytes there are in it, except for what is small.
    pub fn size(&self) -> usize {
        let values: usize = self.values.values().map(|value| value.len()).sum();
        let specs: usize = self.specs.values().map(|spec| spec.encoded.len()).sum();
        let dependencies: usize = self.traces.iter().flat_map(|(_, trace)| &trace.groups).map(Vec::len).sum();
        let runs: usize = self.runs.iter().map(|run| run.record.len()).sum();
        values + specs + dependencies * size_of::<Dependency>() + runs
    }

    /// Adds what a later batch holds.
    pub fn merge(&mut self, later: Batch) {
        self.specs.extend(later.specs);
        self.traces.extend(later.traces);
        self.values.extend(later.values);
        self.stamps.extend(later.stamps);
        self.labels.extend(later.labels);
        self.runs.extend(later.runs);
        self.touches.extend(later.touches);
    }
}
