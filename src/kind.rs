//! Kinds: the operations of a spec type, with the type erased.
//!
//! The planner, the store and the tasks know specs and values only through these tables of operations; the typed
//! edges are [`crate::Db`], [`crate::Database`] and the contexts.

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;

use crate::action::{Action, Resource};
use crate::answer::{Halt, StopInner};
use crate::context::{ActionContext, ObserveContext, Roots};
use crate::db::Db;
use crate::effect::Effect;
use crate::explain::{Change, Values};
use crate::failure::{FailureInner, domain_failure};
use crate::observation::{Last, Observation, Seen};
use crate::query::Query;
use crate::spec::{AnySpec, Epoch, NameInner, SharedSpec, Spec, SpecName, decode, encode};
use crate::value::{AnyValue, Value};

/// What a spec stands for. The number is what traces hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Role {
    /// A pure function of other specs.
    Query = 0,
    /// Work whose result depends on its spec and its reported reads.
    Action = 1,
    /// Work that changes something observed.
    Effect = 2,
    /// A look at the outside world.
    Observation = 3,
}

impl Role {
    pub(crate) fn from_u8(role: u8) -> Option<Self> {
        match role {
            0 => Some(Role::Query),
            1 => Some(Role::Action),
            2 => Some(Role::Effect),
            3 => Some(Role::Observation),
            _ => None,
        }
    }
}

/// How the work of a query ends when it has no value.
pub(crate) type Stopped = StopInner<Arc<FailureInner>>;

/// The last trusted look, as the store has it.
pub(crate) struct RawLast {
    pub(crate) stamp: Arc<[u8]>,
    pub(crate) value: Box<dyn FnOnce() -> Option<Vec<u8>> + Send>,
}

/// What a look found, with its types erased.
pub(crate) enum RawSeen {
    Same,
    New { value: AnyValue, stamp: Vec<u8>, newest: Option<SystemTime> },
}

