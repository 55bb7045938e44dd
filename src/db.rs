//! What the body of a query sees of the database, and the record of what it asked.

use std::cell::RefCell;
use std::sync::Arc;

use crate::action::Action;
use crate::answer::{Asked as Answered, Found, Stop, StopInner};
use crate::dry::Pass;
use crate::effect::Effect;
use crate::evaluate::{Reply, ask, go_blind, heed_attempts, slot_of};
use crate::failure::{EngineFailure, Failure, FailureInner, engine_failure};
use crate::intern::{Intern, Interned};
use crate::kind::{ActionKind, EffectKind, KindOf, ObservationKind, QueryKind};
use crate::memo::Engine;
use crate::node::{Amend, Demand, Dep, NodeIndex};
use crate::observation::Observation;
use crate::query::Query;
use crate::spec::SpecName;

/// The database as the body of one query sees it.
///
/// Every method records what was asked; together they are the query's only way to the world. Asking costs well
/// under a microsecond when the answer is known.
pub struct Db<'a> {
    engine: &'a dyn Engine,
    frame: &'a Frame,
    /// Set while the body is run to see what would happen.
    dry: Option<&'a Pass<'a>>,
}

impl<'a> Db<'a> {
    pub(crate) fn new(engine: &'a dyn Engine, frame: &'a Frame) -> Self {
        Self { engine, frame, dry: None }
    }

    pub(crate) fn dry(engine: &'a dyn Engine, frame: &'a Frame, pass: &'a Pass<'a>) -> Self {
        Self { engine, frame, dry: Some(pass) }
    }

    fn reply(&self, node: NodeIndex) -> Reply {
        match self.dry {
            None => ask(self.engine, node),
            Some(pass) => pass.reply(node),
        }
    }

    /// The value of another query.
    ///
    /// # Errors
    ///
    /// Stops, for the body to pass on with `?`, if the answer is not there yet or the query failed.
    pub fn get<Q: Query>(&self, query: &Q) -> Answered<Q::Output, Q::Error> {
        self.ask::<QueryKind<Q>, _>(query, false)
    }

    /// The result of an action, which runs if no earlier result still holds.
    ///
    /// # Errors
    ///
    /// As for [`Db::get`].
    pub fn act<A: Action>(&self, action: &A) -> Answered<A::Output, A::Error> {
        self.ask::<ActionKind<A>, _>(action, false)
    }

    /// What an observation sees; it is made once in a session.
    ///
    /// # Errors
    ///
    /// As for [`Db::get`].
    pub fn observe<O: Observation>(&self, observation: &O) -> Answered<O::Output, O::Error> {
        self.ask::<ObservationKind<O>, _>(observation, false)
    }

    /// Has an effect happen, once for this query and target in a request.
    ///
    /// A body asks for it when it observed that the target is not as wanted. It comes back here only after the
    /// effect has happened and the target has been observed again; what is still not as wanted then is the
    /// body's failure to report.
    ///
    /// # Errors
    ///
    /// As for [`Db::get`]. Fails with [`EngineFailure::Conflict`] if another live request is changing the same
    /// target in another way.
    pub fn effect<E: Effect>(&self, effect: &E) -> Result<(), Stop<Failure<E::Error>>> {
        let table = self.engine.table();
        let target = table.intern::<ObservationKind<E::Target>>(&effect.target());
        let done = table.effects_done.borrow().get(&self.frame.node).and_then(|done| done.get(&target).copied());
        if let Some(done) = done {
            // That it is done is what has changed, if the target looks as it did: without reading it, the answer would
            // seem to be older than whoever found it pending meanwhile, and they would find it so for ever.
            slot_of(self.engine, done).outcome(self.engine);
            heed_attempts(self.engine);
            return Ok(());
        }
        let node = table.intern::<EffectKind<E>>(effect);
        if let Some(pass) = self.dry {
            pass.would_run(node);
            self.frame.asked.borrow_mut().demands.push(Demand::Run(node));
            return Err(Stop::PENDING);
        }
        let reply = ask(self.engine, node);
        let mut asked = self.frame.asked.borrow_mut();
        asked.reached.push(node);
        match reply {
            Reply::Value(_) => Ok(()),
            Reply::Failed(failure) => {
                asked.tainted = true;
                Err(Stop(StopInner::Failed(Failure::from_inner(failure))))
            }
            Reply::Pending(demand) => {
                asked.demands.push(demand);
                Err(Stop::PENDING)
            }
        }
    }

