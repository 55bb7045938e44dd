//! `doge trace`.

use crate::arguments::{Common, TraceArguments};
use crate::commands::graph::{shown, write};
use crate::outcome::Exit;
use crate::picture::trace::events;
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &TraceArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.caches);
    let scope = located.root.display().to_string();
    let record = shown(&history, &scope, arguments.run.as_deref())?;
    write(arguments.output.as_deref(), &events(&history, &record).to_string())
}
