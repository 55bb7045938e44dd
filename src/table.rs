//! The node table: everything the engine knows of a spec besides salsa's memo of its answer.
//!
//! Nodes are found by spec (in memory) and by key (from traces). A node read from a trace is known by key only;
//! its spec is decoded when its body or its observation has to run. Nodes are never removed while the table
//! lives: indices stay valid, and the whole table is replaced when too much of it is out of reach.
//!
//! The table sits inside the salsa database and is used by the planner thread only, so cells suffice. No borrow
//! is held across a call that could come back into the table.

use std::cell::{Cell as StdCell, RefCell};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use doge_storage::{Fingerprint, Key};
use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHasher};

use crate::answer::Answer;
use crate::event::{Event, Listener};
use crate::failure::FailureInner;
use crate::kind::{KindOf, Role, Typed, typed};
use crate::memo::{Directive, Slot};
use crate::persist::Persist;
use crate::registry::{KindIndex, Registered, Registry};
use crate::run::Tally;
use crate::spec::{NameInner, SharedSpec, SpecName, key_of};
use crate::value::{AnyValue, Cell};

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

/// The traces a key can have, in memory and in the store.
pub(crate) const WORLDS: usize = 8;

/// A world in which a node is known to have a certain value: its trace, with nodes for keys.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) deps: Arc<[(NodeIndex, Fingerprint)]>,
    /// Where each group ends in `deps`.
    pub(crate) ends: Arc<[u32]>,
    pub(crate) cell: Cell,
    pub(crate) cost: Duration,
}

impl World {
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(NodeIndex, Fingerprint)]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let group = &self.deps[start..end as usize];
            start = end as usize;
            group
        })
    }

    fn same_world(&self, other: &World) -> bool {
        self.deps == other.deps && self.ends == other.ends
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
    /// A dependency has another value than the recorded one.
    Changed { dependency: NodeIndex, was: Fingerprint, now: Fingerprint },
    /// A dependency failed.
    Failed { dependency: NodeIndex },
    /// Somebody asked for it.
    Forced,
    /// The recorded value, or a file it names, could not be produced any more.
    Lost,
}

/// What became of a node in this session.
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

pub(crate) struct NodeData {
    pub(crate) key: Key,
    pub(crate) kind: KindIndex,
    pub(crate) role: Role,
    pub(crate) status: Status,
    /// On the stack of active specs.
    pub(crate) active: bool,
    /// The traces of the store are among `worlds`.
    pub(crate) loaded: bool,
    /// The spec is in the store or in the batch that goes there.
    pub(crate) kept: bool,
    /// It had to run and its spec was nowhere to be found.
    pub(crate) lost: bool,
    /// The longest chain of nodes below, itself included.
    pub(crate) height: u32,
    pub(crate) spec: Option<SharedSpec>,
    pub(crate) memo: Option<salsa::Id>,
    pub(crate) directive: Option<Directive>,
    pub(crate) slot: Option<Slot>,
    /// Newest first, at most [`WORLDS`].
    pub(crate) worlds: Vec<World>,
    /// The first world is the one that the present answer was found in.
    pub(crate) current: bool,
    /// What it waits for, as of its last evaluation.
    pub(crate) demands: Vec<Demand>,
    /// What it asked in its last evaluation, when no world tells.
    pub(crate) reached: Vec<NodeIndex>,
    /// What it asked in this session before an effect of its own changed what it stands on: part of the story, not of
    /// the answer.
    pub(crate) earlier: Vec<NodeIndex>,
    pub(crate) stale: Option<Box<Stale>>,
    /// The fingerprint of its present value, and how it failed if it did.
    pub(crate) value: Option<Fingerprint>,
    pub(crate) failure: Option<Arc<FailureInner>>,
    pub(crate) cost: Duration,
}