pub(crate) enum Ops {
    Query(&'static dyn QueryOps),
    Action(&'static dyn ActionOps),
    Effect(&'static dyn EffectOps),
    Observation(&'static dyn ObservationOps),
}

/// The operations that every kind has.
pub(crate) trait ErasedKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn epoch(&self) -> Epoch;
    /// Of the wrapped spec type, so that one spec type may be both a query and an action.
    fn id(&self) -> TypeId;
    fn ops(&self) -> Ops;
    fn decode_spec(&self, bytes: &[u8]) -> Result<SharedSpec, rmp_serde::decode::Error>;
    fn decode_value(&self, bytes: &[u8]) -> Result<AnyValue, rmp_serde::decode::Error>;
    fn encode_value(&self, value: &AnyValue, into: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error>;
    /// How two encoded specs differ, in the words of the kind; nothing if it has none.
    fn spec_changes(&self, was: &[u8], now: &[u8], values: &Values<'_>) -> Option<Vec<Change>>;
    /// How two encoded values of an encoded spec differ, likewise.
    fn value_changes(&self, spec: &[u8], was: &[u8], now: &[u8], values: &Values<'_>) -> Option<Vec<Change>>;

    fn role(&self) -> Role {
        match self.ops() {
            Ops::Query(_) => Role::Query,
            Ops::Action(_) => Role::Action,
            Ops::Effect(_) => Role::Effect,
            Ops::Observation(_) => Role::Observation,
        }
    }
}

impl fmt::Debug for dyn ErasedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.role(), self.name())
    }
}

pub(crate) trait QueryOps: Send + Sync {
    fn compute(&self, spec: &SharedSpec, db: &Db<'_>) -> Result<AnyValue, Stopped>;
}

type Worked<'a> = BoxFuture<'a, Result<AnyValue, Arc<FailureInner>>>;

pub(crate) trait ActionOps: Send + Sync {
    fn resource(&self) -> Resource;
    fn expensive(&self) -> bool;
    fn run<'a>(&self, spec: &'a SharedSpec, ctx: &'a ActionContext) -> Worked<'a>;
}

pub(crate) trait EffectOps: Send + Sync {
    fn resource(&self) -> Resource;
    fn target(&self, spec: &SharedSpec) -> Option<SharedSpec>;
    fn found(&self, spec: &SharedSpec) -> Vec<String>;
    fn run<'a>(&self, spec: &'a SharedSpec, ctx: &'a ActionContext) -> Worked<'a>;
}

pub(crate) trait ObservationOps: Send + Sync {
    fn resource(&self) -> Resource;
    fn moves_freely(&self) -> bool;
    fn newest_is_of_all(&self, spec: &SharedSpec) -> bool;
    fn place(&self, spec: &SharedSpec, roots: &Roots) -> Option<PathBuf>;
    fn observe<'a>(
        &self,
        spec: &'a SharedSpec,
        ctx: &'a ObserveContext,
        last: Option<RawLast>,
    ) -> BoxFuture<'a, Result<RawSeen, Arc<FailureInner>>>;
}

/// A spec type in one of its roles.
pub(crate) trait KindOf: Sized + Send + Sync + 'static {
    type Spec: Spec;
    type Output: Value;
    const KIND: &'static dyn ErasedKind;
    fn ops() -> Ops;
    /// How two values differ, in the words of the kind; nothing if it has none.
    fn changes(spec: &Self::Spec, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>>;
}

/// A spec in one of its roles, as the engine keeps it.
pub(crate) struct Typed<K: KindOf>(pub(crate) K::Spec);

impl<K: KindOf> Typed<K> {
    pub(crate) fn share(spec: &K::Spec) -> SharedSpec {
        Arc::new(Typed::<K>(spec.clone()))
    }
}

/// The spec inside a shared one, if it is of this kind.
pub(crate) fn typed<K: KindOf>(spec: &SharedSpec) -> Option<&K::Spec> {
    (**spec).as_any().downcast_ref::<Typed<K>>().map(|typed| &typed.0)
}

impl<K: KindOf> fmt::Display for Typed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: KindOf> AnySpec for Typed<K> {
    fn kind(&self) -> &'static dyn ErasedKind {
        K::KIND
    }

    fn encode(&self, into: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
        encode(&self.0, into)
    }

    fn label(&self) -> Option<String> {
        self.0.label()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Common<K>(PhantomData<fn() -> K>);

impl<K: KindOf> ErasedKind for Common<K> {
    fn name(&self) -> &'static str {
        K::Spec::KIND
    }

    fn epoch(&self) -> Epoch {
        K::Spec::EPOCH
    }

    fn id(&self) -> TypeId {
        TypeId::of::<Typed<K>>()
    }

    fn ops(&self) -> Ops {
        K::ops()
    }

    fn decode_spec(&self, bytes: &[u8]) -> Result<SharedSpec, rmp_serde::decode::Error> {
        Ok(Arc::new(Typed::<K>(decode(bytes)?)))
    }

    fn decode_value(&self, bytes: &[u8]) -> Result<AnyValue, rmp_serde::decode::Error> {
        Ok(Arc::new(decode::<K::Output>(bytes)?))
    }

    fn encode_value(&self, value: &AnyValue, into: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
        match value.downcast_ref::<K::Output>() {
            Some(value) => encode(value, into),
            None => Err(rmp_serde::encode::Error::Syntax(format!("not a value of {}", self.name()))),
        }
    }

    fn spec_changes(&self, was: &[u8], now: &[u8], values: &Values<'_>) -> Option<Vec<Change>> {
        K::Spec::changed(&decode(was).ok()?, &decode(now).ok()?, values)
    }

    fn value_changes(&self, spec: &[u8], was: &[u8], now: &[u8], values: &Values<'_>) -> Option<Vec<Change>> {
        K::changes(&decode(spec).ok()?, &decode(was).ok()?, &decode(now).ok()?, values)
    }
}

/// The failure of an operation that was given a spec of another kind. It cannot happen through the typed edges.
fn mismatch(spec: &SharedSpec) -> Arc<FailureInner> {
    let name = SpecName(NameInner::Spec(spec.clone()));
    crate::failure::engine_failure(
        name.clone(),
        crate::failure::EngineFailure::Panicked { spec: name, message: "spec of another kind".into() },
    )
}

fn named(spec: &SharedSpec) -> SpecName {
    SpecName(NameInner::Spec(spec.clone()))
}

/// `Q` as a query.
pub(crate) struct QueryKind<Q>(PhantomData<fn() -> Q>);

impl<Q: Query> KindOf for QueryKind<Q> {
    type Spec = Q;
    type Output = Q::Output;
    const KIND: &'static dyn ErasedKind = &Common::<Self>(PhantomData);

    fn ops() -> Ops {
        Ops::Query(&QueryKind::<Q>(PhantomData))
    }

    fn changes(spec: &Self::Spec, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        Q::changes(spec, was, now, values)
    }
}

impl<Q: Query> QueryOps for QueryKind<Q> {
    fn compute(&self, spec: &SharedSpec, db: &Db<'_>) -> Result<AnyValue, Stopped> {
        let Some(query) = typed::<Self>(spec) else { return Err(StopInner::Failed(mismatch(spec))) };
        match query.compute(db) {
            Ok(value) => Ok(Arc::new(value)),
            Err(Halt(StopInner::Pending)) => Err(StopInner::Pending),
            Err(Halt(StopInner::Failed(error))) => Err(StopInner::Failed(domain_failure(named(spec), error))),
        }
    }
}

/// `A` as an action.
pub(crate) struct ActionKind<A>(PhantomData<fn() -> A>);

impl<A: Action> KindOf for ActionKind<A> {
    type Spec = A;
    type Output = A::Output;
    const KIND: &'static dyn ErasedKind = &Common::<Self>(PhantomData);

    fn ops() -> Ops {
        Ops::Action(&ActionKind::<A>(PhantomData))
    }

    fn changes(spec: &Self::Spec, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        A::changes(spec, was, now, values)
    }
}

impl<A: Action> ActionOps for ActionKind<A> {
    fn resource(&self) -> Resource {
        A::RESOURCE
    }

    fn expensive(&self) -> bool {
        A::EXPENSIVE
    }

    fn run<'a>(&self, spec: &'a SharedSpec, ctx: &'a ActionContext) -> Worked<'a> {
        Box::pin(async move {
            let action = typed::<Self>(spec).ok_or_else(|| mismatch(spec))?;
            match action.run(ctx).await {
                Ok(value) => Ok(Arc::new(value) as AnyValue),
                Err(error) => Err(domain_failure(named(spec), error)),
            }
        })
    }
}

/// `E` as an effect.
pub(crate) struct EffectKind<E>(PhantomData<fn() -> E>);

impl<E: Effect> KindOf for EffectKind<E> {
    type Spec = E;
    type Output = E::Output;
    const KIND: &'static dyn ErasedKind = &Common::<Self>(PhantomData);

    fn ops() -> Ops {
        Ops::Effect(&EffectKind::<E>(PhantomData))
    }

    fn changes(_: &Self::Spec, _: &Self::Output, _: &Self::Output, _: &Values<'_>) -> Option<Vec<Change>> {
        None
    }
}

impl<E: Effect> EffectOps for EffectKind<E> {
    fn resource(&self) -> Resource {
        E::RESOURCE
    }

    fn target(&self, spec: &SharedSpec) -> Option<SharedSpec> {
        typed::<Self>(spec).map(|effect| Typed::<ObservationKind<E::Target>>::share(&effect.target()))
    }

    fn found(&self, spec: &SharedSpec) -> Vec<String> {
        typed::<Self>(spec).map(Effect::found).unwrap_or_default()
    }

    fn run<'a>(&self, spec: &'a SharedSpec, ctx: &'a ActionContext) -> Worked<'a> {
        Box::pin(async move {
            let effect = typed::<Self>(spec).ok_or_else(|| mismatch(spec))?;
            match effect.run(ctx).await {
                Ok(value) => Ok(Arc::new(value) as AnyValue),
                Err(error) => Err(domain_failure(named(spec), error)),
            }
        })
    }
}

/// `O` as an observation.
pub(crate) struct ObservationKind<O>(PhantomData<fn() -> O>);

impl<O: Observation> KindOf for ObservationKind<O> {
    type Spec = O;
    type Output = O::Output;
    const KIND: &'static dyn ErasedKind = &Common::<Self>(PhantomData);

    fn ops() -> Ops {
        Ops::Observation(&ObservationKind::<O>(PhantomData))
    }

    fn changes(spec: &Self::Spec, was: &Self::Output, now: &Self::Output, values: &Values<'_>) -> Option<Vec<Change>> {
        O::changes(spec, was, now, values)
    }
}

impl<O: Observation> ObservationOps for ObservationKind<O> {
    fn resource(&self) -> Resource {
        O::RESOURCE
    }

    fn moves_freely(&self) -> bool {
        O::MOVES_FREELY
    }

    fn newest_is_of_all(&self, spec: &SharedSpec) -> bool {
        typed::<Self>(spec).is_some_and(Observation::newest_is_of_all)
    }

    fn place(&self, spec: &SharedSpec, roots: &Roots) -> Option<PathBuf> {
        typed::<Self>(spec).and_then(|observation| observation.place(roots))
    }

    fn observe<'a>(
        &self,
        spec: &'a SharedSpec,
        ctx: &'a ObserveContext,
        last: Option<RawLast>,
    ) -> BoxFuture<'a, Result<RawSeen, Arc<FailureInner>>> {
        Box::pin(async move {
            let observation = typed::<Self>(spec).ok_or_else(|| mismatch(spec))?;
            let last = last.map(|raw| Last::<O> { raw, of: PhantomData });
            match observation.observe(ctx, last).await {
                Ok(Seen::Same) => Ok(RawSeen::Same),
                Ok(Seen::New { value, stamp, newest }) => {
                    let mut encoded = Vec::new();
                    // A stamp that cannot be encoded is not kept: the next look reads everything again.
                    if encode(&stamp, &mut encoded).is_err() {
                        encoded.clear();
                    }
                    Ok(RawSeen::New { value: Arc::new(value), stamp: encoded, newest })
                }
                Err(error) => Err(domain_failure(named(spec), error)),
            }
        })
    }
}
