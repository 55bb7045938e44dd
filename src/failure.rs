//! Failures: how a spec can end without a value.
//!
//! A failure is part of an answer: it is shared by everyone who waited for it, stays for the requests that saw
//! it, and is never persisted, nor is any result that read one. Two failures are equal only if they are the same
//! occurrence, so a failure is never mistaken for an earlier one.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::spec::SpecName;

/// An error that a query, action or observation of ours can end with.
pub trait DomainError: Error + Any + Send + Sync {
    #[doc(hidden)]
    fn as_any(&self) -> &(dyn Any + Send + Sync);
    #[doc(hidden)]
    fn as_error(&self) -> &(dyn Error + 'static);
}

impl<E: Error + Send + Sync + 'static> DomainError for E {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_error(&self) -> &(dyn Error + 'static) {
        self
    }
}

/// Why a spec has no value; `E` is the error type of the spec that was asked.
pub struct Failure<E = AnyError> {
    inner: Arc<FailureInner>,
    error: PhantomData<fn() -> E>,
}

/// The error type of a query that only passes on the failures of those below it.
///
/// It has no values of its own: a [`Failure<AnyError>`] is whatever failed below, its kind and source kept.
#[derive(Debug)]
pub struct AnyError(Failure<()>);

#[derive(Debug)]
pub(crate) struct FailureInner {
    pub(crate) spec: SpecName,
    pub(crate) cause: Cause,
}

pub(crate) enum Cause {
    Domain(Box<dyn DomainError>),
    Engine(EngineFailure),
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Domain(error) => fmt::Debug::fmt(error.as_error(), f),
            Cause::Engine(failure) => fmt::Debug::fmt(failure, f),
        }
    }
}

/// A failure that the engine found, not the domain.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineFailure {
    /// The spec needs its own result.
    #[error("dependency cycle: {}", ring_text(.ring))]
    Cycle {
        /// The members, each needing the next and the last needing the first; the first is the smallest by name.
        ring: Arc<[SpecName]>,
    },
    /// The body or the task panicked. Nothing of it was kept.
    #[error("internal error in {spec}: {message}")]
    Panicked {
        /// The spec whose code panicked.
        spec: SpecName,
        /// What the panic said.
        message: Arc<str>,
    },
    /// The chain of specs that need each other is longer than the engine allows.
    #[error("dependencies nest deeper than {limit} levels, from {top} down to {bottom}")]
    TooDeep {
        /// The limit, in levels.
        limit: usize,
        /// Where the chain begins.
        top: SpecName,
        /// Where it was cut.
        bottom: SpecName,
    },
    /// Two live requests want to change one thing in different ways.
    #[error("{first} and {second} want different contents of {target} at the same time")]
    Conflict {
        /// What both want to change.
        target: SpecName,
        /// The effect that came first; it goes on.
        first: SpecName,
        /// The effect that was refused.
        second: SpecName,
    },
    /// A value that was interned in another process is not in the store any more.
    #[error("the value {spec} is not at hand any more; it must be given again")]
    Lost {
        /// The interned value.
        spec: SpecName,
    },
    /// A value cannot be encoded, so it has no fingerprint.
    #[error("the result of {spec} cannot be encoded: {message}")]
    NotEncodable {
        /// The spec whose value it is.
        spec: SpecName,
        /// What the encoder said.
        message: Arc<str>,
    },
}

fn ring_text(ring: &[SpecName]) -> String {
    let mut text = String::new();
    for name in ring {
        text.push_str(&name.to_string());
        text.push_str(" -> ");
    }
    if let Some(first) = ring.first() {
        text.push_str(&first.to_string());
    }
    text
}

impl<E> Failure<E> {
    pub(crate) fn from_inner(inner: Arc<FailureInner>) -> Self {
        Self { inner, error: PhantomData }
    }

    /// The spec that failed first: what was asked, or something below it whose failure was passed on.
    pub fn spec(&self) -> &SpecName {
        &self.inner.spec
    }

    /// The engine's finding, if the engine and not the domain caused this.
    pub fn engine(&self) -> Option<&EngineFailure> {
        match &self.inner.cause {
            Cause::Engine(failure) => Some(failure),
            Cause::Domain(_) => None,
        }
    }

    /// The ring, if this failed because it needs its own result.
    pub fn cycle(&self) -> Option<&[SpecName]> {
        match self.engine() {
            Some(EngineFailure::Cycle { ring }) => Some(ring),
            _ => None,
        }
    }

    /// The error, whatever its type.
    pub fn error(&self) -> &(dyn Error + 'static) {
        match &self.inner.cause {
            Cause::Domain(error) => error.as_error(),
            Cause::Engine(failure) => failure,
        }
    }

    /// The same failure with its type forgotten.
    pub fn erase(self) -> Failure<AnyError> {
        Failure::from_inner(self.inner)
    }
}

impl<E: Error + 'static> Failure<E> {
    /// The domain's own error, if it is one of type `E`.
    ///
    /// For failures that were passed on from below through [`AnyError`] it is the error of the spec named by
    /// [`Failure::spec`], whatever its type: use [`Failure::error`] to look at it.
    pub fn domain(&self) -> Option<&E> {
        match &self.inner.cause {
            Cause::Domain(error) => error.as_any().downcast_ref(),
            Cause::Engine(_) => None,
        }
    }
}

impl<E> Clone for Failure<E> {
    fn clone(&self) -> Self {
        Self::from_inner(self.inner.clone())
    }
}

impl<E> fmt::Debug for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("spec", &self.inner.spec).field("cause", &self.inner.cause).finish()
    }
}

impl<E> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl<E> Error for Failure<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().source()
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for AnyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl<E> From<Failure<E>> for AnyError {
    fn from(failure: Failure<E>) -> Self {
        Self(Failure::from_inner(failure.inner))
    }
}

/// The failure that a body ending with `error` stands for.
///
/// [`AnyError`] is unwrapped, so a chain of specs that only pass a failure on does not wrap it once a level.
pub(crate) fn domain_failure<E: DomainError>(spec: SpecName, error: E) -> Arc<FailureInner> {
    if let Some(AnyError(failure)) = error.as_any().downcast_ref::<AnyError>() {
        return failure.inner.clone();
    }
    Arc::new(FailureInner { spec, cause: Cause::Domain(Box::new(error)) })
}

pub(crate) fn engine_failure(spec: SpecName, failure: EngineFailure) -> Arc<FailureInner> {
    Arc::new(FailureInner { spec, cause: Cause::Engine(failure) })
}

/// The error and its sources, one after the other.
pub(crate) fn chain(failure: &FailureInner) -> String {
    let error: &(dyn Error + 'static) = match &failure.cause {
        Cause::Domain(error) => error.as_error(),
        Cause::Engine(failure) => failure,
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
