//! The first version.

use std::sync::Arc;
use std::time::Duration;

use crate::format::Cursor;
use crate::format::cursor::put_number;
use crate::keys::{Fingerprint, Key, RunId};
use crate::trace::{Batch, Dependency, LabelEntry, RunEntry, Stamp, StoredSpec, Trace};

/// The version that the header of every record names.
pub(crate) const VERSION: u32 = 1;

/// Bytes after their length.
fn put_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    put_number(bytes.len() as u64, into);
    into.extend_from_slice(bytes);
}

fn key(cursor: &mut Cursor<'_>) -> Option<Key> {
    cursor.array().map(Key::from_bytes)
}

fn fingerprint(cursor: &mut Cursor<'_>) -> Option<Fingerprint> {
    cursor.array().map(Fingerprint::from_bytes)
}

/// A record is whole only if nothing follows it.
fn whole<T>(cursor: &Cursor<'_>, record: T) -> Option<T> {
    cursor.is_at_end().then_some(record)
}

/// value, recorded, cost in microseconds, then for each group its length and its members: role, key, fingerprint.
pub(crate) fn encode_trace(trace: &Trace, into: &mut Vec<u8>) {
    into.extend_from_slice(trace.value.as_bytes());
    put_number(trace.recorded, into);
    put_number(trace.cost.as_micros().try_into().unwrap_or(u64::MAX), into);
    put_number(trace.groups.len() as u64, into);
    for group in &trace.groups {
        put_number(group.len() as u64, into);
        for dependency in group {
            into.push(dependency.role);
            into.extend_from_slice(dependency.key.as_bytes());
            into.extend_from_slice(dependency.fingerprint.as_bytes());
        }
    }
}

fn trace(cursor: &mut Cursor<'_>) -> Option<Trace> {
    let value = fingerprint(cursor)?;
    let recorded = cursor.number()?;
    let cost = Duration::from_micros(cursor.number()?);
    let count = cursor.length()?;
    let mut groups = cursor.room(count, 1);
    for _ in 0..count {
        let members = cursor.length()?;
        let mut group = cursor.room(members, 65);
        for _ in 0..members {
            let role = cursor.byte()?;
            group.push(Dependency { role, key: key(cursor)?, fingerprint: fingerprint(cursor)? });
        }
        groups.push(group);
    }
    Some(Trace { groups, value, cost, recorded })
}

pub(crate) fn decode_trace(bytes: &[u8]) -> Option<Trace> {
    let mut cursor = Cursor::new(bytes);
    let trace = trace(&mut cursor)?;
    whole(&cursor, trace)
}

/// kind, label (a byte that tells whether there is one), encoding.
pub(crate) fn encode_spec(spec: &StoredSpec, into: &mut Vec<u8>) {
    put_bytes(spec.kind.as_bytes(), into);
    match &spec.label {
        Some(label) => {
            into.push(1);
            put_bytes(label.as_bytes(), into);
        }
        None => into.push(0),
    }
    put_bytes(&spec.encoded, into);
}

fn spec(cursor: &mut Cursor<'_>) -> Option<StoredSpec> {
    let kind = cursor.text()?.to_owned();
    let label = match cursor.byte()? {
        0 => None,
        1 => Some(cursor.text()?.to_owned()),
        _ => return None,
    };
    Some(StoredSpec { kind, encoded: cursor.bytes()?.to_vec(), label })
}

pub(crate) fn decode_spec(bytes: &[u8]) -> Option<StoredSpec> {
    let mut cursor = Cursor::new(bytes);
    let spec = spec(&mut cursor)?;
    whole(&cursor, spec)
}

/// digest, value, detail.
pub(crate) fn encode_stamp(stamp: &Stamp, into: &mut Vec<u8>) {
    into.extend_from_slice(stamp.digest.as_bytes());
    into.extend_from_slice(stamp.value.as_bytes());
    put_bytes(&stamp.detail, into);
}

fn stamp(cursor: &mut Cursor<'_>) -> Option<Stamp> {
    let digest = fingerprint(cursor)?;
    let value = fingerprint(cursor)?;
    Some(Stamp { digest, value, detail: cursor.bytes()?.to_vec() })
}

