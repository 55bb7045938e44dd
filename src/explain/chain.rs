//! The way from a spec to what it ran for, in one run.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use doge_storage::{Fingerprint, Key, RunId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::difference::{Change, Tree, differences};
use super::earlier::{Earlier, End};
use super::{Cause, CauseSort, History, Step, limited};
use crate::kind::Role;
use crate::persist::{scope_number, scoped};
use crate::record::did_work;
use crate::run::{Outcome, Reason, RecordedSpec, RunRecord};
use crate::spec::tag_of_key;

/// A run, beside how it was before.
pub(super) struct Compared<'h> {
    history: &'h History,
    run: &'h RunRecord,
    earlier: Rc<Earlier>,
    /// Who asked for each spec.
    asking: OnceCell<Vec<Vec<usize>>>,
    /// The specs of each label.
    labels: OnceCell<FxHashMap<&'h str, Vec<&'h RecordedSpec>>>,
}

/// What of the specs that a spec asked for is not what it was.
enum Below {
    /// It has another value than before.
    Other(Key, Fingerprint, Fingerprint),
    /// It was asked for in another way before, or had come to nothing.
    Back(usize),
}

impl<'h> Compared<'h> {
    pub(super) fn new(history: &'h History, run: &'h RunRecord) -> Self {
        Self { history, run, earlier: history.earlier(run), asking: OnceCell::new(), labels: OnceCell::new() }
    }

    fn find(&self, key: Key) -> Option<usize> {
        self.run.specs.iter().position(|spec| spec.key == key)
    }

    fn asked<'s>(&'s self, spec: &'s RecordedSpec) -> impl Iterator<Item = usize> + 's {
        spec.asked.iter().map(|place| *place as usize).filter(|place| *place < self.run.specs.len())
    }

    /// Whether a spec did something, or had something done, or is not what it was before.
    pub(super) fn worked(&self, place: usize) -> bool {
        let spec = &self.run.specs[place];
        did_work(spec)
            || (spec.role == Role::Observation && self.is_other(place))
            || spec.outcome == Outcome::Failed
            || self.was_begun(spec)
            || self.came_back(place)
            || self.effect_of(spec).is_some()
    }

    /// Whether the run ended before a spec did that it was about to make anew.
    fn was_begun(&self, spec: &RecordedSpec) -> bool {
        spec.outcome == Outcome::Pending && spec.reason.is_some()
    }

    /// Whether a spec was made anew, or is not what it was before.
    pub(super) fn is_news(&self, place: usize) -> bool {
        self.run.specs[place].reason.is_some() || self.came_back(place)
    }

    /// Whether a spec held, but not as what it was in the run before: an earlier result of it holds again, or it is asked for
    /// as it was at another time than the last.
    pub(super) fn came_back(&self, place: usize) -> bool {
        let spec = &self.run.specs[place];
        spec.outcome == Outcome::Verified && (self.earlier.is_other(spec) || self.before(spec).is_some())
    }

    /// The place of an effect that was done because a spec asked for it.
    fn effect_of(&self, spec: &RecordedSpec) -> Option<usize> {
        self.asked(spec).find(|place| {
            let asked = &self.run.specs[*place];
            asked.role == Role::Effect && did_work(asked)
        })
    }

    fn is_other(&self, place: usize) -> bool {
        self.earlier.is_other(&self.run.specs[place])
    }

    /// How what was seen differs from what it was before; nothing if it does not.
    pub(super) fn other(&self, place: usize) -> Vec<Change> {
        let spec = &self.run.specs[place];
        let Some((was, now)) = self.earlier.differs(spec) else { return Vec::new() };
        let changes = self.history.value_changes(spec.key, was, now);
        if changes.is_empty() { vec![Change::new("changed", spec.name.clone(), None, None)] } else { changes }
    }

    /// The first of what a spec asked that is not what it was before.
    fn below(&self, spec: &RecordedSpec) -> Option<Below> {
        let other = |place: usize| {
            let below = &self.run.specs[place];
            let (was, now) = self.earlier.differs(below)?;
            Some(Below::Other(below.key, was, now))
        };
        self.asked(spec)
            .find_map(other)
            .or_else(|| self.asked(spec).find(|place| self.came_back(*place)).map(Below::Back))
    }

