//! Fails as it is told to.
//!
//! Most failures come in place of the work of a call, [`interfere`] makes them. Those that are in what a build makes
//! are asked for by [`Failure::is`] where the build makes it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::configuration::Configuration;
use crate::json::Reader;
use crate::project::Place;
use crate::protocol::{Answer, RpcError};

/// After this a process that hangs ends, in case whoever waited for it has forgotten it.
const HANGS: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Negotiate,
    Initialize,
    Outputs,
    Build,
}

impl Step {
    pub(crate) fn read(reader: &Reader<'_>, key: &str) -> Result<Option<Self>, RpcError> {
        match reader.string(key)? {
            None => Ok(None),
            Some("negotiate") => Ok(Some(Step::Negotiate)),
            Some("initialize") => Ok(Some(Step::Initialize)),
            Some("outputs") => Ok(Some(Step::Outputs)),
            Some("build") => Ok(Some(Step::Build)),
            Some(other) => {
                Err(RpcError::invalid_params(format!("{}: there is no call '{other}'", reader.place_of(key))))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Step::Negotiate => "negotiate",
            Step::Initialize => "initialize",
            Step::Outputs => "outputs",
            Step::Build => "build",
        }
    }

    /// Whether it is a call that does what a backend is there for.
    fn is_work(self) -> bool {
        matches!(self, Step::Outputs | Step::Build)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Error,
    UnknownErrorCode,
    Hang,
    Flood,
    FloodStdout,
    Rubbish,
    Die,
    WrongShape,
    NotACapability,
    WrongPackage,
    NoFile,
    DamagedFile,
    TouchOwnGlobs,
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "error" => Kind::Error,
            "unknown_error_code" => Kind::UnknownErrorCode,
            "hang" => Kind::Hang,
            "flood" => Kind::Flood,
            "flood_stdout" => Kind::FloodStdout,
            "rubbish" => Kind::Rubbish,
            "die" => Kind::Die,
            "wrong_shape" => Kind::WrongShape,
            "not_a_capability" => Kind::NotACapability,
            "wrong_package" => Kind::WrongPackage,
            "no_file" => Kind::NoFile,
            "damaged_file" => Kind::DamagedFile,
            "touch_own_globs" => Kind::TouchOwnGlobs,
            _ => return None,
        })
    }

    /// The only call that can fail in this way, if it is only one.
    fn only_in(self) -> Option<Step> {
        match self {
            Kind::NotACapability => Some(Step::Negotiate),
            Kind::WrongPackage | Kind::NoFile | Kind::DamagedFile | Kind::TouchOwnGlobs => Some(Step::Build),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    step: Step,
    while_there_is: Option<PathBuf>,
    error_code: Option<i64>,
    flood_bytes: Option<u64>,
}

impl Failure {
    pub(crate) fn read(reader: &Reader<'_>) -> Result<Option<Self>, RpcError> {
        let step = Step::read(reader, "fail_in")?;
        let while_there_is = reader.string("fail_while")?.map(PathBuf::from);
        let error_code = reader.integer("error_code")?;
        let flood_bytes = reader.natural("flood_bytes")?;
        let Some(text) = reader.string("fail")? else { return Ok(None) };
        let unknown = || RpcError::invalid_params(format!("configuration.fail: there is no failure '{text}'"));
        let kind = Kind::parse(text).ok_or_else(unknown)?;
        if let (Some(step), Some(only)) = (step, kind.only_in())
            && step != only
        {
            let message = format!("configuration.fail_in: '{text}' happens in {} only", only.name());
            return Err(RpcError::invalid_params(message));
        }
        let step = step.or(kind.only_in()).unwrap_or(Step::Outputs);
        Ok(Some(Self { kind, step, while_there_is, error_code, flood_bytes }))
    }

    /// Whether a call to `step` has to fail now, and in this way.
    pub(crate) fn is(&self, kind: Kind, step: Step, place: Option<&Place>) -> bool {
        self.kind == kind && self.is_due(step, place)
    }

    fn is_due(&self, step: Step, place: Option<&Place>) -> bool {
        let base = place.map_or(Path::new(""), |place| &place.source);
        self.step == step && self.while_there_is.as_ref().is_none_or(|path| base.join(path).exists())
    }
}

/// Does what the configuration wants to happen before a call does its work. An answer is given in place of the work.
pub(crate) fn interfere(configuration: &Configuration, step: Step, place: Option<&Place>) -> Option<Answer> {
    if step.is_work() {
        for line in &configuration.stderr {
            say(line);
        }
    }
    if let Some((milliseconds, slow_in)) = configuration.slow
        && slow_in.map_or(step.is_work(), |slow_in| slow_in == step)
    {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    let failure = configuration.failure.as_ref().filter(|failure| failure.is_due(step, place))?;
    match failure.kind {
        Kind::Error => Some(Answer::Reply(Err(error(failure, step, place)))),
        Kind::UnknownErrorCode => Some(Answer::Reply(Err(RpcError {
            code: failure.error_code.unwrap_or(-32050),
            message: format!("told to fail in {} with a code nobody knows", step.name()),
            data: Some(Value::from("no object")),
        }))),
        Kind::Hang => {
            std::thread::sleep(HANGS);
            std::process::exit(4)
        }
        Kind::Flood => {
            flood(failure.flood_bytes.unwrap_or(8 << 20));
            None
        }
        Kind::FloodStdout => Some(Answer::Endless(failure.flood_bytes.unwrap_or(1 << 30))),
        Kind::Rubbish => Some(Answer::Line("This is not JSON {".to_owned())),
        Kind::Die => {
            say(&format!("told to die in {}", step.name()));
            say("these are the last words");
            std::process::exit(3)
        }
        Kind::WrongShape => Some(Answer::Reply(Ok(json!([{ "unexpected": step.name() }])))),
        Kind::NotACapability | Kind::WrongPackage | Kind::NoFile | Kind::DamagedFile | Kind::TouchOwnGlobs => None,
    }
}

/// Writes a line to standard error. Whether anybody reads it is not our concern.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An error with all that a report can have, pointing to the line of the manifest that asks for it.
fn error(failure: &Failure, step: Step, place: Option<&Place>) -> RpcError {
    let message = format!("told to fail in {}", step.name());
    let manifest = place.map(|place| &place.manifest);
    let text = manifest.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let word = text.find("fail").map_or((0, 0), |offset| (offset, "fail".len()));
    let data = json!({
        "code": "doge_test_backend::told_to_fail",
        "message": message,
        "severity": "error",
        "causes": ["the configuration has the key 'fail'"],
        "related": [],
        "help": "take 'fail' out of the configuration",
        "url": "https://example.org/told-to-fail",
        "labels": [{ "label": "asked for here", "span": { "offset": word.0, "length": word.1 } }],
        "filename": manifest.and_then(|path| path.file_name()).map(|name| name.to_string_lossy()),
    });
    RpcError { code: failure.error_code.unwrap_or(RpcError::BACKEND), message, data: Some(data) }
}

fn flood(bytes: u64) {
    let line = format!("{}\n", "flood ".repeat(20).trim_end());
    let mut stderr = io::stderr().lock();
    let mut written = 0;
    while written < bytes {
        if stderr.write_all(line.as_bytes()).is_err() {
            return;
        }
        written += line.len() as u64;
    }
}
