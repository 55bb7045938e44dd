//! How a command ends.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use miette::ReportHandler as _;

use crate::arguments::{LogFormat, Output};
use crate::picture::lines::message;
use crate::words::harmless;

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
    let plain = format!("{:?}", Plain(report));
    let is_ours = matches!(harmless(&plain), Cow::Borrowed(_));
    // Whose colours they are cannot be told when they are drawn, so a text with others is shown without any.
    if is_ours && !is_for_programs() {
        tell(format!("{report:?}").trim_end())
    } else {
        say(&plain)
    }
    Exit::Failed.into()
}

/// An error, drawn without colours.
struct Plain<'e>(&'e miette::Report);

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        miette::MietteHandlerOpts::new().color(false).build().debug(self.0.as_ref(), f)
    }
}

/// Ends because the command line cannot be understood, or with the help that it asks for.
pub(crate) fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if let Cow::Owned(text) = harmless(&text) {
        tell(text.trim_end());
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
