//! The difference between two values of which only the encoding is known.

use std::collections::BTreeMap;
use std::fmt;

use doge_storage::Fingerprint;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

/// What stands between the parts of a path. Names in it may have dots.
const SEPARATOR: &str = "/";

/// What is said where there is nothing.
const NOTHING: &str = "nothing";

/// How many letters of a text are shown.
const LONG: usize = 120;

/// How many digits of a hash are shown.
const SHORT: usize = 12;

/// How many levels of values that name values are looked through.
const NESTING: usize = 4;

/// One difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize)]
pub struct Change {
    /// What it is, in the words of the kind: `file added`, `package`. Empty if two values were compared field by field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// Where: what it is about or, field by field, names and places from the outside in.
    pub path: String,
    /// What was there; `None` if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// What is there; `None` if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Change {
    /// Something in its own terms, that was or is.
    pub fn new(what: &str, path: impl Into<String>, was: Option<String>, now: Option<String>) -> Self {
        Self { what: what.to_owned(), path: path.into(), was, now }
    }

    /// Whether it is in the words of its kind.
    pub(super) fn is_told(&self) -> bool {
        !self.what.is_empty()
    }

    /// Whether there was nothing, or is nothing.
    pub(super) fn is_of_nothing(&self) -> bool {
        [&self.was, &self.now].into_iter().any(|side| side.as_deref() == Some(NOTHING))
    }

    /// The place that it is in, and whether something came, went or changed there.
    pub(super) fn sort(&self) -> (String, bool, bool) {
        let place = self.path.rsplit_once(SEPARATOR).map_or("", |(place, _)| place);
        (place.to_owned(), self.was.is_some(), self.now.is_some())
    }

    /// Whether it is about the thing at the end of another one's path.
    pub(super) fn is_about(&self, other: &Change) -> bool {
        let thing = other.path.rsplit(SEPARATOR).next().unwrap_or_default();
        !thing.is_empty() && self.path.split(SEPARATOR).any(|part| part == thing)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = match (self.what.as_str(), self.path.as_str()) {
            ("", "") => "value".to_owned(),
            ("", path) => path.to_owned(),
            (what, "") => format!("{what}:"),
            (what, path) => format!("{what}: {path}"),
        };
        match (&self.was, &self.now) {
            (Some(was), Some(now)) if self.is_told() => write!(f, "{at} {was} -> {now}"),
            (Some(value), None) | (None, Some(value)) if self.is_told() => write!(f, "{at} {value}"),
            (Some(was), Some(now)) => write!(f, "{at}: {was} -> {now}"),
            (None, Some(now)) => write!(f, "{at}: added {now}"),
            (Some(was), None) => write!(f, "{at}: removed {was}"),
            (None, None) if self.is_told() => f.write_str(&at),
            (None, None) => write!(f, "{at}: changed"),
        }
    }
}

/// Any value in MessagePack.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Nothing,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

