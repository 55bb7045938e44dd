//! Explaining: why did this run again?
//!
//! A recorded run says of each spec that ran what was found different first. From there the chain leads down to
//! whatever changed outside. Where a spec was new, it is compared with the previous spec of the same label. Values on both
//! sides of a change are in the store, so a change is shown, not only named; the kinds say it in their own terms
//! ([`crate::Observation::changes`]). What held tells what was looked at.

mod cause;
mod chain;
mod difference;
mod earlier;
mod rebuilt;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use doge_storage::{Fingerprint, Key, RunEntry, RunId, Snapshot, Store, StoreEvent, StoreOptions};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use cause::{Cause, CauseSort};
use chain::Compared;
pub use difference::{Change, differing_lines};
use difference::{Tree, differences};
use earlier::Earlier;
pub(crate) use rebuilt::NAMELESS;

use crate::intern::{Intern, Interned};
use crate::kind::{ErasedKind, Role};
use crate::persist::scope_number;
use crate::record::{did_work, read, versions_of};
use crate::registry::Registry;
use crate::run::{Outcome, Reason, RecordedSpec, RunRecord};
use crate::sync::Mutex;

/// How many changes of one value are told. The rest is counted.
const TOLD: usize = 20;

/// How many of those that came, or went, in one place are told.
const ALIKE: usize = 5;

/// How many runs back are searched.
const RUNS: usize = 200;

/// What a store remembers of earlier runs.
pub struct History {
    directory: PathBuf,
    snapshot: Snapshot,
    /// What was wrong with the store first.
    problem: Arc<Mutex<Option<String>>>,
    registry: Registry,
    /// Runs, the newest first, each read when it is looked at.
    recent: OnceCell<Vec<(RunEntry, OnceCell<Option<RunRecord>>)>>,
    /// How it was before the run that was asked about last.
    earlier: RefCell<Option<(RunId, Rc<Earlier>)>>,
}

/// Why a spec ran, why an earlier result of it holds again, or why it did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The run in which it ran.
    pub run: RunId,
    /// What was run, in the words of whoever ran it.
    pub title: String,
    /// When that run began, in milliseconds since 1970.
    pub began_ms: u64,
    /// What became of it there.
    pub outcome: Outcome,
    /// How many later runs did not run it, because it held.
    pub held_since: usize,
    /// What was the reason in the end, and nothing else; nothing if it held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What else changed outside that made a difference to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Change>,
    /// What was looked at to see that it holds, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<Checked>,
    /// The error, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The chain, from the spec down to what changed outside. Of a spec that held only itself.
    pub steps: Vec<Step>,
}

/// What was looked at to see that something holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// How many queries and actions below it were found to hold.
    pub held: usize,
    /// How many looks were made, by kind.
    pub looks: BTreeMap<String, usize>,
    /// What was looked at, sorted; the first few.
    pub seen: Vec<String>,
    /// How many there are more of these.
    pub more_seen: usize,
    /// How what was looked at differs from what it was in the run before, which made no difference; the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<Change>,
}

/// How many looks are named.
const NAMED: usize = 12;

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

/// The values of a store, for those who say what changed.
pub struct Values<'h> {
    snapshot: &'h Snapshot,
}

impl Values<'_> {
    /// The value of a name; nothing if it is not kept any more.
    pub fn get<T: Intern>(&self, name: &Interned<T>) -> Option<std::sync::Arc<T>> {
        name.at_hand().or_else(|| name.fill(&self.snapshot.value(name.fingerprint())?))
    }
}

impl History {
    /// What the store in this directory remembers. Nothing is written.
    ///
    /// Changes are told field by field; see [`crate::Builder::history`] for a history that knows the kinds.
    pub fn open(directory: impl AsRef<Path>) -> Self {
        Self::knowing(directory.as_ref(), Registry::default())
    }

