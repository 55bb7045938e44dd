//! Explaining: why did this run again?
//!
//! A recorded run says of each spec that ran what was found different first. From there the chain leads down to
//! whatever changed outside. Where a spec was new, it is compared with the previous spec of the same label. Values on both
//! sides of a change are in the store, so a change is shown, not only named; the kinds say it in their own terms
//! ([`crate::Observation::changes`]). What held tells what was looked at.

mod cause;
mod difference;
mod earlier;
mod rebuilt;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use doge_storage::{Fingerprint, Key, RunEntry, RunId, Snapshot, Store, StoreEvent, StoreOptions};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use cause::{Cause, CauseSort};
pub use difference::{Change, differing_lines};
use difference::{Tree, differences};
use earlier::Earlier;

use crate::intern::{Intern, Interned};
use crate::kind::{ErasedKind, Role};
use crate::persist::scoped;
use crate::record::{did_work, read};
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

/// The place of an effect that was done because a spec asked for it.
fn effect_of(run: &RunRecord, spec: &RecordedSpec) -> Option<usize> {
    spec.asked
        .iter()
        .map(|place| *place as usize)
        .find(|place| run.specs.get(*place).is_some_and(|asked| asked.role == Role::Effect && did_work(asked)))
}

/// Whether a spec did something in a run, or had something done, or is not what it was before.
fn worked(run: &RunRecord, earlier: &Earlier, spec: &RecordedSpec) -> bool {
    did_work(spec) || spec.outcome == Outcome::Failed || earlier.came_back(spec) || effect_of(run, spec).is_some()
}

/// The dependency for which a spec ran, and its values before and now.
///
/// What a trace differs in is not what changed since the run before, if the trace is of another time.
fn changed(
    run: &RunRecord,
    earlier: &Earlier,
    spec: &RecordedSpec,
    (dependency, was, now): (Key, Fingerprint, Fingerprint),
) -> (Key, Fingerprint, Fingerprint) {
    match earlier.last(dependency) {
        Some((_, before)) if before == now => differing(run, earlier, spec).unwrap_or((dependency, was, now)),
        Some((_, before)) => (dependency, before, now),
        None => (dependency, was, now),
    }
}

/// The nearest of those who asked for a spec, or for whoever asked, that ran or is not what it was.
fn news_above(run: &RunRecord, earlier: &Earlier, place: usize) -> Option<usize> {
    let mut asking: Vec<Vec<usize>> = vec![Vec::new(); run.specs.len()];
    for (above, spec) in run.specs.iter().enumerate() {
        for below in &spec.asked {
            if let Some(asking) = asking.get_mut(*below as usize) {
                asking.push(above);
            }
        }
    }
    let mut is_reached = vec![false; run.specs.len()];
    let mut reached = VecDeque::from([place]);
    while let Some(place) = reached.pop_front() {
        for above in std::mem::take(&mut asking[place]) {
            if run.specs[above].reason.is_some() || earlier.came_back(&run.specs[above]) {
                return Some(above);
            }
            if !std::mem::replace(&mut is_reached[above], true) {
                reached.push_back(above);
            }
        }
    }
    None
}

/// The error with which a spec had failed in the run before, if it had, for the same reason that it ran for now: then nothing
/// but the failure is why it ran again.
fn failed_before(spec: &RecordedSpec, earlier: &Earlier) -> Option<String> {
    let (reason, error) = earlier.failed(spec.key)?;
    let is_same = *reason == spec.reason || spec.reason == Some(Reason::Missing);
    is_same.then(|| error.lines().next().unwrap_or_default().to_owned())
}

