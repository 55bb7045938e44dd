//! Dependencies as the project model has them: a map from names to package specs.
//!
//! A package spec is `binary`, `source`, `pinCompatible` or `pinSubpackage`. What is in it is passed on as it came;
//! only pins on subpackages are resolved, for nobody but the backend knows what it is going to build.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::json::Reader;
use crate::pin;
use crate::protocol::RpcError;

/// The value of each key of the variant configuration that a build is for.
pub(crate) type Variant = BTreeMap<String, Value>;

/// The version and the build string of what is built together, by name.
pub(crate) type Subpackages = BTreeMap<String, (String, String)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Dependencies(Vec<(String, Value)>);

impl Dependencies {
    /// A string in place of a spec is the version of a binary package.
    pub(crate) fn read(reader: &Reader<'_>) -> Result<Self, RpcError> {
        let read = |(name, spec): (&String, &Value)| {
            let place = reader.place_of(name);
            let spec = match spec {
                Value::String(version) => json!({ "binary": { "version": version } }),
                other => other.clone(),
            };
            let is_known = spec.as_object().is_some_and(|spec| {
                spec.len() == 1 && spec.iter().all(|(kind, inner)| is_spec_kind(kind) && inner.is_object())
            });
            if is_known {
                Ok((name.clone(), spec))
            } else {
                Err(RpcError::invalid_params(format!("{place} is no package spec")))
            }
        };
        reader.entries().map(read).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys of the variant configuration that these depend on.
    pub(crate) fn variant_keys(&self, variants: &BTreeMap<String, Vec<Value>>) -> BTreeSet<String> {
        let open = self.0.iter().filter(|(_, spec)| is_open(spec));
        open.filter_map(|(name, _)| variant_key(name, variants)).map(str::to_owned).collect()
    }

    /// The specs as a result has them, with their names, for this variant.
    pub(crate) fn named(&self, variant: &Variant, subpackages: &Subpackages) -> Result<Vec<Value>, RpcError> {
        self.0.iter().map(|(name, spec)| named(name, spec, variant, subpackages)).collect()
    }
}

fn is_spec_kind(kind: &str) -> bool {
    ["binary", "source", "pinCompatible", "pinSubpackage"].contains(&kind)
}

/// Whether it is a binary package of any version.
fn is_open(spec: &Value) -> bool {
    let Some(binary) = spec.get("binary") else { return false };
    let version = binary.get("version").filter(|version| !version.is_null());
    let url = binary.get("url").filter(|url| !url.is_null());
    url.is_none() && version.is_none_or(|version| version == "*")
}

/// Keys are written with underscores where names of packages have hyphens.
fn variant_key<'a, V>(name: &str, variants: &'a BTreeMap<String, V>) -> Option<&'a str> {
    let entry = variants.get_key_value(name).or_else(|| variants.get_key_value(name.replace('-', "_").as_str()));
    entry.map(|(key, _)| key.as_str())
}

fn named(name: &str, spec: &Value, variant: &Variant, subpackages: &Subpackages) -> Result<Value, RpcError> {
    let mut named = Map::new();
    named.insert("name".to_owned(), name.into());
    if let Some(pin) = spec.get("pinSubpackage") {
        let Some((version, build)) = subpackages.get(name) else {
            let message = format!("'{name}' is pinned as a subpackage but is none of the outputs");
            return Err(RpcError::backend("pin", message));
        };
        let pin = Reader::new(pin, &format!("pin of {name}"))?;
        named.insert("binary".to_owned(), pin::resolve(&pin, version, build)?);
        return Ok(Value::Object(named));
    }
    for (kind, inner) in Reader::new(spec, name)?.entries() {
        named.insert(kind.clone(), inner.clone());
    }
    let chosen = variant_key(name, variant).and_then(|key| variant.get(key)).and_then(version_of);
    if let (true, Some(version)) = (is_open(spec), chosen) {
        named["binary"]["version"] = version.into();
    }
    Ok(Value::Object(named))
}

/// The spec that a value of a variant stands for. Truth values are no versions.
fn version_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains(['*', '<', '>', '=', '!', '~', '|', ',']) => Some(text.clone()),
        Value::String(text) => Some(format!("{text}.*")),
        Value::Number(number) => Some(format!("{number}.*")),
        _ => None,
    }
}
