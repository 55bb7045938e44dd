//! Nodes: what the engine knows of one spec, and how it is laid out.
//!
//! There may be very many nodes, and most of them are queries that ran once: what those need stands in the node
//! itself, and everything else is set aside ([`Aside`]) for the few that have it. Nodes lie in pages, so that a
//! growing table moves none of them.

use std::sync::Arc;
use std::time::Duration;

use doge_storage::{Fingerprint, Key};
use salsa::plumbing::{AsId, FromId};
use thin_vec::ThinVec;

use crate::failure::FailureInner;
use crate::kind::Role;
use crate::memo::{Directive, Memo, Slot};
use crate::registry::KindIndex;
use crate::run::Outcome;
use crate::spec::SharedSpec;
use crate::value::Cell;

/// The place of a node in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeIndex(pub(crate) u32);

impl NodeIndex {
    pub(crate) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What a pending node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Demand {
    /// The answer of another query or action.
    Answer(NodeIndex),
    /// The end of the work of an action, effect or observation.
    Run(NodeIndex),
}

impl Demand {
    pub(crate) fn node(self) -> NodeIndex {
        match self {
            Demand::Answer(node) | Demand::Run(node) => node,
        }
    }
}

/// What was asked, and the fingerprint of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dep {
    /// The node, and in the highest bit whether a group ends here.
    place: u32,
    fingerprint: Fingerprint,
}

impl Dep {
    const ENDS_GROUP: u32 = 1 << 31;

    pub(crate) fn new(node: NodeIndex, fingerprint: Fingerprint) -> Self {
        debug_assert!(node.0 < Self::ENDS_GROUP, "the table has no more places than that");
        Self { place: node.0, fingerprint }
    }

    pub(crate) fn node(&self) -> NodeIndex {
        NodeIndex(self.place & !Self::ENDS_GROUP)
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What follows was asked later than this.
    pub(crate) fn end_group(&mut self) {
        self.place |= Self::ENDS_GROUP;
    }

    /// The same answer of a node that stands in another place now.
    pub(crate) fn moved_to(&self, node: NodeIndex) -> Self {
        Self { place: node.0 | (self.place & Self::ENDS_GROUP), fingerprint: self.fingerprint }
    }

    fn ends_group(&self) -> bool {
        self.place & Self::ENDS_GROUP != 0
    }
}

/// The traces a key can have, in memory and in the store.
pub(crate) const WORLDS: usize = 8;

/// A world in which a node is known to have a certain value: its trace, with nodes for keys.
#[derive(Clone)]
pub(crate) struct World {
    /// What was asked, in the order of asking; a pointer, and none if nothing was.
    pub(crate) deps: ThinVec<Dep>,
    pub(crate) cell: Cell,
    pub(crate) cost: Duration,
}

impl World {
    /// What was asked together, one `join` after the other.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Dep]> {
        self.deps.chunk_by(|dep, _| !dep.ends_group())
    }
}

/// A change of inputs that evaluation needs and cannot make itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amend {
    /// The result of its work was made from reads that have other values now: forget it.
    Outdated,
    /// Its value cannot be produced from the store, or its spec came to light only now: run it.
    Run,
}

/// Why a body ran although something may have been known before.
#[derive(Clone, Debug)]
pub(crate) enum Stale {
    /// Nothing was recorded for this key.
    Missing,
    /// Something was recorded for this key, and it was collected.
    Collected,
    /// A dependency has another value than the recorded one.
    Changed { dependency: NodeIndex, was: Fingerprint, now: Fingerprint },
    /// A dependency failed.
    Failed { dependency: NodeIndex },
    /// Somebody asked for it.
    Forced,
    /// The recorded value, or a file it names, could not be produced any more; who found that out, if it was work.
    Lost { by: Option<NodeIndex> },
}

/// What became of a node in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not reached, or still pending.
    #[default]
    None,
    /// Its trace was checked and holds.
    Verified,
    /// Its body ran to a value.
    Executed,
    /// Its body ran to the value it had before.
    CutOff,
    /// It was observed.
    Observed,
    Failed,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        match status {
            Status::None => Outcome::Pending,
            Status::Verified => Outcome::Verified,
            Status::Executed => Outcome::Executed,
            Status::CutOff => Outcome::CutOff,
            Status::Observed => Outcome::Observed,
            Status::Failed => Outcome::Failed,
        }
    }
}

