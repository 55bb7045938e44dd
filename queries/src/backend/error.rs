//! What can go wrong with a backend, and how that is shown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};
use serde_json::Value;
use thiserror::Error;

/// The last lines that a backend wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastOutput {
    /// The lines.
    pub lines: Vec<String>,
    /// How many there were before them.
    pub left_out: u64,
}

impl fmt::Display for LastOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return f.write_str("\nit wrote nothing");
        }
        match self.left_out {
            0 => f.write_str("\nit wrote:")?,
            more => write!(f, "\nit wrote ({more} lines before these):")?,
        }
        for line in &self.lines {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// What a backend complains about.
#[derive(Clone, Debug, Default)]
pub struct Complaint {
    /// The number of the error.
    pub code: i64,
    /// What it is.
    pub message: String,
    /// What led to it, the nearest first.
    pub causes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// Where more can be read.
    pub url: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// The file that is meant, as the backend calls it.
    pub file_name: Option<String>,
    /// What is in that file.
    pub text: Option<NamedSource<String>>,
    /// Places in it.
    pub labels: Vec<LabeledSpan>,
    /// Further complaints.
    pub related: Vec<Complaint>,
}

impl Complaint {
    /// Reads the error of an answer. What has an unexpected shape is left out.
    pub(crate) fn of(error: &Value) -> Self {
        let data = error.get("data");
        let mut complaint = data.filter(|data| data.is_object()).map(Self::of_data).unwrap_or_default();
        complaint.code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
        let said = error.get("message").and_then(Value::as_str).unwrap_or("an error without a message");
        if complaint.message.is_empty() {
            complaint.message = said.to_owned();
        }
        if let Some(text) = data.and_then(Value::as_str) {
            complaint.causes.push(text.to_owned());
        }
        complaint
    }

    fn of_data(data: &Value) -> Self {
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        let list = |key: &str| data.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let number = |value: &Value, key: &str| {
            value.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
        };
        let label = |label: &Value| {
            let span = label.get("span")?;
            let text = label.get("label").and_then(Value::as_str).map(str::to_owned);
            Some(LabeledSpan::new(text, number(span, "offset")?, number(span, "length").unwrap_or(0)))
        };
        let cause =
            |cause: &Value| cause.as_str().or_else(|| cause.get("message").and_then(Value::as_str)).map(str::to_owned);
        Self {
            code: 0,
            message: text("message").unwrap_or_default(),
            causes: list("causes").iter().filter_map(cause).collect(),
            help: text("help"),
            url: text("url"),
            severity: match data.get("severity").and_then(Value::as_str) {
                Some("advice") => Some(Severity::Advice),
                Some("warning") => Some(Severity::Warning),
                Some(_) => Some(Severity::Error),
                None => None,
            },
            file_name: text("filename"),
            text: None,
            labels: list("labels").iter().filter_map(label).collect(),
            related: list("related").iter().filter(|data| data.is_object()).map(Self::of_data).collect(),
        }
    }

    /// Reads the file that is meant, so that places in it can be shown.
    pub(crate) fn with_text_from(mut self, directory: &std::path::Path) -> Self {
        if let Some(name) = &self.file_name
            && let Ok(text) = std::fs::read_to_string(directory.join(name))
        {
            self.labels.retain(|label| label.offset() + label.len() <= text.len());
            self.text = Some(NamedSource::new(name, text));
        } else {
            self.labels.clear();
        }
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, "\n  because: {cause}")?;
        }
        for related in &self.related {
            write!(f, "\n  also: {related}")?;
        }
        Ok(())
    }
}

