//! Names of 32 bytes: of specs and of values. And the ids of runs.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the name it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name in hexadecimal digits")]
pub struct NotAName;

struct Bytes<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = [0; N];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(place, &self))?;
        }
        Ok(bytes)
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], NotAName> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(NotAName);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotAName);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $size:literal, short $short:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// The name that these bytes are.
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// All bytes in hexadecimal digits.
            pub fn to_hex(&self) -> String {
                hex(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let short: fn(&[u8; $size]) -> String = $short;
                f.write_str(&short(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(&self.to_hex())
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    deserializer.deserialize_bytes(Bytes::<$size>).map(Self)
                }
            }
        }
    };
}

name! {
    /// The name of a spec: a hash of its kind, epoch and content, made by whoever knows specs.
    Key, 32, short |bytes| hex(&bytes[..6])
}

name! {
    /// The name of a value: the blake3 of its encoding.
    Fingerprint, 32, short |bytes| hex(&bytes[..6])
}

name! {
    /// The id of a run: when it began, and what tells it from others that began at the same time. Ids are ordered by
    /// time.
    RunId, 16, short |bytes| hex(bytes)
}

impl Key {
    /// The name of some keys as a whole, in whatever order they come; each counts as often as it is there.
    ///
    /// Keys are hashes, so their sum tells other keys from these.
    pub(crate) fn of_all(keys: &[Key]) -> Self {
        let mut sums = [0_u64; 4];
        for key in keys {
            for (sum, lane) in sums.iter_mut().zip(key.0.chunks_exact(8)) {
                *sum = sum.wrapping_add(lane.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)));
            }
        }
        let mut hasher = blake3::Hasher::new_derive_key("doge store: keys that were used together");
        for sum in sums {
            hasher.update(&sum.to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl Fingerprint {
    /// The fingerprint of an encoded value.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

static RUNS: AtomicU32 = AtomicU32::new(0);

impl RunId {
    /// An id for a run that begins now; no other process and no other call gets the same.
    #[expect(clippy::new_without_default, reason = "two calls differ")]
    pub fn new() -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        // Only uniqueness within the process matters.
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&micros.to_be_bytes());
        bytes[8..12].copy_from_slice(&std::process::id().to_be_bytes());
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        Self(bytes)
    }

    /// When the run began, in microseconds since 1970.
    pub fn micros(&self) -> u64 {
        let mut micros = [0; 8];
        micros.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(micros)
    }
}
