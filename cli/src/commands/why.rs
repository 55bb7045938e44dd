//! `doge why`.

use std::collections::BTreeSet;

use doge_queries::doge::{Explanation, History, RecordedSpec, RunRecord};
use miette::miette;

use crate::arguments::{Common, WhyArguments};
use crate::outcome::{Exit, print, print_json};
use crate::workspace::Located;

pub(crate) fn run(common: &Common, arguments: &WhyArguments) -> miette::Result<Exit> {
    let located = Located::find(common)?;
    let history = History::open(&located.caches.store);
    let scope = located.root.display().to_string();
    let is_ours = |run: &RunRecord| run.scope.as_deref() == Some(&*scope);
    let word = arguments.word.trim();
    // The kind itself, then a part of its name, then a part of a label or of what a spec says.
    let ways: [&dyn Fn(&RecordedSpec) -> bool; 3] =
        [&|spec| spec.kind == word, &|spec| spec.kind.contains(word), &|spec| {
            spec.label.as_ref().is_some_and(|label| label.contains(word)) || spec.name.contains(word)
        }];
    let Some(explanation) = ways.into_iter().find_map(|is_meant| history.why(is_ours, is_meant)) else {
        let kinds: BTreeSet<String> = history
            .runs(usize::MAX)
            .into_iter()
            .filter(is_ours)
            .flat_map(|run| run.counts.executed.into_keys())
            .collect();
        if kinds.is_empty() {
            return Err(miette!(help = "run `doge install` first", "nothing ran in this workspace yet"));
        }
        let help = format!("what ran was {}", kinds.into_iter().collect::<Vec<_>>().join(", "));
        return Err(miette!(help = help, "nothing that ran in this workspace is called `{word}`"));
    };
    if arguments.json {
        print_json(&explanation)?;
    } else {
        print(&text(&explanation));
    }
    Ok(Exit::Done)
}

fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    for (place, step) in explanation.steps.iter().enumerate() {
        let arrow = if place == 0 { "" } else { "  because: " };
        text.push_str(&format!("{arrow}{} ({}): {}\n", step.name, step.kind, step.because));
        for change in &step.changes {
            text.push_str(&format!("      {change}\n"));
        }
        if step.more_changes > 0 {
            text.push_str(&format!("      and {} more\n", step.more_changes));
        }
    }
    let run = explanation.run.to_hex();
    match explanation.held_since {
        0 => text.push_str(&format!("in run {run}, the newest\n")),
        1 => text.push_str(&format!("in run {run}; the one since then did not run it again\n")),
        runs => text.push_str(&format!("in run {run}; the {runs} since then did not run it again\n")),
    }
    text
}
