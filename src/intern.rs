//! Interned values: names for values that are too large to stand in a spec.
//!
//! In an encoding a name is a map of one entry, `interned`, so that the names in it can be found by whoever does not know
//! its type: the store keeps a value as long as something that it keeps names it, and nothing is restored from the store
//! whose names have lost their values.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, PoisonError};

use doge_storage::Fingerprint;
use rustc_hash::FxHashMap;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::{EngineFailure, FailureInner, engine_failure};
use crate::spec::{SpecName, decode, encode};
use crate::sync::{Mutex, MutexGuard};
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

    /// Names a value without keeping it.
    ///
    /// Whoever lets the name into a spec or a value gives the value to [`crate::Db::intern`] or
    /// [`crate::ActionContext::intern`], too, or it is lost with the process.
    ///
    /// # Errors
    ///
    /// The message of the encoder, if the value has no encoding.
    pub fn named(value: T) -> Result<Self, String> {
        Self::encoded(value).map(|(name, _)| name).map_err(|failure| format!("{failure:?}"))
    }

    /// Takes the value over from an equal name that has it at hand. Of another name nothing is taken.
    ///
    /// A name in a value that was read from the store has none, though others like it may have been read; whoever goes
    /// through a graph of names reads each value once and shares it by this.
    pub fn take_from(&self, other: &Self) {
        if self.fingerprint == other.fingerprint
            && let Some(value) = other.value.get()
        {
            let _ = self.value.set(value.clone());
        }
    }

    /// The value, if it is at hand without looking anywhere: it was interned in this process, or read through this name.
    pub fn at_hand(&self) -> Option<Arc<T>> {
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
        if serializer.is_human_readable() {
            return self.fingerprint.serialize(serializer);
        }
        let mut name = serializer.serialize_struct("Interned", 1)?;
        name.serialize_field("interned", &self.fingerprint)?;
        name.end()
    }
}

/// A name as it is encoded where it is not for people.
#[derive(Deserialize)]
struct Encoded {
    interned: Fingerprint,
}

impl<'de, T> Deserialize<'de> for Interned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fingerprint = if deserializer.is_human_readable() {
            Fingerprint::deserialize(deserializer)?
        } else {
            Encoded::deserialize(deserializer)?.interned
        };
        Ok(Self { fingerprint, value: OnceLock::new() })
    }
}

/// What stands before the bytes of a name: a map of one entry, its key, and the head of 32 bytes.
const MARK: &[u8] = b"\x81\xa8interned\xc4\x20";

/// The values that an encoded spec or value names.
///
/// Bytes that only look like a name may be among them; whoever keeps what is named keeps too much then, never too little.
pub fn names_in(encoded: &[u8]) -> Vec<Fingerprint> {
    let names = memchr::memmem::find_iter(encoded, MARK);
    let name = |place: usize| encoded.get(place + MARK.len()..)?.first_chunk::<32>();
    names.filter_map(name).map(|name| Fingerprint::from_bytes(*name)).collect()
}

/// Encodings of interned values that something restored from the store names.
///
/// They are read when it is restored and stay for the session: what was found whole then cannot be lost halfway, whatever
/// becomes of the store.
#[derive(Default)]
pub(crate) struct AtHand(Mutex<FxHashMap<Fingerprint, Arc<[u8]>>>);

impl AtHand {
    fn values(&self) -> MutexGuard<'_, FxHashMap<Fingerprint, Arc<[u8]>>> {
        // Each change is one insertion, so a panic cannot leave it half-done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: Fingerprint) -> Option<Arc<[u8]>> {
        self.values().get(&name).cloned()
    }

    pub(crate) fn keep(&self, name: Fingerprint, bytes: Arc<[u8]>) {
        self.values().insert(name, bytes);
    }

    pub(crate) fn clear(&self) {
        self.values().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{decode, encode};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Text(String);

    impl Intern for Text {
        const NAME: &'static str = "text";
    }

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Holder {
        digest: Fingerprint,
        one: Interned<Text>,
        more: Vec<Option<Interned<Text>>>,
    }

    #[test]
    fn the_names_in_an_encoding_are_found_and_nothing_else_is_taken_for_one() {
        let named = |text: &str| Interned::encoded(Text(text.to_owned())).expect("text has an encoding").0;
        let (one, two) = (named("one"), named("two"));
        let prints = [one.fingerprint(), two.fingerprint()];
        let holder = Holder { digest: Fingerprint::of(b"no name"), one, more: vec![None, Some(two)] };
        let mut bytes = Vec::new();
        encode(&holder, &mut bytes).expect("it has an encoding");
        assert_eq!(names_in(&bytes), prints);
        assert_eq!(decode::<Holder>(&bytes).expect("it is whole"), holder);
        assert_eq!(names_in(&bytes[..bytes.len() - 1]), prints[..1], "one that is cut off is none");
    }

    #[test]
    fn people_see_a_name_as_digits() {
        let (name, _) = Interned::encoded(Text("one".to_owned())).expect("text has an encoding");
        let json = serde_json::to_string(&name).expect("it has JSON");
        assert_eq!(json, format!("\"{}\"", name.fingerprint().to_hex()));
        assert_eq!(serde_json::from_str::<Interned<Text>>(&json).expect("it is a name"), name);
    }
}