    pub(crate) fn knowing(directory: &Path, registry: Registry) -> Self {
        let mut options = StoreOptions::new(directory);
        options.read_only = true;
        let problem: Arc<Mutex<Option<String>>> = Arc::default();
        let heard = problem.clone();
        options.listener = Some(Arc::new(move |event| {
            // An entry of another version is no more than one that is not there.
            if let StoreEvent::DidDiscard { table: "store" | "pending", reason }
            | StoreEvent::WillRunWithout { reason } = event
            {
                heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
            }
        }));
        let store = Store::open(options);
        Self {
            directory: store.directory().to_owned(),
            snapshot: store.snapshot(),
            problem,
            registry,
            recent: OnceCell::new(),
            earlier: RefCell::default(),
        }
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What was found wrong with the store so far, if anything. Whatever was asked since then may lack something.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest runs, the newest first.
    pub fn runs(&self, limit: usize) -> Vec<RunRecord> {
        self.snapshot.runs(limit).iter().filter_map(|entry| read(&entry.record)).collect()
    }

    /// The record of a run.
    pub fn run(&self, id: RunId) -> Option<RunRecord> {
        read(&self.snapshot.run(id)?.record)
    }

    fn recent(&self) -> impl Iterator<Item = &RunRecord> {
        let entries = self
            .recent
            .get_or_init(|| self.snapshot.runs(RUNS).into_iter().map(|entry| (entry, OnceCell::new())).collect());
        entries.iter().filter_map(|(entry, run)| run.get_or_init(|| read(&entry.record)).as_ref())
    }

    /// How it was before a run.
    fn earlier(&self, run: &RunRecord) -> Rc<Earlier> {
        let mut known = self.earlier.borrow_mut();
        match &*known {
            Some((id, earlier)) if *id == run.id => earlier.clone(),
            _ => {
                let before = self.recent().filter(|other| other.id < run.id && other.scope == run.scope);
                let scope = scope_number(run.scope.as_deref());
                let rebuilt = |requests: &[_]| rebuilt::specs(&self.snapshot, &self.registry, requests, scope);
                let earlier = Rc::new(Earlier::new(before, rebuilt));
                *known = Some((run.id, earlier.clone()));
                earlier
            }
        }
    }

    /// What was reached in a run that did nothing, as the traces tell; other records are as they are.
    ///
    /// A run that did nothing writes down only what was asked for and what the answers were: the rest is what the traces of
    /// these answers stand on. An answer whose trace is gone is left out, for what it stood on is not known.
    #[must_use]
    pub fn whole(&self, mut run: RunRecord) -> RunRecord {
        if run.specs.is_empty() {
            let scope = scope_number(run.scope.as_deref());
            run.specs = rebuilt::specs(&self.snapshot, &self.registry, &run.requests, scope);
        }
        rebuilt::name(&mut run.specs, self.recent());
        run
    }

    /// Why the newest spec that `is_meant` ran the last time it did, or what was looked at to see that it holds; nothing if no
    /// run on record reached it.
    ///
    /// Only runs that `is_of_interest` are looked at. If the spec held in the newest of them and an older one ran it, there
    /// are two explanations: why it did not run, and why it did then.
    pub fn why(
        &self,
        is_of_interest: impl Fn(&RunRecord) -> bool,
        is_meant: impl Fn(&RecordedSpec) -> bool,
    ) -> Vec<Explanation> {
        self.explained(is_of_interest, |run, worked_only| self.pick(run, &is_meant, worked_only))
    }

    /// Why anything ran in the newest run that did something, and what was looked at in the newest run, if that did nothing:
    /// of what was asked for, or else of what was done for it.
    pub fn why_anything(&self, is_of_interest: impl Fn(&RunRecord) -> bool) -> Vec<Explanation> {
        self.explained(is_of_interest, |run, worked_only| {
            let is_asked = |spec: &RecordedSpec| run.requests.iter().any(|request| request.key == spec.key);
            self.pick(run, &is_asked, worked_only)
                .or_else(|| self.pick(run, &|spec| spec.role == Role::Effect, worked_only))
                .or_else(|| self.pick(run, &did_work, worked_only))
        })
    }

    /// The newest explanations of what is picked in each run: something that worked, or if none did something that held.
    fn explained(
        &self,
        is_of_interest: impl Fn(&RunRecord) -> bool,
        pick: impl Fn(&RunRecord, bool) -> Option<usize>,
    ) -> Vec<Explanation> {
        let mut told = Vec::new();
        let runs = self.recent().filter(|run| is_of_interest(run));
        for (held_since, run) in runs.enumerate() {
            let is_newest = held_since == 0;
            let rebuilt = (is_newest && run.specs.is_empty()).then(|| self.whole(run.clone()));
            let run = rebuilt.as_ref().unwrap_or(run);
            let explanation = |spec: &RecordedSpec, steps| Explanation {
                run: run.id,
                title: run.title.clone(),
                began_ms: run.began_ms,
                outcome: spec.outcome,
                held_since,
                cause: None,
                also: Vec::new(),
                checked: None,
                error: spec.error.clone(),
                steps,
            };
            if let Some(place) = pick(run, true) {
                let compared = Compared::new(self, run);
                let (steps, cause) = compared.chain(place, usize::MAX);
                let is_told: Vec<Change> =
                    steps.iter().flat_map(|step| &step.changes).chain(&cause.changes).cloned().collect();
                let also = compared.also(place, &is_told);
                told.push(Explanation { cause: Some(cause), also, ..explanation(&run.specs[place], steps) });
                return told;
            }
            if is_newest && let Some(place) = pick(run, false) {
                let spec = &run.specs[place];
                let steps = vec![self.step(spec, "it held", &[])];
                let checked = checked(&Compared::new(self, run), run, place);
                told.push(Explanation { checked: Some(checked), ..explanation(spec, steps) });
            }
        }
        told
    }

    /// What people mean most of all that is meant: work, of which a query of the same name is only the caller; and what took
    /// the longest.
    fn pick(&self, run: &RunRecord, is_meant: &dyn Fn(&RecordedSpec) -> bool, worked_only: bool) -> Option<usize> {
        let meant: Vec<usize> = (0..run.specs.len()).filter(|place| is_meant(&run.specs[*place])).collect();
        if meant.is_empty() {
            // How it was before is not looked up for nothing.
            return None;
        }
        let compared = Compared::new(self, run);
        let is_candidate = |place: usize| {
            if worked_only { compared.worked(place) } else { run.specs[place].outcome != Outcome::Pending }
        };
        let weight = |spec: &RecordedSpec| {
            let is_work = matches!(spec.role, Role::Action | Role::Effect);
            // What had to be fetched again, because something else of its name was there, is not what changed.
            let is_told_by_others = matches!(spec.reason, Some(Reason::Lost { .. }));
            (
                is_work && spec.outcome == Outcome::Failed,
                is_work,
                spec.role != Role::Observation,
                !is_told_by_others,
                spec.cost_us,
                spec.saved_us,
            )
        };
        let candidates = meant.into_iter().filter(|place| is_candidate(*place));
        candidates.max_by_key(|place| weight(&run.specs[*place]))
    }

    /// What did something in a run, or is not what it was in the run before.
    pub fn news(&self, run: &RunRecord) -> BTreeSet<Key> {
        let compared = Compared::new(self, run);
        (0..run.specs.len()).filter(|place| compared.worked(*place)).map(|place| run.specs[place].key).collect()
    }

    /// Why the spec in a place of a run ran, in one step; nothing if it did not.
    pub fn steps<'h>(&'h self, run: &'h RunRecord) -> impl Fn(usize) -> Option<Step> + 'h {
        let compared = Compared::new(self, run);
        move |place| {
            let spec = run.specs.get(place)?;
            let ran = compared.is_news(place) || (spec.role == Role::Effect && compared.worked(place));
            if ran { compared.chain(place, 1).0.into_iter().next() } else { None }
        }
    }

    fn step(&self, spec: &RecordedSpec, because: &str, changes: &[Change]) -> Step {
        let (changes, more_changes) = limited(changes);
        Step {
            kind: spec.kind.clone(),
            role: spec.role,
            name: spec.name.clone(),
            label: spec.label.clone(),
            because: because.to_owned(),
            changes,
            more_changes,
        }
    }

    /// What a spec that a run did not reach is called.
    fn name(&self, key: Key) -> String {
        let mut specs = [rebuilt::spec(&self.snapshot, &self.registry, key, None)];
        rebuilt::name(&mut specs, self.recent());
        let [spec] = specs;
        spec.name
    }

    fn values(&self) -> Values<'_> {
        Values { snapshot: &self.snapshot }
    }

