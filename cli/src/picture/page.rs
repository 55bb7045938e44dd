//! A run as a page to look around in. It holds everything that it needs and asks nobody for anything.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use doge_queries::doge::{Graph, History, RecordedSpec, RunRecord};
use serde_json::{Value, json};

const TEMPLATE: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");
const LAYOUT: &str = include_str!("../page/vendor/dagre.min.js");

/// The page of a graph.
pub(crate) fn page(history: &History, graph: &Graph, run: &RunRecord, against: Option<&RunRecord>) -> String {
    let critical: BTreeSet<_> = run.critical_path().into_iter().map(|place| run.specs[place].key).collect();
    let places: HashMap<_, _> = run.specs.iter().enumerate().map(|(place, spec)| (spec.key, place)).collect();
    let step_of = history.steps(run);
    let nodes: Vec<Value> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(id, node)| {
            let spec = &node.spec;
            let step = places.get(&spec.key).and_then(|place| step_of(*place));
            json!({
                "id": id,
                "kind": spec.kind,
                "role": spec.role,
                "name": spec.name,
                "label": spec.label,
                "outcome": spec.outcome,
                "difference": node.difference,
                "because": step.as_ref().map(|step| &step.because),
                "changes": step.iter().flat_map(|step| &step.changes).map(ToString::to_string).collect::<Vec<_>>(),
                "more_changes": step.as_ref().map_or(0, |step| step.more_changes),
                "error": spec.error,
                "started_us": spec.started_us,
                "cost_us": spec.cost_us,
                "critical": critical.contains(&spec.key),
                "asked": spec.asked,
            })
        })
        .collect();
    let data = json!({
        "title": run.title,
        "workspace": run.scope,
        "run": run.id.to_hex(),
        "began": began(run),
        "duration_us": run.duration_us,
        "against": against.map(|run| json!({ "run": run.id.to_hex(), "began": began(run), "title": run.title })),
        "nodes": nodes,
    });
    let title = format!("{} - doge", run.title);
    // What is filled in is not looked through for further places.
    let mut page = String::with_capacity(TEMPLATE.len() + SCRIPT.len() + LAYOUT.len() + STYLE.len());
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        page.push_str(before);
        match name {
            "title" => page.push_str(&escaped(&title)),
            "style" => page.push_str(STYLE),
            "layout" => page.push_str(LAYOUT),
            "script" => page.push_str(SCRIPT),
            "data" => page.push_str(&data.to_string().replace('<', "\\u003c")),
            other => page.push_str(other),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// When a run began, for people and programs.
pub(crate) fn began(run: &RunRecord) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(run.began_ms)).to_string()
}

/// A text as it stands in HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// What a spec is called in pictures.
pub(crate) fn title_of(spec: &RecordedSpec) -> String {
    let mut name: String = spec.name.chars().take(60).collect();
    if name.len() < spec.name.len() {
        name.push_str("...");
    }
    name
}
