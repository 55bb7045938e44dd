//! What is known of earlier runs: what is said where nothing is, or where the store cannot be read.

use doge_queries::doge::History;
use miette::miette;

use crate::workspace::{Located, warn};

/// The error of a store that cannot be read, if that is why something is not there.
pub(crate) fn unreadable(history: &History) -> Option<miette::Report> {
    let problem = history.problem()?;
    Some(miette!(
        help = "what is damaged is put aside by the next run; `doge cache verify` keeps what is whole of it",
        "the store at `{}` cannot be read: {problem}",
        history.directory().display()
    ))
}

/// Why nothing that was done in a workspace is known.
pub(crate) fn nothing(history: &History, located: &Located) -> miette::Report {
    let help = if located.has_installed() {
        "something was done here before, but its record was collected or not kept; the next run leaves one"
    } else {
        "run `doge install` first"
    };
    unreadable(history).unwrap_or_else(|| miette!(help = help, "no run of this workspace is on record"))
}

/// Says if what was shown may not be all there is.
pub(crate) fn warn_if_damaged(history: &History) {
    if let Some(report) = unreadable(history) {
        warn(&[format!("{report}; what is shown may not be all")]);
    }
}
