//! The kinds a database knows, by spec type and by the tag that begins each key.

use std::any::TypeId;

use doge_storage::Key;
use rustc_hash::FxHashMap;

use crate::kind::{ErasedKind, Role};
use crate::spec::{kind_seed, tag_of, tag_of_key};

/// The place of a kind in the registry, and in the two lowest bits its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KindIndex(u16);

impl KindIndex {
    fn new(place: usize, role: Role) -> Self {
        let place = u16::try_from(place).ok().filter(|place| *place < 1 << 14);
        Self(place.expect("invariant: fewer than 16,384 spec types") << 2 | role as u16)
    }

    pub(crate) fn as_usize(self) -> usize {
        usize::from(self.0 >> 2)
    }

    pub(crate) fn role(self) -> Role {
        match self.0 & 3 {
            0 => Role::Query,
            1 => Role::Action,
            2 => Role::Effect,
            _ => Role::Observation,
        }
    }
}

/// A kind and what is computed once for it.
#[derive(Clone, Copy)]
pub(crate) struct Registered {
    pub(crate) kind: &'static dyn ErasedKind,
    pub(crate) seed: [u8; 32],
}

/// All kinds of one database. Only grows.
#[derive(Default)]
pub(crate) struct Registry {
    kinds: Vec<Registered>,
    by_type: FxHashMap<TypeId, KindIndex>,
    by_tag: FxHashMap<[u8; 4], KindIndex>,
}

impl Registry {
    /// The place of `kind`, which is added if it is new.
    ///
    /// Two kinds whose tags are equal would take each other's specs for their own; one in four billion pairs is.
    /// The later of them is then left out of the tags: it works, but is not found again by key alone.
    pub(crate) fn register(&mut self, kind: &'static dyn ErasedKind) -> KindIndex {
        if let Some(index) = self.by_type.get(&kind.id()) {
            return *index;
        }
        let seed = kind_seed(kind.name(), kind.role(), kind.epoch());
        let index = KindIndex::new(self.kinds.len(), kind.role());
        self.kinds.push(Registered { kind, seed });
        self.by_type.insert(kind.id(), index);
        self.by_tag.entry(tag_of(&seed)).or_insert(index);
        index
    }

    pub(crate) fn get(&self, index: KindIndex) -> Registered {
        self.kinds[index.as_usize()]
    }

    /// The kind that `key` belongs to, if it is one of ours in its present epoch.
    pub(crate) fn of_key(&self, key: Key) -> Option<KindIndex> {
        self.by_tag.get(&tag_of_key(key)).copied()
    }

    pub(crate) fn by_place(&self, place: usize) -> Option<Registered> {
        self.kinds.get(place).copied()
    }
}
