//! What `install` and `solve` say at the end.

use std::collections::BTreeMap;
use std::error::Error;

use doge_queries::Problem;
use doge_queries::doge::{DryReport, DryVerdict, Role, RunRecord};
use miette::Diagnostic as _;
use serde::Serialize;

use crate::outcome::{Exit, inform, print_json, say};
use crate::words::counted;

/// The object that `--json` prints.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) run: String,
    pub(crate) workspace: String,
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) environments: Vec<ReportedEnvironment>,
    pub(crate) lock_file: Option<ReportedLockFile>,
    /// Where packages are that were built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) built: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dry_run: Option<ReportedDryRun>,
    pub(crate) executed: BTreeMap<String, u64>,
    pub(crate) observed: u64,
    pub(crate) verified: u64,
    pub(crate) reused: u64,
    pub(crate) cut_off: u64,
    pub(crate) failed: u64,
    pub(crate) duration_ms: f64,
    pub(crate) warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ReportedError>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedEnvironment {
    pub(crate) name: String,
    pub(crate) platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    pub(crate) packages: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedLockFile {
    pub(crate) path: String,
    pub(crate) changed: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedDryRun {
    pub(crate) verdict: String,
    pub(crate) would_run: Vec<ReportedWork>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedWork {
    pub(crate) spec: String,
    pub(crate) kind: &'static str,
    pub(crate) role: Role,
    pub(crate) because: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ReportedError {
    pub(crate) message: String,
    pub(crate) causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Report {
    /// Takes over what a run did.
    pub(crate) fn count(&mut self, record: &RunRecord) {
        let counts = &record.counts;
        self.run = record.id.to_hex();
        self.executed = counts.executed.clone();
        self.observed = counts.observed;
        self.verified = counts.verified;
        self.reused = counts.reused;
        self.cut_off = counts.cut_off;
        self.failed = counts.failed;
        self.duration_ms = record.duration_us as f64 / 1000.0;
    }

    /// Says how it ended: on standard output if JSON is wanted, and for people.
    pub(crate) fn end(mut self, problem: Option<Problem>, closing: &str, json: bool) -> miette::Result<Exit> {
        self.ok = problem.is_none();
        self.error = problem.as_ref().map(ReportedError::new);
        if json {
            print_json(&self)?;
        }
        match problem {
            None => {
                inform(closing);
                Ok(Exit::Done)
            }
            Some(problem) => Err(problem.into()),
        }
    }

    /// What was done, in a few words.
    pub(crate) fn done(&self, fetched: u64) -> String {
        let count = |kind: &str| self.executed.get(kind).copied().unwrap_or(0);
        let mut parts = Vec::new();
        match count("solve_conda_environment") {
            0 => {}
            1 => parts.push("solved once".to_owned()),
            solves => parts.push(format!("solved {solves} times")),
        }
        match count("backend_build") {
            0 => {}
            1 => parts.push("built one package".to_owned()),
            builds => parts.push(format!("built {builds} packages")),
        }
        if fetched > 0 {
            parts.push(format!("fetched {}", counted(fetched, "package", "packages")));
        }
        if count("link_prefix") > 0 {
            parts.push("linked".to_owned());
        }
        if parts.is_empty() {
            let others: u64 = self.executed.values().sum();
            parts.push(match others {
                0 => "nothing had to run".to_owned(),
                others => format!("{} ran", counted(others, "small step", "small steps")),
            });
        }
        let held = counted(self.verified + self.reused, "earlier result", "earlier results");
        format!("{}; {held} held", parts.join(", "))
    }
}

impl ReportedError {
    fn new(problem: &Problem) -> Self {
        let causes = std::iter::successors(problem.source(), |cause| (*cause).source()).map(ToString::to_string);
        Self {
            message: problem.to_string(),
            causes: causes.collect(),
            help: problem.help().map(|help| help.to_string()),
        }
    }
}

impl ReportedDryRun {
    pub(crate) fn new(report: &DryReport) -> Self {
        let work = report.would_run.iter().map(|work| ReportedWork {
            spec: work.spec.to_string(),
            kind: work.kind,
            role: work.role,
            because: describe(&work.verdict),
        });
        Self { verdict: describe(&report.verdict), would_run: work.collect() }
    }

    /// What several requests come to together.
    pub(crate) fn of_several(reports: &[DryReport]) -> Self {
        let mut whole = Self { verdict: String::new(), would_run: Vec::new() };
        for dry in reports {
            let dry = Self::new(dry);
            whole.verdict = dry.verdict;
            for work in dry.would_run {
                if whole.would_run.iter().all(|known| known.spec != work.spec || known.kind != work.kind) {
                    whole.would_run.push(work);
                }
            }
        }
        whole
    }

    /// Says what would run, a line for each.
    pub(crate) fn say(&self) {
        for work in &self.would_run {
            say(&format!("would run: {} ({})", work.spec, work.because));
        }
        if self.would_run.is_empty() {
            say("nothing would run");
        } else if self.verdict == MAY_RUN {
            say("what comes after that is known only when it has run");
        }
    }
}

const MAY_RUN: &str = "it depends on what runs first";

fn describe(verdict: &DryVerdict) -> String {
    match verdict {
        DryVerdict::Holds => "an earlier result holds".to_owned(),
        DryVerdict::Stale(_) => "what the earlier result was made from has changed".to_owned(),
        DryVerdict::Missing => "nothing is recorded for it".to_owned(),
        DryVerdict::MayRun => MAY_RUN.to_owned(),
        DryVerdict::Fails(message) => format!("it fails: {message}"),
    }
}
