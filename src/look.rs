//! Looking at the world: making one observation, and deciding how far its stamp can be trusted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use doge_storage::{Fingerprint, Key};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Found};
use crate::context::ObserveContext;
use crate::evaluate::panic_message;
use crate::failure::{EngineFailure, engine_failure};
use crate::kind::{Ops, RawLast, RawSeen};
use crate::runtime::Shared;
use crate::spec::{NameInner, SharedSpec, SpecName};
use crate::value::Cell;

/// How much older than the look everything under a stamp must be for the stamp to be trusted.
///
/// The coarsest file times in use have two seconds. A file that changes again within the same tick keeps its
/// times, so until the tick is over an equal stamp proves nothing.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How far file times may lag behind the clock that says when an action started.
///
/// The kernel stamps files with the time of the last timer tick, which is up to 10 ms old (4 ms at the usual
/// 250 Hz).
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// What a look saw.
#[derive(Clone)]
pub(crate) struct Sighting {
    pub(crate) answer: Answer,
    /// The encoded stamp. Empty if there is none to keep.
    pub(crate) stamp: Arc<[u8]>,
    /// Nothing under the stamp was modified so shortly before the look that it could change again unnoticed.
    pub(crate) settled: bool,
    /// The newest modification of anything under the stamp.
    pub(crate) newest: Option<SystemTime>,
    /// Whether that is of everything that the value stands on.
    pub(crate) newest_is_of_all: bool,
    /// When the look began.
    pub(crate) began: SystemTime,
    /// The same, by a clock that is never set, to tell which of two looks began later.
    pub(crate) at: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// The key of the stamp that alone answered, if one did.
    pub(crate) by_stamp: Option<Key>,
    /// The encoding of the value, if it was read now.
    pub(crate) bytes: Option<Arc<[u8]>>,
}

impl Sighting {
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        match &self.answer {
            Answer::Value(found) => Some(found.fingerprint()),
            Answer::Failed(_) | Answer::Pending => None,
        }
    }

    /// Whether this look, after work that began at `start`, proves that what the work read was as `before` saw it.
    ///
    /// Either nothing moved since then at all, or whatever moved had come to rest, as `before` saw it, when the work
    /// began.
    pub(crate) fn unmoved_since(&self, before: &Sighting, start: SystemTime) -> bool {
        let came_to_rest = self.newest_is_of_all && self.newest.is_some_and(|newest| newest + TICK < start);
        self.fingerprint().is_some()
            && self.fingerprint() == before.fingerprint()
            && (self.has_stamp_of(before) || came_to_rest)
    }

    /// Whether both have the same stamp; those that could not be encoded are like no other.
    fn has_stamp_of(&self, before: &Sighting) -> bool {
        !self.stamp.is_empty() && self.stamp == before.stamp
    }

    /// Whether this first look, after work that began at `start`, proves that nothing moved since then.
    pub(crate) fn unmoved_since_start(&self, start: SystemTime) -> bool {
        self.fingerprint().is_some() && self.newest.is_none_or(|newest| newest + TICK < start)
    }

    /// What the next look may go by; `key` is that of the stamp.
    pub(crate) fn as_last(&self, key: Key) -> Option<KnownLast> {
        let Answer::Value(found) = &self.answer else { return None };
        if !self.settled || self.stamp.is_empty() {
            return None;
        }
        Some(KnownLast { key, stamp: self.stamp.clone(), cell: found.cell.clone(), bytes: self.bytes.clone() })
    }
}

/// A trusted look from before: of this session, or from the store.
#[derive(Clone)]
pub(crate) struct KnownLast {
    /// The key under which its stamp is kept.
    pub(crate) key: Key,
    pub(crate) stamp: Arc<[u8]>,
    pub(crate) cell: Cell,
    pub(crate) bytes: Option<Arc<[u8]>>,
}

/// The key under which the stamp of an observation is kept: its spec and the place it looks at.
pub(crate) fn stamp_key(shared: &Shared, spec: &SharedSpec, key: Key) -> Key {
    let Ops::Observation(ops) = spec.kind().ops() else { return key };
    match ops.place(spec, &shared.roots) {
        None => key,
        Some(place) => {
            let mut hasher = blake3::Hasher::new_keyed(b"doge: the stamp of what was seen");
            hasher.update(key.as_bytes());
            hasher.update(place.as_os_str().as_encoded_bytes());
            Key::from_bytes(*hasher.finalize().as_bytes())
        }
    }
}

