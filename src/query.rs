//! Queries: pure, synchronous functions of other queries, actions and observations.

use crate::answer::Halt;
use crate::db::Db;
use crate::explain::{Change, Values};
use crate::failure::DomainError;
use crate::spec::Spec;
use crate::value::Value;

/// A spec with a pure function that computes its value.
///
/// The function sees the world only through [`Db`]: it never touches disk, network, environment or clock, and it
/// is deterministic. It may be run several times before it comes to its end (each time something it needs is not
/// there yet), so it must also be cheap: slow work belongs into an [`crate::Action`].
///
/// Its result is kept with a trace of what was asked and is reused, in this process and the next, for as long as
/// asking the same again gives the same answers.
pub trait Query: Spec {
    /// The value.
    type Output: Value;
    /// How it can fail. [`crate::AnyError`] passes failures from below on as they are.
    type Error: DomainError;

    /// How two of its values differ, in words of its own, for people who ask why something ran again. By default they are
    /// compared field by field.
    fn changes(&self, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        let _ = (was, now, values);
        None
    }

    /// Computes the value.
    ///
    /// # Errors
    ///
    /// Ends with [`Halt::fail`] for errors of its own; failures from below and answers that are not there yet
    /// arrive through `?`.
    fn compute(&self, db: &Db<'_>) -> Result<Self::Output, Halt<Self::Error>>;
}
