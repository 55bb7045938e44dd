//! What something ran for in the end.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::explain::Change;
use crate::run::RecordedSpec;

/// What something ran for in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What sort of cause it is.
    pub sort: CauseSort,
    /// The name of the kind that it is about.
    pub kind: String,
    /// The spec that it is about, written out.
    pub name: String,
    /// What changed, if something did.
    pub changes: Vec<Change>,
    /// What else there is to say: an error, who found something gone, what was not as wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The sorts of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseSort {
    /// Something outside changed.
    Changed,
    /// It was asked for in another way than the last time.
    AskedDifferently,
    /// It was done by another version of what decides its result.
    OtherVersion,
    /// It was done for the first time.
    New,
    /// Somebody wanted it, whatever was recorded.
    Forced,
    /// Its result, or a file that belongs to it, was gone or damaged.
    Gone,
    /// It had failed the last time, and failures are tried again.
    FailedBefore,
    /// The run before ended while it was at work.
    Unfinished,
    /// What was recorded for it has been collected.
    Collected,
    /// The store could not be read.
    StoreDamaged,
    /// Something was not as wanted.
    NotAsWanted,
}

impl Cause {
    pub(super) fn of(sort: CauseSort, spec: &RecordedSpec) -> Self {
        Self { sort, kind: spec.kind.clone(), name: spec.name.clone(), changes: Vec::new(), note: None }
    }
}

impl fmt::Display for Cause {
    /// In words, each change on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = |before: &str| self.note.as_ref().map(|note| format!("{before}{note}")).unwrap_or_default();
        match self.sort {
            CauseSort::Changed if self.changes.is_empty() => write!(f, "{} changed", self.name)?,
            CauseSort::Changed => {}
            CauseSort::AskedDifferently if self.changes.is_empty() => {
                write!(f, "{} was asked for in another way than the last time", self.name)?;
            }
            CauseSort::AskedDifferently => {}
            CauseSort::OtherVersion if self.changes.is_empty() => {
                write!(f, "{} was done by another version of this program before", self.name)?;
            }
            CauseSort::OtherVersion => {}
            CauseSort::New => write!(f, "it was never done before: {}", self.name)?,
            CauseSort::Forced => write!(f, "it was asked for by force: {}", self.name)?,
            CauseSort::Gone => {
                write!(f, "the result of {}, or a file of it, was gone or damaged{}", self.name, note("; found by: "))?;
            }
            CauseSort::FailedBefore => write!(f, "{} had failed the last time{}", self.name, note(": "))?,
            CauseSort::Unfinished => write!(f, "{} was not done when the run before ended", self.name)?,
            CauseSort::Collected => {
                write!(f, "what was recorded for {} is not there any more: it was collected{}", self.name, note("; "))?;
            }
            CauseSort::StoreDamaged => write!(f, "what was recorded could not be read{}", note(": "))?,
            CauseSort::NotAsWanted => match &self.note {
                Some(note) => f.write_str(note)?,
                None => write!(f, "the target of {} was not as wanted", self.name)?,
            },
        }
        for (place, change) in self.changes.iter().enumerate() {
            write!(f, "{}{change}", if place > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}