    fn kind(&self, key: Key) -> Option<&'static dyn ErasedKind> {
        Some(self.registry.get(self.registry.of_key(key)?).kind)
    }

    fn value(&self, fingerprint: Fingerprint) -> Option<Tree> {
        Tree::decode(&self.snapshot.value(fingerprint)?)
    }

    /// How the versions differ of what decides the results of a kind, in a run and in the one of the same scope before that
    /// tells them.
    fn version_changes(&self, run: &RunRecord, spec: &RecordedSpec) -> Vec<Change> {
        let Some(kind) = self.kind(spec.key) else { return Vec::new() };
        let name = |(name, _): (String, String)| name;
        let names: Vec<String> = versions_of(kind.name(), kind.epoch()).map(name).collect();
        let tells = |other: &&RunRecord| other.versions.contains_key(&names[0]);
        let mut earlier = self.recent().filter(|other| other.id < run.id && other.scope == run.scope);
        let Some(before) = earlier.find(tells) else { return Vec::new() };
        let changed = names.into_iter().filter_map(|name| {
            let (was, now) = (before.versions.get(&name).cloned(), run.versions.get(&name).cloned());
            // What comes after the version proper tells apart what was never published.
            let base = |version: &Option<String>| Some(version.as_ref()?.split_once('+')?.0.to_owned());
            match (base(&was), base(&now)) {
                _ if was == now => None,
                (Some(was), Some(now)) if was == now => {
                    Some(Change::new("built from other sources", format!("{name} {now}"), None, None))
                }
                _ => Some(Change::new("version", name, was, now)),
            }
        });
        changed.collect()
    }

    /// How two specs differ: as their kind says it, else field by field; nothing if one of them is not kept.
    fn spec_changes(&self, was: Key, now: Key) -> Vec<Change> {
        let (Some(was), Some(kept)) = (self.snapshot.spec(was), self.snapshot.spec(now)) else { return Vec::new() };
        let told = || self.kind(now)?.spec_changes(&was.encoded, &kept.encoded, &self.values());
        let by_field = || {
            let (was, now) = (Tree::decode(&was.encoded)?, Tree::decode(&kept.encoded)?);
            Some(differences(&was, &now, &mut |print| self.value(print)))
        };
        told().or_else(by_field).unwrap_or_default()
    }

    /// How the value of a spec differs: as its kind says it, else field by field.
    fn value_changes(&self, key: Key, was: Fingerprint, now: Fingerprint) -> Vec<Change> {
        let (Some(was), Some(now)) = (self.snapshot.value(was), self.snapshot.value(now)) else { return Vec::new() };
        let told = || {
            let encoded = self.snapshot.spec(key)?.encoded;
            self.kind(key)?.value_changes(&encoded, &was, &now, &self.values())
        };
        let by_field = || {
            let (was, now) = (Tree::decode(&was)?, Tree::decode(&now)?);
            Some(differences(&was, &now, &mut |print| self.value(print)))
        };
        told().or_else(by_field).unwrap_or_default()
    }
}

