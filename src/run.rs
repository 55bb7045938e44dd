//! The run: what became of each spec in one session, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use doge_storage::{Fingerprint, Key, RunId};
use serde::{Deserialize, Serialize};

use crate::critical;
use crate::kind::Role;
use crate::registry::{KindIndex, Registry};

/// Counts of the present session.
#[derive(Default)]
pub(crate) struct Tally {
    executed: Vec<u64>,
    pub(crate) observed: u64,
    pub(crate) verified: u64,
    pub(crate) reused: u64,
    pub(crate) cut_off: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn executed(&mut self, kind: KindIndex, cut_off: bool) {
        if self.executed.len() <= kind.as_usize() {
            self.executed.resize(kind.as_usize() + 1, 0);
        }
        self.executed[kind.as_usize()] += 1;
        self.cut_off += u64::from(cut_off);
    }

    pub(crate) fn anything_executed(&self) -> bool {
        self.executed.iter().any(|count| *count > 0)
    }

    pub(crate) fn counts(&self, registry: &Registry) -> Counts {
        let mut executed = BTreeMap::new();
        for (index, count) in self.executed.iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(kind) = registry.by_place(index) {
                *executed.entry(kind.kind.name().to_owned()).or_insert(0) += count;
            }
        }
        Counts {
            executed,
            observed: self.observed,
            verified: self.verified,
            reused: self.reused,
            cut_off: self.cut_off,
            failed: self.failed,
        }
    }
}

/// What was done in a session, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Queries, actions and effects whose body ran to a value, by kind.
    pub executed: BTreeMap<String, u64>,
    /// Observations that were made.
    pub observed: u64,
    /// Queries and actions whose trace was checked and holds.
    pub verified: u64,
    /// Requests answered from memory in the same session.
    pub reused: u64,
    /// Of those executed, how many came to the value they had before.
    pub cut_off: u64,
    /// Specs that failed.
    pub failed: u64,
}

/// What became of a spec in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its trace was checked and holds.
    Verified,
    /// Its body ran.
    Executed,
    /// Its body ran to the value it had before.
    CutOff,
    /// It was observed.
    Observed,
    /// It failed.
    Failed,
    /// It was still pending when the run ended.
    Pending,
}

/// Why a body ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing was recorded for this very spec. If something was for its label, the specs differ.
    Missing,
    /// What was recorded for this very spec is not there any more. Noticed of expensive work only.
    Collected,
    /// A dependency had another value than the recorded one.
    Changed {
        /// The dependency.
        dependency: Key,
        /// Its recorded value.
        was: Fingerprint,
        /// Its value in this run.
        now: Fingerprint,
    },
    /// A dependency failed.
    DependencyFailed {
        /// The dependency.
        dependency: Key,
    },
    /// Somebody asked for it.
    Forced,
    /// The recorded value, or a file it names, could not be produced any more.
    Lost {
        /// The work that found that out, if it was work.
        by: Option<Key>,
    },
}

/// A spec in the record of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSpec {
    /// Its key.
    pub key: Key,
    /// The name of its kind.
    pub kind: String,
    /// What it stands for.
    pub role: Role,
    /// Its spec, written out; what it is called if it was only verified by key and its record is gone.
    pub name: String,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why its body ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// For an effect: what was found not as wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
    /// The error, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The fingerprint of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Fingerprint>,
    /// When its work began or it was looked at, in microseconds since the run did, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<u64>,
    /// How long its body, its work or the look ran, in microseconds.
    pub cost_us: u64,
    /// What it would have cost to do what was found done already, in microseconds: what it cost when it was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub saved_us: u64,
    /// What it asked, as places in [`RunRecord::specs`].
    pub asked: Vec<u32>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl RecordedSpec {
    /// The dependency that was found to have another value, if that is why it ran.
    pub fn changed_dependency(&self) -> Option<Key> {
        match &self.reason {
            Some(Reason::Changed { dependency, .. }) => Some(*dependency),
            _ => None,
        }
    }
}

/// Something that was asked for in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// Its key.
    pub key: Key,
    /// What the answer was, if there was one.
    pub value: Option<Fingerprint>,
}

/// What waited for somebody else in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedWait {
    /// The spec that waited, written out.
    pub name: String,
    /// Who was waited for.
    pub holder: String,
    /// Since when, in microseconds since the run began.
    pub started_us: u64,
    /// How long, in microseconds.
    pub took_us: u64,
}

/// The record of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// What was run, in the words of whoever ran it.
    pub title: String,
    /// What its labels are told apart by; see [`crate::Builder::scope`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// What was asked for.
    pub requests: Vec<RecordedRequest>,
    /// What was done.
    pub counts: Counts,
    /// The versions of what decided the results: the rules of each kind that is listed, and the libraries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Who was waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<RecordedWait>,
    /// What was wrong with the store, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Every spec that was reached; empty if nothing was executed, for then the traces tell the same.
    pub specs: Vec<RecordedSpec>,
}

impl RunRecord {
    /// The places of what the run waited for, in the order in which it was done: whatever of it takes less time makes the run
    /// take less.
    ///
    /// Backwards from what ended last: before something began, that was waited for which had ended last.
    pub fn critical_path(&self) -> Vec<usize> {
        let roots =
            self.requests.iter().filter_map(|request| self.specs.iter().position(|spec| spec.key == request.key));
        // What something that was not done had asked is not listed, so what was at work when the run ended is reached by itself.
        let open = (0..self.specs.len()).filter(|place| self.specs[*place].outcome == Outcome::Pending);
        critical::path(&self.specs, roots.chain(open).collect())
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.duration_us)
    }
}
