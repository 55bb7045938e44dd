//! Progress: a line for each kind of work on a terminal, a line for each step elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doge_queries::build::NOTE;
use doge_queries::doge::storage::StoreEvent;
use doge_queries::doge::{Event, SpecName};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::outcome::say;

/// The kinds of work that people wait for: what they are called while they go on, and when one is done.
const SHOWN: [(&str, &str, &str); 5] = [
    ("channel_index", "reading", "read"),
    ("solve_conda_environment", "solving", "solved"),
    ("fetch_package", "fetching", "fetched"),
    ("link_prefix", "linking", "linked"),
    ("write_lock_file", "writing", "wrote"),
];

/// Shows events.
pub(crate) struct Progress {
    bars: MultiProgress,
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<usize, Line>,
    fetched: u64,
    waits: Vec<String>,
}

struct Line {
    bar: ProgressBar,
    running: Vec<String>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { bars: MultiProgress::new(), is_terminal, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is shown may be wrong after a panic; what is done is not decided here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line above whatever is shown.
    fn line(&self, line: &str) {
        if self.is_terminal {
            self.bars.suspend(|| say(line));
        } else {
            say(line);
        }
    }

    /// Shows an event.
    pub(crate) fn see(&self, event: &Event) {
        match event {
            Event::WillRun { spec } => self.will_run(spec),
            Event::DidStart { spec } => self.did_start(spec),
            Event::DidRun { spec, cost, .. } => {
                self.did_end(spec);
                self.did_run(spec, *cost);
            }
            Event::DidFail { spec, .. } | Event::DidCancel { spec } | Event::DidRetreat { spec, .. } => {
                self.did_end(spec);
            }
            Event::WillWait { spec, holder } => {
                let line = format!("{spec}: waiting for {holder}");
                let mut state = self.state();
                if !state.waits.contains(&line) {
                    state.waits.push(line.clone());
                    drop(state);
                    self.line(&line);
                }
            }
            // What a build writes is shown when it fails; our own remarks always.
            Event::OutputLine { spec, line } => {
                let is_of_backend = matches!(spec.kind(), Some("backend_build" | "call_outputs"));
                if !is_of_backend || line.starts_with(NOTE) {
                    self.line(&format!("{spec}: {}", line.trim_start_matches(NOTE)));
                }
            }
            Event::Progress { spec, progress } => {
                let Some((place, _, _)) = shown(spec) else { return };
                let of = progress.total.map(|total| format!("/{total}")).unwrap_or_default();
                let message = progress.message.as_deref().unwrap_or_default();
                if let Some(line) = self.state().lines.get(&place).filter(|_| !progress.bytes) {
                    line.bar.set_message(format!("{spec}: {message} {}{of}", progress.done));
                }
            }
            Event::Store(event @ (StoreEvent::WillRunWithout { .. } | StoreEvent::DidQuarantine { .. })) => {
                self.line(&format!("warning: {event}"));
            }
            _ => {}
        }
    }

    fn will_run(&self, spec: &SpecName) {
        let Some((place, doing, _)) = shown(spec) else { return };
        if !self.is_terminal {
            return;
        }
        let mut state = self.state();
        let line = state.lines.entry(place).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(0).with_prefix(doing));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<9} {pos}/{len} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            Line { bar, running: Vec::new() }
        });
        line.bar.inc_length(1);
    }

    fn did_start(&self, spec: &SpecName) {
        let Some((place, _, _)) = shown(spec) else { return };
        if let Some(line) = self.state().lines.get_mut(&place) {
            line.running.push(spec.to_string());
            line.tell();
        }
    }

    fn did_end(&self, spec: &SpecName) {
        let Some((place, _, _)) = shown(spec) else { return };
        if let Some(line) = self.state().lines.get_mut(&place) {
            let name = spec.to_string();
            line.running.retain(|running| *running != name);
            line.bar.inc(1);
            line.tell();
        }
    }

    fn did_run(&self, spec: &SpecName, cost: Duration) {
        let Some((_, _, done)) = shown(spec) else { return };
        if done == "fetched" {
            // Hundreds of lines tell less than their number does.
            self.state().fetched += 1;
        } else if !self.is_terminal {
            let name = spec.to_string();
            let verb = ["solve ", "link ", "write "].into_iter().find_map(|verb| name.strip_prefix(verb));
            say(&format!("{done} {} in {}", verb.unwrap_or(&name), seconds(cost)));
        }
    }

    /// Takes everything away again; how many packages were fetched.
    pub(crate) fn finish(&self) -> u64 {
        let mut state = self.state();
        for line in std::mem::take(&mut state.lines).into_values() {
            line.bar.finish_and_clear();
        }
        state.fetched
    }
}

impl Line {
    fn tell(&self) {
        let told: Vec<&str> = self.running.iter().take(3).map(String::as_str).collect();
        let more = self.running.len().saturating_sub(told.len());
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        self.bar.set_message(format!("{}{more}", told.join(", ")));
    }
}

fn shown(spec: &SpecName) -> Option<(usize, &'static str, &'static str)> {
    let kind = spec.kind()?;
    let place = SHOWN.iter().position(|(shown, _, _)| *shown == kind)?;
    Some((place, SHOWN[place].1, SHOWN[place].2))
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        long => format!("{long:.1} s"),
    }
}