pub(crate) struct NodeData {
    pub(crate) key: Key,
    pub(crate) spec: Option<SharedSpec>,
    /// The newest world, in its parts, which so take no more room than they need.
    cell: Option<Cell>,
    deps: ThinVec<Dep>,
    aside: Option<Box<Aside>>,
    /// In seconds. What a body costs is measured and never exact.
    cost: f32,
    /// The longest chain of nodes below, itself included.
    pub(crate) height: u32,
    /// Salsa's struct, once there is one: its id, less the half that tells recycled ones apart, for it is none.
    memo: u32,
    pub(crate) kind: KindIndex,
    status: Status,
    flags: u8,
}

/// What only few nodes have.
#[derive(Default)]
struct Aside {
    slot: Option<Slot>,
    directive: Option<Directive>,
    /// It was ordered to run and has not done so yet.
    ordered: bool,
    /// The worlds before the newest one, newest first.
    older: Vec<World>,
    /// What it waits for, as of its last evaluation.
    demands: Vec<Demand>,
    /// What it asked in its last evaluation, when no world tells.
    reached: Vec<NodeIndex>,
    /// What it asked in this session before an effect of its own changed what it stands on: part of the story, not of
    /// the answer.
    earlier: Vec<NodeIndex>,
    stale: Option<Stale>,
    /// Of its last evaluation, when no world tells.
    value: Option<Fingerprint>,
    cost: Duration,
    /// How it failed, if it did.
    failure: Option<Arc<FailureInner>>,
}

/// Things that are so or not.
#[derive(Clone, Copy)]
pub(crate) enum Flag {
    /// On the stack of active specs.
    Active = 1,
    /// The newest trace of the store is among its worlds.
    Begun = 128,
    /// All traces of the store are among its worlds.
    Loaded = 2,
    /// The spec is in the store or in the batch that goes there.
    Kept = 4,
    /// It had to run and its spec was nowhere to be found.
    Lost = 8,
    /// The spec was read from the store, and nobody has seen to what it names yet.
    Restored = 64,
    /// The newest world is the one that the present answer was found in.
    Current = 16,
    /// It ran because nothing was recorded. Any other reason is set aside.
    Missing = 32,
}

impl NodeData {
    pub(crate) fn new(key: Key, kind: KindIndex, spec: Option<SharedSpec>) -> Self {
        Self {
            key,
            spec,
            cell: None,
            deps: ThinVec::new(),
            aside: None,
            cost: 0.0,
            height: 1,
            memo: 0,
            kind,
            status: Status::None,
            flags: 0,
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.kind.role()
    }

    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag, to: bool) {
        if to {
            self.flags |= flag as u8;
        } else {
            self.flags &= !(flag as u8);
        }
    }

    /// Salsa's struct for the node, if it has one.
    pub(crate) fn memo(&self) -> Option<Memo> {
        (self.memo != 0).then(|| Memo::from_id(salsa::Id::from_bits(self.memo.into())))
    }

    pub(crate) fn set_memo(&mut self, memo: Memo) {
        let bits = u32::try_from(memo.as_id().as_bits());
        self.memo = bits.expect("invariant: inputs are never recycled");
    }

    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    pub(crate) fn slot(&self) -> Option<Slot> {
        self.aside.as_ref()?.slot
    }

    pub(crate) fn set_slot(&mut self, slot: Slot) {
        self.aside().slot = Some(slot);
    }

    pub(crate) fn directive(&self) -> Option<Directive> {
        self.aside.as_ref()?.directive
    }

    pub(crate) fn set_directive(&mut self, directive: Directive) {
        self.aside().directive = Some(directive);
    }

