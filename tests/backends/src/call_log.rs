//! The log of calls, by which tests count them.
//!
//! A line is appended by one write, so the lines of processes that share a log do not mix. A line that cannot be
//! written is an error, for a call that is missing in the log would look like a call that was not made.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(crate) struct CallLog {
    /// Where all lines go from the start.
    always: Option<PathBuf>,
    configured: Option<PathBuf>,
    /// What happened before the configuration was known.
    early: Option<String>,
}

impl CallLog {
    pub(crate) fn new(always: Option<OsString>) -> Self {
        let always = always.filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { always, configured: None, early: Some(String::new()) }
    }

    pub(crate) fn record(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{}\n", line.replace(['\n', '\r'], " "));
        if let Some(early) = &mut self.early {
            early.push_str(&line);
        }
        for path in self.always.iter().chain(&self.configured) {
            append(path, &line)?;
        }
        Ok(())
    }

    /// Says which log the configuration names, once that is known. Earlier lines go there, too.
    pub(crate) fn configure(&mut self, path: Option<PathBuf>) -> io::Result<()> {
        let Some(early) = self.early.take() else { return Ok(()) };
        self.configured = path.filter(|path| Some(path) != self.always.as_ref());
        match &self.configured {
            Some(path) => append(path, &early),
            None => Ok(()),
        }
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let in_log = |error: io::Error| io::Error::new(error.kind(), format!("log {}: {error}", path.display()));
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(in_log)?;
    let written = file.write(text.as_bytes()).map_err(in_log)?;
    if written == text.len() { Ok(()) } else { Err(in_log(io::ErrorKind::WriteZero.into())) }
}