pub(crate) fn decode_stamp(bytes: &[u8]) -> Option<Stamp> {
    let mut cursor = Cursor::new(bytes);
    let stamp = stamp(&mut cursor)?;
    whole(&cursor, stamp)
}

/// How many, then each: key, run.
pub(crate) fn encode_labels(entries: &[LabelEntry], into: &mut Vec<u8>) {
    put_number(entries.len() as u64, into);
    for entry in entries {
        into.extend_from_slice(entry.key.as_bytes());
        into.extend_from_slice(entry.run.as_bytes());
    }
}

fn label(cursor: &mut Cursor<'_>) -> Option<LabelEntry> {
    Some(LabelEntry { key: key(cursor)?, run: RunId::from_bytes(cursor.array()?) })
}

pub(crate) fn decode_labels(bytes: &[u8]) -> Option<Vec<LabelEntry>> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.length()?;
    let mut entries = cursor.room(count, 48);
    for _ in 0..count {
        entries.push(label(&mut cursor)?);
    }
    whole(&cursor, entries)
}

/// The day of the last use, counted from 1970, and the size in bytes of what belongs to the key.
pub(crate) fn encode_access(day: u32, size: u64, into: &mut Vec<u8>) {
    put_number(u64::from(day), into);
    put_number(size, into);
}

pub(crate) fn decode_access(bytes: &[u8]) -> Option<(u32, u64)> {
    let mut cursor = Cursor::new(bytes);
    let day = u32::try_from(cursor.number()?).ok()?;
    let size = cursor.number()?;
    whole(&cursor, (day, size))
}

/// Each field of the batch in turn: how many, then each with its key before it.
pub(crate) fn encode_batch(batch: &Batch, into: &mut Vec<u8>) {
    put_number(batch.specs.len() as u64, into);
    for (key, spec) in &batch.specs {
        into.extend_from_slice(key.as_bytes());
        encode_spec(spec, into);
    }
    put_number(batch.traces.len() as u64, into);
    for (key, trace) in &batch.traces {
        into.extend_from_slice(key.as_bytes());
        encode_trace(trace, into);
    }
    put_number(batch.values.len() as u64, into);
    for (fingerprint, value) in &batch.values {
        into.extend_from_slice(fingerprint.as_bytes());
        put_bytes(value, into);
    }
    put_number(batch.stamps.len() as u64, into);
    for (key, stamp) in &batch.stamps {
        into.extend_from_slice(key.as_bytes());
        encode_stamp(stamp, into);
    }
    put_number(batch.labels.len() as u64, into);
    for (label, entry) in &batch.labels {
        put_bytes(label.as_bytes(), into);
        into.extend_from_slice(entry.key.as_bytes());
        into.extend_from_slice(entry.run.as_bytes());
    }
    put_number(batch.runs.len() as u64, into);
    for run in &batch.runs {
        into.extend_from_slice(run.id.as_bytes());
        put_bytes(&run.record, into);
    }
    put_number(batch.touches.len() as u64, into);
    for key in &batch.touches {
        into.extend_from_slice(key.as_bytes());
    }
}

pub(crate) fn decode_batch(bytes: &[u8]) -> Option<Batch> {
    let mut cursor = Cursor::new(bytes);
    let mut batch = Batch::default();
    for _ in 0..cursor.length()? {
        let key = key(&mut cursor)?;
        batch.specs.insert(key, spec(&mut cursor)?);
    }
    for _ in 0..cursor.length()? {
        let key = key(&mut cursor)?;
        batch.traces.push((key, trace(&mut cursor)?));
    }
    for _ in 0..cursor.length()? {
        let fingerprint = fingerprint(&mut cursor)?;
        batch.values.insert(fingerprint, Arc::from(cursor.bytes()?));
    }
    for _ in 0..cursor.length()? {
        let key = key(&mut cursor)?;
        batch.stamps.insert(key, stamp(&mut cursor)?);
    }
    for _ in 0..cursor.length()? {
        let text = cursor.text()?.to_owned();
        batch.labels.push((text, label(&mut cursor)?));
    }
    for _ in 0..cursor.length()? {
        let id = RunId::from_bytes(cursor.array()?);
        batch.runs.push(RunEntry { id, record: cursor.bytes()?.to_vec() });
    }
    for _ in 0..cursor.length()? {
        batch.touches.push(key(&mut cursor)?);
    }
    whole(&cursor, batch)
}
