//! What a run reached that did nothing, put together from traces.

use doge_storage::{Fingerprint, Key, Snapshot, Trace};
use rustc_hash::FxHashMap;

use crate::kind::Role;
use crate::registry::Registry;
use crate::run::{Outcome, RecordedRequest, RecordedSpec, RunRecord};

/// All that the answers to some requests stand on.
///
/// Where several traces come to one value, that one is taken which agrees best with the others, then one of the scope, and
/// the newest of those.
pub(super) fn specs(
    snapshot: &Snapshot,
    registry: &Registry,
    requests: &[RecordedRequest],
    scope: u64,
) -> Vec<RecordedSpec> {
    let mut specs: Vec<RecordedSpec> = Vec::new();
    let mut places: FxHashMap<(Key, Option<Fingerprint>), u32> = FxHashMap::default();
    // What was reached with which value.
    let mut values: FxHashMap<Key, Fingerprint> = FxHashMap::default();
    let mut next: Vec<usize> = Vec::new();
    let mut add = |key: Key, value: Option<Fingerprint>, specs: &mut Vec<RecordedSpec>, next: &mut Vec<usize>| {
        *places.entry((key, value)).or_insert_with(|| {
            next.push(specs.len());
            specs.push(spec(snapshot, registry, key, value));
            specs.len() as u32 - 1
        })
    };
    // What was not answered stands on nothing that is known. An observation has no trace.
    let is_known = |request: &&RecordedRequest| {
        request.value.is_some()
            && (!traces(snapshot, request.key, request.value, scope).is_empty()
                || role(registry, request.key) == Some(Role::Observation) && snapshot.spec(request.key).is_some())
    };
    for request in requests.iter().filter(is_known) {
        add(request.key, request.value, &mut specs, &mut next);
    }
    let mut doubtful: Vec<(usize, Vec<Trace>)> = Vec::new();
    loop {
        let (place, trace) = match next.pop() {
            Some(place) => {
                values.extend(specs[place].value.map(|value| (specs[place].key, value)));
                let mut traces = traces(snapshot, specs[place].key, specs[place].value, scope);
                if traces.len() > 1 {
                    doubtful.push((place, traces));
                    continue;
                }
                (place, traces.pop())
            }
            None => match doubtful.pop() {
                Some((place, traces)) => (place, most_agreeing(traces, &values)),
                None => return specs,
            },
        };
        let Some(trace) = trace else { continue };
        specs[place].saved_us = trace.cost.as_micros() as u64;
        let dependencies = trace.groups.iter().flatten();
        let asked = dependencies
            .map(|dependency| add(dependency.key, Some(dependency.fingerprint), &mut specs, &mut next))
            .collect();
        specs[place].asked = asked;
    }
}

/// Of some traces, the likeliest first, that of which the least had another value.
fn most_agreeing(traces: Vec<Trace>, values: &FxHashMap<Key, Fingerprint>) -> Option<Trace> {
    let is_other = |(key, value): (Key, Fingerprint)| values.get(&key).is_some_and(|known| *known != value);
    traces.into_iter().min_by_key(|trace| {
        let dependencies = trace.groups.iter().flatten();
        dependencies.filter(|dependency| is_other((dependency.key, dependency.fingerprint))).count()
    })
}

/// What is said of a spec that nothing names any more.
pub(crate) const NAMELESS: &str = "something whose record is gone";

/// Names what the store cannot name any more as some runs did.
pub(super) fn name<'r>(specs: &mut [RecordedSpec], runs: impl Iterator<Item = &'r RunRecord>) {
    if specs.iter().all(|spec| spec.name != NAMELESS) {
        return;
    }
    let known: FxHashMap<Key, &RecordedSpec> = runs.flat_map(|run| &run.specs).map(|spec| (spec.key, spec)).collect();
    for spec in specs.iter_mut().filter(|spec| spec.name == NAMELESS) {
        if let Some(known) = known.get(&spec.key) {
            (spec.kind, spec.name, spec.label) = (known.kind.clone(), known.name.clone(), known.label.clone());
        }
    }
}

fn role(registry: &Registry, key: Key) -> Option<Role> {
    Some(registry.get(registry.of_key(key)?).kind.role())
}

/// The traces of a spec that come to a value, those of the scope first, the newest first.
fn traces(snapshot: &Snapshot, key: Key, value: Option<Fingerprint>, scope: u64) -> Vec<Trace> {
    let mut traces = snapshot.traces_for(key, scope);
    traces.retain(|trace| value.is_none_or(|value| value == trace.value));
    traces
}

/// A spec as the store knows it.
pub(super) fn spec(snapshot: &Snapshot, registry: &Registry, key: Key, value: Option<Fingerprint>) -> RecordedSpec {
    let stored = snapshot.spec(key);
    let kind = registry.of_key(key).map(|index| registry.get(index).kind);
    let decoded = kind.zip(stored.as_ref()).and_then(|(kind, stored)| kind.decode_spec(&stored.encoded).ok());
    let role = kind.map_or(Role::Query, |kind| kind.role());
    RecordedSpec {
        key,
        kind: stored
            .as_ref()
            .map_or_else(|| kind.map_or("?", |kind| kind.name()).to_owned(), |stored| stored.kind.clone()),
        role,
        name: decoded.as_ref().map_or_else(|| NAMELESS.to_owned(), ToString::to_string),
        label: stored.and_then(|stored| stored.label),
        outcome: if role == Role::Observation { Outcome::Observed } else { Outcome::Verified },
        reason: None,
        found: Vec::new(),
        error: None,
        value,
        started_us: None,
        cost_us: 0,
        saved_us: 0,
        asked: Vec::new(),
    }
}
