//! Backends inside of the program that uses the database: for programs that bring their own, and for quick tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A backend that is no process. It answers what a backend of the protocol is asked, in the same words.
pub trait MemoryBackend: Send + Sync + 'static {
    /// What tells it from others of its name. It is in the key of whatever it makes: one that makes something else has to
    /// say something else.
    fn identity(&self) -> String;

    /// Answers a question. Runs where blocking does no harm; a panic is an error that names the backend.
    ///
    /// # Errors
    ///
    /// What it complains of, in words for people.
    fn answer(&self, question: &MemoryQuestion<'_>) -> Result<Value, String>;
}

/// What a backend is asked.
pub struct MemoryQuestion<'q> {
    /// `conda/outputs` or `conda/build_v1`.
    pub method: &'static str,
    /// What a process would have been told with `initialize`.
    pub initialize: &'q Value,
    /// What is asked.
    pub params: &'q Value,
    /// Is told of each line that people may want to see.
    pub log: &'q dyn Fn(&str),
    /// Whether nobody waits for the answer any more. Then it should return soon: what it was asked may be asked anew.
    pub is_cancelled: &'q dyn Fn() -> bool,
}

/// Backends by the names that manifests call them.
#[derive(Clone, Default)]
pub struct MemoryBackends(BTreeMap<String, Arc<dyn MemoryBackend>>);

impl MemoryBackends {
    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, backend: impl MemoryBackend) -> Self {
        self.0.insert(name.into(), Arc::new(backend));
        self
    }

    /// Each name, and what tells the backend from others of it: what [`BackendOverrides`](crate::build::BackendOverrides)
    /// have to say for them to be asked.
    pub fn identities(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, backend)| (name.clone(), backend.identity())).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn MemoryBackend>> {
        self.0.get(name).cloned()
    }
}

impl fmt::Debug for MemoryBackends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