/// Makes an observation. Never fails: a failure to look is what it saw.
pub(crate) async fn look(
    shared: &Arc<Shared>,
    spec: &SharedSpec,
    cancel: &CancellationToken,
    last: Option<KnownLast>,
) -> Sighting {
    let at = Instant::now();
    let sighting = sighting(shared, spec, cancel, last, at).await;
    Sighting { took: at.elapsed(), ..sighting }
}

async fn sighting(
    shared: &Arc<Shared>,
    spec: &SharedSpec,
    cancel: &CancellationToken,
    last: Option<KnownLast>,
    at: Instant,
) -> Sighting {
    let began = shared.now();
    let failed = |failure| Sighting {
        answer: Answer::Failed(failure),
        stamp: Arc::from([]),
        settled: false,
        newest: None,
        newest_is_of_all: false,
        began,
        at,
        took: Duration::ZERO,
        by_stamp: None,
        bytes: None,
    };
    let panicked = |message: &str| {
        let name = SpecName(NameInner::Spec(spec.clone()));
        failed(engine_failure(name.clone(), EngineFailure::Panicked { spec: name, message: message.into() }))
    };
    let Ops::Observation(ops) = spec.kind().ops() else {
        return panicked("not an observation");
    };
    let ctx = ObserveContext { shared: shared.clone(), spec: spec.clone(), cancel: cancel.clone() };
    let raw = last.clone().map(|last| RawLast {
        stamp: last.stamp,
        value: {
            let store = shared.store.clone();
            let kind = spec.kind();
            Box::new(move || {
                if let Some(bytes) = last.bytes {
                    return Some(bytes.to_vec());
                }
                if let Some(value) = last.cell.get() {
                    let mut bytes = Vec::new();
                    return kind.encode_value(value, &mut bytes).ok().map(|()| bytes);
                }
                store?.snapshot().value(last.cell.fingerprint())
            })
        },
    });
    let seen = match AssertUnwindSafe(ops.observe(spec, &ctx, raw)).catch_unwind().await {
        Ok(Ok(seen)) => seen,
        Ok(Err(failure)) => return failed(failure),
        Err(payload) => return panicked(&panic_message(payload.as_ref())),
    };
    match (seen, last) {
        (RawSeen::Same, Some(last)) => Sighting {
            answer: Answer::Value(Found::new(last.cell)),
            stamp: last.stamp,
            settled: true,
            newest: None,
            newest_is_of_all: false,
            began,
            at,
            took: Duration::ZERO,
            by_stamp: Some(last.key),
            bytes: last.bytes,
        },
        (RawSeen::Same, None) => panicked("an observation said \"the same\" without having been told of a last look"),
        (RawSeen::New { value, stamp, newest }, _) => {
            let mut bytes = Vec::new();
            if let Err(error) = spec.kind().encode_value(&value, &mut bytes) {
                return panicked(&format!("its value cannot be encoded: {error}"));
            }
            Sighting {
                answer: Answer::Value(Found::new(Cell::new(Fingerprint::of(&bytes), value))),
                stamp: stamp.into(),
                settled: newest.is_none_or(|newest| newest + SETTLED_AFTER <= began),
                newest,
                newest_is_of_all: ops.newest_is_of_all(spec),
                began,
                at,
                took: Duration::ZERO,
                by_stamp: None,
                bytes: Some(bytes.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [R2] What was moved and moved back while work went on has the value that it had; only its stamp tells.
    #[test]
    fn looks_whose_stamps_were_not_kept_do_not_prove_that_nothing_moved() {
        let now = SystemTime::now();
        let look = |stamp: &[u8]| Sighting {
            answer: Answer::Value(Found::new(Cell::new(Fingerprint::of(b"value"), Arc::new(1_u64)))),
            stamp: stamp.into(),
            settled: true,
            newest: Some(now),
            newest_is_of_all: true,
            began: now,
            at: Instant::now(),
            took: Duration::ZERO,
            by_stamp: None,
            bytes: None,
        };
        assert!(look(&[1]).unmoved_since(&look(&[1]), now));
        assert!(!look(&[2]).unmoved_since(&look(&[1]), now), "other stamps");
        assert!(!look(&[]).unmoved_since(&look(&[]), now), "no stamps");
    }
}
