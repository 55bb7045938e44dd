//! The record of a session: made from the table at its end, kept in the store for those who ask later.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doge_storage::RunId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::explain::NAMELESS;
use crate::failure::chain;
use crate::graph::Graph;
use crate::kind::{Ops, Role};
use crate::node::{NodeData, NodeIndex, Stale, Status};
use crate::persist::Persist;
use crate::registry::KindIndex;
use crate::run::{Counts, Outcome, Reason, RecordedRequest, RecordedSpec, RecordedWait, RunRecord};
use crate::spec::{Epoch, decode, encode};
use crate::table::Table;

pub(crate) struct Session<'a> {
    pub(crate) title: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) began: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) requests: &'a [NodeIndex],
    pub(crate) counts: Counts,
    /// Whether every spec is listed, or only what was asked for.
    pub(crate) whole: bool,
    /// When work was done and looks were made.
    pub(crate) spans: &'a FxHashMap<NodeIndex, Span>,
    /// Who was waited for.
    pub(crate) waits: Vec<RecordedWait>,
    /// What was wrong with the store.
    pub(crate) remarks: Vec<String>,
}

/// When a node was worked on or looked at, in microseconds since the session began.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u64,
    took: u64,
}

impl Span {
    pub(crate) fn of(began: SystemTime, start: SystemTime, took: Duration) -> Self {
        let start = start.duration_since(began).unwrap_or_default();
        Self { start: start.as_micros() as u64, took: took.as_micros() as u64 }
    }
}

/// The record of the session that the table is at the end of.
pub(crate) fn of_session(table: &Table, session: Session<'_>) -> RunRecord {
    let reachable = table.reached_in_session(session.requests.iter().copied());
    let listed: Vec<NodeIndex> =
        if session.whole { table.indices().filter(|node| reachable[node.as_usize()]).collect() } else { Vec::new() };
    let id = table.persist.borrow().as_ref().map_or_else(RunId::new, |persist| persist.run);
    let request = |node: &NodeIndex| table.with(*node, |node| RecordedRequest { key: node.key, value: node.value() });
    let mut requests: Vec<RecordedRequest> = session.requests.iter().map(request).collect();
    requests.sort();
    requests.dedup();
    RunRecord {
        id,
        title: session.title.to_owned(),
        scope: session.scope.map(ToOwned::to_owned),
        began_ms: session.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        duration_us: session.duration.as_micros() as u64,
        requests,
        counts: session.counts,
        versions: versions(table, &listed),
        waits: session.waits,
        remarks: session.remarks,
        specs: all_recorded(table, &listed, session.spans),
    }
}

/// The versions of what decides the results of some nodes.
fn versions(table: &Table, listed: &[NodeIndex]) -> BTreeMap<String, String> {
    let kinds: FxHashSet<KindIndex> = listed.iter().map(|node| table.with(*node, |node| node.kind)).collect();
    let named = kinds.into_iter().flat_map(|kind| {
        let kind = table.registered(kind).kind;
        versions_of(kind.name(), kind.epoch())
    });
    named.collect()
}

/// What decides the results of a kind, with the versions.
pub(crate) fn versions_of(kind: &str, epoch: Epoch) -> impl Iterator<Item = (String, String)> {
    let libraries = epoch.libraries().iter().map(|library| (library.name.to_owned(), library.version.to_owned()));
    std::iter::once((format!("rules of {kind}"), epoch.version().to_string())).chain(libraries)
}

/// The nodes of a list, which is sorted, and the edges among them.
fn all_recorded(table: &Table, listed: &[NodeIndex], spans: &FxHashMap<NodeIndex, Span>) -> Vec<RecordedSpec> {
    let place = |node: NodeIndex| listed.binary_search(&node).ok().map(|place| place as u32);
    listed.iter().map(|node| recorded(table, *node, place, spans.get(node))).collect()
}

/// The graph as it is.
pub(crate) fn graph(table: &Table) -> Graph {
    let listed: Vec<NodeIndex> = table.indices().collect();
    Graph::sorted(all_recorded(table, &listed, &FxHashMap::default()))
}

fn recorded(
    table: &Table,
    node: NodeIndex,
    place: impl Fn(NodeIndex) -> Option<u32>,
    span: Option<&Span>,
) -> RecordedSpec {
    let spec = table.spec(node);
    let mut asked = Vec::new();
    table.asked(node, |below| asked.extend(place(below)));
    let mut seen = FxHashSet::default();
    asked.retain(|place| seen.insert(*place));
    let (status, role) = (table.status(node), table.with(node, NodeData::role));
    table.with(node, |data| RecordedSpec {
        key: data.key,
        kind: table.registered(data.kind).kind.name().to_owned(),
        role,
        name: spec.as_ref().map_or_else(|| NAMELESS.to_owned(), ToString::to_string),
        label: spec.as_ref().and_then(|spec| spec.label()),
        outcome: status.into(),
        reason: match (status, data.stale()) {
            (Status::Verified | Status::Observed, _) | (_, None) => None,
            (_, Some(stale)) => Some(reason(table, &stale)),
        },
        found: match (spec.as_ref(), spec.as_ref().map(|spec| spec.kind().ops())) {
            (Some(spec), Some(Ops::Effect(ops))) => ops.found(spec),
            _ => Vec::new(),
        },
        error: data.failure().filter(|_| status == Status::Failed).map(|failure| chain(failure)),
        value: data.value().filter(|_| status != Status::Failed),
        started_us: span.map(|span| span.start),
        cost_us: match (span, status) {
            (Some(span), _) => span.took,
            (None, Status::Executed | Status::CutOff | Status::Failed) => data.cost().as_micros() as u64,
            (None, Status::None | Status::Verified | Status::Observed) => 0,
        },
        saved_us: if status == Status::Verified { data.cost().as_micros() as u64 } else { 0 },
        asked,
    })
}

pub(crate) fn reason(table: &Table, stale: &Stale) -> Reason {
    let key = |node: NodeIndex| table.with(node, |node| node.key);
    match stale {
        Stale::Missing => Reason::Missing,
        Stale::Collected => Reason::Collected,
        Stale::Changed { dependency, was, now } => {
            Reason::Changed { dependency: key(*dependency), was: *was, now: *now }
        }
        Stale::Failed { dependency } => Reason::DependencyFailed { dependency: key(*dependency) },
        Stale::Forced => Reason::Forced,
        Stale::Lost { by } => Reason::Lost { by: by.map(key) },
    }
}

/// Keeps a record: with the batch if there is one to write, else in the log of runs that wrote nothing.
pub(crate) fn keep(record: &RunRecord, persist: &mut Persist, executed: bool) {
    let mut encoded = Vec::new();
    if encode(record, &mut encoded).is_err() {
        return;
    }
    if executed {
        persist.batch_mut().runs.push(doge_storage::RunEntry { id: record.id, record: encoded });
    } else {
        persist.store().log_run(&doge_storage::RunEntry { id: record.id, record: encoded });
    }
}

/// A record as it was kept; `None` if another version of the program kept it in another form.
pub(crate) fn read(bytes: &[u8]) -> Option<RunRecord> {
    decode(bytes).ok()
}

/// Whether the spec did work in the run, as opposed to being looked at or found to hold.
pub(crate) fn did_work(spec: &RecordedSpec) -> bool {
    matches!(spec.outcome, Outcome::Executed | Outcome::CutOff) && spec.role != Role::Observation
}
