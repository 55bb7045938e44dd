//! `doge trace`.

use crate::arguments::{Common, TraceArguments};
use crate::commands::graph::{shown, write};
use crate::commands::known::warn_if_damaged;
use crate::outcome::Exit;
use crate::picture::trace::events;
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &TraceArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.place.caches);
    let record = shown(&history, &located, arguments.run.as_deref())?;
    let exit = write(arguments.output.as_deref(), &events(&history, &record).to_string());
    warn_if_damaged(&history);
    exit
}