impl Tree {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Tree::Bytes(bytes) => Some(Fingerprint::from_bytes(bytes.as_slice().try_into().ok()?)),
            _ => None,
        }
    }

    /// What tells this member of a list from the others, if anything does.
    fn identity(&self) -> Option<String> {
        let is_name = |text: &&String| text.len() <= LONG && !text.contains('\n');
        match self {
            Tree::Text(text) => Some(text).filter(is_name).cloned(),
            Tree::List(members) => match members.first() {
                Some(Tree::Text(text)) if members.len() > 1 => Some(text).filter(is_name).cloned(),
                _ => None,
            },
            Tree::Map(entries) => ["file_name", "path", "name", "key"].iter().find_map(|field| {
                entries.iter().find_map(|(key, value)| match (key, value) {
                    (Tree::Text(key), Tree::Text(text)) if key == field => Some(text.clone()),
                    _ => None,
                })
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tree::Nothing => f.write_str(NOTHING),
            Tree::Bool(value) => write!(f, "{value}"),
            Tree::Signed(value) => write!(f, "{value}"),
            Tree::Unsigned(value) => write!(f, "{value}"),
            Tree::Float(value) => write!(f, "{value}"),
            Tree::Text(text) if is_hash(text) => write!(f, "{}", &text[..SHORT]),
            Tree::Text(text) if text.chars().nth(LONG).is_some() => {
                write!(f, "{}...", text.chars().take(LONG).collect::<String>())
            }
            Tree::Text(text) => f.write_str(text),
            Tree::Bytes(_) => f.write_str("something"),
            Tree::List(members) if members.len() <= 4 => {
                f.write_str("[")?;
                for (place, member) in members.iter().enumerate() {
                    write!(f, "{}{member}", if place > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Tree::List(members) => write!(f, "{} items", members.len()),
            Tree::Map(entries) => match self.identity() {
                Some(identity) => f.write_str(&identity),
                None if entries.len() == 1 => f.write_str("1 field"),
                None => write!(f, "{} fields", entries.len()),
            },
        }
    }
}

/// Whether a text is a hash, of which nobody reads more than what tells it from others.
fn is_hash(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(value.to_vec()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = seq.next_element()? {
            members.push(member);
        }
        Ok(Tree::List(members))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        // The name of an interned value is shown as what it is.
        if let [(Tree::Text(key), Tree::Bytes(name))] = entries.as_slice()
            && key == "interned"
        {
            return Ok(Tree::Bytes(name.clone()));
        }
        Ok(Tree::Map(entries))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

/// Where `now` differs from `was`. A fingerprint that differs is looked through if `value` knows both values.
pub(super) fn differences(was: &Tree, now: &Tree, value: &mut dyn FnMut(Fingerprint) -> Option<Tree>) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&mut Vec::new(), Some(was), Some(now), value, NESTING, &mut changes);
    // What stands in the value itself goes before what stands in values that it names.
    changes.sort_by_key(|(nesting, _)| std::cmp::Reverse(*nesting));
    changes.into_iter().map(|(_, change)| change).collect()
}

fn compare(
    path: &mut Vec<String>,
    was: Option<&Tree>,
    now: Option<&Tree>,
    value: &mut dyn FnMut(Fingerprint) -> Option<Tree>,
    nesting: usize,
    changes: &mut Vec<(usize, Change)>,
) {
    if was == now {
        return;
    }
    if let (Some(was), Some(now)) = (was, now) {
        if let (Some(was_entries), Some(now_entries)) = (entries(was), entries(now)) {
            let mut names: Vec<&String> = was_entries.keys().chain(now_entries.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                path.push(name.clone());
                compare(path, was_entries.get(name).copied(), now_entries.get(name).copied(), value, nesting, changes);
                path.pop();
            }
            return;
        }
        if let (Tree::List(was), Tree::List(now)) = (was, now) {
            for place in 0..was.len().max(now.len()) {
                path.push(place.to_string());
                compare(path, was.get(place), now.get(place), value, nesting, changes);
                path.pop();
            }
            return;
        }
        if let (Tree::Text(was), Tree::Text(now)) = (was, now)
            && let (Some(was), Some(now)) = (written(was), written(now))
        {
            compare(path, Some(&was), Some(&now), value, nesting, changes);
            return;
        }
        if let (true, Some(was), Some(now)) = (nesting > 0, was.fingerprint(), now.fingerprint())
            && let (Some(was), Some(now)) = (value(was), value(now))
        {
            compare(path, Some(&was), Some(&now), value, nesting - 1, changes);
            return;
        }
    }
    let mut push = |was: Option<String>, now: Option<String>| {
        changes.push((nesting, Change { what: String::new(), path: path.join(SEPARATOR), was, now }));
    };
    match (was, now) {
        (Some(Tree::Text(was)), Some(Tree::Text(now))) if was.contains('\n') || now.contains('\n') => {
            let (gone, new) = differing_lines(was, now);
            gone.into_iter().for_each(|line| push(Some(line), None));
            new.into_iter().for_each(|line| push(None, Some(line)));
        }
        // That they differ is all that there is to say.
        (Some(Tree::Bytes(_)), Some(Tree::Bytes(_))) => push(None, None),
        _ => {
            let mut shown = |tree: Option<&Tree>| {
                let tree = tree?;
                let named = tree.fingerprint().filter(|_| nesting > 0).and_then(&mut *value);
                Some(named.as_ref().unwrap_or(tree).to_string())
            };
            let (was, now) = (shown(was), shown(now));
            push(was, now);
        }
    }
}

/// What a text says that is JSON of several fields.
fn written(text: &str) -> Option<Tree> {
    let looks_like_it = text.starts_with(['{', '[']);
    looks_like_it.then(|| serde_json::from_str(text).ok()).flatten()
}

/// The lines that only the first and only the second of two texts has, without those that are blank.
pub fn differing_lines(was: &str, now: &str) -> (Vec<String>, Vec<String>) {
    let mut left: BTreeMap<&str, isize> = BTreeMap::new();
    for line in now.lines() {
        *left.entry(line.trim()).or_default() += 1;
    }
    for line in was.lines() {
        *left.entry(line.trim()).or_default() -= 1;
    }
    let only = |text: &str, sign: isize| -> Vec<String> {
        let mut left = left.clone();
        let mut only = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(count) = left.get_mut(line).filter(|count| **count * sign > 0) {
                *count -= sign;
                only.push(line.to_owned());
            }
        }
        only
    };
    (only(was, -1), only(now, 1))
}

/// The members by what identifies them, if each has something that does and no two have the same.
fn entries(tree: &Tree) -> Option<BTreeMap<String, &Tree>> {
    let mut entries = BTreeMap::new();
    match tree {
        Tree::Map(members) => {
            for (key, member) in members {
                if entries.insert(key.to_string(), member).is_some() {
                    return None;
                }
            }
        }
        Tree::List(members) => {
            for member in members {
                if entries.insert(member.identity()?, member).is_some() {
                    return None;
                }
            }
        }
        _ => return None,
    }
    Some(entries)
}
