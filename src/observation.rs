//! Observations: looks at the outside world.

use std::future::Future;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::action::Resource;
use crate::context::{ObserveContext, Roots};
use crate::explain::{Change, Values};
use crate::failure::DomainError;
use crate::kind::RawLast;
use crate::spec::{Spec, decode, is_encoding_of};
use crate::value::Value;

/// A spec with an asynchronous look at something outside: files, a prefix, a channel, an environment variable.
///
/// Each observation is made once in a session. Its value is a manifest of what was seen, complete enough that two
/// of them explain a difference. *Absent* is a value, not an error: whoever looked for a file and did not find it
/// depends on its absence.
pub trait Observation: Spec {
    /// What was seen.
    type Output: Value;
    /// How looking can fail; a thing that is absent is no failure.
    type Error: DomainError;
    /// What is cheap to see and decides whether the rest could have changed: inodes, sizes, times, entity tags.
    ///
    /// Stamps stay on this machine, and are equal if they encode equally; one that cannot be encoded is equal to no other.
    /// An equal stamp must mean an equal value, provided that nothing which it covers was modified in the two seconds
    /// before the look began.
    type Stamp: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// What it competes for while it looks.
    const RESOURCE: Resource = Resource::Io;

    /// Whether work may find it moved as often as it likes, because it cannot move for ever: what work says was
    /// missing, say. Of other things a few moves in a row are taken for a fight, and the work fails.
    const MOVES_FREELY: bool = false;

    /// Whether [`Seen::New::newest`] is of everything that the value stands on. If not, an equal value under another stamp proves
    /// nothing about what it was in between.
    fn newest_is_of_all(&self) -> bool {
        true
    }

    /// The place that stamps belong to, if the spec alone does not say: two checkouts may share a spec with a
    /// relative path, never a stamp.
    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        let _ = roots;
        None
    }

    /// How two of its values differ, in words of its own, for people who ask why something ran again: `file added`, with the
    /// path. By default they are compared field by field.
    fn changes(&self, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        let _ = (was, now, values);
        None
    }

    /// Looks.
    ///
    /// `last` is the previous look that is still to be trusted, if there is one; return [`Seen::Same`] if its
    /// stamp is still right, and use its value to look at no more than what changed. Its stamp may be one of an earlier
    /// layout, which is equal to none and cannot be decoded.
    ///
    /// # Errors
    ///
    /// Whatever it returns is shared with everyone who waits and is tried again by the next request.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when no request needs it any more; looking changes nothing.
    fn observe(
        &self,
        ctx: &ObserveContext,
        last: Option<Last<Self>>,
    ) -> impl Future<Output = Result<Seen<Self>, Self::Error>> + Send;
}

/// The previous look at something, as it is kept: only what is asked for is decoded.
pub struct Last<O: Observation> {
    pub(crate) raw: RawLast,
    pub(crate) of: PhantomData<fn() -> O>,
}

impl<O: Observation> Last<O> {
    /// Whether its stamp is this one. They are compared as they are encoded, which is sooner done than decoding the one
    /// that is kept.
    pub fn is(&self, stamp: &O::Stamp) -> bool {
        is_encoding_of(&self.raw.stamp, stamp)
    }

    /// Its stamp; `None` if it cannot be decoded any more.
    pub fn stamp(&self) -> Option<O::Stamp> {
        decode(&self.raw.stamp).ok()
    }

    /// Its value; `None` if the store cannot produce it any more.
    pub fn value(self) -> Option<O::Output> {
        decode(&(self.raw.value)()?).ok()
    }

    /// Its stamp and its value, if both can be had.
    pub fn into_parts(self) -> Option<(O::Stamp, O::Output)> {
        Some((self.stamp()?, self.value()?))
    }
}

/// What a look found.
pub enum Seen<O: Observation> {
    /// The stamp of the last look is still right, so its value is.
    Same,
    /// Everything that was seen.
    New {
        /// The manifest.
        value: O::Output,
        /// The stamp, taken before the content was read.
        stamp: O::Stamp,
        /// The newest modification or status change of anything that the stamp covers. `None` if the stamp does not
        /// rest on file times and can be trusted at once.
        newest: Option<SystemTime>,
    },
}