    /// The dependency for which a spec ran, and its values before and now.
    ///
    /// What a trace differs in is not what changed since the run before, if the trace is of another time.
    fn changed(&self, spec: &RecordedSpec, dependency: Key, was: Fingerprint, now: Fingerprint) -> Below {
        match self.earlier.value(dependency) {
            Some(before) if before == now => self.below(spec).unwrap_or(Below::Other(dependency, was, now)),
            Some(before) => Below::Other(dependency, before, now),
            None => Below::Other(dependency, was, now),
        }
    }

    /// The first of what a spec asked for that has not the value that it had the last time, or that what stood in its place
    /// had: why a spec that is new asks for other things than the one before it.
    fn other_input(&self, spec: &RecordedSpec, seen: &[bool]) -> Option<Below> {
        // What an effect of its own changed is no reason for anything.
        let is_ours = self.effect_of(spec).is_some();
        self.asked(spec).filter(|place| !seen[*place]).find_map(|place| {
            let below = &self.run.specs[place];
            let is_input = below.role != Role::Effect && !(is_ours && below.role == Role::Observation);
            let now = below.value.filter(|_| is_input)?;
            match self.before(below) {
                Some(before) => (self.earlier.value(before)? != now).then_some(Below::Back(place)),
                None => {
                    let was = self.earlier.value(below.key)?;
                    (was != now).then_some(Below::Other(below.key, was, now))
                }
            }
        })
    }

    /// The nearest of those who asked for a spec, or for whoever asked, that ran or is not what it was, and was not seen yet.
    fn news_above(&self, place: usize, seen: &[bool]) -> Option<usize> {
        let asking = self.asking.get_or_init(|| {
            let mut asking: Vec<Vec<usize>> = vec![Vec::new(); self.run.specs.len()];
            for (above, spec) in self.run.specs.iter().enumerate() {
                self.asked(spec).for_each(|below| asking[below].push(above));
            }
            asking
        });
        let mut is_reached = vec![false; self.run.specs.len()];
        let mut reached = VecDeque::from([place]);
        while let Some(place) = reached.pop_front() {
            for above in &asking[place] {
                if !seen[*above] && self.is_news(*above) {
                    return Some(*above);
                }
                if !std::mem::replace(&mut is_reached[*above], true) {
                    reached.push_back(*above);
                }
            }
        }
        None
    }

    /// What became of a spec in the run before, if it came to nothing there and ran for the same reason now: then nothing but
    /// that is why it ran again.
    fn broken_before(&self, spec: &RecordedSpec) -> Option<(&'static str, Cause)> {
        let Some(End::Broken { reason, error }) = self.earlier.last(spec.key) else { return None };
        if spec.reason.is_none() || (*reason != spec.reason && spec.reason != Some(Reason::Missing)) {
            return None;
        }
        Some(match error {
            Some(error) => {
                let note = Some(error.lines().next().unwrap_or_default().to_owned());
                ("it had failed the last time", Cause { note, ..Cause::of(CauseSort::FailedBefore, spec) })
            }
            None => ("it was not done the last time", Cause::of(CauseSort::Unfinished, spec)),
        })
    }

