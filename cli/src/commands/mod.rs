//! The commands.

mod build;
mod cache;
mod graph;
mod install;
mod meant;
mod report;
mod runs;
mod solve;
mod trace;
mod why;

pub(crate) use solve::named;

use crate::arguments::{Arguments, Command};
use crate::outcome::Exit;

/// Runs the command that was given.
pub(crate) async fn run(arguments: Arguments) -> miette::Result<Exit> {
    let Arguments { common, command } = arguments;
    match command {
        Command::Install(arguments) => install::run(&common, arguments).await,
        Command::Solve(arguments) => solve::run(&common, arguments).await,
        Command::Build(arguments) => build::run(&common, arguments).await,
        Command::Metadata(arguments) => build::metadata(&common, arguments).await,
        Command::Graph(arguments) => graph::run(&common, &arguments),
        Command::Why(arguments) => why::run(&common, &arguments),
        Command::Runs(arguments) => runs::run(&common, &arguments),
        Command::Trace(arguments) => trace::run(&common, &arguments),
        Command::Cache(arguments) => cache::run(&common, arguments.command),
    }
}
