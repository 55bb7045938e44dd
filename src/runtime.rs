//! The runtime: everything slow. Runs the work of actions, effects and observations and tells the planner.
//!
//! Tasks know nothing of the graph. A task gets all it needs when it starts and sends one message when it ends.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use doge_storage::{Batch, Dependency, Fingerprint, Key, Locks, Store, Trace};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::action::Resource;
use crate::answer::{Answer, Found};
use crate::context::{ActionContext, Notes, ObserveContext, Remake, Resources, Roots};
use crate::evaluate::panic_message;
use crate::event::{Event, Listener, Retreat};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::intern::AtHand;
use crate::kind::{Ops, Role};
use crate::look::{KnownLast, Sighting, look, stamp_key};
use crate::node::NodeIndex;
use crate::persist::{Write, Writer, stored_spec};
use crate::spec::{NameInner, SharedSpec, SpecName, key_of, kind_seed};
use crate::sync::tokio::sync::Semaphore;
use crate::sync::{Mutex, MutexGuard, rayon, tokio};
use crate::value::{AnyValue, Cell};

/// What all tasks of a database share.
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    pub(crate) roots: Roots,
    pub(crate) limits: FxHashMap<Resource, Arc<Semaphore>>,
    pub(crate) listener: Option<Listener>,
    pub(crate) store: Option<Store>,
    /// What traces of this scope are told apart by.
    pub(crate) scope: u64,
    pub(crate) writer: Option<Writer>,
    pub(crate) locks: Option<Locks>,
    pub(crate) runtime: Option<tokio::runtime::Handle>,
    /// What was seen in this session, by spec.
    pub(crate) at_hand: Arc<AtHand>,
    pub(crate) sightings: Mutex<FxHashMap<Key, Noted>>,
    /// When work began that has not ended, or was stopped.
    pub(crate) at_work: Mutex<FxHashMap<Key, SystemTime>>,
    /// What waited for whom, since when, and how long.
    pub(crate) waits: Mutex<Vec<Waited>>,
    /// What was wrong with the store.
    pub(crate) remarks: Arc<Mutex<Vec<String>>>,
}

/// What was seen of something.
pub(crate) struct Noted {
    sighting: Arc<Sighting>,
    /// When the look began that was the first to see this, if one before it saw something else.
    moved: Option<Instant>,
}

/// What waited for somebody else, for whom, since when, and how long.
pub(crate) struct Waited {
    pub(crate) name: String,
    pub(crate) holder: String,
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
}

impl Shared {
    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.listener {
            listener(&event());
        }
    }

    pub(crate) fn at_work(&self) -> MutexGuard<'_, FxHashMap<Key, SystemTime>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waits(&self) -> MutexGuard<'_, Vec<Waited>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was wrong with the store so far, each thing once.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut known = std::collections::HashSet::new();
        remarks.retain(|remark| known.insert(remark.clone()));
        remarks
    }

    /// A session begins.
    pub(crate) fn forget_remarks(&self) {
        self.waits().clear();
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The wall clock, to compare with the times of files; never part of a result.
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn noted(&self) -> MutexGuard<'_, FxHashMap<Key, Noted>> {
        // Each change is one insertion or removal, so a panic cannot leave it half-done.
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sighting(&self, key: Key) -> Option<Arc<Sighting>> {
        self.noted().get(&key).map(|noted| noted.sighting.clone())
    }

    /// Whether a look that began after this saw something else than the one before it.
    fn has_moved_since(&self, key: Key, since: Instant) -> bool {
        self.noted().get(&key).and_then(|noted| noted.moved).is_some_and(|moved| moved > since)
    }

    /// What this session sees. A look that failed is none: whoever looks next starts afresh.
    pub(crate) fn note_sighting(&self, key: Key, sighting: &Sighting) {
        let mut noted = self.noted();
        let Some(seen) = sighting.fingerprint() else {
            noted.remove(&key);
            return;
        };
        let moved = noted.get(&key).and_then(|before| {
            if before.sighting.fingerprint() == Some(seen) { before.moved } else { Some(sighting.at) }
        });
        noted.insert(key, Noted { sighting: Arc::new(sighting.clone()), moved });
    }

    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let Some(runtime) = &self.runtime else { return work() };
        let (job, ended) = job(work);
        runtime.spawn_blocking(job);
        ended.await
    }

    pub(crate) async fn cpu<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.runtime.is_none() {
            return work();
        }
        let (job, ended) = job(work);
        rayon::spawn(job);
        ended.await
    }

    async fn permit(&self, resource: Resource) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let limit = self.limits.get(&resource)?;
        // The semaphores are never closed.
        limit.clone().acquire_owned().await.ok()
    }
}

