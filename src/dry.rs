//! Dry evaluation: what would happen if this were asked?
//!
//! It makes observations, checks traces and runs bodies, which are pure; it starts no action or effect and records
//! nothing. Where an action would have to run, what stands above it is not known: it *may* run.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use doge_storage::Fingerprint;
use futures::channel::oneshot;
use rustc_hash::FxHashMap;

use crate::answer::{Answer, Found, StopInner};
use crate::db::{Asked, Db, Frame};
use crate::evaluate::{Reply, panic_message};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::{Ops, Role};
use crate::memo::{Engine, EngineDb};
use crate::node::{Amend, Demand, NodeData, NodeIndex, Stale, World};
use crate::run::Reason;
use crate::spec::SpecName;
use crate::value::{AnyValue, Cell};

/// What dry evaluation found out about a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryVerdict {
    /// A recorded result is still right.
    Holds,
    /// The recorded results are out of date; the reason is of the newest of them.
    Stale(Reason),
    /// Nothing is recorded for this very spec.
    Missing,
    /// It depends on something that must run first.
    MayRun,
    /// It fails, with this message.
    Fails(String),
}

/// The result of a dry evaluation.
#[derive(Clone, Debug)]
pub struct DryReport {
    /// What was found out about the spec itself.
    pub verdict: DryVerdict,
    /// The actions and effects that would run first, in the order in which they would be started.
    pub would_run: Vec<WouldRun>,
}

/// Work that a request would start.
#[derive(Clone, Debug)]
pub struct WouldRun {
    /// The action or effect.
    pub spec: SpecName,
    /// The name of its kind.
    pub kind: &'static str,
    /// Whether it changes something.
    pub role: Role,
    /// Why no recorded result will do. Effects have none.
    pub verdict: DryVerdict,
}

/// A dry evaluation under way.
pub(crate) struct DryRun {
    root: NodeIndex,
    reply: oneshot::Sender<DryReport>,
    /// What a request would make again, because the store cannot produce its value.
    lost: FxHashMap<NodeIndex, Cell>,
}

/// How far a dry evaluation came.
pub(crate) enum Step {
    /// To its end, if what it met on its way was in order.
    Done(DryReport),
    /// It knows more now and can go on at once.
    Again,
    /// It needs these observations.
    Wants(Vec<NodeIndex>),
}

/// What is known of a node.
#[derive(Clone)]
enum Known {
    /// Its value, whether recorded or computed just now.
    Value(Found, Option<Stale>),
    Failed(Arc<FailureInner>),
    /// An action without a result that holds.
    MustRun(Stale),
    /// Something below must run or be observed first.
    Open,
    /// It is being looked at further up.
    Active,
}

/// One pass over the graph, with the observations that are there now.
pub(crate) struct Pass<'a> {
    db: &'a EngineDb,
    known: RefCell<FxHashMap<NodeIndex, Known>>,
    wanted: RefCell<Vec<NodeIndex>>,
    would_run: RefCell<Vec<NodeIndex>>,
    depth: std::cell::Cell<usize>,
    lost: RefCell<FxHashMap<NodeIndex, Cell>>,
    /// The values that bodies came to in this pass, encoded.
    made: RefCell<FxHashMap<Fingerprint, Arc<[u8]>>>,
}

impl DryRun {
    pub(crate) fn new(root: NodeIndex, reply: oneshot::Sender<DryReport>) -> Self {
        Self { root, reply, lost: FxHashMap::default() }
    }

