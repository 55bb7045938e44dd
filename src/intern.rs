//! Interned values: names for values that are too large to stand in a spec.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use doge_storage::Fingerprint;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::spec::{SpecName, decode, encode};
use crate::value::Value;

/// A value that can be interned.
pub trait Intern: Value {
    /// What such a value is called, in a word or two.
    const NAME: &'static str;
}

/// The name of a value: its fingerprint, with the value itself if it is at hand.
///
/// Two names are equal if their values are. In a spec it takes 32 bytes, however large the value is. A name that
/// was read from the store comes without its value, which is looked up there when a body asks for it.
pub struct Interned<T> {
    fingerprint: Fingerprint,
    value: OnceLock<Arc<T>>,
}

impl<T: Intern> Interned<T> {
    /// The name of `value`, and its encoding.
    pub(crate) fn encoded(value: T) -> Result<(Self, Vec<u8>), Arc<FailureInner>> {
        let mut bytes = Vec::new();
        if let Err(error) = encode(&value, &mut bytes) {
            let spec = SpecName::text(T::NAME);
            let message = error.to_string().into();
            return Err(engine_failure(spec.clone(), EngineFailure::NotEncodable { spec, message }));
        }
        Ok((Self { fingerprint: Fingerprint::of(&bytes), value: OnceLock::from(Arc::new(value)) }, bytes))
    }

    pub(crate) fn fill(&self, bytes: &[u8]) -> Option<Arc<T>> {
        let value = Arc::new(decode::<T>(bytes).ok()?);
        Some(self.value.get_or_init(|| value).clone())
    }

    pub(crate) fn at_hand(&self) -> Option<Arc<T>> {
        self.value.get().cloned()
    }
}

impl<T> Interned<T> {
    /// The fingerprint of the value.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl<T> Clone for Interned<T> {
    fn clone(&self) -> Self {
        Self { fingerprint: self.fingerprint, value: self.value.clone() }
    }
}

impl<T> PartialEq for Interned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl<T> Eq for Interned<T> {}

impl<T> Hash for Interned<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl<T> fmt::Debug for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interned({})", self.fingerprint)
    }
}

impl<T: Intern> fmt::Display for Interned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", T::NAME, self.fingerprint)
    }
}

impl<T> Serialize for Interned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fingerprint.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Interned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { fingerprint: Fingerprint::deserialize(deserializer)?, value: OnceLock::new() })
    }
}
