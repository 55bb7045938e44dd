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

use doge_storage::{Fingerprint, Key};
use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use thin_vec::ThinVec;

use crate::answer::Answer;
use crate::db::Asked;
use crate::event::{Event, Listener};
use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::kind::{KindOf, Role, Typed, typed};
use crate::node::{Amend, Demand, Dep, Flag, NodeData, NodeIndex, Nodes, Status, World};
use crate::persist::Persist;
use crate::registry::{KindIndex, Registered, Registry};
use crate::run::Tally;
use crate::spec::{NameInner, SharedSpec, SpecName, key_of};
use crate::value::{AnyValue, Cell};

/// The nodes and the state that evaluation shares.
pub(crate) struct Table {
    nodes: RefCell<Nodes>,
    /// With the hash of the spec, so that a growing table looks at no spec.
    by_spec: RefCell<HashTable<(u32, NodeIndex)>>,
    by_key: RefCell<HashTable<NodeIndex>>,
    registry: RefCell<Registry>,
    /// How deep the stack of active specs is, and how deep it may become.
    pub(crate) depth: StdCell<usize>,
    pub(crate) depth_limit: usize,
    /// A spec was asked for that is on the stack of active specs: there may be a cycle.
    pub(crate) suspect: StdCell<bool>,
    /// What is being evaluated waits for something that salsa does not track.
    pub(crate) blind: StdCell<bool>,
    /// What was answered with "pending" for such a reason.
    pub(crate) blinded: RefCell<FxHashSet<NodeIndex>>,
    /// What nodes waited for when they fell back to waiting for something before it, which has to be made again.
    behind: RefCell<FxHashMap<NodeIndex, FxHashSet<NodeIndex>>>,
    /// Something with very many dependencies was evaluated.
    wide: StdCell<bool>,
    /// Some answer is one that the next attempt repeats.
    pub(crate) loose: StdCell<bool>,
    /// What evaluation found that only a change of inputs can put right: the planner sees to it.
    pub(crate) amend: RefCell<Vec<(NodeIndex, Amend)>>,
    /// The targets that an effect has changed on behalf of a query, in live requests, and which effect that was.
    pub(crate) effects_done: RefCell<FxHashMap<NodeIndex, FxHashMap<NodeIndex, NodeIndex>>>,
    pub(crate) persist: RefCell<Option<Persist>>,
    pub(crate) tally: RefCell<Tally>,
    pub(crate) listener: Option<Listener>,
    pub(crate) tells_waits: bool,
    scratch: RefCell<Vec<u8>>,
    /// Records of bodies that have ended, to be used again.
    spare: RefCell<Vec<Asked>>,
}

/// From so many dependencies on, the room that they took is given back; see [`crate::memo::EngineDb::renew_room`].
const WIDE: usize = 256;

/// The fingerprint of an encoded value, and its bytes if they are to be kept.
pub(crate) type Encoded = (Fingerprint, Option<Arc<[u8]>>);

/// Thirty-two good bits: two specs in four billion that are confused are told apart by looking at them.
fn hash_spec<K: KindOf>(spec: &K::Spec) -> u32 {
    let mut hasher = FxHasher::default();
    std::any::TypeId::of::<Typed<K>>().hash(&mut hasher);
    spec.hash(&mut hasher);
    let hash = hasher.finish();
    (hash ^ hash >> 32) as u32
}

/// The hash as tables of hashes want it: the highest bits choose a tag, the lowest a place.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The first bytes of a key name its kind; those after them are as good as random.
fn hash_key(key: Key) -> u64 {
    let bytes = key.as_bytes();
    u64::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]])
}

