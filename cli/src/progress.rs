//! Progress: a line for each kind of work on a terminal, a line for each step elsewhere, events as JSON for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use doge_queries::backend::KEPT_LINES;
use doge_queries::build::NOTE;
use doge_queries::doge::storage::StoreEvent;
use doge_queries::doge::{Event, SpecName};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::arguments::{LogFormat, Output};
use crate::outcome::{inform, say, tell};
use crate::picture::lines::line_of;
use crate::words::{counted, harmless};

/// A kind of work that people wait for.
struct Shown {
    kind: &'static str,
    /// What it is called while it goes on.
    doing: &'static str,
    /// What it is called when one is done.
    done: &'static str,
    /// Whether there are so many that only their number is told.
    many: bool,
}

const fn shown(kind: &'static str, doing: &'static str, done: &'static str, many: bool) -> Shown {
    Shown { kind, doing, done, many }
}

/// The kinds of work that people wait for, in the order in which they usually come.
const SHOWN: [Shown; 10] = [
    shown("checkout_git", "checking out", "checked out", false),
    shown("checkout_url", "unpacking", "unpacked", false),
    shown("channel_index", "reading", "read", false),
    shown("solve_conda_environment", "solving", "solved", false),
    shown("install_tool", "installing", "installed", false),
    shown("call_outputs", "asking", "asked", true),
    shown("backend_build", "building", "built", false),
    shown("fetch_package", "fetching", "fetched", true),
    shown("write_lock_file", "writing", "wrote", false),
    shown("link_prefix", "linking", "linked", false),
];

/// How many of the steps that took longest are named at the end of a log.
const SLOWEST: usize = 5;

/// How many of those that are at work are named on a terminal.
const AT_ONCE: usize = 3;

/// How long somebody else has to be waited for to be told how long it was.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// How much of what a build writes is held to be shown if it fails, in bytes. All of it is kept with the run.
const MOST_UNSEEN: usize = 4 << 20;

/// Shows events.
pub(crate) struct Progress {
    bars: MultiProgress,
    is_terminal: bool,
    output: Output,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<usize, Line>,
    fetched: u64,
    waits: BTreeMap<String, (String, Instant)>,
    told: Vec<String>,
    /// Whether a build or another program wrote something.
    wrote: bool,
    /// What each that is at work wrote and was not shown, and how many bytes that is.
    unseen: BTreeMap<String, (Vec<String>, usize)>,
    /// Of a log: what took how long.
    steps: Vec<(Duration, String)>,
}

/// What work is called after what is said of it: a verb is not said twice.
fn without_verb(name: &str) -> &str {
    let verbs = ["solve ", "link ", "write ", "build ", "install ", "ask ", "checkout of "];
    verbs.into_iter().find_map(|verb| name.strip_prefix(verb)).unwrap_or(name)
}

impl State {
    /// Whether nothing else of its kind has been at work for longer.
    fn is_in_focus(&self, spec: &SpecName) -> bool {
        let running = place_of(spec).and_then(|(place, _)| self.lines.get(&place)?.running.first());
        running.is_none_or(|running| running.name == spec.to_string())
    }
}

struct Line {
    bar: ProgressBar,
    /// What it is called while it goes on.
    doing: &'static str,
    /// What is at work, the oldest first.
    running: Vec<Running>,
    /// Bytes of what is done.
    bytes: u64,
}

/// Something that is at work.
struct Running {
    name: String,
    since: Instant,
    /// How many bytes of how many it has.
    bytes: (u64, u64),
    /// How far it is besides that: a part of it that is not done, in words.
    part: Option<String>,
    /// How many minutes it was said to take so far.
    minutes: u64,
}

impl Running {
    fn new(name: String) -> Self {
        Self { name, since: Instant::now(), bytes: (0, 0), part: None, minutes: 0 }
    }
}

