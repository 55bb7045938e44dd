//! Explaining: why did this run again?
//!
//! A recorded run says of each spec that ran what was found different first. From there the chain leads down to
//! whatever changed outside. Where a spec was new, it is compared, field by field, with the previous spec of the
//! same label. Values on both sides of a change are in the store, so a change is shown, not only named.

mod difference;

use std::path::Path;

use doge_storage::{Fingerprint, Key, RunId, Snapshot, Store, StoreOptions};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use difference::Change;
use difference::{Tree, differences};

use crate::kind::Role;
use crate::persist::scoped;
use crate::record::{did_work, read};
use crate::run::{Reason, RecordedSpec, RunRecord};

/// How many changes of one value are told. The rest is counted.
const TOLD: usize = 20;

/// How many of those that came, or went, in one place are told.
const ALIKE: usize = 5;

/// How many runs back are searched.
const RUNS: usize = 200;

/// What a store remembers of earlier runs.
pub struct History {
    snapshot: Snapshot,
}

/// Why a spec ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The run in which it ran.
    pub run: RunId,
    /// How many later runs did not run it, because it held.
    pub held_since: usize,
    /// The chain, from the spec down to what changed outside.
    pub steps: Vec<Step>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The name of the kind.
    pub kind: String,
    /// What it stands for.
    pub role: Role,
    /// The spec, written out.
    pub name: String,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Why it ran, or what became of it, in words.
    pub because: String,
    /// What changed.
    pub changes: Vec<Change>,
    /// How many more changes there are.
    pub more_changes: usize,
}

/// The place of an effect that was done because a spec asked for it.
fn effect_of(run: &RunRecord, spec: &RecordedSpec) -> Option<usize> {
    spec.asked
        .iter()
        .map(|place| *place as usize)
        .find(|place| run.specs.get(*place).is_some_and(|asked| asked.role == Role::Effect && did_work(asked)))
}

impl History {
    /// What the store in this directory remembers. Nothing is written.
    pub fn open(directory: impl AsRef<Path>) -> Self {
        let mut options = StoreOptions::new(directory.as_ref());
        options.read_only = true;
        Self::of(&Store::open(options))
    }

    /// What this store remembers.
    pub fn of(store: &Store) -> Self {
        Self { snapshot: store.snapshot() }
    }

    /// The newest runs, the newest first.
    pub fn runs(&self, limit: usize) -> Vec<RunRecord> {
        self.snapshot.runs(limit).iter().filter_map(|entry| read(&entry.record)).collect()
    }

    /// The record of a run.
    pub fn run(&self, id: RunId) -> Option<RunRecord> {
        read(&self.snapshot.run(id)?.record)
    }

    /// Why the newest spec that `is_meant` ran the last time it did; `None` if no run on record ran it.
    ///
    /// Only runs that `is_of_interest` are looked at.
    pub fn why(
        &self,
        is_of_interest: impl Fn(&RunRecord) -> bool,
        is_meant: impl Fn(&RecordedSpec) -> bool,
    ) -> Option<Explanation> {
        for (held_since, run) in self.runs(RUNS).into_iter().filter(is_of_interest).enumerate() {
            let worked = |spec: &RecordedSpec| did_work(spec) || effect_of(&run, spec).is_some();
            let newest = run.specs.iter().enumerate().filter(|(_, spec)| is_meant(spec) && worked(spec)).max_by_key(
                // Work is what people mean; a query of the same name is only its caller.
                |(_, spec)| (matches!(spec.role, Role::Action | Role::Effect), spec.cost_us),
            );
            if let Some((place, _)) = newest {
                return Some(Explanation { run: run.id, held_since, steps: self.chain(&run, place) });
            }
        }
        None
    }

