//! Values: what a spec evaluates to, named by their fingerprint and decoded only if someone reads them.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use doge_storage::Fingerprint;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a query, action or observation may yield.
///
/// Equality of values is equality of their encodings, so `Serialize` must be deterministic: ordered maps only.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// A decoded value with its type erased.
pub(crate) type AnyValue = Arc<dyn Any + Send + Sync>;

/// A value that is certainly known by its fingerprint and perhaps present in memory.
///
/// Two cells with one fingerprint stand for one value. A cell restored from the store is empty until someone
/// reads it; whether the store can still produce the bytes is found out only then.
#[derive(Clone)]
pub(crate) struct Cell(Arc<CellInner>);

struct CellInner {
    fingerprint: Fingerprint,
    /// The value, or [`Late`] in its place.
    value: AnyValue,
}

/// Stands for a value that is in the store until someone reads it.
///
/// Most cells are made with their value, and there are very many of them: this costs them nothing.
struct Late(OnceLock<AnyValue>);

impl Cell {
    pub(crate) fn new(fingerprint: Fingerprint, value: AnyValue) -> Self {
        Self(Arc::new(CellInner { fingerprint, value }))
    }

    /// A cell whose value is in the store.
    pub(crate) fn stored(fingerprint: Fingerprint) -> Self {
        Self(Arc::new(CellInner { fingerprint, value: Arc::new(Late(OnceLock::new())) }))
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    pub(crate) fn get(&self) -> Option<&AnyValue> {
        match self.late() {
            Some(Late(value)) => value.get(),
            None => Some(&self.0.value),
        }
    }

    /// Keeps a decoded value. A second value for one cell is equal to the first, so the first stays.
    pub(crate) fn fill(&self, value: AnyValue) -> &AnyValue {
        match self.late() {
            Some(Late(late)) => late.get_or_init(|| value),
            None => &self.0.value,
        }
    }

    fn late(&self) -> Option<&Late> {
        self.0.value.downcast_ref()
    }
}