impl Table {
    pub(crate) fn new(registry: Registry, depth_limit: usize, listener: Option<Listener>, tells_waits: bool) -> Self {
        Self {
            nodes: RefCell::default(),
            by_spec: RefCell::default(),
            by_key: RefCell::default(),
            registry: RefCell::new(registry),
            depth: StdCell::new(0),
            depth_limit,
            suspect: StdCell::new(false),
            blind: StdCell::new(false),
            blinded: RefCell::default(),
            behind: RefCell::default(),
            wide: StdCell::new(false),
            loose: StdCell::new(false),
            amend: RefCell::default(),
            effects_done: RefCell::default(),
            persist: RefCell::default(),
            tally: RefCell::default(),
            listener,
            tells_waits,
            scratch: RefCell::default(),
            spare: RefCell::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.borrow().len()
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.len() as u32).map(NodeIndex)
    }

    pub(crate) fn with<R>(&self, node: NodeIndex, look: impl FnOnce(&NodeData) -> R) -> R {
        look(&self.nodes.borrow()[node])
    }

    pub(crate) fn change<R>(&self, node: NodeIndex, change: impl FnOnce(&mut NodeData) -> R) -> R {
        change(&mut self.nodes.borrow_mut()[node])
    }

    pub(crate) fn begin_session(&self) {
        self.behind.borrow_mut().clear();
        self.nodes.borrow_mut().iter_mut().for_each(NodeData::begin_session);
    }

