//! How it was before a run.

use doge_storage::{Fingerprint, Key};
use rustc_hash::FxHashMap;

use crate::run::{Outcome, Reason, RecordedRequest, RecordedSpec, RunRecord};

/// How many runs are gone back.
const BACK: usize = 40;

/// What specs had come to before a run, as the runs of the same scope tell.
///
/// A trace that a spec is checked against may be of another time: when an edit is taken back, an older one holds again, and
/// what changed since the run before is not what the trace differs in.
pub(super) struct Earlier {
    /// How each run ended, the newest first.
    runs: Vec<Ended>,
}

/// How a run ended.
pub(super) struct Ended {
    specs: FxHashMap<Key, End>,
    labels: FxHashMap<String, Vec<Key>>,
}

/// How a spec ended in a run.
pub(super) enum End {
    /// It came to this.
    Value(Fingerprint),
    /// It came to nothing.
    Broken {
        /// Why it had run.
        reason: Option<Reason>,
        /// With which error it failed; the run ended before it did if there is none.
        error: Option<String>,
    },
}

impl Earlier {
    /// Of some runs, the newest first.
    ///
    /// Of runs that came to the same answers the newest that did something stands for all, for the others list no specs; if
    /// none did, they are `rebuilt`.
    pub(super) fn new<'r>(
        runs: impl Iterator<Item = &'r RunRecord>,
        rebuilt: impl Fn(&[RecordedRequest]) -> Vec<RecordedSpec>,
    ) -> Self {
        let mut alike: Vec<&RunRecord> = Vec::new();
        let mut places: FxHashMap<&[RecordedRequest], usize> = FxHashMap::default();
        for run in runs.take(BACK) {
            let did_something = !run.specs.is_empty();
            match places.get(&*run.requests) {
                None => {
                    places.insert(&run.requests, alike.len());
                    alike.push(run);
                }
                Some(place) if did_something && alike[*place].specs.is_empty() => alike[*place] = run,
                Some(_) => {}
            }
        }
        let ended = alike.into_iter().map(|run| match run.specs.as_slice() {
            [] => Ended::of(&rebuilt(&run.requests)),
            specs => Ended::of(specs),
        });
        Self { runs: ended.collect() }
    }

    /// How the runs ended, the newest first.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Ended> {
        self.runs.iter()
    }

    /// How a spec ended the last time that it was reached.
    pub(super) fn last(&self, key: Key) -> Option<&End> {
        self.runs.iter().find_map(|run| run.specs.get(&key))
    }

    /// The value that a spec had come to the last time.
    pub(super) fn value(&self, key: Key) -> Option<Fingerprint> {
        self.runs.iter().find_map(|run| match run.specs.get(&key)? {
            End::Value(value) => Some(*value),
            End::Broken { .. } => None,
        })
    }

    /// The value that a spec had come to the last time and the one that it has now, if these are not the same.
    pub(super) fn differs(&self, spec: &RecordedSpec) -> Option<(Fingerprint, Fingerprint)> {
        let (was, now) = (self.value(spec.key)?, spec.value?);
        (was != now).then_some((was, now))
    }

    /// Whether a spec has a value, but not the one that it had the last time, or had none then.
    pub(super) fn is_other(&self, spec: &RecordedSpec) -> bool {
        match (self.last(spec.key), spec.value) {
            (Some(End::Value(was)), Some(now)) => *was != now,
            (Some(End::Broken { .. }), Some(_)) => true,
            _ => false,
        }
    }
}

impl Ended {
    fn of(specs: &[RecordedSpec]) -> Self {
        let mut ended = Self { specs: FxHashMap::default(), labels: FxHashMap::default() };
        for spec in specs {
            // What something that was not done had asked is not listed.
            if let Some(Reason::Changed { dependency, now, .. }) = spec.reason {
                ended.specs.entry(dependency).or_insert(End::Value(now));
            }
            let end = match (spec.outcome, &spec.reason, spec.value) {
                (Outcome::Failed, reason, _) => {
                    End::Broken { reason: reason.clone(), error: Some(spec.error.clone().unwrap_or_default()) }
                }
                // What was not looked into yet may well have held.
                (Outcome::Pending, Some(reason), _) => End::Broken { reason: Some(reason.clone()), error: None },
                (Outcome::Pending, None, _) | (_, _, None) => continue,
                (_, _, Some(value)) => End::Value(value),
            };
            ended.specs.insert(spec.key, end);
            if let Some(label) = &spec.label {
                ended.labels.entry(label.clone()).or_default().push(spec.key);
            }
        }
        ended
    }

    /// Whether it reached a spec.
    pub(super) fn has(&self, key: Key) -> bool {
        self.specs.contains_key(&key)
    }

    /// The specs of a label.
    pub(super) fn labelled(&self, label: &str) -> &[Key] {
        self.labels.get(label).map_or(&[], Vec::as_slice)
    }
}