/// A job for another thread, and what waits for it to end: its value, or its panic, comes out there.
fn job<T: Send>(work: impl FnOnce() -> T + Send) -> (impl FnOnce() + Send, impl Future<Output = T>) {
    let (send, receive) = oneshot::channel();
    let job = move || {
        // Nobody may be waiting any more.
        let _ = send.send(std::panic::catch_unwind(AssertUnwindSafe(work)));
    };
    let ended = async {
        match receive.await {
            Ok(Ok(value)) => value,
            Ok(Err(payload)) => std::panic::resume_unwind(payload),
            // The runtime shuts down: whoever waits is dropped together with it.
            Err(_) => std::future::pending().await,
        }
    };
    (job, ended)
}

/// A piece of work to be done for a node.
pub(crate) struct Task {
    pub(crate) node: NodeIndex,
    /// Tells this piece of work from earlier ones for the same node.
    pub(crate) attempt: u64,
    pub(crate) cancel: CancellationToken,
    pub(crate) work: BoxFuture<'static, Ended>,
}

/// How a piece of work ended.
pub(crate) enum Ended {
    /// An action or effect has an answer.
    Answered(Box<Answered>),
    /// An observation was made.
    Observed(Sighting),
    /// Another process recorded the result meanwhile.
    FoundInStore,
    /// It waited for somebody who may have done it: the store is looked into, and else it begins again.
    BeginAgain,
    /// These must be observed again; the failure counts if they do not hold still.
    ObserveAgain { seen: Vec<(SharedSpec, Sighting)>, otherwise: Arc<FailureInner> },
    /// These must run again; the failure counts if that does not help.
    Remake { actions: Vec<Remake>, otherwise: Arc<FailureInner> },
    /// Nobody needs it any more.
    Cancelled,
}

impl Ended {
    fn word(&self) -> &'static str {
        match self {
            Ended::Answered(answered) => match answered.answer {
                Answer::Value(_) => "executed",
                Answer::Failed(_) => "failed",
                Answer::Pending => "pending",
            },
            Ended::Observed(_) => "observed",
            Ended::FoundInStore => "found in the store",
            Ended::BeginAgain => "somebody may have done it",
            Ended::ObserveAgain { .. } => "the world moved",
            Ended::Remake { .. } => "something has to be made again",
            Ended::Cancelled => "cancelled",
        }
    }
}

pub(crate) struct Answered {
    pub(crate) answer: Answer,
    /// What was read, as it was when it was read.
    pub(crate) reads: Vec<Read>,
    /// Nothing that was read moved meanwhile: the result belongs to the reads.
    pub(crate) certain: bool,
    /// When it began, after all waiting.
    pub(crate) start: SystemTime,
    pub(crate) cost: Duration,
    pub(crate) bytes: Option<Arc<[u8]>>,
    pub(crate) interned: Vec<(Fingerprint, Vec<u8>)>,
    /// Its trace is in the store already.
    pub(crate) committed: bool,
    /// What an effect changed, as it is now.
    pub(crate) target: Option<(SharedSpec, Sighting)>,
}

/// A reported read.
pub(crate) struct Read {
    pub(crate) spec: SharedSpec,
    pub(crate) sighting: Sighting,
}

fn name_of(spec: &SharedSpec) -> SpecName {
    SpecName(NameInner::Spec(spec.clone()))
}