    /// Gives a name to a value that is too large to stand in a spec.
    ///
    /// # Errors
    ///
    /// Fails with [`EngineFailure::NotEncodable`] if the value has no encoding.
    pub fn intern<T: Intern>(&self, value: T) -> Result<Interned<T>, Stop<Failure<crate::AnyError>>> {
        match Interned::encoded(value) {
            Ok((interned, bytes)) => {
                self.engine.table().keep_value(interned.fingerprint(), bytes);
                Ok(interned)
            }
            Err(failure) => Err(self.stopped(failure)),
        }
    }

    /// The value that was interned under a name.
    ///
    /// # Errors
    ///
    /// Fails with [`EngineFailure::Lost`] if the name came from another process and its value is not in the
    /// store any more.
    pub fn value<T: Intern>(&self, interned: &Interned<T>) -> Answered<T, crate::AnyError> {
        if let Some(value) = interned.at_hand() {
            return Ok(value);
        }
        let table = self.engine.table();
        let bytes = table.persist.borrow_mut().as_mut().and_then(|persist| persist.value(interned.fingerprint()));
        match bytes.and_then(|bytes| interned.fill(&bytes)) {
            Some(value) => Ok(value),
            None => {
                heed_attempts(self.engine);
                let spec = SpecName::text(interned.to_string());
                let failure = engine_failure(spec.clone(), EngineFailure::Lost { spec });
                Err(self.stopped(failure))
            }
        }
    }

    /// Asks several specs at once: all of them are demanded before the body waits for any.
    ///
    /// ```
    /// # use doge::{Db, Halt, AnyError, testing::Constant};
    /// # fn body(db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
    /// let (two, three) = db.join(|join| (join.get(&Constant(2)), join.get(&Constant(3))))?;
    /// let rest = db.join(|join| (4..9).map(|n| join.get(&Constant(n))).collect::<Vec<_>>())?;
    /// # Ok(*two + *three + rest.iter().map(|n| **n).sum::<u64>())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Stops while any member is pending. A failure is passed on at once if nothing before it is pending, else
    /// when what precedes it has ended: the result does not depend on which work ends first.
    pub fn join<J: Joined>(&self, members: impl FnOnce(&Join<'_>) -> J) -> Result<J::Output, Stop<J::Error>> {
        let join = Join { db: self, stopped: std::cell::Cell::new(false) };
        let members = members(&join);
        let pending = {
            let mut asked = self.frame.asked.borrow_mut();
            asked.end_group();
            !asked.demands.is_empty()
        };
        if pending {
            return Err(Stop::PENDING);
        }
        members.take()
    }

    fn stopped<E>(&self, failure: Arc<FailureInner>) -> Stop<Failure<E>> {
        self.frame.asked.borrow_mut().tainted = true;
        Stop(StopInner::Failed(Failure::from_inner(failure)))
    }

    fn ask<K: KindOf, E>(&self, spec: &K::Spec, in_join: bool) -> Answered<K::Output, E> {
        let node = self.engine.table().intern::<K>(spec);
        match self.reply(node) {
            Reply::Value(found) => {
                self.frame.answered(node, &found, in_join);
                self.read::<K, E>(node, &found)
            }
            Reply::Failed(failure) => {
                self.frame.asked.borrow_mut().reached.push(node);
                Err(self.stopped(failure))
            }
            Reply::Pending(demand) => {
                self.frame.asked.borrow_mut().demands.push(demand);
                Err(Stop::PENDING)
            }
        }
    }

    fn read<K: KindOf, E>(&self, node: NodeIndex, found: &Found) -> Answered<K::Output, E> {
        let table = self.engine.table();
        let value = self.dry.map_or_else(|| table.read(node, &found.cell), |pass| pass.read(node, &found.cell));
        match value.and_then(|value| value.downcast::<K::Output>().ok()) {
            Some(value) => Ok(value),
            None => {
                // The trace holds, but the store cannot produce the value: whoever makes it has to run. It will come to
                // the same value, so salsa would not see a reason to ask this body again.
                match self.dry {
                    Some(pass) => pass.has_lost(node, &found.cell),
                    None => {
                        go_blind(self.engine);
                        table.amend.borrow_mut().push((node, Amend::Run));
                    }
                }
                self.frame.asked.borrow_mut().demands.push(Demand::Answer(node));
                Err(Stop::PENDING)
            }
        }
    }
}

/// Asks the members of one [`Db::join`].
///
/// Members cannot wait for each other: what depends on another member's answer belongs behind the join, or into
/// a query of its own.
pub struct Join<'a> {
    db: &'a Db<'a>,
    /// A member failed that nothing pending precedes: the join is over, and what follows is not asked.
    stopped: std::cell::Cell<bool>,
}