    /// Goes as far as the observations at hand allow.
    ///
    /// What is found counts only if the pass asked for no change of inputs on its way.
    pub(crate) fn advance(&mut self, db: &EngineDb) -> Step {
        // A look may have come to a value that something else has lost.
        self.lost.retain(|node, cell| db.table().read(*node, cell).is_none());
        let pass = Pass {
            db,
            known: RefCell::default(),
            wanted: RefCell::default(),
            would_run: RefCell::default(),
            depth: std::cell::Cell::new(0),
            lost: RefCell::new(std::mem::take(&mut self.lost)),
            made: RefCell::default(),
        };
        let known_as_lost = pass.lost.borrow().len();
        let known = pass.look_at(self.root);
        if let Known::Value(found, _) = &known
            && pass.read(self.root, &found.cell).is_none()
        {
            // As when a request is answered: what holds is of no use without its value.
            pass.has_lost(self.root, &found.cell);
        }
        self.lost = pass.lost.take();
        if self.lost.len() > known_as_lost {
            return Step::Again;
        }
        let wanted = pass.wanted.take();
        if !wanted.is_empty() {
            return Step::Wants(wanted);
        }
        let table = db.table();
        let verdict = |known: &Known| match known {
            Known::Value(_, None) => DryVerdict::Holds,
            Known::Value(_, Some(Stale::Missing)) | Known::MustRun(Stale::Missing | Stale::Collected) => {
                DryVerdict::Missing
            }
            Known::Value(_, Some(stale)) | Known::MustRun(stale) => {
                DryVerdict::Stale(crate::record::reason(table, stale))
            }
            Known::Open | Known::Active => DryVerdict::MayRun,
            Known::Failed(failure) => DryVerdict::Fails(crate::failure::chain(failure)),
        };
        let would_run = pass.would_run.take();
        let seen = pass.known.borrow();
        Step::Done(DryReport {
            verdict: verdict(&known),
            would_run: would_run
                .into_iter()
                .map(|node| {
                    let (kind, role) = table.with(node, |node| (node.kind, node.role()));
                    WouldRun {
                        spec: table.name(node),
                        kind: table.registered(kind).kind.name(),
                        role,
                        verdict: seen.get(&node).map_or(DryVerdict::Missing, verdict),
                    }
                })
                .collect(),
        })
    }

    /// Whether it takes values for lost that a look may still bring back.
    pub(crate) fn misses_values(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Gives the answer.
    pub(crate) fn answer(self, report: DryReport) {
        // Whoever asked may have gone.
        let _ = self.reply.send(report);
    }
}

impl Pass<'_> {
    /// Answers a body that asks while it is run dry.
    pub(crate) fn reply(&self, node: NodeIndex) -> Reply {
        match self.look_at(node) {
            Known::Value(found, _) => Reply::Value(found),
            Known::Failed(failure) => Reply::Failed(failure),
            Known::MustRun(_) | Known::Open | Known::Active => Reply::Pending(Demand::Answer(node)),
        }
    }

    /// An effect is asked for: it would run.
    pub(crate) fn would_run(&self, node: NodeIndex) {
        let mut would_run = self.would_run.borrow_mut();
        if !would_run.contains(&node) {
            would_run.push(node);
        }
    }

    /// A body wants the value of this, and the store cannot produce it.
    pub(crate) fn has_lost(&self, node: NodeIndex, value: &Cell) {
        let table = self.db.table();
        match table.with(node, NodeData::role) {
            Role::Query | Role::Action => drop(self.lost.borrow_mut().insert(node, value.clone())),
            Role::Effect | Role::Observation => table.amend.borrow_mut().push((node, Amend::Run)),
        }
    }

    /// The value of a cell. What a body has come to a request would have, too, whose value ever it is.
    pub(crate) fn read(&self, node: NodeIndex, cell: &Cell) -> Option<AnyValue> {
        let table = self.db.table();
        table.read(node, cell).or_else(|| {
            let kind = table.registered(table.with(node, |node| node.kind)).kind;
            kind.decode_value(self.made.borrow().get(&cell.fingerprint())?).ok()
        })
    }

    fn look_at(&self, node: NodeIndex) -> Known {
        if let Some(known) = self.known.borrow().get(&node) {
            return known.clone();
        }
        let table = self.db.table();
        let role = table.with(node, NodeData::role);
        if matches!(role, Role::Observation | Role::Effect) {
            return self.observation(node);
        }
        if self.depth.get() >= table.depth_limit {
            return Known::Open;
        }
        self.known.borrow_mut().insert(node, Known::Active);
        self.depth.set(self.depth.get() + 1);
        let known = self.known_this_session(node, role);
        let known = known.or_else(|| self.ordered(node).map(Known::MustRun));
        let known = known.unwrap_or_else(|| self.known_by_traces(node));
        let known = match (known, role) {
            (Known::MustRun(stale), Role::Query) => self.known_by_body(node, stale),
            // Whoever asks with the spec in hand brings it back to life.
            (Known::MustRun(_), _) if table.spec_to_run(node).is_none() => Known::Failed(table.lose(node)),
            (Known::MustRun(stale), _) => {
                self.would_run(node);
                Known::MustRun(stale)
            }
            (known, _) => known,
        };
        self.depth.set(self.depth.get() - 1);
        self.known.borrow_mut().insert(node, known.clone());
        known
    }

    fn observation(&self, node: NodeIndex) -> Known {
        let slot = self.db.table().with(node, NodeData::slot);
        match slot.and_then(|slot| slot.outcome(self.db).clone()).map(|outcome| outcome.answer.clone()) {
            Some(Answer::Value(found)) => Known::Value(found, None),
            Some(Answer::Failed(failure)) => Known::Failed(failure),
            Some(Answer::Pending) | None => {
                self.wanted.borrow_mut().push(node);
                Known::Open
            }
        }
    }

