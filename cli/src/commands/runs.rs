//! `doge runs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doge_queries::doge::{History, Outcome, RecordedSpec, RunId, RunRecord};
use doge_queries::logs::{self, LoggedLine};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};
use serde::Serialize;

use crate::arguments::{Common, RunsArguments, RunsCommand};
use crate::commands::graph::shown;
use crate::commands::known::{nothing, unreadable, warn_if_damaged};
use crate::outcome::{Exit, inform, print, print_json, say};
use crate::picture::page::began;
use crate::picture::trace::longest as longest_of;
use crate::progress::seconds;
use crate::words::{counted, of, shortened};
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
            began: began(record),
            duration_ms: record.duration_us as f64 / 1000.0,
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
    match &arguments.command {
        None => list(common, arguments),
        Some(RunsCommand::Show { id, longest, json }) => show(common, id.as_deref(), *longest, *json),
        Some(RunsCommand::Log { id, spec, json }) => log(common, id.as_deref(), spec.as_deref(), *json),
    }
}

fn list(common: &Common, arguments: &RunsArguments) -> miette::Result<Exit> {
    let located = if arguments.all { None } else { Some(Located::find(common)?) };
    let caches = located.as_ref().map_or_else(|| cache_dirs(common), |located| Ok(located.place.caches.clone()))?;
    let scope = located.as_ref().map(Located::scope);
    let history = History::open(&caches.store);
    let records: Vec<RunRecord> = history
        .runs(usize::MAX)
        .into_iter()
        .filter(|record| scope.is_none() || record.scope == scope)
        .take(arguments.limit)
        .collect();
    match unreadable(&history) {
        Some(report) if records.is_empty() => return Err(report),
        _ => warn_if_damaged(&history),
    }
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
    match &located {
        Some(located) if records.is_empty() => {
            let report = nothing(&history, located);
            let help = report.help().map(|help| format!("; {help}")).unwrap_or_default();
            say(&format!("{report}{help}"));
        }
        None if records.is_empty() => say("no run is on record"),
        _ => {}
    }
    Ok(Exit::Done)
}

/// Something that took time in a run.
#[derive(Serialize)]
struct Took {
    kind: String,
    name: String,
    outcome: Outcome,
    started_ms: f64,
    took_ms: f64,
}

impl Took {
    fn new(spec: &RecordedSpec) -> Self {
        Self {
            kind: spec.kind.clone(),
            name: spec.name.clone(),
            outcome: spec.outcome,
            started_ms: spec.started_us.unwrap_or_default() as f64 / 1000.0,
            took_ms: spec.cost_us as f64 / 1000.0,
        }
    }

    fn line(&self) -> String {
        let took = seconds(Duration::from_secs_f64(self.took_ms / 1000.0));
        let begin = seconds(Duration::from_secs_f64(self.started_ms / 1000.0));
        let end = match self.outcome {
            Outcome::Failed => ", failed",
            Outcome::Pending => ", not done",
            _ => "",
        };
        format!("  {took:>8}  from {begin:>8}  {} ({}){end}", self.name, self.kind)
    }
}

/// Somebody who was waited for in a run.
#[derive(Serialize)]
struct Waited {
    name: String,
    holder: String,
    started_ms: f64,
    took_ms: f64,
}

/// What a run did, and when.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    /// What it would have taken to do what was found done, one after the other.
    saved_ms: f64,
    longest: Vec<Took>,
    critical_path: Vec<Took>,
    /// Who was waited for, and how long.
    waits: Vec<Waited>,
    remarks: Vec<String>,
}

fn show(common: &Common, id: Option<&str>, longest: usize, json: bool) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.place.caches);
    let record = shown(&history, &located, id)?;
    let saved: u64 = record.specs.iter().map(|spec| spec.saved_us).sum();
    let path = record.critical_path();
    let shown = Shown {
        listed: Listed::new(&record),
        saved_ms: saved as f64 / 1000.0,
        longest: longest_of(&record).into_iter().take(longest).map(Took::new).collect(),
        critical_path: path.into_iter().map(|place| Took::new(&record.specs[place])).collect(),
        waits: record
            .waits
            .iter()
            .map(|wait| Waited {
                name: wait.name.clone(),
                holder: wait.holder.clone(),
                started_ms: wait.started_us as f64 / 1000.0,
                took_ms: wait.took_us as f64 / 1000.0,
            })
            .collect(),
        remarks: record.remarks.clone(),
    };
    if json {
        print_json(&shown)?;
        return Ok(Exit::Done);
    }
    let listed = &shown.listed;
    print(&format!("{}  {}  {}  {}", listed.run, listed.began, seconds(record.duration()), listed.title));
    shown.remarks.iter().for_each(|remark| print(&format!("  warning: {remark}")));
    for (kind, count) in &listed.executed {
        print(&format!("  {count:>6} x {kind}"));
    }
    print(&format!(
        "  {}, {} held, {} came to what {}{}",
        counted(listed.observed, "look", "looks"),
        counted(listed.verified + listed.reused, "result", "results"),
        listed.cut_off,
        of(listed.cut_off, "it was", "they were"),
        if listed.failed > 0 { format!(", {} failed", listed.failed) } else { String::new() }
    ));
    print(&format!("  what held took {} when it was done", seconds(Duration::from_micros(saved))));
    if !shown.longest.is_empty() {
        print("longest:");
        list_of(&shown.longest);
    }
    if !shown.critical_path.is_empty() {
        let waited: f64 = shown.critical_path.iter().map(|took| took.took_ms).sum();
        print(&format!("what the run waited for, {} in all:", seconds(Duration::from_secs_f64(waited / 1000.0))));
        list_of(&shown.critical_path);
    }
    if !shown.waits.is_empty() {
        print("waited for others:");
        for wait in &shown.waits {
            let [took, began] = [wait.took_ms, wait.started_ms].map(|ms| seconds(Duration::from_secs_f64(ms / 1000.0)));
            print(&format!("  {took:>8}  from {began:>8}  {}, for {}", wait.name, wait.holder));
        }
    }
    warn_if_damaged(&history);
    Ok(Exit::Done)
}

