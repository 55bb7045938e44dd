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

/// value, recorded, scope, cost in microseconds, then for each group its length and its members: role, key, fingerprint.
pub(crate) fn encode_trace(trace: &Trace, into: &mut Vec<u8>) {
    into.extend_from_slice(trace.value.as_bytes());
    put_number(trace.recorded, into);
    into.extend_from_slice(&trace.scope.to_le_bytes());
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
    let scope = u64::from_le_bytes(cursor.array()?);
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
    Some(Trace { groups, value, cost, scope, recorded })
}

pub(crate) fn decode_trace(bytes: &[u8]) -> Option<Trace> {
    let mut cursor = Cursor::new(bytes);
    let trace = trace(&mut cursor)?;
    whole(&cursor, trace)
}

/// The trace, unless it does not go before that one in a scope; `None` if it cannot be decoded.
pub(crate) fn decode_trace_above(bytes: &[u8], known: Option<&Trace>, scope: u64) -> Option<Option<Trace>> {
    let mut cursor = Cursor::new(bytes);
    fingerprint(&mut cursor)?;
    let recorded = cursor.number()?;
    let rank = (u64::from_le_bytes(cursor.array()?) == scope, recorded);
    let is_above = known.is_none_or(|known| rank > known.rank(scope));
    if is_above { decode_trace(bytes).map(Some) } else { Some(None) }
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

fn spec_parts<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a str, Option<&'a str>, &'a [u8])> {
    let kind = cursor.text()?;
    let label = match cursor.byte()? {
        0 => None,
        1 => Some(cursor.text()?),
        _ => return None,
    };
    Some((kind, label, cursor.bytes()?))
}

fn spec(cursor: &mut Cursor<'_>) -> Option<StoredSpec> {
    let (kind, label, encoded) = spec_parts(cursor)?;
    Some(StoredSpec { kind: kind.to_owned(), encoded: encoded.to_vec(), label: label.map(ToOwned::to_owned) })
}