/// A member of a join, asked and not yet looked at.
#[must_use = "return it from the closure given to `join`"]
pub struct Member<T, E>(Result<Arc<T>, Stop<E>>);

/// A member of a join whose failure is an answer like any other.
#[must_use = "return it from the closure given to `join`"]
pub struct Settled<T, E>(Result<Arc<T>, Stop<E>>);

impl Join<'_> {
    /// As [`Db::get`].
    pub fn get<Q: Query>(&self, query: &Q) -> Member<Q::Output, Failure<Q::Error>> {
        self.member::<QueryKind<Q>, _>(query)
    }

    /// As [`Db::act`].
    pub fn act<A: Action>(&self, action: &A) -> Member<A::Output, Failure<A::Error>> {
        self.member::<ActionKind<A>, _>(action)
    }

    /// As [`Db::observe`].
    pub fn observe<O: Observation>(&self, observation: &O) -> Member<O::Output, Failure<O::Error>> {
        self.member::<ObservationKind<O>, _>(observation)
    }

    /// As [`Db::get`], with a failure as an answer that does not end the join.
    pub fn get_settled<Q: Query>(&self, query: &Q) -> Settled<Q::Output, Failure<Q::Error>> {
        self.settled::<QueryKind<Q>, _>(query)
    }

    /// As [`Db::act`], with a failure as an answer that does not end the join.
    pub fn act_settled<A: Action>(&self, action: &A) -> Settled<A::Output, Failure<A::Error>> {
        self.settled::<ActionKind<A>, _>(action)
    }

    /// As [`Db::observe`], with a failure as an answer that does not end the join.
    pub fn observe_settled<O: Observation>(&self, observation: &O) -> Settled<O::Output, Failure<O::Error>> {
        self.settled::<ObservationKind<O>, _>(observation)
    }

    fn member<K: KindOf, E>(&self, spec: &K::Spec) -> Member<K::Output, Failure<E>> {
        if self.stopped.get() {
            return Member(Err(Stop::PENDING));
        }
        let member = self.db.ask::<K, E>(spec, true);
        if matches!(member, Err(Stop(StopInner::Failed(_)))) {
            self.stopped.set(true);
        }
        Member(member)
    }

    fn settled<K: KindOf, E>(&self, spec: &K::Spec) -> Settled<K::Output, Failure<E>> {
        if self.stopped.get() {
            return Settled(Err(Stop::PENDING));
        }
        Settled(self.db.ask::<K, E>(spec, true))
    }
}

/// What the closure given to [`Db::join`] may return: members, and vectors and tuples of them.
pub trait Joined {
    /// The values, in the same shape.
    type Output;
    /// The failure that ends the join. For tuples whose members fail in different ways it is [`crate::AnyError`].
    type Error;

    #[doc(hidden)]
    fn take(self) -> Result<Self::Output, Stop<Self::Error>>;
}

impl<T, E> Joined for Member<T, E> {
    type Output = Arc<T>;
    type Error = E;