/// What took time; of what took next to none only how much of it there is.
fn list_of(all: &[Took]) {
    let (told, rest): (Vec<&Took>, Vec<&Took>) = all.iter().partition(|took| took.took_ms >= 0.5);
    told.iter().for_each(|took| print(&took.line()));
    if !rest.is_empty() {
        print(&format!("  and {} that took less than half a millisecond", rest.len()));
    }
}

/// The run whose log is meant. What was killed left no record, but perhaps a log.
fn logged(history: &History, located: &Located, id: Option<&str>) -> miette::Result<RunId> {
    let logs = logs::runs(&located.place.caches.logs());
    let Some(id) = id else {
        let is_ours = |id: &RunId| history.run(*id).is_none_or(|run| run.scope.as_deref() == Some(&*located.scope()));
        return logs.into_iter().find(is_ours).ok_or_else(|| match unreadable(history) {
            Some(report) => report,
            None => miette!("of nothing that ran here is on record what it wrote"),
        });
    };
    named(history, id).map(|run| run.id).or_else(|report| {
        let wanted = id.trim().to_ascii_lowercase();
        let mut meant = logs.into_iter().filter(|run| !wanted.is_empty() && run.to_hex().starts_with(&wanted));
        match (meant.next(), meant.next()) {
            (Some(run), None) => Ok(run),
            _ => Err(report),
        }
    })
}

fn log(common: &Common, id: Option<&str>, spec: Option<&str>, json: bool) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.place.caches);
    let run = logged(&history, &located, id)?;
    if history.run(run).is_none() && history.problem().is_none() {
        inform("this run left no record: it is not done yet, or was killed");
    }
    let directory = located.place.caches.logs();
    let lines = logs::read(&directory, run)
        .into_diagnostic()
        .wrap_err_with(|| format!("what was written in the run cannot be read in `{}`", directory.display()))?;
    let meant = meant(&lines, spec)?;
    if json {
        print_json(&meant)?;
        return Ok(Exit::Done);
    }
    let mut last = None;
    for line in &meant {
        if last != Some(&line.spec) {
            print(&format!("{}:", line.spec));
            last = Some(&line.spec);
        }
        print(&format!("  {}", line.line));
    }
    if meant.is_empty() {
        say("nothing was written in this run");
    }
    Ok(Exit::Done)
}

/// The lines of what is meant by a word: all of them without one.
fn meant<'l>(lines: &'l [LoggedLine], word: Option<&str>) -> miette::Result<Vec<&'l LoggedLine>> {
    let Some(word) = word else { return Ok(lines.iter().collect()) };
    let folded = word.to_lowercase();
    let ways: [&dyn Fn(&LoggedLine) -> bool; 2] = [&|line| line.spec.contains(word) || line.kind == word, &|line| {
        line.spec.to_lowercase().contains(&folded) || line.kind == folded
    }];
    let of = |is_meant: &dyn Fn(&LoggedLine) -> bool| lines.iter().filter(|line| is_meant(line)).collect::<Vec<_>>();
    let found = ways.into_iter().map(of).find(|found| !found.is_empty());
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    found.ok_or_else(|| {
        let known: BTreeSet<&str> = lines.iter().map(|line| line.spec.as_str()).collect();
        miette!(
            help = format!("what wrote something: {}", known.into_iter().collect::<Vec<_>>().join("; ")),
            "nothing called `{}` wrote anything in this run",
            shortened(word)
        )
    })
}

/// Whether a run came to anything. Before anything is asked for it is looked what this machine is.
pub(crate) fn did_anything(run: &RunRecord) -> bool {
    !run.counts.executed.is_empty() || run.counts.verified > 0 || run.counts.failed > 0
}

/// The run of an id, or of the beginning of one.
pub(crate) fn named(history: &History, id: &str) -> miette::Result<RunRecord> {
    let help = "`doge runs` lists them";
    let wanted = id.trim().to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(miette!(help = help, "`{}` is not the id of a run", shortened(id)));
    }
    if let Some(run) = wanted.parse().ok().and_then(|id| history.run(id)) {
        return Ok(run);
    }
    let mut meant = history.runs(usize::MAX).into_iter().filter(|run| run.id.to_hex().starts_with(&wanted));
    match (meant.next(), meant.next()) {
        (Some(run), None) => Ok(run),
        (Some(_), Some(_)) => Err(miette!(help = help, "several runs have an id that begins with `{}`", shortened(id))),
        (None, _) => Err(unreadable(history)
            .unwrap_or_else(|| miette!(help = help, "there is no run `{}` on record", shortened(id)))),
    }
}
