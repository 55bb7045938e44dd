//! A run as a file of trace events, which Perfetto and the tools of browsers open.

use std::collections::BTreeSet;

use doge_queries::doge::{History, Outcome, RecordedSpec, Role, RunRecord};
use serde_json::{Value, json};

/// The lane of the critical path; work is below it.
const CRITICAL: usize = 0;

/// The trace events of a run: everything that took time, in as few lanes as it fits in, and what was waited for in one of its
/// own. Times are in microseconds since the run began.
pub(crate) fn events(history: &History, run: &RunRecord) -> Value {
    let critical = run.critical_path();
    let on_path: BTreeSet<usize> = critical.iter().copied().collect();
    let mut timed: Vec<(u64, usize)> =
        run.specs.iter().enumerate().filter_map(|(place, spec)| Some((spec.started_us?, place))).collect();
    timed.sort_unstable();
    let mut lanes: Vec<u64> = Vec::new();
    let mut events = vec![
        meta("process_name", 0, &format!("doge {}", run.title)),
        meta("thread_name", CRITICAL, "critical path"),
        event("run", &run.title, CRITICAL + 1, 0, run.duration_us.max(1), json!({ "run": run.id.to_hex() })),
    ];
    events.extend(critical.iter().map(|place| {
        let spec = &run.specs[*place];
        event(&spec.kind, &spec.name, CRITICAL, spec.started_us.unwrap_or_default(), spec.cost_us, json!({}))
    }));
    let step_of = history.steps(run);
    for (start, place) in timed {
        let spec = &run.specs[place];
        let lane = lanes.iter().position(|free| *free <= start).unwrap_or_else(|| {
            lanes.push(0);
            lanes.len() - 1
        });
        lanes[lane] = start + spec.cost_us.max(1);
        let step = step_of(place);
        let arguments = json!({
            "kind": spec.kind,
            "role": spec.role,
            "label": spec.label,
            "key": spec.key.to_hex(),
            "outcome": spec.outcome,
            "because": step.as_ref().map(|step| &step.because),
            "changes": step.iter().flat_map(|step| &step.changes).map(ToString::to_string).collect::<Vec<_>>(),
            "error": spec.error,
            "critical": on_path.contains(&place),
        });
        events.push(event(&spec.kind, &spec.name, lane + CRITICAL + 2, start, spec.cost_us, arguments));
    }
    events.extend((0..lanes.len()).map(|lane| meta("thread_name", lane + CRITICAL + 2, &format!("work {}", lane + 1))));
    events.push(meta("thread_name", CRITICAL + 1, "run"));
    json!({
        "displayTimeUnit": "ms",
        "traceEvents": events,
        "otherData": { "run": run.id.to_hex(), "workspace": run.scope, "began_ms": run.began_ms },
    })
}

fn meta(name: &str, lane: usize, value: &str) -> Value {
    json!({ "ph": "M", "pid": 1, "tid": lane, "name": name, "args": { "name": value } })
}

fn event(category: &str, name: &str, lane: usize, start: u64, took: u64, arguments: Value) -> Value {
    json!({ "ph": "X", "pid": 1, "tid": lane, "cat": category, "name": name, "ts": start, "dur": took.max(1), "args": arguments })
}

/// What took time in a run, the longest first.
pub(crate) fn longest(run: &RunRecord) -> Vec<&RecordedSpec> {
    let took = |spec: &&RecordedSpec| spec.cost_us > 0 && spec.role != Role::Query && spec.outcome != Outcome::Verified;
    let mut longest: Vec<&RecordedSpec> = run.specs.iter().filter(took).collect();
    longest.sort_by(|a, b| b.cost_us.cmp(&a.cost_us).then_with(|| a.name.cmp(&b.name)));
    longest
}