/// The work of an observation.
pub(crate) fn observing(
    shared: Arc<Shared>,
    spec: SharedSpec,
    cancel: CancellationToken,
    last: Option<KnownLast>,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let Ops::Observation(ops) = spec.kind().ops() else { return Ended::Cancelled };
        let _permit = shared.permit(ops.resource()).await;
        shared.emit(|| Event::WillObserve { spec: name_of(&spec) });
        if tracing::enabled!(target: crate::SPANS, tracing::Level::TRACE) {
            let span = span_of("observation", &spec, key_of_spec(&spec));
            let sighting = look(&shared, &spec, &cancel, last).instrument(span.clone()).await;
            span.record("outcome", if sighting.fingerprint().is_some() { "observed" } else { "failed" });
            return Ended::Observed(sighting);
        }
        Ended::Observed(look(&shared, &spec, &cancel, last).await)
    })
}

/// Which recorded results of an expensive action would be news, and which it must not be answered with.
pub(crate) enum Known {
    /// It was asked for by force: no recorded result will do.
    Forced,
    /// These were found not to hold.
    Traces(Vec<Fingerprint>),
}

/// The work of an action or effect.
pub(crate) fn working(
    shared: Arc<Shared>,
    spec: SharedSpec,
    key: Key,
    known: Known,
    cancel: CancellationToken,
) -> BoxFuture<'static, Ended> {
    if tracing::enabled!(target: crate::SPANS, tracing::Level::DEBUG) {
        let what = if matches!(spec.kind().ops(), Ops::Effect(_)) { "effect" } else { "action" };
        let span = span_of(what, &spec, Some(key));
        let work = at_work(shared, spec, key, known, cancel);
        return Box::pin(async move {
            let ended = work.instrument(span.clone()).await;
            span.record("outcome", ended.word());
            ended
        });
    }
    at_work(shared, spec, key, known, cancel)
}

/// A span for a spec that is worked on or looked at.
fn span_of(what: &'static str, spec: &SharedSpec, key: Option<Key>) -> tracing::Span {
    tracing::debug_span!(
        target: crate::SPANS,
        "work",
        what,
        kind = spec.kind().name(),
        spec = %spec,
        label = spec.label(),
        key = key.map(tracing::field::display),
        outcome = tracing::field::Empty,
    )
}

fn at_work(
    shared: Arc<Shared>,
    spec: SharedSpec,
    key: Key,
    known: Known,
    cancel: CancellationToken,
) -> BoxFuture<'static, Ended> {
    match spec.kind().ops() {
        Ops::Action(ops) if ops.expensive() => Box::pin(expensive(shared, spec, key, known, cancel)),
        // A future of its own, and a smaller one: most actions are cheap, and there may be very many of them.
        _ => Box::pin(async move {
            match work(&shared, &spec, key, &cancel, false).await {
                Ok(answered) => Ended::Answered(Box::new(answered)),
                Err(ended) => ended,
            }
        }),
    }
}

/// An expensive action: one process at a time, and committed before anybody else may go on.
async fn expensive(shared: Arc<Shared>, spec: SharedSpec, key: Key, known: Known, cancel: CancellationToken) -> Ended {
    let guard = match &shared.locks {
        Some(locks) => crate::lock::acquire(&shared, locks, &spec, &key.to_hex()).await,
        None => None,
    };
    // Between our look into the store and the lock, another process may have done it.
    if let (Some(_), Known::Traces(known), Some(store)) = (&guard, known, shared.store.clone()) {
        let traces = shared.blocking(move || store.snapshot().traces(key)).await;
        if traces.iter().any(|trace| !known.contains(&trace.fingerprint())) {
            shared.emit(|| Event::DidRetreat { spec: name_of(&spec), reason: Retreat::FoundInStore });
            return Ended::FoundInStore;
        }
    }
    let gave_up = guard.is_none() && shared.locks.is_some();
    let mut answered = match work(&shared, &spec, key, &cancel, gave_up).await {
        Ok(answered) => answered,
        Err(ended) => return ended,
    };
    if let (true, Answer::Value(found), Some(writer)) = (answered.certain, &answered.answer, &shared.writer) {
        let batch = batch_of(&shared, &spec, key, found, &answered);
        // Written or not, the result is right; and only the store can tell which, by an event.
        answered.committed = writer.write(batch, Write::Commit).await.is_ok();
    }
    drop(guard);
    Ended::Answered(Box::new(answered))
}