/// Of a spec only its encoding.
pub(crate) fn decode_encoding(bytes: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor::new(bytes);
    let (_, _, encoded) = spec_parts(&mut cursor)?;
    whole(&cursor, encoded)
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

/// How many bytes a value takes in the store, then how many values it names, then each.
pub(crate) fn encode_names(bytes: u64, names: &[Fingerprint], into: &mut Vec<u8>) {
    put_number(bytes, into);
    put_number(names.len() as u64, into);
    for name in names {
        into.extend_from_slice(name.as_bytes());
    }
}

pub(crate) fn decode_names(bytes: &[u8]) -> Option<(u64, Vec<Fingerprint>)> {
    let mut cursor = Cursor::new(bytes);
    let taken = cursor.number()?;
    let count = cursor.length()?;
    let mut names = cursor.room(count, 32);
    for _ in 0..count {
        names.push(fingerprint(&mut cursor)?);
    }
    whole(&cursor, (taken, names))
}

/// When the last collection ended, in microseconds since 1970, and how many bytes the file had then.
pub(crate) fn encode_collected(micros: u64, bytes: u64, into: &mut Vec<u8>) {
    put_number(micros, into);
    put_number(bytes, into);
}

pub(crate) fn decode_collected(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut cursor = Cursor::new(bytes);
    let micros = cursor.number()?;
    let bytes = cursor.number()?;
    whole(&cursor, (micros, bytes))
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

/// The bytes of each record, written down: who changes them makes another version.
#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::codec::{seal, unseal};

    fn print(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 32])
    }

    fn named(number: u8) -> Key {
        Key::from_bytes([number; 32])
    }

    fn run(number: u8) -> RunId {
        RunId::from_bytes([number; 16])
    }

    fn sample_trace() -> Trace {
        let dependency = |role, number| Dependency { key: named(number), role, fingerprint: print(number + 1) };
        Trace {
            groups: vec![vec![dependency(3, 1)], vec![], vec![dependency(0, 3), dependency(1, 5)]],
            value: print(9),
            cost: Duration::from_micros(300),
            scope: 0x0102_0304_0506_0708,
            recorded: 1_700_000_000_000_000,
        }
    }

    fn sample_spec(label: Option<&str>) -> StoredSpec {
        StoredSpec { kind: "kind".into(), encoded: vec![0x81, 0xa1, b'a', 1], label: label.map(Into::into) }
    }

    /// Thirty-two bytes a line.
    fn check(encode: impl FnOnce(&mut Vec<u8>), golden: Expect) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let mut text = String::new();
        for line in bytes.chunks(32) {
            line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
            text.push('\n');
        }
        golden.assert_eq(&text);
        bytes
    }

    #[test]
    fn a_trace() {
        let bytes = check(
            |into| encode_trace(&sample_trace(), into),
            expect![[r#"
            0909090909090909090909090909090909090909090909090909090909090909
            8080f9c0c1c482030807060504030201ac020301030101010101010101010101
            0101010101010101010101010101010101010101010202020202020202020202
            0202020202020202020202020202020202020202020002000303030303030303
            0303030303030303030303030303030303030303030303030404040404040404
            0404040404040404040404040404040404040404040404040105050505050505
            0505050505050505050505050505050505050505050505050506060606060606
            06060606060606060606060606060606060606060606060606
        "#]],
        );
        assert_eq!(decode_trace(&bytes), Some(sample_trace()));
    }

    #[test]
    fn a_spec_with_a_label_and_one_without() {
        let bytes = check(
            |into| encode_spec(&sample_spec(Some("label")), into),
            expect![[r#"
            046b696e6401056c6162656c0481a16101
        "#]],
        );
        assert_eq!(decode_spec(&bytes), Some(sample_spec(Some("label"))));
        let bytes = check(
            |into| encode_spec(&sample_spec(None), into),
            expect![[r#"
            046b696e64000481a16101
        "#]],
        );
        assert_eq!(decode_spec(&bytes), Some(sample_spec(None)));
    }

    #[test]
    fn a_stamp() {
        let stamp = Stamp { digest: print(1), value: print(2), detail: vec![7; 3] };
        let bytes = check(
            |into| encode_stamp(&stamp, into),
            expect![[r#"
            0101010101010101010101010101010101010101010101010101010101010101
            0202020202020202020202020202020202020202020202020202020202020202
            03070707
        "#]],
        );
        assert_eq!(decode_stamp(&bytes), Some(stamp));
    }

    #[test]
    fn labels_and_access() {
        let entries = vec![LabelEntry { key: named(1), run: run(2) }, LabelEntry { key: named(3), run: run(4) }];
        let bytes = check(
            |into| encode_labels(&entries, into),
            expect![[r#"
            0201010101010101010101010101010101010101010101010101010101010101
            0102020202020202020202020202020202030303030303030303030303030303
            0303030303030303030303030303030303040404040404040404040404040404
            04
        "#]],
        );
        assert_eq!(decode_labels(&bytes), Some(entries));
        let bytes = check(
            |into| encode_access(20_000, 300, into),
            expect![[r#"
            a09c01ac02
        "#]],
        );
        assert_eq!(decode_access(&bytes), Some((20_000, 300)));
    }

    #[test]
    fn names_and_the_last_collection() {
        let bytes = check(
            |into| encode_names(300, &[print(1), print(2)], into),
            expect![[r#"
                ac02020101010101010101010101010101010101010101010101010101010101
                0101010202020202020202020202020202020202020202020202020202020202
                020202
            "#]],
        );
        assert_eq!(decode_names(&bytes), Some((300, vec![print(1), print(2)])));
        let bytes = check(
            |into| encode_collected(1_700_000_000_000_000, 70_000, into),
            expect![[r#"
                8080f9c0c1c48203f0a204
            "#]],
        );
        assert_eq!(decode_collected(&bytes), Some((1_700_000_000_000_000, 70_000)));
    }

    #[test]
    fn a_batch_and_its_seal() {
        let mut batch = Batch::default();
        batch.specs.insert(named(1), sample_spec(Some("label")));
        batch.traces.push((named(1), sample_trace()));
        batch.values.insert(print(9), Arc::from(b"value".as_slice()));
        batch.stamps.insert(named(3), Stamp { digest: print(1), value: print(2), detail: vec![7; 3] });
        batch.labels.push(("label".into(), LabelEntry { key: named(1), run: run(2) }));
        batch.runs.push(RunEntry { id: run(2), record: b"record".to_vec() });
        batch.touches.push(named(5));
        let bytes = check(
            |into| encode_batch(&batch, into),
            expect![[r#"
            0101010101010101010101010101010101010101010101010101010101010101
            01046b696e6401056c6162656c0481a161010101010101010101010101010101
            0101010101010101010101010101010101010109090909090909090909090909
            090909090909090909090909090909090909098080f9c0c1c482030807060504
            030201ac02030103010101010101010101010101010101010101010101010101
            0101010101010101020202020202020202020202020202020202020202020202
            0202020202020202000200030303030303030303030303030303030303030303
            0303030303030303030303040404040404040404040404040404040404040404
            0404040404040404040404010505050505050505050505050505050505050505
            0505050505050505050505050606060606060606060606060606060606060606
            0606060606060606060606060109090909090909090909090909090909090909
            090909090909090909090909090576616c756501030303030303030303030303
            0303030303030303030303030303030303030303010101010101010101010101
            0101010101010101010101010101010101010101020202020202020202020202
            02020202020202020202020202020202020202020307070701056c6162656c01
            0101010101010101010101010101010101010101010101010101010101010102
            0202020202020202020202020202020102020202020202020202020202020202
            067265636f726401050505050505050505050505050505050505050505050505
            0505050505050505
        "#]],
        );
        assert_eq!(decode_batch(&bytes), Some(batch));
        let sealed = check(
            |into| into.extend(seal("pending", b"name", b"payload")),
            expect![[r#"
            020001000000f0c563e1fa6c21bc662850e7ad77daa57061796c6f6164
        "#]],
        );
        assert_eq!(unseal("pending", b"name", &sealed).as_deref(), Ok(b"payload".as_slice()));
    }
}
