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
    /// The values of each run, the newest first.
    runs: Vec<FxHashMap<Key, Fingerprint>>,
    /// What failed in the newest of them that did anything, why it had run, and with which error.
    failed: FxHashMap<Key, (Option<Reason>, String)>,
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
        let mut failed = None;
        for run in runs.take(BACK) {
            let did_something = !run.specs.is_empty();
            if did_something {
                failed.get_or_insert_with(|| failed_in(run));
            }
            match places.get(&*run.requests) {
                None => {
                    places.insert(&run.requests, alike.len());
                    alike.push(run);
                }
                Some(place) if did_something && alike[*place].specs.is_empty() => alike[*place] = run,
                Some(_) => {}
            }
        }
        let values = alike.into_iter().map(|run| match run.specs.as_slice() {
            [] => values_of(&rebuilt(&run.requests)),
            specs => values_of(specs),
        });
        Self { runs: values.collect(), failed: failed.unwrap_or_default() }
    }

    /// The value that a spec had come to the last time, and how many runs ago that was.
    pub(super) fn last(&self, key: Key) -> Option<(usize, Fingerprint)> {
        self.runs.iter().enumerate().find_map(|(back, values)| Some((back, *values.get(&key)?)))
    }

    /// Whether a spec held, but as it had been at another time than the last.
    pub(super) fn came_back(&self, spec: &RecordedSpec) -> bool {
        spec.outcome == Outcome::Verified && self.differs(spec).is_some()
    }

    /// The value that a spec had come to the last time and the one that it has now, if these are not the same.
    pub(super) fn differs(&self, spec: &RecordedSpec) -> Option<(Fingerprint, Fingerprint)> {
        let now = spec.value?;
        let (_, was) = self.last(spec.key)?;
        (was != now).then_some((was, now))
    }

    /// Why a spec had run in the run before and failed there, and its error.
    pub(super) fn failed(&self, key: Key) -> Option<&(Option<Reason>, String)> {
        self.failed.get(&key)
    }
}

fn values_of(specs: &[RecordedSpec]) -> FxHashMap<Key, Fingerprint> {
    specs.iter().filter_map(|spec| Some((spec.key, spec.value?))).collect()
}

fn failed_in(run: &RunRecord) -> FxHashMap<Key, (Option<Reason>, String)> {
    let failed = run.specs.iter().filter(|spec| spec.outcome == Outcome::Failed);
    failed.map(|spec| (spec.key, (spec.reason.clone(), spec.error.clone().unwrap_or_default()))).collect()
}