    /// The chain from a spec to what it ran for, of at most so many steps, and what that is.
    pub(super) fn chain(&self, place: usize, limit: usize) -> (Vec<Step>, Cause) {
        let history = self.history;
        let mut steps = Vec::new();
        let mut seen = vec![false; self.run.specs.len()];
        let first = place;
        let mut next = Some(place);
        let mut cause = None;
        // How the value changed of the spec that is looked at.
        let mut value: Option<(Fingerprint, Fingerprint)> = None;
        // Or whose askers are looked at next.
        let mut above_of: Option<usize> = None;
        while steps.len() < limit {
            let above = |below| self.news_above(below, &seen);
            let Some(place) = next.take().or_else(|| above_of.take().and_then(above)) else { break };
            if std::mem::replace(&mut seen[place], true) {
                break;
            }
            let spec = &self.run.specs[place];
            let mut step = |because: &str, changes: &[Change]| steps.push(history.step(spec, because, changes));
            if let Some((because, broken)) = self.broken_before(spec) {
                step(because, &[]);
                cause = Some(broken);
                break;
            }
            let below = match &spec.reason {
                Some(Reason::Changed { dependency, was, now }) => Some(self.changed(spec, *dependency, *was, *now)),
                None if self.earlier.is_other(spec) => self.below(spec),
                // A spec that is new is asked about itself first, and then why it asks for something else, or came to it.
                Some(Reason::Missing) if place != first => self.other_input(spec, &seen),
                _ => None,
            };
            let held = if spec.reason.is_none() { ", and as it is now there is a result already" } else { "" };
            match (&spec.reason, below) {
                (_, Some(Below::Other(dependency, was, now))) => {
                    let below = self.find(dependency);
                    let what = match below {
                        Some(below) => self.run.specs[below].name.clone(),
                        None => history.name(dependency),
                    };
                    let changes = history.value_changes(dependency, was, now);
                    step(&format!("{what} is not what it was{held}"), &changes);
                    let above = value.replace((was, now));
                    match below {
                        Some(below) if self.is_outside(below) => {
                            let made = self.made_anew(spec, &changes);
                            let below = &self.run.specs[below];
                            // Some observations tell only that something changed: then what was read because of it tells
                            // what, or else what became of whoever looked.
                            let above = above.map(|(was, now)| (spec, history.value_changes(spec.key, was, now)));
                            let (about, own) = match (changes.is_empty(), made.first(), &above) {
                                (true, Some((spec, changes)), _) => (*spec, changes),
                                (true, None, Some((spec, changes))) => (*spec, changes),
                                _ => (below, &changes),
                            };
                            cause = Some(Cause { changes: limited(own).0, ..Cause::of(CauseSort::Changed, about) });
                            for (spec, changes) in &made {
                                steps.push(history.step(spec, "it was made anew", changes));
                            }
                            steps.push(history.step(below, "seen to have changed", &changes));
                        }
                        Some(below) => next = Some(below),
                        None => {
                            cause = Some(Cause {
                                changes: limited(&changes).0,
                                name: what,
                                ..Cause::of(CauseSort::Changed, spec)
                            });
                        }
                    }
                }
                (_, Some(Below::Back(below))) => {
                    step(&format!("{} is not what it was{held}", self.run.specs[below].name), &[]);
                    next = Some(below);
                }
                (Some(Reason::Collected), None) => {
                    step("what was recorded for it is not there any more", &[]);
                    cause = Some(match self.run.remarks.first() {
                        Some(remark) => {
                            Cause { note: Some(remark.clone()), ..Cause::of(CauseSort::StoreDamaged, spec) }
                        }
                        None => Cause::of(CauseSort::Collected, spec),
                    });
                }
                (Some(Reason::Missing), None) => {
                    let (because, found) = self.previous(spec);
                    step(because, &found.changes);
                    cause = Some(Cause { changes: limited(&found.changes).0, ..found });
                    // A new spec was made by whoever asked for it; what changed for them is the rest of the story.
                    above_of = Some(place);
                }
                (Some(Reason::DependencyFailed { dependency }), None) => {
                    step("something it needs had failed", &[]);
                    let below = self.find(*dependency);
                    let about = below.map_or(spec, |below| &self.run.specs[below]);
                    cause = Some(Cause::of(CauseSort::FailedBefore, about));
                    next = below;
                }
                (Some(Reason::Forced), None) => {
                    step("it was asked for by force", &[]);
                    cause = Some(Cause::of(CauseSort::Forced, spec));
                }
                (Some(Reason::Lost { by }), None) => {
                    step("its recorded result, or a file that belongs to it, was gone or damaged", &[]);
                    let by = by.and_then(|by| self.find(by));
                    let note = by.map(|by| self.run.specs[by].name.clone());
                    cause = Some(Cause { note, ..Cause::of(CauseSort::Gone, spec) });
                    // Whoever wants something else than the last time finds the other there.
                    above_of = by;
                }
                (None, None) if spec.role == Role::Observation => {
                    let changes = self.other(place);
                    step("seen to have changed", &changes);
                    cause = Some(Cause { changes: limited(&changes).0, ..Cause::of(CauseSort::Changed, spec) });
                }
                (None, None) if spec.role == Role::Effect => {
                    let found = Some(spec.found.join("; ")).filter(|found| !found.is_empty());
                    step(found.as_deref().unwrap_or("its target was found not as wanted"), &[]);
                    cause = Some(Cause { note: found, ..Cause::of(CauseSort::NotAsWanted, spec) });
                    above_of = Some(place);
                }
                (None | Some(Reason::Changed { .. }), None) => {
                    if let Some(End::Broken { error: Some(error), .. }) = self.earlier.last(spec.key)
                        && spec.outcome == Outcome::Verified
                    {
                        step("it had failed the last time, and there is an earlier result", &[]);
                        let note = Some(error.lines().next().unwrap_or_default().to_owned());
                        cause = Some(Cause { note, ..Cause::of(CauseSort::FailedBefore, spec) });
                    } else if spec.outcome == Outcome::Verified && self.before(spec).is_some() {
                        let (because, found) = self.previous(spec);
                        step(&format!("{because}{held}"), &found.changes);
                        cause = Some(Cause { changes: limited(&found.changes).0, ..found });
                        above_of = Some(place);
                    } else if let Some(effect) = self.effect_of(spec).filter(|effect| !seen[*effect]) {
                        step(&format!("it needed {}", self.run.specs[effect].name), &[]);
                        next = Some(effect);
                    } else if steps.is_empty() {
                        // Who asked for an effect is told; what else it stands on held.
                        steps.push(history.step(spec, &format!("it was {}", spec.outcome.word()), &[]));
                    }
                }
            }
        }
        let cause = cause.unwrap_or_else(|| Cause::of(CauseSort::Changed, &self.run.specs[first]));
        (steps, cause)
    }

