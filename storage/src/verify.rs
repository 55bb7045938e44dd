//! Reading everything that the store holds, and putting right what is not.
//!
//! What is wrong with the file itself, or with the seal of any entry, means that the file is put aside. What can be proven
//! whole is taken over into the new one, in small batches, so that damage costs what it hit. What is whole but not
//! complete, a trace without its value, is removed: its work is done again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;

use crate::backend::{In, Lease, ReadFile, Reader, Trouble};
use crate::codec::{Unsound, unseal};
use crate::format::{
    decode_access, decode_collected, decode_labels, decode_names, decode_spec, decode_stamp, decode_trace,
};
use crate::keys::{Fingerprint, Key, RunId};
use crate::pending::{self, Waiting};
use crate::store::{Committed, Store};
use crate::trace::{Batch, RunEntry};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The table, `store` for the file as a whole, `pending` for a batch beside it.
    pub place: &'static str,
    /// Which entry or file, if it can be told.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// What came of reading everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entries were read and found whole.
    pub entries: u64,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What was found has been put right: the next run finds a store that is whole.
    pub repaired: bool,
    /// How many results were taken over from a file that was put aside.
    pub taken_over: u64,
}

/// A batch of what is taken over is written before it grows beyond this, in bytes.
const PORTION: usize = 8 << 20;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the entries are, gathered while they are read.
#[derive(Default)]
struct Seen {
    specs: HashSet<[u8; 32]>,
    values: HashSet<[u8; 32]>,
    /// Entries that lack what they belong to.
    incomplete: Vec<(In, Vec<u8>)>,
}