impl Progress {
    pub(crate) fn new(output: Output) -> Self {
        let is_terminal = std::io::stderr().is_terminal()
            && std::env::var_os("CI").is_none()
            && !output.quiet
            && output.log_format == LogFormat::Text;
        Self { bars: MultiProgress::new(), is_terminal, output, began: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is shown may be wrong after a panic; what is done is not decided here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line above whatever is shown.
    fn line(&self, line: &str) {
        if self.is_terminal {
            self.bars.suspend(|| inform(line));
        } else {
            inform(line);
        }
    }

    /// Shows an event.
    pub(crate) fn see(&self, event: &Event) {
        if self.output.log_format == LogFormat::Json {
            if let Event::DidRun { spec, .. } = event
                && spec.kind() == Some("fetch_package")
            {
                self.state().fetched += 1;
            }
            if let Some(line) = line_of(event, self.began.elapsed()) {
                tell(&line);
            }
            return;
        }
        match event {
            Event::WillRun { spec, .. } => self.will_run(spec),
            Event::DidStart { spec } => {
                self.waited(spec);
                self.did_start(spec);
            }
            Event::DidRun { spec, cost, .. } => {
                self.state().unseen.remove(&spec.to_string());
                self.did_end(spec);
                self.did_run(spec, *cost);
            }
            Event::DidFail { spec, .. } | Event::DidCancel { spec } | Event::DidRetreat { spec, .. } => {
                let unseen = self.state().unseen.remove(&spec.to_string());
                if let (Event::DidFail { .. }, Some((lines, _))) = (event, unseen) {
                    // The error shows the last lines itself.
                    let earlier = lines.len().saturating_sub(KEPT_LINES);
                    lines[..earlier].iter().for_each(|line| self.line(&format!("{spec}: {line}")));
                }
                self.waited(spec);
                self.did_end(spec);
            }
            Event::WillWait { spec, holder } => {
                let line = format!("{spec}: waiting for {holder}");
                let mut state = self.state();
                state.waits.entry(spec.to_string()).or_insert_with(|| (holder.clone(), Instant::now()));
                if !state.told.contains(&line) {
                    state.told.push(line.clone());
                    drop(state);
                    self.line(&line);
                }
            }
            Event::WillWaitForStore { .. } => {
                let line = "waiting for the disk, which takes less than is made".to_owned();
                let mut state = self.state();
                if !state.told.contains(&line) {
                    state.told.push(line.clone());
                    drop(state);
                    self.line(&line);
                }
            }
            Event::OutputLine { spec, line } => {
                self.state().wrote = true;
                self.output_line(spec, line);
            }
            Event::Progress { spec, progress } => {
                let Some((place, _)) = place_of(spec) else { return };
                let mut state = self.state();
                let Some(line) = state.lines.get_mut(&place) else { return };
                let name = spec.to_string();
                let Some(running) = line.running.iter_mut().find(|running| running.name == name) else { return };
                if progress.bytes {
                    running.bytes = (progress.done, progress.total.unwrap_or(progress.done));
                } else {
                    let of = progress.total.map(|total| format!("/{total}")).unwrap_or_default();
                    let message = progress.message.as_ref().map(|message| format!("{message} ")).unwrap_or_default();
                    let is_done = progress.total == Some(progress.done);
                    running.part = (!is_done).then(|| format!("{message}{}{of}", progress.done));
                }
                line.tell();
            }
            Event::Store(event @ (StoreEvent::WillRunWithout { .. } | StoreEvent::DidQuarantine { .. })) => {
                let line = format!("warning: {event}");
                if self.is_terminal { self.bars.suspend(|| say(&line)) } else { say(&line) }
            }
            Event::Store(event @ StoreEvent::WillWait) => self.line(&event.to_string()),
            _ => {}
        }
    }

    /// What a build writes is kept with the run and shown when it fails; of the package in focus also meanwhile if that is
    /// wanted. Our own remarks are shown always.
    fn output_line(&self, spec: &SpecName, line: &str) {
        let is_of_backend = matches!(spec.kind(), Some("backend_build" | "call_outputs"));
        if !is_of_backend || line.starts_with(NOTE) {
            self.line(&format!("{spec}: {}", line.trim_start_matches(NOTE)));
            return;
        }
        let name = spec.to_string();
        let mut state = self.state();
        let (lines, bytes) = state.unseen.entry(name.clone()).or_default();
        *bytes += line.len();
        if *bytes <= MOST_UNSEEN {
            lines.push(line.to_owned());
        }
        if self.output.verbose && state.is_in_focus(spec) {
            // With what it wrote before it came into focus.
            let (lines, _) = state.unseen.remove(&name).unwrap_or_default();
            drop(state);
            lines.iter().for_each(|line| self.line(&format!("{name}: {line}")));
        }
    }

    fn waited(&self, spec: &SpecName) {
        let waited = self.state().waits.remove(&spec.to_string());
        if let Some((holder, since)) = waited.filter(|(_, since)| since.elapsed() >= LONG_WAIT) {
            self.line(&format!("{spec}: waited {} for {holder}", seconds(since.elapsed())));
        }
    }

    fn will_run(&self, spec: &SpecName) {
        let Some((place, shown)) = place_of(spec) else { return };
        let mut state = self.state();
        let line = state.lines.entry(place).or_insert_with(|| {
            let bar = if self.is_terminal { self.bars.add(ProgressBar::new(0)) } else { ProgressBar::hidden() };
            let bar = bar.with_prefix(shown.doing);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<12} {pos}/{len} {wide_msg}") {
                bar.set_style(style);
            }
            if self.is_terminal {
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            Line { bar, doing: shown.doing, running: Vec::new(), bytes: 0 }
        });
        line.bar.inc_length(1);
    }

    fn did_start(&self, spec: &SpecName) {
        let Some((place, _)) = place_of(spec) else { return };
        if let Some(line) = self.state().lines.get_mut(&place) {
            line.running.push(Running::new(spec.to_string()));
            line.tell();
        }
    }

    fn did_end(&self, spec: &SpecName) {
        let Some((place, _)) = place_of(spec) else { return };
        if let Some(line) = self.state().lines.get_mut(&place) {
            let name = spec.to_string();
            if let Some(place) = line.running.iter().position(|running| running.name == name) {
                line.bytes += line.running.remove(place).bytes.1;
            }
            line.bar.inc(1);
            line.tell();
        }
    }

    fn did_run(&self, spec: &SpecName, cost: Duration) {
        let Some((_, shown)) = place_of(spec) else { return };
        if shown.kind == "fetch_package" {
            self.state().fetched += 1;
        }
        if self.is_terminal {
            return;
        }
        let name = spec.to_string();
        let line = format!("{} {} in {}", shown.done, without_verb(&name), seconds(cost));
        self.state().steps.push((cost, line.clone()));
        // Hundreds of lines tell less than their number does.
        if !shown.many {
            inform(&line);
        }
    }

    /// Tells from time to time how long what goes on has been at it. Never ends.
    pub(crate) async fn tell_time(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut long = Vec::new();
            for line in self.state().lines.values_mut() {
                line.tell();
                long.extend(line.long());
            }
            // A terminal shows that anyway. Elsewhere nobody is left to wonder whether anything goes on.
            if !self.is_terminal && self.output.log_format == LogFormat::Text {
                long.iter().for_each(|line| inform(line));
            }
        }
    }