/// The first of what a spec asked that is not what it was before, and its values then and now.
fn differing(run: &RunRecord, earlier: &Earlier, spec: &RecordedSpec) -> Option<(Key, Fingerprint, Fingerprint)> {
    spec.asked.iter().filter_map(|place| run.specs.get(*place as usize)).find_map(|below| {
        let (was, now) = earlier.differs(below)?;
        Some((below.key, was, now))
    })
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
                let earlier =
                    Rc::new(Earlier::new(before, |requests| rebuilt::specs(&self.snapshot, &self.registry, requests)));
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
            run.specs = rebuilt::specs(&self.snapshot, &self.registry, &run.requests);
            rebuilt::name(&mut run.specs, self.recent());
        }
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
                checked: None,
                error: spec.error.clone(),
                steps,
            };
            if let Some(place) = pick(run, true) {
                let (steps, cause) = self.chain(run, place, usize::MAX);
                told.push(Explanation { cause: Some(cause), ..explanation(&run.specs[place], steps) });
                return told;
            }
            if is_newest && let Some(place) = pick(run, false) {
                let spec = &run.specs[place];
                let steps = vec![self.step(spec, "it held".to_owned(), Vec::new())];
                told.push(Explanation { checked: Some(checked(run, place)), ..explanation(spec, steps) });
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
        let earlier = self.earlier(run);
        let is_candidate = |spec: &RecordedSpec| {
            if worked_only { worked(run, &earlier, spec) } else { spec.outcome != Outcome::Pending }
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
        let candidates = meant.into_iter().filter(|place| is_candidate(&run.specs[*place]));
        candidates.max_by_key(|place| weight(&run.specs[*place]))
    }

    /// Why a spec of a run ran, in one step; nothing if it did not.
    pub fn step_of(&self, run: &RunRecord, place: usize) -> Option<Step> {
        let spec = run.specs.get(place)?;
        let earlier = self.earlier(run);
        let ran = spec.reason.is_some()
            || earlier.came_back(spec)
            || (spec.role == Role::Effect && worked(run, &earlier, spec));
        if ran { self.chain(run, place, 1).0.into_iter().next() } else { None }
    }

    /// The chain from a spec to what it ran for, of at most so many steps, and what that is.
    fn chain(&self, run: &RunRecord, place: usize, limit: usize) -> (Vec<Step>, Cause) {
        let mut steps = Vec::new();
        let mut seen = vec![false; run.specs.len()];
        let mut next = Some(place);
        let mut cause = None;
        // How the value changed of the spec that is looked at.
        let mut value: Option<(Fingerprint, Fingerprint)> = None;
        let earlier = self.earlier(run);
        let came_back = |place: usize| earlier.came_back(&run.specs[place]);
        let asking =
            |place: usize| (0..run.specs.len()).filter(move |above| run.specs[*above].asked.contains(&(place as u32)));
        if let Some(error) = failed_before(&run.specs[place], &earlier) {
            let step = self.step(&run.specs[place], "it had failed the last time".to_owned(), Vec::new());
            return (vec![step], Cause { note: Some(error), ..Cause::of(CauseSort::FailedBefore, &run.specs[place]) });
        }
        while let Some(place) = next {
            if steps.len() >= limit || std::mem::replace(&mut seen[place], true) {
                break;
            }
            let spec = &run.specs[place];
            let find = |key: Key| run.specs.iter().position(|spec| spec.key == key);
            let changed = match &spec.reason {
                Some(Reason::Changed { dependency, was, now }) => {
                    Some(changed(run, &earlier, spec, (*dependency, *was, *now)))
                }
                None if came_back(place) => differing(run, &earlier, spec),
                _ => None,
            };
            match (&spec.reason, changed) {
                (_, Some((dependency, was, now))) => {
                    let below = find(dependency);
                    let what = below.map_or_else(|| dependency.to_string(), |below| run.specs[below].name.clone());
                    let changes = self.value_changes(below.map(|below| &run.specs[below]), was, now);
                    let held = if spec.reason.is_none() { ", and as it is now there is a result already" } else { "" };
                    steps.push(self.step(spec, format!("{what} is not what it was{held}"), changes.clone()));
                    next = below;
                    let above = value.replace((was, now));
                    let is_outside = |place: &usize| {
                        let below = &run.specs[*place];
                        let is_told = below.reason.is_some() || differing(run, &earlier, below).is_some();
                        below.role == Role::Observation || (below.role == Role::Action && !is_told)
                    };
                    if let Some(below) = below.filter(is_outside) {
                        let made = self.made_anew(spec, run, &earlier, &changes);
                        let below = &run.specs[below];
                        // Some observations tell only that something changed: then what was read because of it tells
                        // what, or else what became of whoever looked.
                        let above = above.map(|(was, now)| (spec, self.value_changes(Some(spec), was, now)));
                        let (about, own) = match (changes.is_empty(), made.first(), &above) {
                            (true, Some((spec, changes)), _) => (*spec, changes),
                            (true, None, Some((spec, changes))) => (*spec, changes),
                            _ => (below, &changes),
                        };
                        cause = Some(Cause { changes: limited(own).0, ..Cause::of(CauseSort::Changed, about) });
                        for (spec, changes) in &made {
                            steps.push(self.step(spec, "it was made anew".to_owned(), changes.clone()));
                        }
                        steps.push(self.step(below, "seen to have changed".to_owned(), changes));
                        next = None;
                    } else if below.is_none() {
                        cause = Some(Cause { changes: limited(&changes).0, ..Cause::of(CauseSort::Changed, spec) });
                    }
                }
                (Some(Reason::Collected), _) => {
                    steps.push(self.step(
                        spec,
                        "what was recorded for it is not there any more".to_owned(),
                        Vec::new(),
                    ));
                    cause = Some(match run.remarks.first() {
                        Some(remark) => {
                            Cause { note: Some(remark.clone()), ..Cause::of(CauseSort::StoreDamaged, spec) }
                        }
                        None => Cause::of(CauseSort::Collected, spec),
                    });
                    next = None;
                }
                (Some(Reason::Missing), _) => {
                    let (because, found) = self.previous(spec, run, &earlier);
                    steps.push(self.step(spec, because.to_owned(), found.changes.clone()));
                    cause = Some(Cause { changes: limited(&found.changes).0, ..found });
                    // A new spec was made by whoever asked for it; what changed for them is the rest of the story.
                    next = asking(place).find(|above| {
                        let is_new = matches!(run.specs[*above].reason, Some(Reason::Changed { .. } | Reason::Missing));
                        (is_new || came_back(*above)) && !seen[*above]
                    });
                }
                (Some(Reason::DependencyFailed { dependency }), _) => {
                    let below = find(*dependency);
                    steps.push(self.step(spec, "something it needs had failed".to_owned(), Vec::new()));
                    cause = Some(Cause::of(CauseSort::FailedBefore, below.map_or(spec, |below| &run.specs[below])));
                    next = below;
                }
                (Some(Reason::Forced), _) => {
                    steps.push(self.step(spec, "it was asked for by force".to_owned(), Vec::new()));
                    cause = Some(Cause::of(CauseSort::Forced, spec));
                    next = None;
                }
                (Some(Reason::Lost { by }), _) => {
                    let because = "its recorded result, or a file that belongs to it, was gone or damaged".to_owned();
                    steps.push(self.step(spec, because, Vec::new()));
                    let by = by.and_then(find);
                    let note = by.map(|by| run.specs[by].name.clone());
                    cause = Some(Cause { note, ..Cause::of(CauseSort::Gone, spec) });
                    // Whoever wants something else than the last time finds the other there.
                    next = by.and_then(|by| news_above(run, &earlier, by));
                }
                (None, _) if spec.role == Role::Effect => {
                    let because = match spec.found.as_slice() {
                        [] => "its target was found not as wanted".to_owned(),
                        found => found.join("; "),
                    };
                    steps.push(self.step(spec, because, Vec::new()));
                    let note = Some(spec.found.join("; ")).filter(|found| !found.is_empty());
                    cause = Some(Cause { note, ..Cause::of(CauseSort::NotAsWanted, spec) });
                    next = news_above(run, &earlier, place).or_else(|| asking(place).next());
                }
                (None | Some(Reason::Changed { .. }), _) => {
                    match effect_of(run, spec).filter(|effect| !seen[*effect]) {
                        Some(effect) => {
                            let because = format!("it needed {}", run.specs[effect].name);
                            steps.push(self.step(spec, because, Vec::new()));
                            next = Some(effect);
                        }
                        None if steps.is_empty() => {
                            steps.push(self.step(
                                spec,
                                format!("it was {:?}", spec.outcome).to_lowercase(),
                                Vec::new(),
                            ));
                            next = None;
                        }
                        // Who asked for an effect is told; what else it stands on held.
                        None => next = None,
                    }
                }
            }
        }
        let cause = cause.unwrap_or_else(|| Cause::of(CauseSort::Changed, &run.specs[place]));
        (steps, cause)
    }

    /// What an observation that changed was made into: the specs that were asked for anew, each beside the last one of
    /// its label. An observation tells that something changed; what was read because of it tells what.
    fn made_anew<'r>(
        &self,
        above: &RecordedSpec,
        run: &'r RunRecord,
        earlier: &Earlier,
        told: &[Change],
    ) -> Vec<(&'r RecordedSpec, Vec<Change>)> {
        let asked = above.asked.iter().filter_map(|place| run.specs.get(*place as usize));
        let is_new = |spec: &&RecordedSpec| match spec.reason {
            None => spec.outcome == Outcome::Verified && earlier.last(spec.key).is_none_or(|(back, _)| back > 0),
            Some(_) => spec.reason == Some(Reason::Missing),
        };
        let new = asked.filter(|spec| spec.role == Role::Action).filter(is_new);
        let mut made = Vec::new();
        for spec in new {
            let (Some(now), Some(before)) = (spec.value, self.before(spec, run, earlier)) else { continue };
            let recorded = || self.snapshot.traces(before).into_iter().max_by_key(|trace| trace.recorded);
            let was = earlier.last(before).map(|(_, was)| was).or_else(|| Some(recorded()?.value));
            let Some(was) = was else { continue };
            let mut changes = self.value_changes(Some(spec), was, now);
            // What the steps above speak of goes first.
            changes.sort_by_key(|change| !told.iter().any(|told| change.is_about(told)));
            if !changes.is_empty() {
                made.push((spec, changes));
            }
        }
        made
    }

    /// The last spec of the same label in this or an earlier run. Of several in one run that which differs least: a label may
    /// stand for the same on several platforms.
    fn before(&self, spec: &RecordedSpec, run: &RunRecord, earlier: &Earlier) -> Option<Key> {
        let mut entries = self.snapshot.label(&scoped(spec.label.as_ref()?, run.scope.as_deref()));
        entries.retain(|entry| entry.key != spec.key && entry.run <= run.id);
        let back = |entry: &doge_storage::LabelEntry| earlier.last(entry.key).map(|(back, _)| back);
        if let Some(least) = entries.iter().filter_map(back).min() {
            entries.retain(|entry| back(entry) == Some(least));
        } else {
            let newest = entries.iter().map(|entry| entry.run).filter(|other| *other < run.id).max();
            entries.retain(|entry| entry.run == newest.unwrap_or(run.id));
        }
        let tree = |key| Tree::decode(&self.snapshot.spec(key)?.encoded);
        let now = tree(spec.key);
        let distance = |entry: &&doge_storage::LabelEntry| match (tree(entry.key), &now) {
            (Some(was), Some(now)) => differences(&was, now, &mut |print| self.value(print)).len(),
            _ => usize::MAX,
        };
        entries.iter().min_by_key(distance).map(|entry| entry.key)
    }

    fn step(&self, spec: &RecordedSpec, because: String, changes: Vec<Change>) -> Step {
        let (changes, more_changes) = limited(&changes);
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

    /// Compares a spec of which nothing was recorded with the last one of the same label in an earlier run.
    fn previous(&self, spec: &RecordedSpec, run: &RunRecord, earlier: &Earlier) -> (&'static str, Cause) {
        let encoded = |key| self.snapshot.spec(key);
        if let Some((was, now)) = self.before(spec, run, earlier).and_then(encoded).zip(encoded(spec.key)) {
            let told =
                self.kind(spec.key).and_then(|kind| kind.spec_changes(&was.encoded, &now.encoded, &self.values()));
            let changes = told.or_else(|| {
                let (was, now) = (Tree::decode(&was.encoded)?, Tree::decode(&now.encoded)?);
                Some(differences(&was, &now, &mut |print| self.value(print)))
            });
            let cause = Cause { changes: changes.unwrap_or_default(), ..Cause::of(CauseSort::AskedDifferently, spec) };
            return ("it was asked for in another way than the last time", cause);
        }
        match run.remarks.first() {
            Some(remark) => {
                let cause = Cause { note: Some(remark.clone()), ..Cause::of(CauseSort::StoreDamaged, spec) };
                ("nothing could be read of what was recorded", cause)
            }
            None => ("nothing was recorded for it", Cause::of(CauseSort::New, spec)),
        }
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

    /// How the value of a spec differs: as its kind says it, else field by field.
    fn value_changes(&self, spec: Option<&RecordedSpec>, was: Fingerprint, now: Fingerprint) -> Vec<Change> {
        let (Some(was), Some(now)) = (self.snapshot.value(was), self.snapshot.value(now)) else { return Vec::new() };
        let told = spec.and_then(|spec| {
            let kind = self.kind(spec.key)?;
            let encoded = self.snapshot.spec(spec.key)?.encoded;
            kind.value_changes(&encoded, &was, &now, &self.values())
        });
        let by_field = || {
            let (was, now) = (Tree::decode(&was)?, Tree::decode(&now)?);
            Some(differences(&was, &now, &mut |print| self.value(print)))
        };
        told.or_else(by_field).unwrap_or_default()
    }
}

/// What was looked at below a spec.
fn checked(run: &RunRecord, place: usize) -> Checked {
    let mut checked = Checked::default();
    let mut seen = vec![false; run.specs.len()];
    let mut stack = vec![place];
    while let Some(place) = stack.pop() {
        if std::mem::replace(&mut seen[place], true) {
            continue;
        }
        let spec = &run.specs[place];
        if spec.role == Role::Observation {
            *checked.looks.entry(spec.kind.clone()).or_default() += 1;
            checked.seen.push(spec.name.clone());
        } else {
            checked.held += 1;
        }
        stack.extend(spec.asked.iter().map(|place| *place as usize).filter(|place| *place < run.specs.len()));
    }
    checked.seen.sort();
    checked.seen.truncate(NAMED);
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