    pub(crate) fn status(&self, node: NodeIndex) -> Status {
        self.nodes.borrow()[node].status()
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
            let is_it = |(other, index): &(u32, NodeIndex)| {
                *other == hash && nodes[*index].spec.as_ref().and_then(typed::<K>) == Some(spec)
            };
            self.by_spec.borrow().find(spread(hash), is_it).map(|(_, index)| *index)
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
    fn intern_new(&self, hash: u32, spec: SharedSpec) -> NodeIndex {
        let index = self.intern_shared(spec);
        let mut by_spec = self.by_spec.borrow_mut();
        by_spec.insert_unique(spread(hash), (hash, index), |(hash, _)| spread(*hash));
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
        self.by_key.borrow().find(hash_key(key), |index| nodes[*index].key == key).copied()
    }

    fn by_key_or_insert(&self, key: Key, kind: KindIndex, spec: Option<SharedSpec>) -> NodeIndex {
        if let Some(index) = self.find_key(key) {
            if let Some(spec) = spec {
                let lost = self.change(index, |node| {
                    // One that was made now may have what it names in it.
                    if node.spec.is_none() || node.is(Flag::Restored) {
                        node.set(Flag::Restored, false);
                        node.spec = Some(spec);
                    }
                    let lost = node.is(Flag::Lost);
                    if lost {
                        // The store does not have it, whatever its traces promise: it is to be written again.
                        node.set(Flag::Kept, false);
                        node.set(Flag::Lost, false);
                    }
                    lost
                });
                if lost {
                    self.amend.borrow_mut().push((index, Amend::Run));
                }
            }
            return index;
        }
        let mut nodes = self.nodes.borrow_mut();
        let index = nodes.push(NodeData::new(key, kind, spec));
        let nodes = &*nodes;
        self.by_key.borrow_mut().insert_unique(hash_key(key), index, |index| hash_key(nodes[*index].key));
        index
    }

    /// The spec of a node, read from the store if need be.
    pub(crate) fn spec(&self, node: NodeIndex) -> Option<SharedSpec> {
        match self.with(node, |node| node.spec.clone()) {
            Some(spec) => Some(spec),
            None => self.restore_spec(node).map(|(spec, _)| spec),
        }
    }

    /// The spec of a node from the store, and its encoding there.
    fn restore_spec(&self, node: NodeIndex) -> Option<(SharedSpec, Vec<u8>)> {
        let (key, kind) = self.with(node, |node| (node.key, node.kind));
        let stored = self.persist.borrow_mut().as_mut()?.spec(key)?;
        let spec = self.registered(kind).kind.decode_spec(&stored).ok()?;
        // The identity is checked: a spec that decodes to something else than was encoded must not pass for it.
        if self.key_of_spec(kind, &spec) != key {
            return None;
        }
        self.change(node, |node| {
            node.set(Flag::Kept, true);
            node.set(Flag::Restored, true);
            node.spec = Some(spec.clone());
        });
        Some((spec, stored))
    }

    /// The spec of a node that is about to run: one from the store only if what it names is there.
    pub(crate) fn spec_to_run(&self, node: NodeIndex) -> Option<SharedSpec> {
        let (spec, encoded) = match self.with(node, |node| (node.spec.clone(), node.is(Flag::Restored))) {
            (Some(spec), false) => return Some(spec),
            (Some(spec), true) => {
                let mut encoded = Vec::new();
                spec.encode(&mut encoded).ok()?;
                (spec, encoded)
            }
            (None, _) => self.restore_spec(node)?,
        };
        if !self.persist.borrow_mut().as_mut()?.has_what_is_named(&encoded) {
            return None;
        }
        self.change(node, |node| node.set(Flag::Restored, false));
        Some(spec)
    }

    /// The node has to run, and its spec is nowhere to be found: it fails until somebody asks with the spec in hand.
    pub(crate) fn lose(&self, node: NodeIndex) -> Arc<FailureInner> {
        self.change(node, |node| node.set(Flag::Lost, true));
        let name = self.name(node);
        engine_failure(name.clone(), EngineFailure::Lost { spec: name })
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
        let bytes = self.persist.borrow_mut().as_mut()?.whole_value(cell.fingerprint())?;
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

    /// Reads the newest trace of the store into the node, once: mostly it is the one that holds.
    pub(crate) fn load_newest(&self, node: NodeIndex) {
        let (known, key) = self.with(node, |node| (node.is(Flag::Begun) || node.is(Flag::Loaded), node.key));
        if known {
            return;
        }
        let newest = self.persist.borrow_mut().as_mut().map(|persist| persist.newest_trace(key));
        let (newest, others) = newest.unwrap_or((None, false));
        let world = newest.and_then(|trace| self.world_of(&trace));
        if others && world.is_none() {
            return self.load_worlds(node);
        }
        let flag = if others { Flag::Begun } else { Flag::Loaded };
        self.take_in(node, flag, world.into_iter().collect());
    }

    /// Reads the traces of the store into the node, once.
    pub(crate) fn load_worlds(&self, node: NodeIndex) {
        let key = match self.with(node, |node| (!node.is(Flag::Loaded)).then_some(node.key)) {
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
        self.take_in(node, Flag::Loaded, loaded);
    }

    /// Adds worlds of the store to a node; the flag says which of them it has now.
    fn take_in(&self, node: NodeIndex, flag: Flag, loaded: Vec<World>) {
        self.change(node, |node| {
            node.set(flag, true);
            if !loaded.is_empty() {
                node.set(Flag::Kept, true);
                node.add_recorded(loaded);
            }
        });
    }

    /// A trace with nodes for keys; `None` if it names a key that is no longer ours.
    fn world_of(&self, trace: &doge_storage::Trace) -> Option<World> {
        let mut deps = ThinVec::with_capacity(trace.groups.iter().map(Vec::len).sum());
        for group in &trace.groups {
            for dependency in group {
                let index = self.by_key(dependency.key)?;
                // A trace is committed together with the specs it names.
                let role = self.change(index, |node| {
                    node.set(Flag::Kept, true);
                    node.role()
                });
                if Role::from_u8(dependency.role) != Some(role) {
                    return None;
                }
                deps.push(Dep::new(index, dependency.fingerprint));
            }
            if let Some(last) = deps.last_mut() {
                last.end_group();
            }
        }
        Some(World { deps, cell: Cell::stored(trace.value), cost: trace.cost })
    }

    /// Forgets which traces were read, so that what another process recorded meanwhile is found.
    pub(crate) fn forget_loaded(&self, node: NodeIndex) {
        self.change(node, |node| {
            node.set(Flag::Begun, false);
            node.set(Flag::Loaded, false);
        });
    }

    /// The height of a node above those it asked.
    pub(crate) fn height_above(&self, asked: &[Dep]) -> u32 {
        let nodes = self.nodes.borrow();
        asked.iter().map(|dep| nodes[dep.node()].height).max().unwrap_or(0).saturating_add(1)
    }

    /// The nodes that an answered or pending node stands on, as of its last evaluation.
    pub(crate) fn below(&self, node: NodeIndex, see: impl FnMut(NodeIndex)) {
        self.nodes.borrow()[node].below(see);
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
        self.with(node, |node| node.earlier().iter().for_each(|index| see(*index)));
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

    /// The node was answered with "pending", and salsa cannot see why.
    pub(crate) fn note_blind(&self, node: NodeIndex) {
        self.blinded.borrow_mut().insert(node);
    }

    /// Something with so many dependencies is being evaluated.
    pub(crate) fn note_width(&self, dependencies: usize) {
        if dependencies > WIDE {
            self.wide.set(true);
        }
    }

    /// Whether anything wide was evaluated since this was asked last.
    pub(crate) fn take_wide(&self) -> bool {
        self.wide.take()
    }

    /// An empty record for a body that begins.
    pub(crate) fn spare_asked(&self) -> Asked {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a record that is not needed any more, so that the next body need not allocate one.
    pub(crate) fn spare(&self, mut asked: Asked) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < 64 && asked.deps.capacity() <= 64 {
            asked.clear();
            spare.push(asked);
        }
    }

    /// Whether somebody wants to know which queries wait.
    pub(crate) fn tells_waits(&self) -> bool {
        self.tells_waits && self.listener.is_some()
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
        let (registry, persist) = (self.registry.into_inner(), self.persist.into_inner());
        let table = Table::new(registry, self.depth_limit, self.listener, self.tells_waits);
        table.persist.replace(persist);
        table.tally.replace(self.tally.into_inner());
        let mut moved = FxHashMap::default();
        let mut old = Vec::new();
        for (place, node) in self.nodes.into_inner().into_iter().enumerate().filter(|(place, _)| keep[*place]) {
            let index = table.by_key_or_insert(node.key, node.kind, node.spec.clone());
            moved.insert(NodeIndex(place as u32), index);
            old.push((index, node));
        }
        for (index, mut node) in old {
            let worlds = node.take_worlds().into_iter().filter_map(|world| {
                let deps = world.deps.iter().map(|dep| Some(dep.moved_to(*moved.get(&dep.node())?)));
                let deps = deps.collect::<Option<ThinVec<Dep>>>()?;
                Some(World { deps, ..world })
            });
            let worlds: Vec<World> = worlds.collect();
            table.change(index, |new| {
                new.put_worlds(worlds);
                for flag in [Flag::Begun, Flag::Loaded, Flag::Kept, Flag::Restored, Flag::Lost] {
                    new.set(flag, node.is(flag));
                }
                new.height = node.height;
            });
        }
        (table, moved)
    }

    /// The node waits for `demands`.
    pub(crate) fn pend(&self, node: NodeIndex, demands: Vec<Demand>) -> Answer {
        let before = self.with(node, |node| node.demands().to_vec());
        let is_unmet = |demand: &&Demand| {
            self.with(demand.node(), |below| below.role() == Role::Effect || !below.demands().is_empty())
        };
        if before.iter().any(|demand| is_unmet(&demand)) {
            let now: FxHashSet<NodeIndex> = demands.iter().map(|demand| demand.node()).collect();
            let left = before.iter().filter(is_unmet).map(|demand| demand.node()).filter(|left| !now.contains(left));
            self.behind.borrow_mut().entry(node).or_default().extend(left);
        }
        self.change(node, |node| node.set_demands(demands));
        Answer::Pending
    }

    /// The nodes that something may need which fell back to waiting for something else, and still waits.
    pub(crate) fn needed_behind(&self, still_waits: impl Fn(NodeIndex) -> bool) -> Vec<bool> {
        let mut behind = self.behind.borrow_mut();
        behind.retain(|node, _| still_waits(*node));
        self.reachable(behind.values().flatten().copied())
    }
}
