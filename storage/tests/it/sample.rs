//! Contents that can be told from their number, so that whatever comes back can be checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doge_storage::{
    Batch, Dependency, Fingerprint, Key, LabelEntry, RunEntry, RunId, Snapshot, Stamp, StoredSpec, Trace,
};
use redb::{Builder, ConcurrencyMode, Database};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Where the file of a store is.
pub(crate) fn file(directory: &Path) -> std::path::PathBuf {
    directory.join("store-v3").join("store.redb")
}

/// Takes the write lease as another process would, and keeps it.
#[track_caller]
pub(crate) fn lease(directory: &Path) -> Database {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder.create(file(directory)).expect("nobody else has the lease")
}

pub(crate) fn key(text: &str, number: u64) -> Key {
    Key::from_bytes(*Fingerprint::of(format!("{text} {number}").as_bytes()).as_bytes())
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 += 1;
        let bytes = noise(self.0, 8);
        (u64::from_le_bytes(bytes.try_into().expect("there are eight")) % end as u64) as usize
    }
}

/// The value of a number: some short, some that are compressed, some that cannot be.
pub(crate) fn value(number: u64) -> Vec<u8> {
    match number % 4 {
        0 => format!("value {number}").into_bytes(),
        1 => noise(number, 700),
        2 => format!("line {number}\n").repeat(700).into_bytes(),
        _ => noise(number, 6000),
    }
}

pub(crate) fn trace(number: u64) -> Trace {
    let dependency = |role: u8| Dependency {
        key: key("dependency", number + u64::from(role)),
        role,
        fingerprint: Fingerprint::of(&value(number + u64::from(role))),
    };
    Trace {
        groups: vec![vec![dependency(1), dependency(2)], vec![dependency(3)]],
        value: Fingerprint::of(&value(number)),
        cost: Duration::from_micros(number),
        scope: 0,
        recorded: 0,
    }
}

pub(crate) fn spec(number: u64) -> StoredSpec {
    StoredSpec {
        kind: "sample".to_owned(),
        encoded: noise(number + 1, 40),
        label: number.is_multiple_of(2).then(|| format!("label {number}")),
    }
}

pub(crate) fn stamp(number: u64) -> Stamp {
    let detail = noise(number + 2, 50);
    Stamp { digest: Fingerprint::of(&detail), value: Fingerprint::of(&value(number)), detail }
}

pub(crate) fn run(number: u64) -> RunEntry {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    RunEntry { id: RunId::from_bytes(id), record: noise(number + 3, 90) }
}

pub(crate) fn label(number: u64) -> (String, LabelEntry) {
    (format!("label {number}"), LabelEntry { key: key("key", number), run: run(number).id })
}

/// A batch with one of everything for each number.
pub(crate) fn batch(numbers: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let key = key("key", number);
        batch.specs.insert(key, spec(number));
        batch.traces.push((key, trace(number)));
        batch.values.insert(Fingerprint::of(&value(number)), Arc::from(value(number)));
        batch.stamps.insert(key, stamp(number));
        batch.labels.push(label(number));
        batch.runs.push(run(number));
    }
    batch
}

/// How much of a number is there: of trace, value, spec, stamp, label, run. What is there must be right.
#[track_caller]
pub(crate) fn count(snapshot: &Snapshot, number: u64, context: &str) -> usize {
    let key = key("key", number);
    let mut found = 0;
    for mut trace in snapshot.traces(key) {
        trace.recorded = 0;
        assert_eq!(trace, self::trace(number), "{context}: the trace of {number}");
        found += 1;
    }
    let fingerprint = Fingerprint::of(&value(number));
    if let Some(found_value) = snapshot.value(fingerprint) {
        assert!(found_value == value(number), "{context}: the value of {number}");
        found += 1;
    }
    if let Some(found_spec) = snapshot.spec(key) {
        assert_eq!(found_spec, spec(number), "{context}: the spec of {number}");
        found += 1;
    }
    if let Some(found_stamp) = snapshot.stamp(key) {
        assert_eq!(found_stamp, stamp(number), "{context}: the stamp of {number}");
        found += 1;
    }
    let (label, entry) = label(number);
    for found_entry in snapshot.label(&label) {
        assert_eq!(found_entry, entry, "{context}: {label}");
        found += 1;
    }
    if let Some(found_run) = snapshot.run(run(number).id) {
        assert_eq!(found_run, run(number), "{context}: the run {number}");
        found += 1;
    }
    found
}

/// Whether everything of a number is there.
#[track_caller]
pub(crate) fn is_whole(snapshot: &Snapshot, number: u64) -> bool {
    count(snapshot, number, "all of it") == 6
}

/// The bytes of every file below a directory.
pub(crate) fn bytes_below(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(&next).expect("it can be listed").filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(directory).expect("it is below").display().to_string();
                files.insert(name, std::fs::read(&path).expect("it can be read"));
            }
        }
    }
    files
}

/// A copy of a directory with everything in it.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in bytes_below(from) {
        let path = to.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is below a directory")).expect("it can be made");
        std::fs::write(path, bytes).expect("it can be written");
    }
    to
}

const NAMES: &[u8] = b"names: ";

/// A value that names others.
pub(crate) fn naming(number: u64, names: &[Fingerprint]) -> Vec<u8> {
    let mut value = format!("value {number} ").into_bytes();
    value.extend_from_slice(NAMES);
    names.iter().for_each(|name| value.extend_from_slice(name.as_bytes()));
    value
}

/// Whom a value names, as [`naming`] wrote it.
pub(crate) fn names(bytes: &[u8]) -> Vec<Fingerprint> {
    let Some(place) = bytes.windows(NAMES.len()).position(|window| window == NAMES) else { return Vec::new() };
    let names = bytes[place + NAMES.len()..].chunks_exact(32);
    names.map(|name| Fingerprint::from_bytes(name.try_into().expect("there are 32"))).collect()
}

/// An entry as the page on the format describes it, so that this is a second reading of that page.
pub(crate) fn seal(table: &str, key: &[u8], version: u32, payload: &[u8]) -> Vec<u8> {
    let mut sealed = vec![2, 0];
    sealed.extend_from_slice(&version.to_le_bytes());
    let seed = [table.as_bytes(), key, &sealed].into_iter().fold(0, |seed, part| xxh3_64_with_seed(part, seed));
    sealed.extend_from_slice(&xxh3_128_with_seed(payload, seed).to_le_bytes());
    sealed.extend_from_slice(payload);
    sealed
}
