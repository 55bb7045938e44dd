//! Specs: plain data that names one unit of work, and the key that is its identity between runs.
//!
//! In memory a spec is identified by its `Hash` and `Eq`; in the store by its [`Key`], the blake3 of its kind,
//! the kind's [`Epoch`] and the spec itself in MessagePack with field names. The key is computed once, when a
//! spec is first interned.

use std::any::Any;
use std::fmt;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, LazyLock};

use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use doge_storage::Key;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::action::Action;
use crate::effect::Effect;
use crate::explain::{Change, Values};
use crate::kind::{ActionKind, EffectKind, ErasedKind, KindOf, QueryKind, Role, typed};
use crate::query::Query;

/// Plain data that names one unit of work.
///
/// A spec holds nothing that is large (name a large value by the spec of the query that yields it, or intern it
/// with [`crate::Db::intern`]), no absolute path where a relative one can serve, and no wall-clock time: whatever
/// it holds becomes part of its identity between runs and machines.
///
/// `Serialize` must be deterministic and lossless: two specs that differ in a way that matters to the result must
/// encode differently, and two equal specs must encode equally. Maps are therefore ordered (`BTreeMap`, sorted
/// vectors), never hashed.
///
/// `Display` is what people see in progress, graphs and explanations; it may leave details out.
pub trait Spec: Clone + Eq + Hash + fmt::Display + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the kind, in snake case, unique within one database.
    const KIND: &'static str;

    /// What decides the results of this kind besides the spec itself.
    const EPOCH: Epoch;

    /// The human identity of this spec that survives changes of its content, if it has one.
    ///
    /// `install default@linux-64` names the same thing before and after the manifest is edited, although the
    /// spec and so its key differ. Explanations compare a spec with the previous one of the same label.
    fn label(&self) -> Option<String> {
        None
    }

    /// How two specs of a label differ, in the words of the kind, for people who ask why something ran again. By default they
    /// are compared field by field.
    fn changed(was: &Self, now: &Self, values: &Values<'_>) -> Option<Vec<Change>> {
        let _ = (was, now, values);
        None
    }
}

/// What decides the results of a kind besides the spec: the kind's own version and the libraries that do the work.
///
/// Both go into every key, so results made by another version of a solver, or by an older rule of ours, are never
/// found. A kind lists each library whose behaviour can change its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    version: u32,
    libraries: &'static [Library],
}

/// A library and the version of it that this program is linked with.
///
/// The version comes from `Cargo.lock`, read by a build script; see the `build.rs` of `doge-queries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Library {
    /// The name of the crate.
    pub name: &'static str,
    /// Its version, and for unreleased code a hash of its sources.
    pub version: &'static str,
}

impl Epoch {
    /// An epoch of a kind whose own rules have `version` and whose results are decided by `libraries`.
    ///
    /// Raise the version whenever the meaning of the spec or of its result changes while its encoding does not.
    pub const fn new(version: u32, libraries: &'static [Library]) -> Self {
        Self { version, libraries }
    }

    /// The libraries that decide the results.
    pub const fn libraries(&self) -> &'static [Library] {
        self.libraries
    }

    /// The kind's own version.
    pub const fn version(&self) -> u32 {
        self.version
    }
}

/// The blake3 key under which the specs of one kind and epoch are hashed.
pub(crate) fn kind_seed(kind: &str, role: Role, epoch: Epoch) -> [u8; 32] {
    // Every kind of a database has its seed from the first moment on.
    static CONTEXT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("doge 2026 spec key"));
    let mut parts = Vec::with_capacity(256);
    let mut part = |bytes: &[u8]| {
        parts.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        parts.extend_from_slice(bytes);
    };
    part(kind.as_bytes());
    part(&[role as u8]);
    part(&epoch.version.to_le_bytes());
    for library in epoch.libraries {
        part(library.name.as_bytes());
        part(library.version.as_bytes());
    }
    *blake3::Hasher::new_from_context_key(&CONTEXT).update(&parts).finalize().as_bytes()
}

/// A spec with its type erased.
pub(crate) trait AnySpec: Any + fmt::Display + Send + Sync {
    /// The operations of its kind.
    fn kind(&self) -> &'static dyn ErasedKind;
    /// MessagePack with field names, appended to `into`.
    fn encode(&self, into: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error>;
    fn label(&self) -> Option<String>;
    fn as_any(&self) -> &dyn Any;
}

/// A shared, type-erased spec; what the engine passes around once the typed edge is left.
pub(crate) type SharedSpec = Arc<dyn AnySpec>;

/// Writes the canonical encoding of `value`: MessagePack with field names.
///
/// Field names cost bytes and buy that a reordered or added field never decodes to another value without an
/// error, and that types with flattened fields round-trip at all.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, into: impl io::Write) -> Result<(), rmp_serde::encode::Error> {
    let mut serializer = rmp_serde::Serializer::new(into).with_struct_map();
    value.serialize(&mut serializer)
}

/// Whether `encoded` is the encoding of `value`. An empty one is of nothing: every value has at least a byte.
pub(crate) fn is_encoding_of<T: Serialize + ?Sized>(encoded: &[u8], value: &T) -> bool {
    let mut rest = Expected(encoded);
    encode(value, &mut rest).is_ok() && rest.0.is_empty()
}

/// Takes only the bytes that it expects.
struct Expected<'a>(&'a [u8]);