/// The nodes and the state that evaluation shares.
pub(crate) struct Table {
    nodes: RefCell<Vec<NodeData>>,
    by_spec: RefCell<HashTable<(u64, NodeIndex)>>,
    by_key: RefCell<HashTable<NodeIndex>>,
    registry: RefCell<Registry>,
    /// How deep the stack of active specs is, and how deep it may become.
    pub(crate) depth: StdCell<usize>,
    pub(crate) depth_limit: usize,
    /// A spec was asked for that is on the stack of active specs: there may be a cycle.
    pub(crate) suspect: StdCell<bool>,
    /// Some answer is one that the next attempt repeats.
    pub(crate) loose: StdCell<bool>,
    /// What evaluation found that only a change of inputs can put right: the planner sees to it.
    pub(crate) amend: RefCell<Vec<(NodeIndex, Amend)>>,
    /// The targets that an effect has changed on behalf of a query, in live requests, and which effect that was.
    pub(crate) effects_done: RefCell<FxHashMap<NodeIndex, FxHashMap<NodeIndex, NodeIndex>>>,
    pub(crate) persist: RefCell<Option<Persist>>,
    pub(crate) tally: RefCell<Tally>,
    pub(crate) listener: Option<Listener>,
    scratch: RefCell<Vec<u8>>,
}

/// The fingerprint of an encoded value, and its bytes if they are to be kept.
pub(crate) type Encoded = (Fingerprint, Option<Arc<[u8]>>);

fn hash_spec<K: KindOf>(spec: &K::Spec) -> u64 {
    let mut hasher = FxHasher::default();
    std::any::TypeId::of::<Typed<K>>().hash(&mut hasher);
    spec.hash(&mut hasher);
    hasher.finish()
}

/// The first bytes of a key name its kind; those after them are as good as random.
fn hash_key(key: Key) -> u64 {
    let bytes = key.as_bytes();
    u64::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]])
}

impl Table {
    pub(crate) fn new(
        registry: Registry,
        depth_limit: usize,
        persist: Option<Persist>,
        listener: Option<Listener>,
    ) -> Self {
        Self {
            nodes: RefCell::default(),
            by_spec: RefCell::default(),
            by_key: RefCell::default(),
            registry: RefCell::new(registry),
            depth: StdCell::new(0),
            depth_limit,
            suspect: StdCell::new(false),
            loose: StdCell::new(false),
            amend: RefCell::default(),
            effects_done: RefCell::default(),
            persist: RefCell::new(persist),
            tally: RefCell::default(),
            listener,
            scratch: RefCell::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.borrow().len()
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.len() as u32).map(NodeIndex)
    }

    pub(crate) fn with<R>(&self, node: NodeIndex, look: impl FnOnce(&NodeData) -> R) -> R {
        look(&self.nodes.borrow()[node.as_usize()])
    }

    pub(crate) fn change<R>(&self, node: NodeIndex, change: impl FnOnce(&mut NodeData) -> R) -> R {
        change(&mut self.nodes.borrow_mut()[node.as_usize()])
    }

    pub(crate) fn registered(&self, kind: KindIndex) -> Registered {
        self.registry.borrow().get(kind)
    }