/// What was looked at below a spec.
fn checked(compared: &Compared<'_>, run: &RunRecord, place: usize) -> Checked {
    let mut checked = Checked::default();
    let mut is_reached = vec![false; run.specs.len()];
    let mut stack = vec![place];
    let mut seen = BTreeSet::new();
    while let Some(place) = stack.pop() {
        if std::mem::replace(&mut is_reached[place], true) {
            continue;
        }
        let spec = &run.specs[place];
        if spec.role == Role::Observation {
            if seen.insert(&spec.name) {
                *checked.looks.entry(spec.kind.clone()).or_default() += 1;
            }
            checked.other.extend(compared.other(place));
        } else {
            checked.held += 1;
        }
        stack.extend(spec.asked.iter().map(|place| *place as usize).filter(|place| *place < run.specs.len()));
    }
    checked.more_seen = seen.len().saturating_sub(NAMED);
    checked.seen = seen.into_iter().take(NAMED).cloned().collect();
    checked.other.truncate(NAMED);
    checked
}

/// So many of some changes as are told, and how many more there are.
fn limited(changes: &[Change]) -> (Vec<Change>, usize) {
    let mut alike: FxHashMap<(String, bool, bool), usize> = FxHashMap::default();
    let mut told = changes.to_vec();
    told.retain(|change| {
        let count = alike.entry(change.sort()).or_default();
        *count += 1;
        // Of many things that came or went in one place, a few stand for the others.
        *count <= ALIKE || (change.was.is_some() && change.now.is_some())
    });
    told.truncate(TOLD);
    let more = changes.len() - told.len();
    (told, more)
}