    /// What else changed outside that made a difference to a spec, besides what is told already, in the words of kinds.
    ///
    /// What an effect of whoever looked changed is no reason for anything.
    pub(super) fn also(&self, place: usize, told: &[Change]) -> Vec<Change> {
        let mut also: Vec<Change> = Vec::new();
        let mut is_reached = vec![false; self.run.specs.len()];
        let mut stack = vec![place];
        while let Some(place) = stack.pop() {
            if std::mem::replace(&mut is_reached[place], true) {
                continue;
            }
            let spec = &self.run.specs[place];
            let is_ours = self.effect_of(spec).is_some();
            for below in self.asked(spec) {
                let asked = &self.run.specs[below];
                let made_a_difference = || match asked.outcome {
                    Outcome::Executed | Outcome::Failed | Outcome::Pending => true,
                    Outcome::CutOff | Outcome::Observed => false,
                    Outcome::Verified => self.came_back(below),
                };
                if asked.role == Role::Observation {
                    let Some((was, now)) = self.earlier.differs(asked).filter(|_| !is_ours) else { continue };
                    let changes = self.history.value_changes(asked.key, was, now);
                    also.extend(changes.into_iter().filter(|change| change.is_told() && !told.contains(change)));
                } else if made_a_difference() {
                    stack.push(below);
                }
            }
        }
        // Whoever tells of a file by its lines tells more.
        let places: Vec<String> = also.iter().chain(told).map(|change| change.what.clone()).collect();
        also.retain(|change| {
            change.path.is_empty() || !places.iter().any(|what| what.split(' ').any(|word| word == change.path))
        });
        also.sort_by(|a, b| (&a.what, &a.path).cmp(&(&b.what, &b.path)));
        also.dedup();
        limited(&also).0
    }

    /// Whether what a spec stands on is told by itself: nothing that it asked for is why it is not what it was.
    fn is_outside(&self, place: usize) -> bool {
        let spec = &self.run.specs[place];
        let is_told = || spec.reason.is_some() || self.asked(spec).any(|below| self.is_other(below));
        spec.role == Role::Observation || (spec.role == Role::Action && !is_told())
    }

    /// What an observation that changed was made into: the specs that were asked for anew, each beside the last one of
    /// its label. An observation tells that something changed; what was read because of it tells what.
    fn made_anew(&self, above: &RecordedSpec, told: &[Change]) -> Vec<(&'h RecordedSpec, Vec<Change>)> {
        let new = self.asked(above).map(|place| &self.run.specs[place]).filter(|spec| {
            let is_new = spec.reason.is_none() && spec.outcome == Outcome::Verified;
            spec.role == Role::Action && (is_new || spec.reason == Some(Reason::Missing))
        });
        let scope = scope_number(self.run.scope.as_deref());
        let mut made = Vec::new();
        for spec in new {
            let (Some(now), Some(before)) = (spec.value, self.before(spec)) else { continue };
            let recorded = || self.history.snapshot.traces_for(before, scope).into_iter().next();
            let was = self.earlier.value(before).or_else(|| Some(recorded()?.value));
            let Some(was) = was else { continue };
            let mut changes = self.history.value_changes(spec.key, was, now);
            // What the steps above speak of goes first.
            changes.sort_by_key(|change| !told.iter().any(|told| change.is_about(told)));
            if !changes.is_empty() {
                made.push((spec, changes));
            }
        }
        made
    }

