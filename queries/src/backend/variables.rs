//! Variables of the environment that a backend gets to see.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use doge::{Epoch, Fingerprint, Last, Observation, ObserveContext, Seen, Spec};
use serde::{Deserialize, Serialize};

use crate::epoch::OWN;

/// Where the key is that the values of variables are hashed with. A resource of the database.
///
/// The key is random and belongs to one machine: what is kept tells nobody what a secret is, not even by trying.
#[derive(Clone, Debug)]
pub struct SecretKey {
    /// The file.
    pub path: PathBuf,
}

/// What nobody can guess: the standard library seeds its hash maps by the system's random numbers.
fn random() -> blake3::Hash {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut hasher = blake3::Hasher::new();
    let seed = RandomState::new();
    for count in 0..4_u64 {
        let mut part = seed.build_hasher();
        part.write_u64(count);
        hasher.update(&part.finish().to_le_bytes());
    }
    hasher.finalize()
}

impl SecretKey {
    /// The key, made if there is none. Where it cannot be kept, it serves this process.
    fn get(&self) -> [u8; 32] {
        let read = |path: &Path| fs::read(path).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        if let Some(key) = read(&self.path) {
            return key;
        }
        let key = *random().as_bytes();
        let kept = (|| -> std::io::Result<()> {
            let directory = self.path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(directory)?;
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(&key)?;
            // Who was first decides.
            file.persist_noclobber(&self.path).map(drop).map_err(|error| error.error)
        })();
        match kept {
            Ok(()) => key,
            Err(_) => read(&self.path).unwrap_or(key),
        }
    }
}

/// The values of some variables, as hashes. Looked at in every session; nothing else is cheaper.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VariablesSpec {
    /// The names, sorted.
    pub names: Vec<String>,
}

impl fmt::Display for VariablesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variables {}", self.names.join(", "))
    }
}

impl Spec for VariablesSpec {
    const KIND: &'static str = "variables";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The hashes of the values of those variables that are set.
pub type Variables = BTreeMap<String, Fingerprint>;

impl Observation for VariablesSpec {
    type Output = Variables;
    type Error = Infallible;
    type Stamp = Variables;

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let key = ctx.resource::<SecretKey>().map_or([0; 32], |key| key.get());
        let value: Variables = self
            .names
            .iter()
            .filter_map(|name| {
                let value = std::env::var_os(name)?;
                let hash = blake3::keyed_hash(&key, value.as_encoded_bytes());
                Some((name.clone(), Fingerprint::from_bytes(*hash.as_bytes())))
            })
            .collect();
        if last.is_some_and(|last| last.stamp == value) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { stamp: value.clone(), value, newest: None })
    }
}
