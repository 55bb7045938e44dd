//! `doge runs`.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use doge_queries::doge::{History, RunRecord};
use miette::miette;
use serde::Serialize;

use crate::arguments::{Common, RunsArguments};
use crate::outcome::{Exit, print, print_json, say};
use crate::progress::seconds;
use crate::workspace::{Located, cache_dirs};

#[derive(Serialize)]
struct Listed {
    run: String,
    title: String,
    workspace: Option<String>,
    began: String,
    duration_ms: f64,
    executed: BTreeMap<String, u64>,
    observed: u64,
    verified: u64,
    reused: u64,
    cut_off: u64,
    failed: u64,
}

impl Listed {
    fn new(record: &RunRecord) -> Self {
        let counts = &record.counts;
        Self {
            run: record.id.to_hex(),
            title: record.title.clone(),
            workspace: record.scope.clone(),
            began: humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(record.began_ms)).to_string(),
            duration_ms: record.duration().as_secs_f64() * 1000.0,
            executed: counts.executed.clone(),
            observed: counts.observed,
            verified: counts.verified,
            reused: counts.reused,
            cut_off: counts.cut_off,
            failed: counts.failed,
        }
    }
}

pub(crate) fn run(common: &Common, arguments: &RunsArguments) -> miette::Result<Exit> {
    let (caches, scope) = if arguments.all {
        (cache_dirs(common)?, None)
    } else {
        let located = Located::find(common)?;
        (located.caches, Some(located.root.display().to_string()))
    };
    let records: Vec<RunRecord> = History::open(&caches.store)
        .runs(usize::MAX)
        .into_iter()
        .filter(|record| scope.is_none() || record.scope == scope)
        .take(arguments.limit)
        .collect();
    if arguments.json {
        print_json(&records.iter().map(Listed::new).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for record in &records {
        let listed = Listed::new(record);
        let ran: u64 = listed.executed.values().sum();
        let work = if ran == 0 { "nothing ran".to_owned() } else { format!("{ran} ran") };
        let failed = if listed.failed > 0 { format!(", {} failed", listed.failed) } else { String::new() };
        print(&format!(
            "{}  {}  {:>8}  {work}{failed}, {} held  {}",
            listed.run,
            listed.began,
            seconds(record.duration()),
            listed.verified + listed.reused,
            listed.title
        ));
    }
    if records.is_empty() {
        say("no runs are on record");
    }
    Ok(Exit::Done)
}

/// The run of an id, or of the beginning of one.
pub(crate) fn named(history: &History, id: &str) -> miette::Result<RunRecord> {
    let help = "`doge runs` lists them";
    let wanted = id.trim().to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(miette!(help = help, "`{id}` is not the id of a run"));
    }
    if let Some(run) = wanted.parse().ok().and_then(|id| history.run(id)) {
        return Ok(run);
    }
    let mut meant = history.runs(usize::MAX).into_iter().filter(|run| run.id.to_hex().starts_with(&wanted));
    match (meant.next(), meant.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(miette!(help = help, "several runs have an id that begins with `{id}`")),
        (None, _) => Err(miette!(help = help, "there is no run `{id}` on record")),
    }
}