    /// Whether a build or another program wrote something, which is kept with the run.
    pub(crate) fn wrote(&self) -> bool {
        self.state().wrote
    }

    /// Takes everything away again and, of a log, names what took longest; how many packages were fetched.
    pub(crate) fn finish(&self) -> u64 {
        let mut state = self.state();
        for line in std::mem::take(&mut state.lines).into_values() {
            line.bar.finish_and_clear();
        }
        let mut steps = std::mem::take(&mut state.steps);
        if steps.len() > 2 * SLOWEST {
            steps.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            inform("slowest:");
            steps.iter().take(SLOWEST).for_each(|(_, line)| inform(&format!("  {line}")));
        }
        state.fetched
    }
}

impl Line {
    /// Names what has been at work for longest.
    fn tell(&self) {
        self.bar.set_message(harmless(&self.message()).into_owned());
    }

    fn message(&self) -> String {
        let (mut told, mut names) = (Vec::new(), BTreeSet::new());
        for running in &self.running {
            let name = without_verb(&running.name);
            // What is asked for several platforms is called the same.
            if !names.insert(name) {
                continue;
            }
            let part = running.part.as_ref().map(|part| format!(", {part}")).unwrap_or_default();
            told.push(match running.since.elapsed().as_secs() {
                0..5 => format!("{name}{part}"),
                long => format!("{name}{part} ({long} s)"),
            });
        }
        let more = told.len().saturating_sub(AT_ONCE);
        told.truncate(AT_ONCE);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let done = self.bytes + self.running.iter().map(|running| running.bytes.0).sum::<u64>();
        let all = self.bytes + self.running.iter().map(|running| running.bytes.1).sum::<u64>();
        let bytes = if all > 0 { format!("{} of {}  ", HumanBytes(done), HumanBytes(all)) } else { String::new() };
        format!("{bytes}{}{more}", told.join(", "))
    }

    /// What has been at work for another minute, a line for each.
    fn long(&mut self) -> Vec<String> {
        let mut long = Vec::new();
        for running in &mut self.running {
            let minutes = running.since.elapsed().as_secs() / 60;
            if minutes > std::mem::replace(&mut running.minutes, minutes) {
                let name = without_verb(&running.name);
                long.push(format!("{} {name} for {} so far", self.doing, counted(minutes, "minute", "minutes")));
            }
        }
        long
    }
}

fn place_of(spec: &SpecName) -> Option<(usize, &'static Shown)> {
    let kind = spec.kind()?;
    SHOWN.iter().enumerate().find(|(_, shown)| shown.kind == kind)
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        long => format!("{long:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(running: &[(&str, u64)]) -> Line {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the clock goes on");
        let running =
            running.iter().map(|(name, seconds)| Running { since: ago(*seconds), ..Running::new((*name).into()) });
        Line { bar: ProgressBar::hidden(), doing: "building", running: running.collect(), bytes: 0 }
    }

    #[test]
    fn a_line_says_how_long_it_goes_on_what_is_not_done_and_nothing_twice() {
        let mut line = line(&[("build a 1.0 0", 8), ("build b 1.0 0", 1), ("build b 1.0 0", 1)]);
        assert_eq!(line.message(), "a 1.0 0 (8 s), b 1.0 0");
        line.running[0].part = Some("1/2".to_owned());
        line.running[1].bytes = (1 << 20, 2 << 20);
        assert_eq!(line.message(), "1.00 MiB of 2.00 MiB  a 1.0 0, 1/2 (8 s), b 1.0 0");
    }

    #[test]
    fn what_takes_minutes_is_said_to_once_in_each() {
        let mut line = line(&[("build a 1.0 0", 61), ("build b 1.0 0", 59), ("build c 1.0 0", 125)]);
        assert_eq!(line.long(), ["building a 1.0 0 for 1 minute so far", "building c 1.0 0 for 2 minutes so far"]);
        assert_eq!(line.long(), Vec::<String>::new());
    }
}