impl io::Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

/// How many leading bytes of a key name the kind and its epoch.
const TAG: usize = 4;

/// The first bytes of every key of one kind and epoch.
///
/// A key read from a trace thus tells its kind without its spec being read, and a key of a kind in another epoch
/// is recognised as such: a trace that names one does not hold, whatever else the store has about it.
pub(crate) fn tag_of(seed: &[u8; 32]) -> [u8; TAG] {
    [seed[0], seed[1], seed[2], seed[3]]
}

pub(crate) fn tag_of_key(key: Key) -> [u8; TAG] {
    let bytes = key.as_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// The key of an encoded spec of the kind that `seed` stands for: its tag, and 28 bytes of hash.
pub(crate) fn key_of(seed: &[u8; 32], encoded: &[u8]) -> Key {
    let mut bytes = *blake3::keyed_hash(seed, encoded).as_bytes();
    bytes[..TAG].copy_from_slice(&seed[..TAG]);
    Key::from_bytes(bytes)
}

/// A name for a spec that is cheap to clone and written out only when someone looks.
#[derive(Clone)]
pub struct SpecName(pub(crate) NameInner);

#[derive(Clone)]
pub(crate) enum NameInner {
    Spec(SharedSpec),
    /// Known by key only: its spec was not needed and has not been read from the store.
    Key(Key),
    Text(Arc<str>),
}

impl SpecName {
    /// The kind's name, if the spec is at hand.
    pub fn kind(&self) -> Option<&'static str> {
        match &self.0 {
            NameInner::Spec(spec) => Some(spec.kind().name()),
            NameInner::Key(_) | NameInner::Text(_) => None,
        }
    }

    /// The label of the spec, if it has one and is at hand.
    pub fn label(&self) -> Option<String> {
        match &self.0 {
            NameInner::Spec(spec) => spec.label(),
            NameInner::Key(_) | NameInner::Text(_) => None,
        }
    }

    /// The key of the spec, if it has one.
    pub fn key(&self) -> Option<Key> {
        match &self.0 {
            NameInner::Spec(spec) => crate::runtime::key_of_spec(spec),
            NameInner::Key(key) => Some(*key),
            NameInner::Text(_) => None,
        }
    }

    /// The spec, if it is a query of this type and at hand.
    pub fn as_query<Q: Query>(&self) -> Option<&Q> {
        self.as_kind::<QueryKind<Q>>()
    }

    /// The spec, if it is an action of this type and at hand.
    pub fn as_action<A: Action>(&self) -> Option<&A> {
        self.as_kind::<ActionKind<A>>()
    }

    /// The spec, if it is an effect of this type and at hand.
    pub fn as_effect<E: Effect>(&self) -> Option<&E> {
        self.as_kind::<EffectKind<E>>()
    }

    fn as_kind<K: KindOf>(&self) -> Option<&K::Spec> {
        match &self.0 {
            NameInner::Spec(spec) => typed::<K>(spec),
            NameInner::Key(_) | NameInner::Text(_) => None,
        }
    }

    pub(crate) fn text(text: impl Into<Arc<str>>) -> Self {
        Self(NameInner::Text(text.into()))
    }
}

impl fmt::Display for SpecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            NameInner::Spec(spec) => spec.fmt(f),
            NameInner::Key(key) => write!(f, "{key}"),
            NameInner::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for SpecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// Who changes this loses every result that was recorded.
    #[test]
    fn the_key_of_a_spec_is_what_it_always_was() {
        #[derive(Serialize)]
        struct Fields {
            name: &'static str,
            number: Option<u64>,
        }
        const LIBRARY: Library = Library { name: "library", version: "1.2.3" };
        let mut encoded = Vec::new();
        encode(&Fields { name: "a", number: Some(300) }, &mut encoded).expect("plain data");
        let key = |role, epoch| key_of(&kind_seed("kind", role, epoch), &encoded).to_hex();
        expect!["82a46e616d65a161a66e756d626572cd012c"]
            .assert_eq(&encoded.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        expect!["676ad22735a0e96a9eb1bcf2f60fe3412f5b139b3f70dd913991924a0e019713"]
            .assert_eq(&key(Role::Query, Epoch::new(1, &[])));
        expect!["c8bdba59d50efaf32d116d8406294c0793e1dd6270e798820b0087abb5cbc800"]
            .assert_eq(&key(Role::Action, Epoch::new(1, &[LIBRARY])));
    }

    #[test]
    fn only_what_encodes_to_the_very_bytes_is_the_same() {
        let mut encoded = Vec::new();
        encode(&("a", 1_u8), &mut encoded).expect("plain data");
        assert!(is_encoding_of(&encoded, &("a", 1_u8)));
        assert!(!is_encoding_of(&encoded, &("a", 2_u8)), "another value");
        assert!(!is_encoding_of(&encoded, &("a", 1_u8, 1_u8)), "a longer one");
        assert!(!is_encoding_of(&encoded[..2], &("a", 1_u8)), "the beginning of it");
        encoded.push(0);
        assert!(!is_encoding_of(&encoded, &("a", 1_u8)), "more than it");

        /// A value that cannot be encoded.
        struct Unfit;
        impl Serialize for Unfit {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("it is unfit"))
            }
        }
        assert!(!is_encoding_of(&[], &Unfit), "what was not kept is equal to nothing");
    }
}