/// What went wrong with a backend.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// There is no such program.
    #[error("the program `{program}` of the build backend `{name}` cannot be found")]
    Missing {
        /// The backend.
        name: String,
        /// The program.
        program: String,
    },
    /// Its environment cannot be activated.
    #[error("the environment of the build backend `{name}` cannot be activated: {message}")]
    Activation {
        /// The backend.
        name: String,
        /// What went wrong.
        message: String,
    },
    /// It does not start.
    #[error("the program `{program}` of the build backend `{name}` cannot be started")]
    Start {
        /// The backend.
        name: String,
        /// The program.
        program: String,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// It ended before it answered.
    #[error("the build backend `{name}` ended before it answered `{method}` ({status}){output}")]
    Died {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// How it ended.
        status: String,
        /// What it wrote last.
        output: LastOutput,
    },
    /// It does not answer.
    #[error("the build backend `{name}` did not answer `{method}` within {}{output}", humantime::format_duration(*waited))]
    Silent {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// How long was waited.
        waited: Duration,
        /// What it wrote last.
        output: LastOutput,
    },
    /// What it says is no message.
    #[error("the build backend `{name}` answered `{method}` with something that is no message: {said:?}{output}")]
    Rubbish {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// How the answer begins.
        said: String,
        /// What it wrote last.
        output: LastOutput,
    },
    /// Its answer is not what the protocol says.
    #[error("the build backend `{name}` answered `{method}` in a shape that is not the protocol's: {message}{output}")]
    WrongShape {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// What is wrong.
        message: String,
        /// What it wrote last.
        output: LastOutput,
    },
    /// It does not know what it was asked.
    #[error("the build backend `{name}` does not know `{method}`")]
    NoMethod {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
    },
    /// It says that it cannot do that.
    #[error("the build backend `{name}` cannot do what is needed: it has no `{method}`")]
    Incapable {
        /// The backend.
        name: String,
        /// What it lacks.
        method: &'static str,
    },
    /// It complains.
    #[error("the build backend `{name}` failed in `{method}`: {complaint}{output}")]
    Refused {
        /// The backend.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// What it says.
        complaint: Box<Complaint>,
        /// What it wrote last.
        output: LastOutput,
    },
}

impl BackendError {
    /// The same, with the file that the backend complains about.
    pub(crate) fn with_text_from(self, directory: &std::path::Path) -> Self {
        match self {
            Self::Refused { name, method, complaint, output } => {
                Self::Refused { name, method, complaint: Box::new(complaint.with_text_from(directory)), output }
            }
            other => other,
        }
    }

    fn complaint(&self) -> Option<&Complaint> {
        match self {
            Self::Refused { complaint, .. } => Some(complaint),
            _ => None,
        }
    }
}

impl Diagnostic for BackendError {
    fn severity(&self) -> Option<Severity> {
        self.complaint()?.severity
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match self {
            Self::Missing { .. } => Some(Box::new(
                "it has to be in the backend's package, or on the `PATH` where the backend is taken from the system",
            )),
            Self::Silent { .. } => {
                Some(Box::new("the variable `DOGE_BACKEND_TIMEOUT` says how long is waited, as in `10min`"))
            }
            Self::WrongShape { .. } | Self::Rubbish { .. } | Self::NoMethod { .. } | Self::Incapable { .. } => {
                Some(Box::new("the backend may speak another version of the protocol than the one spoken here, 7"))
            }
            Self::Refused { complaint, .. } => {
                complaint.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
            }
            _ => None,
        }
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.complaint()?.url.as_ref().map(|url| Box::new(url) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.complaint()?.text.as_ref().map(|text| text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let complaint = self.complaint()?;
        complaint.text.as_ref()?;
        Some(Box::new(complaint.labels.iter().cloned()))
    }
}

/// What went wrong with the backend of a source.
#[derive(Clone, Debug)]
pub struct AtSource {
    /// The source.
    pub place: String,
    /// What went wrong.
    pub error: Arc<BackendError>,
}

impl fmt::Display for AtSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.error)
    }
}

impl std::error::Error for AtSource {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Diagnostic for AtSource {
    fn severity(&self) -> Option<Severity> {
        self.error.severity()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.help()
    }

    fn url<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.url()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.error.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.error.labels()
    }
}
