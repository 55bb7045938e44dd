//! What a run reached that did nothing, put together from traces.

use doge_storage::{Fingerprint, Key, Snapshot, Trace};
use rustc_hash::FxHashMap;

use crate::kind::Role;
use crate::registry::Registry;
use crate::run::{Outcome, RecordedRequest, RecordedSpec, RunRecord};

/// All that the answers to some requests stand on. Where two traces come to one value, the newer one is taken.
pub(super) fn specs(snapshot: &Snapshot, registry: &Registry, requests: &[RecordedRequest]) -> Vec<RecordedSpec> {
    let mut specs: Vec<RecordedSpec> = Vec::new();
    let mut places: FxHashMap<(Key, Option<Fingerprint>), u32> = FxHashMap::default();
    let mut add = |key: Key, value: Option<Fingerprint>, specs: &mut Vec<RecordedSpec>| {
        *places.entry((key, value)).or_insert_with(|| {
            specs.push(spec(snapshot, registry, key, value));
            specs.len() as u32 - 1
        })
    };
    // An observation has none.
    let is_known = |request: &&RecordedRequest| {
        trace(snapshot, request.key, request.value).is_some()
            || role(registry, request.key) == Some(Role::Observation) && snapshot.spec(request.key).is_some()
    };
    for request in requests.iter().filter(is_known) {
        add(request.key, request.value, &mut specs);
    }
    let mut next = 0;
    while next < specs.len() {
        if let Some(trace) = trace(snapshot, specs[next].key, specs[next].value) {
            specs[next].saved_us = trace.cost.as_micros() as u64;
            let dependencies = trace.groups.iter().flatten();
            let asked: Vec<u32> =
                dependencies.map(|dependency| add(dependency.key, Some(dependency.fingerprint), &mut specs)).collect();
            specs[next].asked = asked;
        }
        next += 1;
    }
    specs
}

/// What is said of a spec that nothing names any more.
const NAMELESS: &str = "something whose record is gone";

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

fn trace(snapshot: &Snapshot, key: Key, value: Option<Fingerprint>) -> Option<Trace> {
    snapshot.traces(key).into_iter().find(|trace| value.is_none_or(|value| value == trace.value))
}

fn spec(snapshot: &Snapshot, registry: &Registry, key: Key, value: Option<Fingerprint>) -> RecordedSpec {
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