    /// The spec that stood in the place of this one the last time: that of the same label which differs least.
    ///
    /// A label may stand for the same on several platforms, and one run may reach more of them than another. What differs
    /// less from another spec of this run than from this one stood in the place of that one.
    fn before(&self, spec: &RecordedSpec) -> Option<Key> {
        let label = spec.label.as_ref()?;
        let mut older: FxHashSet<Key> = FxHashSet::default();
        for run in self.earlier.runs() {
            if run.has(spec.key) {
                return None;
            }
            if let Some(before) = self.nearest(spec, run.labelled(label)) {
                return Some(before);
            }
            older.extend(run.labelled(label));
        }
        // What the records of runs do not reach back to.
        let mut entries = self.history.snapshot.label(&scoped(label, self.run.scope.as_deref()));
        entries.retain(|entry| entry.run < self.run.id && !older.contains(&entry.key));
        let newest: Option<RunId> = entries.iter().map(|entry| entry.run).max();
        let keys: Vec<Key> = entries.iter().filter(|entry| Some(entry.run) == newest).map(|entry| entry.key).collect();
        self.nearest(spec, &keys)
    }

    /// Of some specs of a label that are not in this run, the one that differs least from this spec, and from no other of
    /// this run less.
    fn nearest(&self, spec: &RecordedSpec, keys: &[Key]) -> Option<Key> {
        if keys.is_empty() {
            return None;
        }
        let history = self.history;
        let tree = |key: Key| Tree::decode(&history.snapshot.spec(key)?.encoded);
        // Something that is asked for with a thing is further from what is asked for without it than from what is asked for
        // with another one.
        let weight = |change: &Change| if change.is_of_nothing() { 100 } else { 1 };
        let distance = |was: &Option<Tree>, now: &Option<Tree>| match (was, now) {
            (Some(was), Some(now)) => differences(was, now, &mut |print| history.value(print)).iter().map(weight).sum(),
            _ => usize::MAX,
        };
        let labels = self.labels.get_or_init(|| {
            let mut labels: FxHashMap<&str, Vec<&RecordedSpec>> = FxHashMap::default();
            for spec in &self.run.specs {
                labels.entry(spec.label.as_deref().unwrap_or_default()).or_default().push(spec);
            }
            labels
        });
        let alike = labels.get(spec.label.as_deref()?).map_or(&[][..], Vec::as_slice);
        let now = tree(spec.key);
        let gone = keys.iter().filter(|key| alike.iter().all(|other| other.key != **key));
        let gone = gone.map(|key| (*key, tree(*key)));
        let (key, least, was) = gone.map(|(key, was)| (key, distance(&was, &now), was)).min_by_key(|gone| gone.1)?;
        let others = alike.iter().filter(|other| other.key != spec.key && !keys.contains(&other.key));
        let is_of_another = others.map(|other| distance(&was, &tree(other.key))).any(|other| other < least);
        (!is_of_another).then_some(key)
    }

    /// Compares a spec of which nothing was recorded with the one that stood in its place the last time.
    fn previous(&self, spec: &RecordedSpec) -> (&'static str, Cause) {
        let history = self.history;
        if let Some(before) = self.before(spec) {
            let changes = history.spec_changes(before, spec.key);
            if tag_of_key(before) != tag_of_key(spec.key) {
                let changes = history.version_changes(self.run, spec).into_iter().chain(changes).collect();
                let cause = Cause { changes, ..Cause::of(CauseSort::OtherVersion, spec) };
                return ("it was done by another version of this program before", cause);
            }
            let cause = Cause { changes, ..Cause::of(CauseSort::AskedDifferently, spec) };
            return ("it was asked for in another way than the last time", cause);
        }
        match self.run.remarks.first() {
            Some(remark) => {
                let cause = Cause { note: Some(remark.clone()), ..Cause::of(CauseSort::StoreDamaged, spec) };
                ("nothing could be read of what was recorded", cause)
            }
            None => ("nothing was recorded for it", Cause::of(CauseSort::New, spec)),
        }
    }
}