    pub(crate) fn registry(&self) -> std::cell::Ref<'_, Registry> {
        self.registry.borrow()
    }

    /// The node of a typed spec, which is interned if it is new.
    pub(crate) fn intern<K: KindOf>(&self, spec: &K::Spec) -> NodeIndex {
        let hash = hash_spec::<K>(spec);
        let found = {
            let nodes = self.nodes.borrow();
            let is_it = |(other, index): &(u64, NodeIndex)| {
                *other == hash && nodes[index.as_usize()].spec.as_ref().and_then(typed::<K>) == Some(spec)
            };
            self.by_spec.borrow().find(hash, is_it).map(|(_, index)| *index)
        };
        match found {
            Some(index) => index,
            None => self.intern_new(hash, Typed::<K>::share(spec)),
        }
    }

    /// The node of a spec whose type is erased: found by key.
    pub(crate) fn intern_shared(&self, spec: SharedSpec) -> NodeIndex {
        let kind = self.registry.borrow_mut().register(spec.kind());
        let key = self.key_of_spec(kind, &spec);
        self.by_key_or_insert(key, kind, Some(spec))
    }

    #[cold]
    fn intern_new(&self, hash: u64, spec: SharedSpec) -> NodeIndex {
        let index = self.intern_shared(spec);
        let mut by_spec = self.by_spec.borrow_mut();
        by_spec.insert_unique(hash, (hash, index), |(hash, _)| *hash);
        index
    }

    /// A spec that cannot be encoded has no identity between runs; in memory it still has one, by its text.
    ///
    /// Serialisation of plain data into a vector fails only for types that MessagePack cannot hold.
    fn key_of_spec(&self, kind: KindIndex, spec: &SharedSpec) -> Key {
        let seed = self.registered(kind).seed;
        let mut scratch = self.scratch.take();
        scratch.clear();
        if spec.encode(&mut scratch).is_err() {
            scratch.clear();
            scratch.extend_from_slice(b"\xc1not encodable: ");
            scratch.extend_from_slice(spec.to_string().as_bytes());
        }
        let key = key_of(&seed, &scratch);
        self.scratch.replace(scratch);
        key
    }

    /// The node of a key from a trace; `None` if no kind of ours, in its present epoch, has such keys.
    pub(crate) fn by_key(&self, key: Key) -> Option<NodeIndex> {
        let kind = self.registry.borrow().of_key(key)?;
        Some(self.by_key_or_insert(key, kind, None))
    }

    /// The node of a key, if the table has it.
    pub(crate) fn find_key(&self, key: Key) -> Option<NodeIndex> {
        let nodes = self.nodes.borrow();
        self.by_key.borrow().find(hash_key(key), |index| nodes[index.as_usize()].key == key).copied()
    }

    fn by_key_or_insert(&self, key: Key, kind: KindIndex, spec: Option<SharedSpec>) -> NodeIndex {
        if let Some(index) = self.find_key(key) {
            if let Some(spec) = spec {
                let lost = self.change(index, |node| {
                    node.spec.get_or_insert(spec);
                    // The store does not have it, whatever its traces promise: it is to be written again.
                    node.kept &= !node.lost;
                    std::mem::take(&mut node.lost)
                });
                if lost {
                    self.amend.borrow_mut().push((index, Amend::Run));
                }
            }
            return index;
        }
        let role = self.registered(kind).kind.role();
        let mut nodes = self.nodes.borrow_mut();
        let index = NodeIndex(u32::try_from(nodes.len()).expect("invariant: fewer than 2^32 specs"));
        nodes.push(NodeData {
            key,
            kind,
            role,
            status: Status::None,
            active: false,
            loaded: false,
            kept: false,
            lost: false,
            height: 1,
            spec,
            memo: None,
            directive: None,
            slot: None,
            worlds: Vec::new(),
            current: false,
            demands: Vec::new(),
            reached: Vec::new(),
            earlier: Vec::new(),
            stale: None,
            value: None,
            failure: None,
            cost: Duration::ZERO,
        });
        let nodes = &*nodes;
        self.by_key.borrow_mut().insert_unique(hash_key(key), index, |index| hash_key(nodes[index.as_usize()].key));
        index
    }

    /// The spec of a node, read from the store if need be.
    pub(crate) fn spec(&self, node: NodeIndex) -> Option<SharedSpec> {
        if let Some(spec) = self.with(node, |node| node.spec.clone()) {
            return Some(spec);
        }
        let (key, kind) = self.with(node, |node| (node.key, node.kind));
        let registered = self.registered(kind);
        let stored = self.persist.borrow_mut().as_mut()?.spec(key)?;
        // The identity is checked: a spec that decodes to something else than was encoded must not pass for it.
        if key_of(&registered.seed, &stored) != key {
            return None;
        }
        let spec = registered.kind.decode_spec(&stored).ok()?;
        if self.key_of_spec(kind, &spec) != key {
            return None;
        }
        self.change(node, |node| {
            node.kept = true;
            node.spec = Some(spec.clone());
        });
        Some(spec)
    }

    pub(crate) fn name(&self, node: NodeIndex) -> SpecName {
        self.with(node, |node| match &node.spec {
            Some(spec) => SpecName(NameInner::Spec(spec.clone())),
            None => SpecName(NameInner::Key(node.key)),
        })
    }

    /// The value of a cell, decoded now if it was not; `None` if the store cannot produce it.
    pub(crate) fn read(&self, node: NodeIndex, cell: &Cell) -> Option<AnyValue> {
        if let Some(value) = cell.get() {
            return Some(value.clone());
        }
        let kind = self.with(node, |node| node.kind);
        let bytes = self.persist.borrow_mut().as_mut()?.value(cell.fingerprint())?;
        let value = self.registered(kind).kind.decode_value(&bytes).ok()?;
        Some(cell.fill(value).clone())
    }

    /// Encodes a value.
    pub(crate) fn encode(&self, kind: KindIndex, value: &AnyValue) -> Result<Encoded, rmp_serde::encode::Error> {
        let mut scratch = self.scratch.take();
        scratch.clear();
        self.registered(kind).kind.encode_value(value, &mut scratch)?;
        let fingerprint = Fingerprint::of(&scratch);
        let bytes = self.persist.borrow().is_some().then(|| Arc::from(scratch.as_slice()));
        self.scratch.replace(scratch);
        Ok((fingerprint, bytes))
    }

    /// Reads the traces of the store into the node, once.
    pub(crate) fn load_worlds(&self, node: NodeIndex) {
        let key = match self.with(node, |node| (!node.loaded).then_some(node.key)) {
            Some(key) => key,
            None => return,
        };
        let traces = match self.persist.borrow_mut().as_mut() {
            Some(persist) => persist.traces(key),
            None => Vec::new(),
        };
        let mut loaded = Vec::new();
        for trace in traces {
            loaded.extend(self.world_of(&trace));
        }
        self.change(node, |data| {
            data.loaded = true;
            data.kept |= !loaded.is_empty();
            for world in loaded {
                if data.worlds.len() < WORLDS && !data.worlds.iter().any(|known| known.same_world(&world)) {
                    data.worlds.push(world);
                }
            }
        });
    }

    /// A trace with nodes for keys; `None` if it names a key that is no longer ours.
    fn world_of(&self, trace: &doge_storage::Trace) -> Option<World> {
        let mut deps = Vec::with_capacity(trace.groups.iter().map(Vec::len).sum());
        let mut ends = Vec::with_capacity(trace.groups.len());
        for group in &trace.groups {
            for dependency in group {
                let index = self.by_key(dependency.key)?;
                if Role::from_u8(dependency.role) != Some(self.with(index, |node| node.role)) {
                    return None;
                }
                // A trace is committed together with the specs it names.
                self.change(index, |node| node.kept = true);
                deps.push((index, dependency.fingerprint));
            }
            ends.push(deps.len() as u32);
        }
        Some(World { deps: deps.into(), ends: ends.into(), cell: Cell::stored(trace.value), cost: trace.cost })
    }

    /// Forgets which traces were read, so that what another process recorded meanwhile is found.
    pub(crate) fn forget_loaded(&self, node: NodeIndex) {
        self.change(node, |node| node.loaded = false);
    }

    /// Puts a world in front of the others of its node: it is the one that holds now.
    pub(crate) fn remember(&self, node: NodeIndex, world: World) {
        self.change(node, |node| {
            node.worlds.retain(|known| !known.same_world(&world));
            node.worlds.insert(0, world);
            node.worlds.truncate(WORLDS);
            node.current = true;
            node.reached = Vec::new();
        });
    }

    /// No world describes what the node stands on now; `reached` does.
    pub(crate) fn stand_on(&self, node: NodeIndex, reached: Vec<NodeIndex>) {
        self.change(node, |node| {
            node.current = false;
            node.reached = reached;
        });
    }

    /// The height of a node above those it asked.
    pub(crate) fn height_above(&self, asked: impl Iterator<Item = NodeIndex>) -> u32 {
        let nodes = self.nodes.borrow();
        asked.map(|index| nodes[index.as_usize()].height).max().unwrap_or(0).saturating_add(1)
    }

    /// The nodes that an answered or pending node stands on, as of its last evaluation.
    pub(crate) fn below(&self, node: NodeIndex, mut see: impl FnMut(NodeIndex)) {
        let nodes = self.nodes.borrow();
        let node = &nodes[node.as_usize()];
        match node.worlds.first() {
            Some(world) if node.current => world.deps.iter().for_each(|(index, _)| see(*index)),
            _ => node.reached.iter().for_each(|index| see(*index)),
        }
        node.demands.iter().for_each(|demand| see(demand.node()));
    }

    /// The nodes reachable from `roots` by what was asked last.
    pub(crate) fn reachable(&self, roots: impl IntoIterator<Item = NodeIndex>) -> Vec<bool> {
        self.reached(roots, |node, see| self.below(node, see))
    }

    /// The nodes that a node has asked in this session.
    pub(crate) fn asked(&self, node: NodeIndex, mut see: impl FnMut(NodeIndex)) {
        self.below(node, |below| {
            if below != node {
                see(below);
            }
        });
        self.with(node, |node| node.earlier.iter().for_each(|index| see(*index)));
    }

    /// The nodes reachable from `roots` by what was asked in this session.
    pub(crate) fn reached_in_session(&self, roots: impl IntoIterator<Item = NodeIndex>) -> Vec<bool> {
        self.reached(roots, |node, see| self.asked(node, see))
    }

    fn reached(
        &self,
        roots: impl IntoIterator<Item = NodeIndex>,
        below: impl Fn(NodeIndex, &mut dyn FnMut(NodeIndex)),
    ) -> Vec<bool> {
        let mut seen = vec![false; self.len()];
        let mut todo: Vec<NodeIndex> = Vec::new();
        for root in roots {
            if !std::mem::replace(&mut seen[root.as_usize()], true) {
                todo.push(root);
            }
        }
        while let Some(node) = todo.pop() {
            below(node, &mut |below| {
                if !std::mem::replace(&mut seen[below.as_usize()], true) {
                    todo.push(below);
                }
            });
        }
        seen
    }

    pub(crate) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.listener {
            listener(&event());
        }
    }

    /// A table of the nodes to keep, and where each of them is in it.
    ///
    /// Worlds that name a node which is not kept are left out: they are in the store, if there is one.
    pub(crate) fn shrunk(self, keep: &[bool]) -> (Table, FxHashMap<NodeIndex, NodeIndex>) {
        let table = Table::new(self.registry.into_inner(), self.depth_limit, self.persist.into_inner(), self.listener);
        table.tally.replace(self.tally.into_inner());
        let old = self.nodes.into_inner();
        let mut moved = FxHashMap::default();
        for (place, node) in old.iter().enumerate().filter(|(place, _)| keep[*place]) {
            let index = table.by_key_or_insert(node.key, node.kind, node.spec.clone());
            moved.insert(NodeIndex(place as u32), index);
        }
        for (place, node) in old.into_iter().enumerate().filter(|(place, _)| keep[*place]) {
            let worlds = node.worlds.into_iter().filter_map(|world| {
                let deps = world.deps.iter().map(|(index, print)| Some((*moved.get(index)?, *print)));
                let deps = deps.collect::<Option<Arc<[_]>>>()?;
                Some(World { deps, ..world })
            });
            let worlds = worlds.collect();
            table.change(moved[&NodeIndex(place as u32)], |new| {
                new.worlds = worlds;
                new.loaded = node.loaded;
                new.kept = node.kept;
                new.lost = node.lost;
                new.height = node.height;
                new.cost = node.cost;
            });
        }
        (table, moved)
    }

    /// The node waits for `demands`.
    pub(crate) fn pend(&self, node: NodeIndex, demands: Vec<Demand>) -> Answer {
        self.change(node, |node| node.demands = demands);
        Answer::Pending
    }
}
