//! `doge graph`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use doge_queries::doge::{Graph, History, RecordedSpec, RunRecord};
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

use crate::arguments::{Common, GraphArguments, GraphFormat, GraphOnly};
use crate::commands::known::{nothing, unreadable, warn_if_damaged};
use crate::commands::meant::{unknown, with_ways};
use crate::commands::runs::{did_anything, named};
use crate::outcome::{self, Exit, inform};
use crate::picture::{page, svg};
use crate::words::{counted, shortened};
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &GraphArguments) -> miette::Result<Exit> {
    let format = format(arguments)?;
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.place.caches);
    let (record, against) = match arguments.diff.as_deref() {
        Some([first, second]) => {
            (whole(&history, named(&history, second)?)?, Some(whole(&history, named(&history, first)?)?))
        }
        _ => (shown(&history, &located, arguments.run.as_deref())?, None),
    };
    let graph = match &against {
        Some(first) => Graph::difference(first, &record),
        None => Graph::of_run(&record),
    };
    let graph = cut(graph, &history, &record, arguments)?;
    let text = match format {
        GraphFormat::Json => {
            let object = serde_json::json!({
                "run": record.id.to_hex(),
                "against": against.as_ref().map(|run| run.id.to_hex()),
                "nodes": graph.nodes,
            });
            object.to_string()
        }
        GraphFormat::Dot => graph.to_dot(),
        GraphFormat::Mermaid => graph.to_mermaid(),
        GraphFormat::Svg => svg::picture(&graph)?,
        GraphFormat::Html => page::page(&history, &graph, &record, against.as_ref()),
    };
    let exit = write(arguments.output.as_deref(), &text);
    warn_if_damaged(&history);
    exit
}

/// Writes what was asked for: into a file, whole or not at all, or to standard output, which `-` stands for, too.
pub(crate) fn write(file: Option<&Path>, text: &str) -> miette::Result<Exit> {
    match file.filter(|path| *path != Path::new("-")) {
        None => outcome::put(text),
        Some(path) => put(path, format!("{}\n", text.trim_end()).as_bytes())
            .into_diagnostic()
            .wrap_err_with(|| format!("`{}` cannot be written", path.display()))?,
    }
    Ok(Exit::Done)
}

/// Writes a file as a whole. What a link leads to is written, and what is no file, as a pipe, is written to as it is.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => doge_queries::write_whole(&std::fs::canonicalize(path)?, bytes),
        Ok(_) => std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes),
        Err(_) => doge_queries::write_whole(path, bytes),
    }
}

/// The run that is meant: by default the last one here that did something, else the newest.
pub(crate) fn shown(history: &History, located: &Located, id: Option<&str>) -> miette::Result<RunRecord> {
    if let Some(id) = id {
        return whole(history, named(history, id)?);
    }
    let scope = located.scope();
    let is_ours = |run: &RunRecord| run.scope.as_deref() == Some(&*scope) && did_anything(run);
    let runs: Vec<RunRecord> = history.runs(usize::MAX).into_iter().filter(is_ours).collect();
    let later = runs.iter().position(|run| !run.specs.is_empty());
    if let Some(later) = later.filter(|later| *later > 0) {
        let later = counted(later as u64, "later run", "later runs");
        inform(&format!("{later} did nothing; this is the last that did something"));
    }
    let chosen = runs.into_iter().nth(later.unwrap_or(0));
    whole(history, chosen.ok_or_else(|| nothing(history, located))?)
}

/// A run with what it stood on.
fn whole(history: &History, run: RunRecord) -> miette::Result<RunRecord> {
    let run = history.whole(run);
    if run.specs.is_empty() && did_anything(&run) {
        match unreadable(history) {
            Some(report) => return Err(report),
            None => inform("of what this run stood on nothing is on record any more"),
        }
    }
    Ok(run)
}

/// The form that is asked for, or that the end of the file's name stands for.
fn format(arguments: &GraphArguments) -> miette::Result<GraphFormat> {
    let wanted = if arguments.json { Some(GraphFormat::Json) } else { arguments.format };
    let end = arguments.output.as_deref().and_then(Path::extension).map(|end| end.to_string_lossy().to_lowercase());
    match (wanted, end.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, None | Some("dot" | "gv")) => Ok(GraphFormat::Dot),
        (None, Some("svg")) => Ok(GraphFormat::Svg),
        (None, Some("html" | "htm")) => Ok(GraphFormat::Html),
        (None, Some("json")) => Ok(GraphFormat::Json),
        (None, Some("mmd" | "mermaid")) => Ok(GraphFormat::Mermaid),
        (None, Some(end)) => Err(miette!(
            help =
                "there are `.dot`, `.svg`, `.mmd`, `.json` and `.html`; `--format` writes one of them under any name",
            "a graph cannot be written as `.{}`",
            shortened(end)
        )),
    }
}

/// As much of a graph as was asked for.
fn cut(mut graph: Graph, history: &History, record: &RunRecord, arguments: &GraphArguments) -> miette::Result<Graph> {
    let roots = |graph: &Graph, word: &str| -> miette::Result<BTreeSet<usize>> {
        let found = with_ways(word, |is_meant| {
            let places = graph.places(|spec: &RecordedSpec| is_meant(spec));
            if places.is_empty() { None } else { Some(places) }
        });
        found.ok_or_else(|| unknown(word, graph.nodes.iter().map(|node| node.spec.clone())))
    };
    let depth = arguments.depth;
    match (&arguments.under, &arguments.above) {
        (None, None) if depth.is_some() => {
            let asked: BTreeSet<_> = record.requests.iter().map(|request| request.key).collect();
            let roots = graph.places(|spec| asked.contains(&spec.key));
            graph = graph.under(&roots, depth);
        }
        (under, above) => {
            if let Some(word) = under {
                let roots = roots(&graph, word)?;
                graph = graph.under(&roots, depth);
            }
            if let Some(word) = above {
                let roots = roots(&graph, word)?;
                graph = graph.above(&roots, depth);
            }
        }
    }
    if arguments.only == Some(GraphOnly::Changed) {
        let news = history.news(record);
        graph = graph.changed(|spec| news.contains(&spec.key));
    }
    Ok(graph)
}
