//! How a command ends.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{Diagnostic, LabeledSpan, MietteHandler, MietteHandlerOpts, ReportHandler as _, Severity, SourceCode};

use crate::arguments::{LogFormat, Output};
use crate::picture::lines::message;
use crate::words::{harmless, readable};

/// Whether the object that was asked for with `--json` has been printed.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// The exit codes of the program. Clap ends with 2 where the command line cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything is as wanted.
    Done = 0,
    /// It is not, and it was said why.
    Failed = 1,
    /// Ctrl-C or the terminal ended it.
    Interrupted = 130,
    /// It was told to end.
    Terminated = 143,
}

/// Shows an error and ends. Whoever waits for JSON gets an object, even if it could not be made as usual.
pub(crate) fn failed(report: &miette::Report, json: bool) -> ExitCode {
    if json && !PRINTED.load(Ordering::Relaxed) {
        let help = report.help().map(|help| help.to_string());
        let causes: Vec<String> = report.chain().skip(1).map(ToString::to_string).collect();
        let error = serde_json::json!({ "message": report.to_string(), "causes": causes, "help": help });
        put(&serde_json::json!({ "ok": false, "error": error }).to_string());
    }
    let error = Readable::new(report.as_ref());
    let plain = drawn(&error, MietteHandlerOpts::new().color(false));
    let is_ours = matches!(harmless(&plain), Cow::Borrowed(_));
    // Whose colours they are cannot be told when they are drawn, so a text with others is shown without any.
    if is_ours && !is_for_programs() {
        tell(drawn(&error, MietteHandlerOpts::new()).trim_end())
    } else {
        say(&plain)
    }
    Exit::Failed.into()
}

/// An error whose words are none too long.
#[derive(Debug)]
struct Readable<'e> {
    error: &'e dyn Diagnostic,
    message: String,
    help: Option<String>,
    cause: Option<Box<Cause>>,
}

/// What an error comes from.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Cause {
    message: String,
    #[source]
    cause: Option<Box<Self>>,
}

impl<'e> Readable<'e> {
    fn new(error: &'e dyn Diagnostic) -> Self {
        let short = |text: String| readable(&text).into_owned();
        let causes = std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string);
        let causes: Vec<String> = causes.map(short).collect();
        let above = |cause, message| Some(Box::new(Cause { message, cause }));
        let cause = causes.into_iter().rev().fold(None, above);
        let help = error.help().map(|help| short(help.to_string()));
        Self { error, message: short(error.to_string()), help, cause }
    }
}

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Readable<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.as_deref()?)
    }
}

impl Diagnostic for Readable<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.help.as_ref()?))
    }

    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.error.severity()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.error.labels()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.error.source_code()
    }
}

/// An error as it is drawn.
fn drawn(error: &dyn Diagnostic, options: MietteHandlerOpts) -> String {
    struct Drawn<'e>(&'e dyn Diagnostic, MietteHandler);

    impl fmt::Debug for Drawn<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.1.debug(self.0, f)
        }
    }

    format!("{:?}", Drawn(error, options.build()))
}

/// Ends because the command line cannot be understood, or with the help that it asks for.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let safe = readable(&harmless(&text)).into_owned();
    if safe != text {
        tell(safe.trim_end());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// Ends the process at once, because somebody asked for that. Nothing is waited for: what was begun and is not done is
/// put right by the next run.
pub(crate) fn interrupt(exit: Exit, json: bool) -> ! {
    if json && !PRINTED.load(Ordering::Relaxed) {
        put(r#"{"ok":false,"error":{"message":"interrupted","causes":[]}}"#);
    }
    std::process::exit(exit as i32)
}

/// How things are said.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Decides how things are said from now on.
pub(crate) fn speak(output: Output) {
    let _ = OUTPUT.set(output);
}

fn is_for_programs() -> bool {
    OUTPUT.get().is_some_and(|output| output.log_format == LogFormat::Json)
}

/// Writes a line to where results do not go, in the form that is wanted there.
pub(crate) fn say(line: &str) {
    let line = line.trim_end();
    if is_for_programs() { tell(&message(line)) } else { tell(&harmless(line)) }
}

/// Writes a line as it is to where results do not go.
pub(crate) fn tell(line: &str) {
    // Nobody is there to be told that nobody is there.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes a line that nobody misses who wants to hear only what is wrong.
pub(crate) fn inform(line: &str) {
    if !OUTPUT.get().is_some_and(|output| output.quiet) {
        say(line);
    }
}

/// Writes a result for people.
pub(crate) fn print(text: &str) {
    put(&harmless(text));
}

/// Writes a result as it is. Whoever closed the pipe has read enough.
pub(crate) fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
}

/// Writes a result as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> miette::Result<()> {
    let text = serde_json::to_string(value).map_err(|error| miette::miette!("the result has no JSON: {error}"))?;
    put(&text);
    PRINTED.store(true, Ordering::Relaxed);
    Ok(())
}
