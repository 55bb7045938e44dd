//! Variables of the environment that a backend gets to see.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use doge::{Change, Epoch, Fingerprint, Last, Observation, ObserveContext, Seen, Spec, Values};
use serde::{Deserialize, Serialize};

use crate::epoch::OWN;
use crate::redact::text_without_credentials;
use crate::told::by_name;

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

/// The values of some variables. Looked at in every session; nothing else is cheaper.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VariablesSpec {
    /// The names, sorted.
    pub names: Vec<String>,
    /// Those of them whose values nobody may see, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<String>,
}

/// What the name of a variable contains whose value is taken for a secret, whatever anybody says.
const SECRET_WORDS: [&str; 10] =
    ["TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH", "PRIVATE", "KEY", "COOKIE", "SESSION", "CERT"];
/// The same for whole words in it.
const SECRET_PARTS: [&str; 6] = ["PAT", "PWD", "PW", "PIN", "DSN", "OTP"];

/// Whether nobody may see the value of a variable of this name.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || name.split('_').any(|part| SECRET_PARTS.iter().any(|secret| part == *secret || part.ends_with("PWD")))
}

/// Whether a value has a user name, a password or a token in it.
fn holds_credentials(value: &str) -> bool {
    text_without_credentials(value) != value
}

impl VariablesSpec {
    /// The variables that a package calls secrets, and those that are passed on besides.
    pub fn new(secrets: &[String], passed_on: &[String]) -> Self {
        let mut names: Vec<String> = secrets.iter().chain(passed_on).cloned().collect();
        names.sort();
        names.dedup();
        let secret = names.iter().filter(|name| secrets.contains(name) || sounds_secret(name)).cloned().collect();
        Self { names, secret }
    }
}

impl fmt::Display for VariablesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variables {}", self.names.join(", "))
    }
}

impl Spec for VariablesSpec {
    const KIND: &'static str = "variables";
    const EPOCH: Epoch = Epoch::new(2, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What a variable is set to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableValue {
    /// To this.
    Plain(String),
    /// To something that nobody may see, or that is no text: a hash with the key of this machine.
    Hidden(Fingerprint),
}

/// What those variables are set to that are set.
pub type Variables = BTreeMap<String, VariableValue>;

impl Observation for VariablesSpec {
    type Output = Variables;
    type Error = Infallible;
    type Stamp = Variables;

    fn changes(&self, was: &Variables, now: &Variables, _: &Values<'_>) -> Option<Vec<Change>> {
        let shown = |value: Option<&VariableValue>| match value {
            None => "not set".to_owned(),
            Some(VariableValue::Plain(value)) => format!("`{value}`"),
            Some(VariableValue::Hidden(_)) => "a value that is not shown".to_owned(),
        };
        Some(by_name(was, now, |name, was, now| match (was, now) {
            (Some(VariableValue::Hidden(_)), Some(VariableValue::Hidden(_))) => {
                Change::new("variable", name, None, Some("has another value, which is not shown".to_owned()))
            }
            _ => Change::new("variable", name, Some(shown(was)), Some(shown(now))),
        }))
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let key = ctx.resource::<SecretKey>();
        let value: Variables = self
            .names
            .iter()
            .filter_map(|name| {
                let value = std::env::var_os(name)?;
                let value = match value.to_str() {
                    Some(text) if !self.secret.contains(name) && !holds_credentials(text) => {
                        VariableValue::Plain(text.to_owned())
                    }
                    _ => {
                        let key = key.as_ref().map_or([0; 32], |key| key.get());
                        let hash = blake3::keyed_hash(&key, value.as_encoded_bytes());
                        VariableValue::Hidden(Fingerprint::from_bytes(*hash.as_bytes()))
                    }
                };
                Some((name.clone(), value))
            })
            .collect();
        if last.is_some_and(|last| last.is(&value)) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { stamp: value.clone(), value, newest: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sounds_like_a_secret_is_one() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let spec = VariablesSpec::new(&names(&["PLAIN"]), &names(&["SEEN", "MY_token", "PLAIN"]));
        assert_eq!(spec.names, ["MY_token", "PLAIN", "SEEN"]);
        assert_eq!(spec.secret, ["MY_token", "PLAIN"]);
        for secret in ["GITHUB_PAT", "MYSQL_PWD", "SSHPASS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "SENTRY_DSN"] {
            assert!(sounds_secret(secret), "{secret}");
        }
        for plain in ["PATH", "CONDA_OVERRIDE_CUDA", "MODE", "SPINDLE", "CFLAGS"] {
            assert!(!sounds_secret(plain), "{plain}");
        }
        assert!(holds_credentials("https://me:hunter2@example.org/simple"));
        assert!(!holds_credentials("https://example.org/simple"));
    }
}
