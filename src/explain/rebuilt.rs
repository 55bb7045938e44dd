//! What a run reached that did nothing, put together from traces.

use doge_storage::{Fingerprint, Key, Snapshot, Trace};
use rustc_hash::FxHashMap;

use crate::kind::Role;
use crate::registry::Registry;
use crate::run::{Outcome, RecordedRequest, RecordedSpec};

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
    for request in requests {
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
        name: decoded.as_ref().map_or_else(|| key.to_string(), ToString::to_string),
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
