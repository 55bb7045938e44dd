//! Events as lines of JSON, for programs that watch.

use std::time::Duration;

use doge_queries::doge::{Event, Retreat, SpecName};
use serde_json::{Map, Value, json};

/// The line of an event that came so long after the beginning; nothing for those that are of no interest outside.
pub(crate) fn line_of(event: &Event, after: Duration) -> Option<String> {
    let (name, spec, more) = match event {
        Event::DidExecute { spec, cut_off, cost } => {
            ("did_execute", Some(spec), json!({ "cut_off": cut_off, "cost_us": micros(*cost) }))
        }
        Event::DidVerify { spec } => ("did_verify", Some(spec), json!({})),
        Event::DidFail { spec, message } => ("did_fail", Some(spec), json!({ "message": message })),
        Event::DidPend { spec, parent } => {
            ("did_pend", Some(spec), json!({ "parent": parent.as_ref().map(ToString::to_string) }))
        }
        Event::DidSettle { spec, failed } => ("did_settle", Some(spec), json!({ "failed": failed })),
        Event::WillRun { spec, parent } => {
            ("will_run", Some(spec), json!({ "parent": parent.as_ref().map(ToString::to_string) }))
        }
        Event::DidStart { spec } => ("did_start", Some(spec), json!({})),
        Event::DidRun { spec, cut_off, certain, cost } => {
            ("did_run", Some(spec), json!({ "cut_off": cut_off, "certain": certain, "cost_us": micros(*cost) }))
        }
        Event::DidRetreat { spec, reason } => {
            let reason = match reason {
                Retreat::WorldMoved => "world_moved",
                Retreat::FoundInStore => "found_in_store",
                Retreat::Waited => "waited",
                Retreat::NeedsRemake => "needs_remake",
            };
            ("did_retreat", Some(spec), json!({ "reason": reason }))
        }
        Event::DidCancel { spec } => ("did_cancel", Some(spec), json!({})),
        Event::WillObserve { spec } => ("will_observe", Some(spec), json!({})),
        Event::DidObserve { spec, by_stamp, changed } => {
            ("did_observe", Some(spec), json!({ "by_stamp": by_stamp, "changed": changed }))
        }
        Event::WillWait { spec, holder } => ("will_wait", Some(spec), json!({ "holder": holder })),
        Event::Progress { spec, progress } => (
            "progress",
            Some(spec),
            json!({
                "message": progress.message, "done": progress.done, "total": progress.total, "bytes": progress.bytes,
            }),
        ),
        Event::OutputLine { spec, line } => ("output_line", Some(spec), json!({ "line": line })),
        Event::WillWaitForStore { bytes } => ("will_wait_for_store", None, json!({ "bytes": bytes })),
        Event::Store(event) => ("store", None, json!({ "message": event.to_string(), "trouble": event.is_trouble() })),
        Event::DidBegin { run } => ("did_begin", None, json!({ "run": run.to_hex() })),
        Event::DidRefresh { changed } => ("did_refresh", None, json!({ "changed": changed })),
        _ => return None,
    };
    Some(line(name, spec, after, more))
}

/// Something that is said to people, among events.
pub(crate) fn message(text: &str) -> String {
    json!({ "event": "message", "message": text }).to_string()
}

fn line(name: &str, spec: Option<&SpecName>, after: Duration, more: Value) -> String {
    let mut object = Map::new();
    object.insert("event".to_owned(), json!(name));
    object.insert("after_us".to_owned(), json!(micros(after)));
    if let Some(spec) = spec {
        object.insert("kind".to_owned(), json!(spec.kind()));
        object.insert("spec".to_owned(), json!(spec.to_string()));
    }
    if let Value::Object(more) = more {
        object.extend(more);
    }
    Value::Object(object).to_string()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
