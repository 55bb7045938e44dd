//! Answers: what asking yields. A value, a failure, or *pending* on demands that are not met yet.
//!
//! Pending is not for bodies to look at. It passes through `?` as part of [`Stop`], which a body can only turn
//! into [`Halt`], the end of its own run. That is what makes a finished answer independent of what was pending
//! while it was found, and of the order in which work ended.

use std::sync::Arc;

use doge_storage::Fingerprint;

use crate::failure::{Failure, FailureInner};
use crate::value::Cell;

/// The answer of a spec as the memo keeps it.
///
/// Equality decides early cut-off: values by fingerprint, failures by occurrence. Pending is not even equal to
/// itself: it may rest on a read that salsa cannot track, and to cut off there would date it back to a revision in
/// which it was not true yet.
#[derive(Clone)]
pub(crate) enum Answer {
    Value(Found),
    Failed(Arc<FailureInner>),
    /// Which demands it waits for stands in the node table: salsa may replace the value of a cycle's member.
    Pending,
}

/// A value and what recording must know of it.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) cell: Cell,
    /// Made with the help of a failure that somebody tolerated, here or below: true for this session only.
    pub(crate) tainted: bool,
}

impl Found {
    pub(crate) fn new(cell: Cell) -> Self {
        Self { cell, tainted: false }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.cell.fingerprint()
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Answer::Value(a), Answer::Value(b)) => a.fingerprint() == b.fingerprint() && a.tainted == b.tainted,
            (Answer::Failed(a), Answer::Failed(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// The answer is not there yet. The engine runs the body again when it is.
#[derive(Debug)]
pub struct Pending(());

impl Pending {
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

/// Why asking another spec did not give a value.
///
/// A body passes it on with `?`, or takes the failure out with [`Tolerate::settle`]. It cannot see whether the
/// answer is pending.
#[derive(Debug)]
#[must_use = "pass it on with `?`"]
pub struct Stop<E>(pub(crate) StopInner<E>);

#[derive(Debug)]
pub(crate) enum StopInner<E> {
    Pending,
    Failed(E),
}

impl<E> Stop<E> {
    pub(crate) const PENDING: Self = Self(StopInner::Pending);

    /// The same stop with another error, for a body that wants to say more about a failure below it.
    pub fn map<F>(self, say: impl FnOnce(E) -> F) -> Stop<F> {
        match self.0 {
            StopInner::Pending => Stop(StopInner::Pending),
            StopInner::Failed(error) => Stop(StopInner::Failed(say(error))),
        }
    }
}

/// How a body ends without a value: with its own error, or because something it needs is not there yet.
#[derive(Debug)]
#[must_use = "return it from the body"]
pub struct Halt<E>(pub(crate) StopInner<E>);

impl<E> Halt<E> {
    /// The body fails with `error`.
    pub fn fail(error: impl Into<E>) -> Self {
        Self(StopInner::Failed(error.into()))
    }

    /// The same end with another error, for a body that is part of another one.
    pub fn map<F>(self, say: impl FnOnce(E) -> F) -> Halt<F> {
        match self.0 {
            StopInner::Pending => Halt(StopInner::Pending),
            StopInner::Failed(error) => Halt(StopInner::Failed(say(error))),
        }
    }
}

impl<E, F: From<E>> From<Stop<E>> for Halt<F> {
    fn from(stop: Stop<E>) -> Self {
        match stop.0 {
            StopInner::Pending => Halt(StopInner::Pending),
            StopInner::Failed(error) => Halt(StopInner::Failed(error.into())),
        }
    }
}

impl<E> From<Pending> for Halt<E> {
    fn from(_: Pending) -> Self {
        Halt(StopInner::Pending)
    }
}

/// Taking a failure out of an answer, so that a body can go on without the value.
pub trait Tolerate {
    /// The value.
    type Value;
    /// The failure.
    type Error;

    /// The value or the failure, once it is known which.
    ///
    /// The result of a body that tolerated a failure is true for this session only and is never persisted, for
    /// the next request tries what failed again.
    fn settle(self) -> Result<Result<Self::Value, Self::Error>, Pending>;
}

impl<T, E> Tolerate for Result<T, Stop<E>> {
    type Value = T;
    type Error = E;

    fn settle(self) -> Result<Result<T, E>, Pending> {
        match self {
            Ok(value) => Ok(Ok(value)),
            Err(Stop(StopInner::Failed(error))) => Ok(Err(error)),
            Err(Stop(StopInner::Pending)) => Err(Pending::new()),
        }
    }
}

/// What asking a spec whose error type is `E` returns.
pub type Asked<T, E> = Result<Arc<T>, Stop<Failure<E>>>;
