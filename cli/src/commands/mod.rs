//! The commands.

mod build;
mod cache;
mod graph;
mod install;
mod known;
mod meant;
mod report;
mod runs;
mod solve;
mod trace;
mod why;

pub(crate) use solve::named;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Command, Deferred};
use crate::outcome::{Exit, put};

/// Runs the command that was given.
pub(crate) async fn run(arguments: Arguments) -> miette::Result<Exit> {
    let Arguments { common, command } = arguments;
    match command {
        Command::Install(Deferred(arguments)) => install::run(&common, arguments).await,
        Command::Solve(Deferred(arguments)) => solve::run(&common, arguments).await,
        Command::Build(Deferred(arguments)) => build::run(&common, arguments).await,
        Command::Metadata(Deferred(arguments)) => build::metadata(&common, arguments).await,
        Command::Graph(Deferred(arguments)) => graph::run(&common, &arguments),
        Command::Why(Deferred(arguments)) => why::run(&common, &arguments),
        Command::Runs(arguments) => runs::run(&common, &arguments),
        Command::Trace(Deferred(arguments)) => trace::run(&common, &arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "doge", &mut script);
            put(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
        Command::Cache(arguments) => cache::run(&common, arguments.command),
    }
}