    fn chain(&self, run: &RunRecord, place: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut seen = vec![false; run.specs.len()];
        let mut next = Some(place);
        while let Some(place) = next {
            if std::mem::replace(&mut seen[place], true) {
                break;
            }
            let spec = &run.specs[place];
            let find = |key: Key| run.specs.iter().position(|spec| spec.key == key);
            match &spec.reason {
                Some(Reason::Changed { dependency, was, now }) => {
                    let below = find(*dependency);
                    let what = below.map_or_else(|| dependency.to_string(), |below| run.specs[below].name.clone());
                    steps.push(self.step(spec, format!("{what} is not what it was"), self.value_changes(*was, *now)));
                    next = below;
                    if let Some(below) = below.filter(|below| run.specs[*below].role == Role::Observation) {
                        steps.extend(self.made_anew(spec, run, &steps));
                        steps.push(self.step(
                            &run.specs[below],
                            "seen to have changed".to_owned(),
                            self.value_changes(*was, *now),
                        ));
                        next = None;
                    }
                }
                Some(Reason::Missing) => {
                    let (because, changes) = self.previous(spec, run);
                    steps.push(self.step(spec, because, changes));
                    // A new spec was made by whoever asked for it; what changed for them is the rest of the story.
                    next = run
                        .specs
                        .iter()
                        .position(|above| {
                            above.asked.contains(&(place as u32))
                                && matches!(above.reason, Some(Reason::Changed { .. } | Reason::Missing))
                        })
                        .filter(|above| !seen[*above]);
                }
                Some(Reason::DependencyFailed { dependency }) => {
                    let below = find(*dependency);
                    steps.push(self.step(spec, "something it needs had failed".to_owned(), Vec::new()));
                    next = below;
                }
                Some(Reason::Forced) => {
                    steps.push(self.step(spec, "it was asked for by force".to_owned(), Vec::new()));
                    next = None;
                }
                Some(Reason::Lost) => {
                    let because = "its recorded result, or a file that belongs to it, was gone".to_owned();
                    steps.push(self.step(spec, because, Vec::new()));
                    next = None;
                }
                None if spec.role == Role::Effect => {
                    let because = match spec.found.as_slice() {
                        [] => "its target was found not as wanted".to_owned(),
                        found => found.join("; "),
                    };
                    steps.push(self.step(spec, because, Vec::new()));
                    next = run.specs.iter().position(|above| above.asked.contains(&(place as u32)));
                }
                None => match effect_of(run, spec).filter(|effect| !seen[*effect]) {
                    Some(effect) => {
                        let because = format!("it needed {}", run.specs[effect].name);
                        steps.push(self.step(spec, because, Vec::new()));
                        next = Some(effect);
                    }
                    None if steps.is_empty() => {
                        steps.push(self.step(spec, format!("it was {:?}", spec.outcome).to_lowercase(), Vec::new()));
                        next = None;
                    }
                    // Who asked for an effect is told; what else it stands on held.
                    None => next = None,
                },
            }
        }
        steps
    }

    /// What an observation that changed was made into: the specs that were asked for anew, each beside the last one of
    /// its label. An observation tells that something changed; what was read because of it tells what.
    fn made_anew(&self, above: &RecordedSpec, run: &RunRecord, steps: &[Step]) -> Vec<Step> {
        let asked = above.asked.iter().filter_map(|place| run.specs.get(*place as usize));
        let new = asked.filter(|spec| spec.role == Role::Action && spec.reason == Some(Reason::Missing));
        let told: Vec<&Change> = steps.iter().flat_map(|step| &step.changes).collect();
        let mut made = Vec::new();
        for spec in new {
            let (Some(now), Some(before)) = (spec.value, self.before(spec, run)) else { continue };
            let Some(was) = self.snapshot.traces(before).into_iter().max_by_key(|trace| trace.recorded) else {
                continue;
            };
            let mut changes = self.value_changes(was.value, now);
            // What the steps above speak of goes first.
            changes.sort_by_key(|change| !told.iter().any(|told| change.is_about(told)));
            if !changes.is_empty() {
                made.push(self.step(spec, "it was made anew".to_owned(), changes));
            }
        }
        made
    }

    /// The last spec of the same label in this or an earlier run.
    fn before(&self, spec: &RecordedSpec, run: &RunRecord) -> Option<Key> {
        let entries = self.snapshot.label(&scoped(spec.label.as_ref()?, run.scope.as_deref()));
        entries.iter().find(|entry| entry.key != spec.key && entry.run <= run.id).map(|entry| entry.key)
    }

    fn step(&self, spec: &RecordedSpec, because: String, mut changes: Vec<Change>) -> Step {
        let all = changes.len();
        let mut alike: FxHashMap<(String, bool, bool), usize> = FxHashMap::default();
        changes.retain(|change| {
            let count = alike.entry(change.sort()).or_default();
            *count += 1;
            // Of many things that came or went in one place, a few stand for the others.
            *count <= ALIKE || (change.was.is_some() && change.now.is_some())
        });
        changes.truncate(TOLD);
        let more_changes = all - changes.len();
        Step {
            kind: spec.kind.clone(),
            role: spec.role,
            name: spec.name.clone(),
            label: spec.label.clone(),
            because,
            changes,
            more_changes,
        }
    }

    /// Compares a spec with the last one of the same label in an earlier run.
    fn previous(&self, spec: &RecordedSpec, run: &RunRecord) -> (String, Vec<Change>) {
        let first = || ("nothing was recorded for it".to_owned(), Vec::new());
        let Some(before) = self.before(spec, run) else { return first() };
        let tree = |key| Tree::decode(&self.snapshot.spec(key)?.encoded);
        match (tree(before), tree(spec.key)) {
            (Some(was), Some(now)) => {
                let changes = differences(&was, &now, &mut |print| self.value(print));
                ("it was asked for in another way than the last time".to_owned(), changes)
            }
            _ => first(),
        }
    }

    fn value(&self, fingerprint: Fingerprint) -> Option<Tree> {
        Tree::decode(&self.snapshot.value(fingerprint)?)
    }

    fn value_changes(&self, was: Fingerprint, now: Fingerprint) -> Vec<Change> {
        match (self.value(was), self.value(now)) {
            (Some(was), Some(now)) => differences(&was, &now, &mut |print| self.value(print)),
            _ => Vec::new(),
        }
    }
}