/// Runs an action or effect and looks again at what it read or changed. `gave_up` tells that another process may be at the
/// same work.
async fn work(
    shared: &Arc<Shared>,
    spec: &SharedSpec,
    key: Key,
    cancel: &CancellationToken,
    gave_up: bool,
) -> Result<Answered, Ended> {
    let (resource, target) = match spec.kind().ops() {
        Ops::Action(ops) => (ops.resource(), None),
        Ops::Effect(ops) => (ops.resource(), ops.target(spec)),
        Ops::Query(_) | Ops::Observation(_) => return Err(Ended::Cancelled),
    };
    let permit = shared.permit(resource).await;
    shared.emit(|| Event::DidStart { spec: name_of(spec) });
    let base = ObserveContext { shared: shared.clone(), spec: spec.clone(), cancel: cancel.clone() };
    let ctx = ActionContext::new(base, gave_up);
    let start = shared.now();
    shared.at_work().insert(key, start);
    let clock = Instant::now();
    let result = match spec.kind().ops() {
        Ops::Action(ops) => AssertUnwindSafe(ops.run(spec, &ctx)).catch_unwind().await,
        Ops::Effect(ops) => AssertUnwindSafe(ops.run(spec, &ctx)).catch_unwind().await,
        Ops::Query(_) | Ops::Observation(_) => return Err(Ended::Cancelled),
    };
    let cost = clock.elapsed();
    shared.at_work().remove(&key);
    drop(permit);
    let notes = ctx.into_notes();
    let result = result.unwrap_or_else(|payload| {
        let message = panic_message(payload.as_ref()).into();
        Err(engine_failure(name_of(spec), EngineFailure::Panicked { spec: name_of(spec), message }))
    });
    let result = retreat(shared, spec, cancel, &notes, result).await?;
    let target = match target {
        Some(target) => {
            let seen = look(shared, &target, cancel, None).await;
            Some((target, seen))
        }
        None => None,
    };
    let (reads, certain) = read_back(shared, cancel, notes.reads, start, clock).await;
    let (answer, bytes) = match result {
        Ok(value) => match encoded(spec, value) {
            Ok((found, bytes)) => (Answer::Value(found), Some(bytes)),
            Err(failure) => (Answer::Failed(failure), None),
        },
        Err(failure) => (Answer::Failed(failure), None),
    };
    let interned = notes.interned;
    Ok(Answered { answer, reads, certain, start, cost, bytes, interned, committed: false, target })
}

/// Ends the work without a result if it asked for that.
async fn retreat(
    shared: &Arc<Shared>,
    spec: &SharedSpec,
    cancel: &CancellationToken,
    notes: &Notes,
    result: Result<AnyValue, Arc<FailureInner>>,
) -> Result<Result<AnyValue, Arc<FailureInner>>, Ended> {
    if notes.begin_again {
        shared.emit(|| Event::DidRetreat { spec: name_of(spec), reason: Retreat::Waited });
        return Err(Ended::BeginAgain);
    }
    if notes.observe_again.is_empty() && notes.remake.is_empty() {
        return Ok(result);
    }
    let otherwise = result.err().unwrap_or_else(|| {
        let message = "it asked for the world to be looked at again, and found no way to say why".into();
        engine_failure(name_of(spec), EngineFailure::Panicked { spec: name_of(spec), message })
    });
    if !notes.remake.is_empty() {
        shared.emit(|| Event::DidRetreat { spec: name_of(spec), reason: Retreat::NeedsRemake });
        return Err(Ended::Remake { actions: notes.remake.clone(), otherwise });
    }
    shared.emit(|| Event::DidRetreat { spec: name_of(spec), reason: Retreat::WorldMoved });
    let mut seen = Vec::new();
    for again in &notes.observe_again {
        seen.push((again.clone(), look(shared, again, cancel, None).await));
    }
    Err(Ended::ObserveAgain { seen, otherwise })
}

