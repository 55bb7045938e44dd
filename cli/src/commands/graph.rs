//! `doge graph`.

use doge_queries::doge::{Graph, History};
use miette::miette;

use crate::arguments::{Common, GraphArguments, GraphFormat};
use crate::commands::runs::named;
use crate::outcome::{Exit, print, print_json, say};
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &GraphArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = History::open(&located.caches.store);
    let record = match &arguments.run {
        Some(id) => named(&history, id)?,
        None => {
            let scope = located.root.display().to_string();
            let runs = history.runs(usize::MAX).into_iter().filter(|run| run.scope.as_deref() == Some(&*scope));
            let mut later = 0;
            let mut found = None;
            for run in runs {
                if !run.specs.is_empty() {
                    found = Some(run);
                    break;
                }
                later += 1;
            }
            if found.is_some() && later > 0 {
                say(&format!("{later} later runs did nothing; this is the last that did something"));
            }
            found.ok_or_else(|| miette!(help = "run `doge install` first", "no run of this workspace is on record"))?
        }
    };
    let graph = Graph::of_run(&record);
    match arguments.format {
        GraphFormat::Json => print_json(&serde_json::json!({ "run": record.id.to_hex(), "nodes": graph.nodes }))?,
        GraphFormat::Dot if arguments.json => {
            print_json(&serde_json::json!({ "run": record.id.to_hex(), "nodes": graph.nodes }))?;
        }
        GraphFormat::Dot => print(&graph.to_dot()),
    }
    Ok(Exit::Done)
}
