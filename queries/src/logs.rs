//! What builds and other programs write, kept with the run.
//!
//! Each run that had something written has a file of JSON lines beside the store, named by the id of the run. Secrets are
//! hidden before a line gets here. The files are collected like everything else that is kept.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use doge::{Event, RunId};
use serde::{Deserialize, Serialize};

/// How much of a run is kept, in bytes. What comes then is shown and not kept.
const MOST: u64 = 32 << 20;

/// A line that a program wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedLine {
    /// The name of the kind of the work.
    pub kind: String,
    /// The work, written out.
    pub spec: String,
    /// The line, without its end.
    pub line: String,
}

/// Keeps what programs write.
#[derive(Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    run: Option<RunId>,
    file: Option<File>,
    bytes: u64,
}

impl Logs {
    pub(crate) fn in_directory(directory: PathBuf) -> Self {
        Self { directory, state: Mutex::default() }
    }

    /// Hears an event. What cannot be kept is shown all the same, so nothing fails here.
    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::DidBegin { run } => {
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
                    State { run: Some(*run), ..State::default() };
            }
            Event::OutputLine { spec, line } => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let line = LoggedLine {
                    kind: spec.kind().unwrap_or_default().to_owned(),
                    spec: spec.to_string(),
                    line: line.clone(),
                };
                if let Err(error) = state.write(&self.directory, line) {
                    tracing::debug!(%error, "a line of output is not kept");
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn write(&mut self, directory: &Path, mut line: LoggedLine) -> io::Result<()> {
        let Some(run) = self.run.filter(|_| self.bytes < MOST) else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                fs::create_dir_all(directory)?;
                self.file.insert(File::options().append(true).create(true).open(path(directory, run))?)
            }
        };
        let mut text = serde_json::to_string(&line)?;
        self.bytes += text.len() as u64;
        if self.bytes >= MOST {
            line.line = "what was written then is not kept: it is too much".to_owned();
            text = serde_json::to_string(&line)?;
        }
        text.push('\n');
        file.write_all(text.as_bytes())
    }
}

fn path(directory: &Path, run: RunId) -> PathBuf {
    directory.join(format!("{}.jsonl", run.to_hex()))
}

/// The runs in which something was written, the newest first, also those that left no record.
pub fn runs(directory: &Path) -> Vec<RunId> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let id = |file: fs::DirEntry| file.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok();
    let mut runs: Vec<RunId> = files.filter_map(id).collect();
    runs.sort_by(|a, b| b.cmp(a));
    runs
}

/// What was written in a run. A line that was cut off when the machine stopped, or is damaged, is left out.
///
/// # Errors
///
/// If there are lines, and they cannot be read.
pub fn read(directory: &Path, run: RunId) -> io::Result<Vec<LoggedLine>> {
    match fs::read(path(directory, run)) {
        Ok(text) => {
            Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_damaged_is_left_out_and_the_others_are_read() {
        let directory = tempfile::tempdir().expect("it can be made");
        let (run, line) = (RunId::new(), |line: &str| format!(r#"{{"kind":"k","spec":"s","line":"{line}"}}"#));
        let text = [line("one").as_bytes(), b"\xff\xfe no text", line("two").as_bytes(), b"{\"kind\":"].join(&b'\n');
        fs::write(path(directory.path(), run), text).expect("it can be written");
        let lines = read(directory.path(), run).expect("it can be read");
        assert_eq!(lines.iter().map(|line| &*line.line).collect::<Vec<_>>(), ["one", "two"]);
    }
}