    fn take(self) -> Result<Self::Output, Stop<E>> {
        self.0
    }
}

impl<T, E> Joined for Settled<T, E> {
    type Output = Result<Arc<T>, E>;
    type Error = Never;

    fn take(self) -> Result<Self::Output, Stop<Never>> {
        match self.0 {
            Ok(value) => Ok(Ok(value)),
            Err(Stop(StopInner::Failed(error))) => Ok(Err(error)),
            Err(Stop(StopInner::Pending)) => Err(Stop::PENDING),
        }
    }
}

/// The error of something that cannot fail.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl<J: Joined> Joined for Vec<J> {
    type Output = Vec<J::Output>;
    type Error = J::Error;

    fn take(self) -> Result<Self::Output, Stop<J::Error>> {
        self.into_iter().map(Joined::take).collect()
    }
}

impl<J: Joined> Joined for Option<J> {
    type Output = Option<J::Output>;
    type Error = J::Error;

    fn take(self) -> Result<Self::Output, Stop<J::Error>> {
        self.map(Joined::take).transpose()
    }
}

/// A failure of one of several members, its type forgotten.
///
/// Every typed failure of a member turns into it, and it turns into [`crate::AnyError`].
pub trait IntoAnyFailure {
    #[doc(hidden)]
    fn into_any(self) -> Failure<crate::AnyError>;
}

impl<E> IntoAnyFailure for Failure<E> {
    fn into_any(self) -> Failure<crate::AnyError> {
        self.erase()
    }
}

impl IntoAnyFailure for Never {
    fn into_any(self) -> Failure<crate::AnyError> {
        match self {}
    }
}

macro_rules! joined_tuple {
    ($($member:ident),+) => {
        impl<$($member: Joined<Error: IntoAnyFailure>),+> Joined for ($($member,)+) {
            type Output = ($($member::Output,)+);
            type Error = Failure<crate::AnyError>;

            #[expect(non_snake_case, reason = "the members are named like their types")]
            fn take(self) -> Result<Self::Output, Stop<Self::Error>> {
                let ($($member,)+) = self;
                Ok(($($member.take().map_err(|stop| stop.map(IntoAnyFailure::into_any))?,)+))
            }
        }
    };
}

joined_tuple!(A, B);
joined_tuple!(A, B, C);
joined_tuple!(A, B, C, D);
joined_tuple!(A, B, C, D, E);
joined_tuple!(A, B, C, D, E, F);

/// The run of one body: what it asked so far.
pub(crate) struct Frame {
    node: NodeIndex,
    asked: RefCell<Asked>,
}

/// What a body asked.
#[derive(Default)]
pub(crate) struct Asked {
    /// What was answered with a value, in the order of asking.
    pub(crate) deps: Vec<Dep>,
    /// What was asked and is no part of a trace: failures and effects.
    pub(crate) reached: Vec<NodeIndex>,
    /// What is not there yet.
    pub(crate) demands: Vec<Demand>,
    /// It saw a failure, or a value made with the help of one.
    pub(crate) tainted: bool,
}

impl Frame {
    pub(crate) fn new(node: NodeIndex, asked: Asked) -> Self {
        Self { node, asked: RefCell::new(asked) }
    }

    pub(crate) fn into_asked(self) -> Asked {
        self.asked.into_inner()
    }

    fn answered(&self, node: NodeIndex, found: &Found, in_join: bool) {
        let mut asked = self.asked.borrow_mut();
        asked.deps.push(Dep::new(node, found.fingerprint()));
        asked.tainted |= found.tainted;
        if !in_join {
            asked.end_group();
        }
    }
}

impl Asked {
    fn end_group(&mut self) {
        if let Some(last) = self.deps.last_mut() {
            last.end_group();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.deps.clear();
        self.reached.clear();
        self.demands.clear();
        self.tainted = false;
    }

    /// All nodes it asked and got an answer from.
    pub(crate) fn nodes(&self) -> Vec<NodeIndex> {
        self.deps.iter().map(Dep::node).chain(self.reached.iter().copied()).collect()
    }
}