    /// The result that an action has had in this session, recorded or not, if what it read is still so.
    fn known_this_session(&self, node: NodeIndex, role: Role) -> Option<Known> {
        let slot = self.db.table().with(node, NodeData::slot).filter(|_| role == Role::Action)?;
        let outcome = slot.outcome(self.db).clone()?;
        // A failure is none: a request would try again.
        let Answer::Value(found) = &outcome.answer else { return None };
        let mut open = false;
        for (read, was) in &outcome.reads {
            match self.look_at(*read) {
                Known::Value(now, _) if now.fingerprint() == *was => {}
                Known::Value(..) | Known::Failed(_) => return None,
                Known::MustRun(_) | Known::Open | Known::Active => open = true,
            }
        }
        Some(if open { Known::Open } else { Known::Value(found.clone(), None) })
    }

    /// Why it runs whatever its traces say, if it does.
    fn ordered(&self, node: NodeIndex) -> Option<Stale> {
        if self.lost.borrow().contains_key(&node) {
            return Some(Stale::Lost { by: None });
        }
        let (ordered, stale) = self.db.table().with(node, |node| (node.is_ordered(), node.stale()));
        ordered.then(|| stale.unwrap_or(Stale::Forced))
    }

    fn known_by_traces(&self, node: NodeIndex) -> Known {
        let table = self.db.table();
        table.load_worlds(node);
        let mut first = None;
        for world in table.with(node, NodeData::worlds) {
            match self.check(&world) {
                Check::Holds => return Known::Value(Found::new(world.cell.clone()), None),
                Check::Open => return Known::Open,
                Check::Stale(stale) => {
                    first.get_or_insert(stale);
                }
            }
        }
        Known::MustRun(first.unwrap_or(Stale::Missing))
    }

    fn check(&self, world: &World) -> Check {
        for group in world.groups() {
            let mut open = false;
            let mut stale = None;
            for dep in group {
                let (dependency, was) = (dep.node(), dep.fingerprint());
                match self.look_at(dependency) {
                    Known::Value(found, _) if found.fingerprint() == was => {}
                    Known::Value(found, _) => {
                        stale.get_or_insert(Stale::Changed { dependency, was, now: found.fingerprint() });
                    }
                    // As when a request checks: a join ends at a failure that nothing open precedes.
                    Known::Failed(_) if !open => return Check::Stale(stale.unwrap_or(Stale::Failed { dependency })),
                    Known::Failed(_) => break,
                    Known::MustRun(_) | Known::Open | Known::Active => open = true,
                }
            }
            if open {
                return Check::Open;
            }
            if let Some(stale) = stale {
                return Check::Stale(stale);
            }
        }
        Check::Holds
    }

    /// Runs a body, which is pure, as far as it comes.
    fn known_by_body(&self, node: NodeIndex, stale: Stale) -> Known {
        let table = self.db.table();
        let Some(spec) = table.spec_to_run(node) else { return Known::Failed(table.lose(node)) };
        let Ops::Query(ops) = spec.kind().ops() else { return Known::MustRun(stale) };
        let frame = Frame::new(node, Asked::default());
        let ended = catch_unwind(AssertUnwindSafe(|| ops.compute(&spec, &Db::dry(self.db, &frame, self))));
        if !frame.into_asked().demands.is_empty() {
            return Known::Open;
        }
        match ended {
            Ok(Ok(value)) => {
                let kind = table.with(node, |node| node.kind);
                match table.encode(kind, &value) {
                    Ok((fingerprint, bytes)) => {
                        self.made.borrow_mut().extend(bytes.map(|bytes| (fingerprint, bytes)));
                        Known::Value(Found::new(Cell::new(fingerprint, value)), Some(stale))
                    }
                    Err(error) => {
                        let (spec, message) = (table.name(node), error.to_string().into());
                        Known::Failed(engine_failure(spec.clone(), EngineFailure::NotEncodable { spec, message }))
                    }
                }
            }
            Ok(Err(StopInner::Failed(failure))) => Known::Failed(failure),
            Ok(Err(StopInner::Pending)) => Known::Open,
            Err(payload) => {
                let (spec, message) = (table.name(node), panic_message(payload.as_ref()).into());
                Known::Failed(engine_failure(spec.clone(), EngineFailure::Panicked { spec, message }))
            }
        }
    }
}

enum Check {
    Holds,
    Open,
    Stale(Stale),
}
