//! Reads JSON that somebody else wrote: what is of another type than expected is an error that names the place.
//!
//! `null` is the same as nothing.

use serde_json::{Map, Value};

use crate::protocol::RpcError;

/// An object and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    object: Option<&'a Map<String, Value>>,
    place: String,
}

impl<'a> Reader<'a> {
    /// The object at `place`; an empty one if it is `null`.
    pub(crate) fn new(value: &'a Value, place: &str) -> Result<Self, RpcError> {
        match value {
            Value::Null => Ok(Self { object: None, place: place.to_owned() }),
            Value::Object(object) => Ok(Self::of(object, place)),
            _ => Err(RpcError::invalid_params(format!("{place} has to be an object"))),
        }
    }

    pub(crate) fn of(object: &'a Map<String, Value>, place: &str) -> Self {
        Self { object: Some(object), place: place.to_owned() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.and_then(|object| object.get(key)).filter(|value| !value.is_null())
    }

    /// All that there is, in the order it was written.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.object.into_iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.object.is_none_or(Map::is_empty)
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>, RpcError> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn required_string(&self, key: &str) -> Result<&'a str, RpcError> {
        self.string(key)?.ok_or_else(|| RpcError::invalid_params(format!("{} is missing", self.place_of(key))))
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, RpcError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn natural(&self, key: &str) -> Result<Option<u64>, RpcError> {
        self.typed(key, "a natural number", Value::as_u64)
    }

    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, RpcError> {
        self.typed(key, "an integer", Value::as_i64)
    }

    pub(crate) fn list(&self, key: &str) -> Result<Option<&'a Vec<Value>>, RpcError> {
        self.typed(key, "a list", Value::as_array)
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<String>>, RpcError> {
        let as_strings = |value: &'a Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        };
        self.typed(key, "a list of strings", as_strings)
    }

    /// The object there; an empty one if there is nothing.
    pub(crate) fn reader(&self, key: &str) -> Result<Reader<'a>, RpcError> {
        Reader::new(self.get(key).unwrap_or(&Value::Null), &self.place_of(key))
    }

    /// The objects of the list there.
    pub(crate) fn readers(&self, key: &str) -> Result<Vec<Reader<'a>>, RpcError> {
        let list = self.list(key)?.into_iter().flatten();
        list.enumerate().map(|(index, item)| Reader::new(item, &format!("{}[{index}]", self.place_of(key)))).collect()
    }

    /// Refuses keys that nobody asks for.
    pub(crate) fn only(&self, keys: &[&str]) -> Result<(), RpcError> {
        match self.entries().find(|(key, _)| !keys.contains(&key.as_str())) {
            Some((key, _)) => Err(RpcError::invalid_params(format!("{} is not known", self.place_of(key)))),
            None => Ok(()),
        }
    }

    pub(crate) fn place_of(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, RpcError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || RpcError::invalid_params(format!("{} has to be {expected}", self.place_of(key)));
        read(value).map(Some).ok_or_else(wrong)
    }
}
