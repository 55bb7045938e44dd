//! `doge`: environments of pixi workspaces, solved and installed once.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod outcome;
mod picture;
mod progress;
mod session;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::outcome::Exit;

fn main() -> ExitCode {
    quiet_panics();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => outcome::refuse(&error),
    };
    let json = arguments.command.is_json();
    outcome::speak(arguments.common.output);
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("DOGE_LOG") {
        // Of a spec that is worked on there is only the span, so the end of it is what is written.
        let ends = tracing_subscriber::fmt::format::FmtSpan::CLOSE;
        tracing_subscriber::fmt().with_env_filter(filter).with_span_events(ends).with_writer(std::io::stderr).init();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return outcome::failed(&miette::miette!("the program cannot start its threads: {error}"), json);
        }
    };
    let exit = runtime.block_on(async {
        ignore_file_size_limit();
        commands::run(arguments).await
    });
    // Work that was stopped may still be inside of a system call; nobody waits for it.
    runtime.shutdown_background();
    match exit {
        Ok(exit) => exit.into(),
        Err(report) => outcome::failed(&report, json),
    }
}

/// Panics inside of the store are caught there and mean that the store is damaged; those of the installer are caught,
/// too, and mean that somebody changed the environment under it.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if doge_queries::doge::storage::is_inside_store() || doge_queries::prefix::is_inside_installer() {
            tracing::debug!(%panic, "a panic that is caught");
        } else {
            usual(panic);
        }
    }));
}

/// A file that may not grow is an error to be handled, not a signal to die of.
fn ignore_file_size_limit() {
    #[cfg(unix)]
    {
        const SIGXFSZ: i32 = 25;
        let kind = tokio::signal::unix::SignalKind::from_raw(SIGXFSZ);
        // Once listened to, the signal does nothing else. Without it a full disk kills us, as it does other programs.
        drop(tokio::signal::unix::signal(kind));
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