impl Store {
    /// Reads every entry, proves it whole, and sees that every trace has its spec and its value. What is wrong is put
    /// right unless the store is read-only. Blocks, for as long as it takes to read all of it.
    ///
    /// # Errors
    ///
    /// Says why the store could not be read at all: it is of a newer version, may not be read, or is being repaired.
    pub fn verify(&self) -> io::Result<Verified> {
        let mut verified = Verified::default();
        let mut broken = Vec::new();
        for (path, batch) in pending::read(&self.shared.files.pending(), &Waiting::new()) {
            match batch {
                Ok(_) => verified.entries += 1,
                Err(reason) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    verified.findings.push(Finding { place: "pending", name, reason: reason.to_owned() });
                    broken.push(path);
                }
            }
        }
        let mut seen = Seen::default();
        let mut damaged = false;
        let mut reader = None;
        match self.open_to_verify() {
            Ok(None) => {}
            Ok(Some((file, opened))) => {
                damaged = self.read_all(&opened, &mut verified, &mut seen);
                reader = Some((file, opened));
            }
            Err(Trouble::Damaged(reason)) => {
                verified.findings.push(Finding { place: "store", name: String::new(), reason });
                damaged = true;
            }
            Err(trouble) => return Err(io::Error::other(trouble.to_string())),
        }
        if self.shared.options.read_only || verified.findings.is_empty() {
            return Ok(verified);
        }
        let mut repaired = true;
        for path in broken {
            // The next writer would remove it.
            let aside = self.shared.files.quarantine().join(path.file_name().unwrap_or_default());
            repaired &=
                fs::create_dir_all(self.shared.files.quarantine()).and_then(|()| fs::rename(&path, aside)).is_ok();
        }
        if damaged {
            repaired &= self.replace(reader.as_ref().map(|(_, reader)| reader), &seen, &mut verified);
        } else if !seen.incomplete.is_empty() {
            let remove = |lease: &mut Lease| {
                lease.write(|writing| seen.incomplete.iter().try_for_each(|(table, key)| writing.remove(*table, key)))
            };
            repaired &= self.commit_and(&Batch::default(), remove).is_ok();
        }
        verified.repaired = repaired;
        Ok(verified)
    }

    /// The file, repaired if its last writer was killed; `None` if there is none.
    fn open_to_verify(&self) -> Result<Option<(ReadFile, Reader)>, Trouble> {
        let path = self.shared.files.database();
        let open = || {
            let file = ReadFile::open(&path, &self.shared.medium)?;
            let reader = file.begin()?;
            Ok(Some((file, reader)))
        };
        match open() {
            Err(Trouble::Missing) => Ok(None),
            Err(Trouble::NeedsRepair) if !self.shared.options.read_only => {
                self.lease()?.close()?;
                open()
            }
            opened => opened,
        }
    }

    /// Reads every entry; whether the file is damaged.
    fn read_all(&self, reader: &Reader, verified: &mut Verified, seen: &mut Seen) -> bool {
        let mut damaged = false;
        let mut chunks = Chunks::default();
        // Specs and values come first, for traces are compared with them.
        for table in
            [In::Meta, In::Specs, In::Values, In::Names, In::Stamps, In::Labels, In::Runs, In::Access, In::Traces]
        {
            let mut findings = Vec::new();
            let mut entries = 0;
            let read = reader.each(table, |key, sealed| {
                let wrong = match unseal(table.name(), key, sealed) {
                    Ok(payload) => check(table, key, &payload, seen, &mut chunks),
                    Err(unsound) => {
                        // What another version wrote is no damage; it is a miss, and written anew.
                        damaged |= unsound.is_damage();
                        Some(unsound.reason().to_owned()).filter(|_| unsound != Unsound::OtherVersion)
                    }
                };
                match wrong {
                    None => entries += 1,
                    Some(reason) => findings.push(Finding { place: table.name(), name: hex(key), reason }),
                }
                ControlFlow::Continue(())
            });
            verified.entries += entries;
            verified.findings.append(&mut findings);
            if let Err(trouble) = read {
                let reason = format!("{} cannot be read any further: {trouble}", table.name());
                verified.findings.push(Finding { place: "store", name: String::new(), reason });
                damaged = true;
            }
            if table == In::Values {
                chunks.end(seen);
                damaged |= !chunks.broken.is_empty();
                let broken = std::mem::take(&mut chunks.broken).into_iter();
                let reason = || "its pieces do not make the value that it is named for".to_owned();
                verified.findings.extend(broken.map(|name| Finding {
                    place: "values",
                    name: hex(&name),
                    reason: reason(),
                }));
            }
        }
        damaged || verified.findings.iter().any(|finding| finding.reason == Unsound::Content.reason())
    }

    /// Puts the file aside and takes what is whole over into a new one; whether that went well.
    fn replace(&self, old: Option<&Reader>, seen: &Seen, verified: &mut Verified) -> bool {
        self.shared.suspect(&Trouble::Damaged("it was found damaged when everything was read".to_owned()));
        self.shared.suspect_current();
        // The writer puts the file aside. What follows comes from the old one, which is still open.
        let mut stored = self.commit(Batch::default()) == Committed::Stored;
        let Some(old) = old else { return stored };
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut put = |batch: &mut Batch, bytes: &mut usize, more: usize| {
            *bytes += more;
            if *bytes >= PORTION || more == 0 {
                stored &= self.commit(std::mem::take(batch)) == Committed::Stored;
                *bytes = 0;
            }
        };
        // An error in the middle of a table ends that table: what was read until then is taken over.
        let take = |table: In, take: &mut dyn FnMut(&[u8], &[u8])| {
            let _ = old.each(table, |key, sealed| {
                if let Ok(payload) = unseal(table.name(), key, sealed) {
                    take(key, &payload);
                }
                ControlFlow::Continue(())
            });
        };
        let mut chunks = Chunks::default();
        let mut whole = Vec::new();
        take(In::Values, &mut |key, payload| {
            if let Some((name, value)) = chunks.add(key, payload)
                && seen.values.contains(&name)
            {
                whole.push((name, value));
            }
            for (name, value) in whole.drain(..) {
                let length = value.len() + 1;
                batch.values.insert(Fingerprint::from_bytes(name), value.into());
                put(&mut batch, &mut bytes, length);
            }
        });
        if let Some((name, value)) = chunks.last()
            && seen.values.contains(&name)
        {
            batch.values.insert(Fingerprint::from_bytes(name), value.into());
        }
        take(In::Specs, &mut |key, payload| {
            if let (Ok(name), Some(spec)) = (key.try_into(), decode_spec(payload)) {
                batch.specs.insert(Key::from_bytes(name), spec);
                put(&mut batch, &mut bytes, payload.len() + 1);
            }
        });
        take(In::Stamps, &mut |key, payload| {
            if let (Ok(name), Some(stamp)) = (key.try_into(), decode_stamp(payload)) {
                batch.stamps.insert(Key::from_bytes(name), stamp);
                put(&mut batch, &mut bytes, payload.len() + 1);
            }
        });
        take(In::Labels, &mut |key, payload| {
            if let (Ok(label), Some(entries)) = (std::str::from_utf8(key), decode_labels(payload)) {
                batch.labels.extend(entries.into_iter().map(|entry| (label.to_owned(), entry)));
                put(&mut batch, &mut bytes, payload.len() + 1);
            }
        });
        take(In::Runs, &mut |key, payload| {
            if let Ok(id) = <[u8; 16]>::try_from(key) {
                batch.runs.push(RunEntry { id: RunId::from_bytes(id), record: payload.to_vec() });
                put(&mut batch, &mut bytes, payload.len() + 1);
            }
        });
        // The order of recording is the order in which they are tried.
        let mut traces = Vec::new();
        take(In::Traces, &mut |key, payload| {
            if let (Some(owner), Some(trace)) = (key.first_chunk::<32>(), decode_trace(payload))
                && seen.specs.contains(owner)
                && seen.values.contains(trace.value.as_bytes())
            {
                traces.push((Key::from_bytes(*owner), trace));
            }
        });
        traces.sort_by_key(|(_, trace)| trace.recorded);
        verified.taken_over = traces.len() as u64;
        for (key, trace) in traces {
            let size = 65 * trace.groups.iter().map(Vec::len).sum::<usize>() + 100;
            batch.traces.push((key, trace));
            put(&mut batch, &mut bytes, size);
        }
        put(&mut batch, &mut bytes, 0);
        stored
    }
}