    /// Whether it was ordered to run and has not come to a value by that yet.
    pub(crate) fn is_ordered(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.ordered)
    }

    pub(crate) fn set_ordered(&mut self, ordered: bool) {
        if self.aside.is_some() || ordered {
            self.aside().ordered = ordered;
        }
    }

    pub(crate) fn demands(&self) -> &[Demand] {
        self.aside.as_ref().map_or(&[], |aside| &aside.demands)
    }

    pub(crate) fn set_demands(&mut self, demands: Vec<Demand>) {
        if self.aside.is_some() || !demands.is_empty() {
            self.aside().demands = demands;
        }
    }

    /// The fingerprint of the value in the newest world.
    pub(crate) fn newest_value(&self) -> Option<Fingerprint> {
        self.cell.as_ref().map(Cell::fingerprint)
    }

    /// The fingerprint of its present value, or of the last one while there is none.
    pub(crate) fn value(&self) -> Option<Fingerprint> {
        if self.is(Flag::Current) { self.newest_value() } else { self.aside.as_ref()?.value }
    }

    fn newest_cost(&self) -> Duration {
        // What was recorded may be anything.
        Duration::try_from_secs_f32(self.cost).unwrap_or_default()
    }

    /// What its last run cost.
    pub(crate) fn cost(&self) -> Duration {
        if self.is(Flag::Current) {
            self.newest_cost()
        } else {
            self.aside.as_ref().map_or(Duration::ZERO, |aside| aside.cost)
        }
    }

    /// How it failed, if that is what it did last.
    pub(crate) fn failure(&self) -> Option<&Arc<FailureInner>> {
        self.aside.as_ref()?.failure.as_ref()
    }

    /// Whether anything is recorded for it.
    pub(crate) fn has_worlds(&self) -> bool {
        self.cell.is_some()
    }

    /// Takes the worlds out, newest first; [`NodeData::put_worlds`] brings them back.
    pub(crate) fn take_worlds(&mut self) -> Vec<World> {
        let Some(cell) = self.cell.take() else { return Vec::new() };
        let newest = World { deps: std::mem::take(&mut self.deps), cell, cost: self.newest_cost() };
        let mut worlds = vec![newest];
        if let Some(aside) = &mut self.aside {
            worlds.append(&mut aside.older);
        }
        worlds
    }

    /// The worlds as they are, newest first.
    pub(crate) fn worlds(&self) -> Vec<World> {
        let Some(cell) = &self.cell else { return Vec::new() };
        let newest = World { deps: self.deps.clone(), cell: cell.clone(), cost: self.newest_cost() };
        let mut worlds = vec![newest];
        if let Some(aside) = &self.aside {
            worlds.extend_from_slice(&aside.older);
        }
        worlds
    }

    /// Gives the node these worlds, newest first, in the place of those it has.
    pub(crate) fn put_worlds(&mut self, worlds: impl IntoIterator<Item = World>) {
        let mut worlds = worlds.into_iter();
        match worlds.next() {
            Some(World { deps, cell, cost }) => {
                self.cell = Some(cell);
                self.deps = deps;
                self.cost = cost.as_secs_f32();
            }
            None => {
                self.cell = None;
                self.deps = ThinVec::new();
            }
        }
        let older: Vec<World> = worlds.take(WORLDS - 1).collect();
        if self.aside.is_some() || !older.is_empty() {
            self.aside().older = older;
        }
    }

    /// Puts a world in front of the others: it is the one that holds now.
    pub(crate) fn remember(&mut self, world: World) {
        if self.cell.is_some() {
            let mut worlds = self.take_worlds();
            worlds.retain(|known| known.deps != world.deps);
            worlds.insert(0, world);
            self.put_worlds(worlds);
        } else {
            self.put_worlds([world]);
        }
        self.set(Flag::Current, true);
        if let Some(aside) = &mut self.aside {
            aside.reached = Vec::new();
        }
    }

    /// Adds worlds that were recorded earlier than those it has.
    pub(crate) fn add_recorded(&mut self, recorded: Vec<World>) {
        if recorded.is_empty() {
            return;
        }
        if !self.has_worlds() {
            // Those that were recorded differ from each other.
            return self.put_worlds(recorded);
        }
        let mut worlds = self.take_worlds();
        for world in recorded {
            if worlds.len() < WORLDS && !worlds.iter().any(|known| known.deps == world.deps) {
                worlds.push(world);
            }
        }
        self.put_worlds(worlds);
    }

    /// No world describes what the node stands on now; `reached` does.
    pub(crate) fn stand_on(&mut self, reached: Vec<NodeIndex>) {
        let (value, cost) = (self.value(), self.cost());
        self.set(Flag::Current, false);
        let aside = self.aside();
        aside.value = value;
        aside.cost = cost;
        aside.reached = reached;
    }

    /// What it came to without a world that tells so.
    pub(crate) fn came_to(&mut self, value: Option<Fingerprint>, cost: Duration) {
        let aside = self.aside();
        aside.value = value;
        aside.cost = cost;
    }

    /// The nodes it stands on, as of its last evaluation.
    pub(crate) fn below(&self, mut see: impl FnMut(NodeIndex)) {
        if self.is(Flag::Current) {
            self.deps.iter().for_each(|dep| see(dep.node()));
        }
        if let Some(aside) = &self.aside {
            aside.reached.iter().for_each(|index| see(*index));
            aside.demands.iter().for_each(|demand| see(demand.node()));
        }
    }

    /// What became of it in the last session is not told of the next one.
    pub(crate) fn begin_session(&mut self) {
        self.status = Status::None;
        self.set(Flag::Missing, false);
        if let Some(aside) = &mut self.aside {
            aside.earlier = Vec::new();
            aside.stale = None;
        }
    }

    /// What became of it in this session.
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    pub(crate) fn set_failure(&mut self, failure: Arc<FailureInner>) {
        self.aside().failure = Some(failure);
    }

    /// Why it ran in this session.
    pub(crate) fn stale(&self) -> Option<Stale> {
        if self.is(Flag::Missing) { Some(Stale::Missing) } else { self.aside.as_ref()?.stale.clone() }
    }

    pub(crate) fn set_stale(&mut self, stale: Option<Stale>) {
        self.set(Flag::Missing, matches!(stale, Some(Stale::Missing)));
        let stale = stale.filter(|stale| !matches!(stale, Stale::Missing));
        if self.aside.is_some() || stale.is_some() {
            self.aside().stale = stale;
        }
    }

    /// What it asked in this session before an effect of its own changed what it stands on.
    pub(crate) fn earlier(&self) -> &[NodeIndex] {
        self.aside.as_ref().map_or(&[], |aside| &aside.earlier)
    }

    pub(crate) fn add_earlier(&mut self, mut earlier: Vec<NodeIndex>) {
        let aside = self.aside();
        earlier.retain(|asked| !aside.earlier.contains(asked));
        aside.earlier.append(&mut earlier);
    }
}

