//! Actions: asynchronous work whose result depends only on the spec and on what the action reports to have read.

use std::future::Future;

use crate::context::ActionContext;
use crate::explain::{Change, Values};
use crate::failure::DomainError;
use crate::spec::Spec;
use crate::value::Value;

/// What work competes for. Each class has a limit of its own; see [`crate::Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Solving environments: processor and memory.
    Solve,
    /// Calls to build backends.
    Build,
    /// Git fetches.
    Git,
    /// Downloads.
    Url,
    /// Files.
    Io,
    /// Other computations.
    Cpu,
}

impl Resource {
    /// All classes.
    pub const ALL: [Resource; 6] =
        [Resource::Solve, Resource::Build, Resource::Git, Resource::Url, Resource::Io, Resource::Cpu];
}

/// A spec with asynchronous work.
///
/// The result is found again by the spec *and* everything the action reported to have read
/// ([`ActionContext::report_read`]): when one of those changes, the action runs again.
pub trait Action: Spec {
    /// The value.
    type Output: Value;
    /// How it can fail.
    type Error: DomainError;

    /// What it competes for while it runs.
    const RESOURCE: Resource;

    /// Whether it is worth a lock between processes and a commit of its own.
    ///
    /// An expensive action runs in one process at a time; whoever waited takes the result from the store. Its
    /// result is committed before the lock is released, so a kill right afterwards does not lose it.
    const EXPENSIVE: bool = false;

    /// How two of its values differ, in words of its own, for people who ask why something ran again: `file added`, with the
    /// path. By default they are compared field by field.
    fn changes(&self, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        let _ = (was, now, values);
        None
    }

    /// Does the work.
    ///
    /// # Errors
    ///
    /// Whatever it returns is shared with everyone who waits and is tried again by the next request. To end
    /// because the world moved under it, call [`ActionContext::observe_again`] and return the error to be used if
    /// the world never holds still.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when no request needs it any more. Files must be written aside and renamed; child
    /// processes must die with the future; blocking work must look at the token of `ObserveContext::cancelled`.
    fn run(&self, ctx: &ActionContext) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}