/// What is wrong with the payload of an entry, if anything is.
fn check(table: In, key: &[u8], payload: &[u8], seen: &mut Seen, chunks: &mut Chunks) -> Option<String> {
    let name = key.first_chunk::<32>().copied().unwrap_or_default();
    let decoded = match table {
        In::Traces => match decode_trace(payload) {
            None => false,
            Some(trace) => {
                let missing = match (seen.specs.contains(&name), seen.values.contains(trace.value.as_bytes())) {
                    (true, true) => return None,
                    (false, _) => "its spec is not there",
                    (_, false) => "its value is not there",
                };
                seen.incomplete.push((table, key.to_vec()));
                return Some(missing.to_owned());
            }
        },
        In::Specs => decode_spec(payload).is_some_and(|_| seen.specs.insert(name)),
        In::Values => {
            if let Some((name, _)) = chunks.add(key, payload) {
                seen.values.insert(name);
            }
            true
        }
        In::Names => match decode_names(payload) {
            Some(_) if !seen.values.contains(&name) => {
                seen.incomplete.push((table, key.to_vec()));
                return Some("its value is not there".to_owned());
            }
            decoded => decoded.is_some(),
        },
        In::Stamps => decode_stamp(payload).is_some(),
        In::Labels => decode_labels(payload).is_some(),
        In::Access => decode_access(payload).is_some(),
        In::Runs => true,
        In::Meta => key != b"collected" || decode_collected(payload).is_some(),
    };
    (!decoded).then(|| Unsound::Content.reason().to_owned())
}

/// Values put together from their pieces, which come in order.
#[derive(Default)]
struct Chunks {
    current: Option<([u8; 32], usize, u32, Vec<u8>)>,
    /// Names of values whose pieces do not fit.
    broken: Vec<[u8; 32]>,
}

impl Chunks {
    /// Adds a piece; the value before it, if that is whole.
    fn add(&mut self, key: &[u8], payload: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
        let (name, chunk) = key.split_first_chunk::<32>()?;
        let chunk = u32::from_be_bytes(chunk.try_into().ok()?);
        if let Some((current, _, last, bytes)) = &mut self.current
            && *current == *name
            && *last + 1 == chunk
        {
            *last = chunk;
            bytes.extend_from_slice(payload);
            return None;
        }
        let before = self.last();
        match payload.split_first_chunk::<8>() {
            Some((length, first)) if chunk == 0 => {
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
                self.current = Some((*name, length, 0, first.to_vec()));
            }
            _ => self.broken.push(*name),
        }
        before
    }

    /// The value that no more pieces come for, if it is whole.
    fn last(&mut self) -> Option<([u8; 32], Vec<u8>)> {
        let (name, length, _, bytes) = self.current.take()?;
        if bytes.len() == length && *Fingerprint::of(&bytes).as_bytes() == name {
            return Some((name, bytes));
        }
        self.broken.push(name);
        None
    }

    fn end(&mut self, seen: &mut Seen) {
        if let Some((name, _)) = self.last() {
            seen.values.insert(name);
        }
    }
}