/// The nodes, by place.
#[derive(Default)]
pub(crate) struct Nodes {
    pages: Vec<Vec<NodeData>>,
    len: usize,
}

impl Nodes {
    const PAGE: usize = 1 << 10;

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, node: NodeData) -> NodeIndex {
        let place = self.len;
        let index = u32::try_from(place).ok().filter(|place| place & Dep::ENDS_GROUP == 0);
        let index = NodeIndex(index.expect("invariant: fewer than 2^31 specs"));
        if place.is_multiple_of(Self::PAGE) {
            self.pages.push(Vec::with_capacity(Self::PAGE));
        }
        self.pages[place / Self::PAGE].push(node);
        self.len += 1;
        index
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut NodeData> {
        self.pages.iter_mut().flatten()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = NodeData> {
        self.pages.into_iter().flatten()
    }
}

impl std::ops::Index<NodeIndex> for Nodes {
    type Output = NodeData;

    fn index(&self, index: NodeIndex) -> &NodeData {
        &self.pages[index.as_usize() / Self::PAGE][index.as_usize() % Self::PAGE]
    }
}

impl std::ops::IndexMut<NodeIndex> for Nodes {
    fn index_mut(&mut self, index: NodeIndex) -> &mut NodeData {
        &mut self.pages[index.as_usize() / Self::PAGE][index.as_usize() % Self::PAGE]
    }
}
