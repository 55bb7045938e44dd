//! `doge why`.

use doge_queries::doge::{Change, Explanation, History, Outcome, RunId, RunRecord};
use miette::miette;

use crate::arguments::{Common, WhyArguments};
use crate::commands::known::{nothing, warn_if_damaged};
use crate::commands::meant::{unknown, with_ways};
use crate::commands::runs::{did_anything, named};
use crate::outcome::{Exit, print, print_json};
use crate::words::counted;
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &WhyArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = doge_queries::history(&located.place.caches);
    let scope = located.scope();
    let wanted: Option<RunId> =
        arguments.run.as_deref().map(|id| Ok::<_, miette::Report>(named(&history, id)?.id)).transpose()?;
    let is_ours = |run: &RunRecord| match wanted {
        Some(id) => run.id == id,
        None => run.scope.as_deref() == Some(&*scope),
    };
    let explanations = match arguments.word.as_deref().map(str::trim) {
        Some(word) => explained(&history, &located, is_ours, word)?,
        None => history.why_anything(|run| is_ours(run) && did_anything(run)),
    };
    let Some(last) = explanations.last() else {
        return Err(nothing(&history, &located));
    };
    if arguments.json {
        let mut object = serde_json::to_value(last).map_err(|error| miette!("the explanation has no JSON: {error}"))?;
        if explanations.len() > 1 {
            object["newest"] =
                serde_json::to_value(&explanations[0]).map_err(|error| miette!("it has no JSON: {error}"))?;
        }
        print_json(&object)?;
    } else {
        let is_whole = history.problem().is_none();
        let texts = explanations.iter().map(|explanation| text(explanation, is_whole));
        print(&texts.collect::<Vec<_>>().join("\n"));
    }
    warn_if_damaged(&history);
    Ok(Exit::Done)
}

/// What is known of what is meant by a word.
fn explained(
    history: &History,
    located: &Located,
    is_ours: impl Fn(&RunRecord) -> bool,
    word: &str,
) -> miette::Result<Vec<Explanation>> {
    let found = with_ways(word, |is_meant| Some(history.why(&is_ours, is_meant)).filter(|found| !found.is_empty()));
    if let Some(explanations) = found {
        return Ok(explanations);
    }
    let runs: Vec<RunRecord> = history.runs(100).into_iter().filter(|run| is_ours(run)).collect();
    if !runs.iter().any(did_anything) || history.problem().is_some() {
        return Err(nothing(history, located));
    }
    Err(unknown(word, runs.into_iter().take(20).map(|run| history.whole(run)).flat_map(|run| run.specs)))
}

/// How many changes of a link of the chain are shown.
const SHOWN: usize = 6;

/// An explanation in words; how much was looked at only if the store could be read as a whole.
fn text(explanation: &Explanation, is_whole: bool) -> String {
    let mut text = String::new();
    let Some(subject) = explanation.steps.first() else { return text };
    let run = format!("{} (`{}`)", explanation.run.to_hex(), explanation.title);
    if let Some(checked) = &explanation.checked {
        text.push_str(&format!("{} ({}) did not run, because it holds\n", subject.name, subject.kind));
        if !is_whole {
            text.push_str("  what was looked at for that is not known any more\n");
            text.push_str(&format!("in run {run}, the newest\n"));
            return text;
        }
        let looks: Vec<String> = checked.looks.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        let all: usize = checked.looks.values().sum();
        let found = if checked.other.is_empty() { "found nothing new" } else { "found nothing that made a difference" };
        match all {
            0 => text.push_str("  nothing outside had to be looked at\n"),
            _ => text.push_str(&format!(
                "  {} at what is outside {found}: {}\n",
                counted(all as u64, "look", "looks"),
                looks.join(", ")
            )),
        }
        for seen in &checked.seen {
            text.push_str(&format!("    {seen}\n"));
        }
        if checked.more_seen > 0 {
            text.push_str(&format!("    and {} more\n", checked.more_seen));
        }
        if !checked.other.is_empty() {
            text.push_str("  not as in the run before, which made no difference:\n");
            checked.other.iter().for_each(|other| text.push_str(&format!("    {other}\n")));
        }
        if checked.held > 0 {
            let one = "result that was made of that is as it was";
            let many = "results that were made of that are as they were";
            text.push_str(&format!("  {}\n", counted(checked.held as u64, one, many)));
        }
        text.push_str(&format!("in run {run}, the newest\n"));
        return text;
    }
    let what = match explanation.outcome {
        Outcome::Failed => "failed; it ran",
        Outcome::Verified => "did not run, but is not what it was in the run before",
        Outcome::Observed => "is not what it was in the run before",
        Outcome::Pending => "was begun and not done, for the run ended before; it was to run",
        _ => "ran",
    };
    text.push_str(&format!("{} ({}) {what}, because\n", subject.name, subject.kind));
    let mut told: Vec<&Change> = Vec::new();
    if let Some(cause) = &explanation.cause {
        cause.to_string().lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        told.extend(&cause.changes);
    }
    if !explanation.also.is_empty() {
        text.push_str("what else is new, and made a difference\n");
        explanation.also.iter().for_each(|change| text.push_str(&format!("  {change}\n")));
    }
    if explanation.steps.len() > 1 {
        text.push_str("by way of\n");
        for step in &explanation.steps {
            text.push_str(&format!("  {} ({}): {}\n", step.name, step.kind, step.because));
            let new: Vec<&Change> = step.changes.iter().filter(|change| !told.contains(change)).collect();
            for change in new.iter().take(SHOWN) {
                text.push_str(&format!("      {}\n", change.to_string().replace('\n', " ")));
            }
            let more = step.more_changes + new.len().saturating_sub(SHOWN);
            if more > 0 && !new.is_empty() {
                text.push_str(&format!("      and {more} more\n"));
            }
            told.extend(new);
        }
    }
    if let Some(error) = &explanation.error {
        text.push_str(&format!("it failed: {}\n", error.replace('\n', "\n  ")));
    }
    match explanation.held_since {
        0 => text.push_str(&format!("in run {run}, the newest\n")),
        1 => text.push_str(&format!("in run {run}; the one since then did not run it again\n")),
        runs => text.push_str(&format!("in run {run}; the {runs} since then did not run it again\n")),
    }
    text
}