/// Looks again at everything that was read, to see whether it moved while it was.
///
/// What was observed before the work began must have the value that it had then, under the same stamp: under another
/// one it may have been something else in between, unless all of it was modified for the last time before the work
/// began. What is seen for the first time must not have been modified since the work began. And a refresh meanwhile must not
/// have seen it change.
async fn read_back(
    shared: &Arc<Shared>,
    cancel: &CancellationToken,
    reads: Vec<SharedSpec>,
    start: SystemTime,
    clock: Instant,
) -> (Vec<Read>, bool) {
    let mut back: Vec<Read> = Vec::with_capacity(reads.len());
    let mut known = std::collections::HashSet::new();
    let mut certain = true;
    for spec in reads {
        let Some(key) = key_of_spec(&spec) else {
            certain = false;
            continue;
        };
        if !known.insert(key) {
            continue;
        }
        let before = shared.sighting(key).filter(|sighting| sighting.began <= start);
        let last = before.as_ref().and_then(|before| before.as_last(stamp_key(shared, &spec, key)));
        let now = look(shared, &spec, cancel, last).await;
        certain &= !shared.has_moved_since(key, clock);
        let sighting = match before {
            Some(before) => {
                certain &= now.unmoved_since(&before, start);
                (*before).clone()
            }
            None => {
                certain &= now.unmoved_since_start(start);
                now
            }
        };
        back.push(Read { spec, sighting });
    }
    (back, certain)
}

pub(crate) fn key_of_spec(spec: &SharedSpec) -> Option<Key> {
    let mut encoded = Vec::new();
    spec.encode(&mut encoded).ok()?;
    let kind = spec.kind();
    Some(key_of(&kind_seed(kind.name(), kind.role(), kind.epoch()), &encoded))
}

fn encoded(spec: &SharedSpec, value: AnyValue) -> Result<(Found, Arc<[u8]>), Arc<FailureInner>> {
    let mut bytes = Vec::new();
    match spec.kind().encode_value(&value, &mut bytes) {
        Ok(()) => {
            let cell = Cell::new(Fingerprint::of(&bytes), value);
            Ok((Found::new(cell), bytes.into()))
        }
        Err(error) => {
            let message = error.to_string().into();
            Err(engine_failure(name_of(spec), EngineFailure::NotEncodable { spec: name_of(spec), message }))
        }
    }
}

/// What an expensive action commits by itself: its trace and all that is needed to check it.
fn batch_of(shared: &Shared, spec: &SharedSpec, key: Key, found: &Found, answered: &Answered) -> Batch {
    let mut batch = Batch::default();
    let mut group = Vec::new();
    batch.specs.extend(stored_spec(spec).map(|stored| (key, stored)));
    for read in &answered.reads {
        let (Some(read_key), Some(fingerprint)) = (key_of_spec(&read.spec), read.sighting.fingerprint()) else {
            // `certain` has said no already if a read has no value.
            return Batch::default();
        };
        group.push(Dependency { key: read_key, role: Role::Observation as u8, fingerprint });
        batch.specs.extend(stored_spec(&read.spec).map(|stored| (read_key, stored)));
        if let Some(bytes) = &read.sighting.bytes {
            batch.values.insert(fingerprint, bytes.clone());
        }
        if read.sighting.settled && read.sighting.by_stamp.is_none() && !read.sighting.stamp.is_empty() {
            let stamp = doge_storage::Stamp {
                digest: Fingerprint::of(&read.sighting.stamp),
                value: fingerprint,
                detail: read.sighting.stamp.to_vec(),
            };
            batch.stamps.insert(stamp_key(shared, &read.spec, read_key), stamp);
        }
    }
    let groups = if group.is_empty() { Vec::new() } else { vec![group] };
    let (value, cost) = (found.fingerprint(), answered.cost);
    batch.traces.push((key, Trace { groups, value, cost, scope: shared.scope, recorded: 0 }));
    if let Some(bytes) = &answered.bytes {
        batch.values.insert(found.fingerprint(), bytes.clone());
    }
    for (fingerprint, bytes) in &answered.interned {
        batch.values.insert(*fingerprint, Arc::from(bytes.as_slice()));
    }
    batch
}

/// Who runs tasks.
pub(crate) trait Spawn: Send {
    /// Runs a task; its end is told to the planner as [`crate::planner::Message::Finished`].
    fn spawn(&mut self, task: Task);
    /// Aborts whatever still runs for a node in this attempt. The planner forgets it at once.
    fn abort(&mut self, node: NodeIndex, attempt: u64);
    /// Waits until all that was aborted is gone, or for a moment: a runtime that nobody drives lets go of nothing. Nothing is
    /// spawned afterwards.
    fn wait(&mut self);
}
