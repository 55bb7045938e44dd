//! Collection: what has not been used for longest goes, until what stays is small and young enough.
//!
//! The store's entries are taken together with whatever else is kept beside it: all are [things](Kept) with a size and a
//! last use. Of the store, a *unit* goes at once: all traces of a key, a stamp, a label, the record of a run. Specs and
//! values stay as long as anything names them: traces name specs and values; labels, specs; specs and values name values
//! ([`crate::StoreOptions::names`]). A unit that another one was made from counts as used when that one was, and goes after
//! it, so what stays can still be checked.
//!
//! Everything is read and removed under one lease, for a commit in between could rely on a value that is about to go. What
//! is removed in one transaction leaves nothing behind that names it, so a collection may be cut off between any two.
//!
//! A run that is under way may rely on what it has seen. If there is one, only what nobody has used for a day goes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::{In, Lease, Reader, Trouble};
use crate::codec::seal;
use crate::format::{
    decode_access, decode_collected, decode_labels, decode_names, decode_spec, decode_stamp, decode_trace,
    encode_collected,
};
use crate::keys::{Fingerprint, Key, RunId};
use crate::logs;
use crate::store::{Shared, Store, TOUCH_LOG, now_micros, today, touched};
use crate::trace::Batch;

const COLLECTED_KEY: &[u8] = b"collected";
/// The entries that are removed in one transaction, roughly.
const BATCH: usize = 4096;
const DAY: u64 = 86_400_000_000;

/// Something that is kept beside the store.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it is, in a word.
    pub kind: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// How much there is of it.
    pub bytes: u64,
    /// When it was last used.
    pub last_use: SystemTime,
    /// Never removed while any run is under way, however old it is.
    pub needs_quiet: bool,
    /// Removes it.
    pub remove: fn(&Path) -> io::Result<()>,
}

impl Kept {
    /// A file, last used when it was last written; `None` if it is not there.
    pub fn file(kind: &'static str, path: PathBuf) -> Option<Self> {
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let last_use = metadata.modified().ok()?;
        Some(Self {
            kind,
            path,
            bytes: metadata.len(),
            last_use,
            needs_quiet: false,
            remove: |path| fs::remove_file(path),
        })
    }
}

/// What is to be collected, and how.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// What may stay, in bytes. `None` is no limit.
    pub max_bytes: Option<u64>,
    /// What was not used for so long goes. Of results the day of the last use is known, no more; they go when it is certain.
    pub older_than: Option<Duration>,
    /// Only say what would go.
    pub dry_run: bool,
    /// Stop after so long. What was removed until then is gone, the rest stays for the next time.
    pub within: Option<Duration>,
    /// What is kept beside the store.
    pub kept: Vec<Kept>,
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What there was of one kind, and what of it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// What there was.
    pub before: Amount,
    /// What went.
    pub removed: Amount,
    /// The last use of what was used longest ago, as far as that is known.
    pub oldest: Option<SystemTime>,
    /// The last use of what was used last.
    pub newest: Option<SystemTime>,
}

impl Amounts {
    fn see(&mut self, bytes: u64, last_use: Option<u64>) {
        self.before.add(bytes);
        let last_use = last_use.map(|micros| UNIX_EPOCH + Duration::from_micros(micros));
        self.oldest = [self.oldest, last_use].into_iter().flatten().min();
        self.newest = self.newest.max(last_use);
    }
}

/// What came of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// By kind. The store's are named like its tables.
    pub kinds: BTreeMap<&'static str, Amounts>,
    /// Nobody else was using the store.
    pub alone: bool,
    /// There was time for all of it.
    pub complete: bool,
}

impl Collected {
    /// What there was of everything.
    pub fn before(&self) -> Amount {
        self.sum(|amounts| amounts.before)
    }

    /// What went of everything.
    pub fn removed(&self) -> Amount {
        self.sum(|amounts| amounts.removed)
    }

    fn sum(&self, of: impl Fn(&Amounts) -> Amount) -> Amount {
        let amounts = self.kinds.values().map(of);
        amounts.fold(Amount::default(), |sum, amount| Amount {
            count: sum.count + amount.count,
            bytes: sum.bytes + amount.bytes,
        })
    }
}

/// A spec or a value: stays as long as anything names it.
struct Node {
    table: In,
    name: [u8; 32],
    bytes: u64,
    /// How many units and nodes name it.
    uses: u32,
    names: Vec<u32>,
    last_use: Option<u64>,
}

/// What goes at once.
struct Unit {
    table: In,
    entries: Vec<(In, Vec<u8>)>,
    /// How many of the entries are of its own table, and how many bytes all take.
    count: u64,
    bytes: u64,
    /// In microseconds since 1970.
    last_use: u64,
    /// The specs and values that it names.
    names: Vec<u32>,
    /// The units that it was made from.
    below: Vec<u32>,
}

/// Everything that the store holds, without the values themselves.
#[derive(Default)]
struct Held {
    nodes: Vec<Node>,
    units: Vec<Unit>,
    /// Entries that this version cannot read and never will.
    unknown: Vec<(In, Vec<u8>)>,
}

/// There was no time to read all of it.
enum Read {
    All(Held),
    Cut,
}

/// A day that was noted may be a day old itself: nothing is noted of what is known to have been used yesterday.
fn end_of_use(day: u32) -> u64 {
    (u64::from(day) + 2) * DAY
}

fn read(shared: &Shared, reader: &Reader, used_today: &[Key], end: Option<Instant>) -> Result<Read, Trouble> {
    let mut held = Held::default();
    let mut nodes: HashMap<(In, [u8; 32]), u32> = HashMap::new();
    let mut node_names: Vec<Vec<Fingerprint>> = Vec::new();
    let mut late = false;
    let mut damaged = None;
    // Entries of 32 bytes of name; what cannot be read of them is told apart by whether the file is to blame.
    let mut each = |table: In, show: &mut dyn FnMut(&[u8], &[u8]) -> bool| -> Result<(), Trouble> {
        let mut read = 0_u32;
        let mut unknown = Vec::new();
        reader.each(table, |key, sealed| {
            read += 1;
            late |= read.is_multiple_of(1024) && end.is_some_and(|end| Instant::now() > end);
            if !show(key, sealed) {
                unknown.push((table, key.to_vec()));
            }
            if shared.is_suspect() {
                damaged = Some(table);
            }
            if late || damaged.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        held.unknown.append(&mut unknown);
        Ok(())
    };

    let mut days: HashMap<[u8; 32], (u32, u64)> = HashMap::new();
    each(In::Access, &mut |key, sealed| {
        let entry = shared.open(In::Access, key, sealed, decode_access);
        let (Some((day, _)), Ok(name)) = (entry, <[u8; 32]>::try_from(key)) else { return false };
        days.insert(name, (day, (key.len() + sealed.len()) as u64));
        true
    })?;
    for key in used_today {
        days.entry(*key.as_bytes()).or_default().0 = today();
    }
    let mut add = |table: In, name: [u8; 32], bytes: u64, names: Vec<Fingerprint>| {
        nodes.insert((table, name), node_names.len() as u32);
        node_names.push(names);
        held.nodes.push(Node { table, name, bytes, uses: 0, names: Vec::new(), last_use: None });
    };
    each(In::Specs, &mut |key, sealed| {
        let names = |payload: &[u8]| Some((shared.options.names)(&decode_spec(payload)?.encoded));
        let (Some(names), Ok(name)) = (shared.open(In::Specs, key, sealed, names), key.try_into()) else {
            return false;
        };
        add(In::Specs, name, (key.len() + sealed.len()) as u64, names);
        true
    })?;
    each(In::Names, &mut |key, sealed| {
        let entry = shared.open(In::Names, key, sealed, decode_names);
        let (Some((bytes, names)), Ok(name)) = (entry, key.try_into()) else { return false };
        add(In::Values, name, bytes + (key.len() + sealed.len()) as u64, names);
        true
    })?;
    let spec = |key: &Key| nodes.get(&(In::Specs, *key.as_bytes())).copied();
    let value = |name: &Fingerprint| nodes.get(&(In::Values, *name.as_bytes())).copied();
    for (place, names) in node_names.iter().enumerate() {
        held.nodes[place].names = names.iter().filter_map(value).collect();
    }

    let mut units: HashMap<Key, u32> = HashMap::new();
    let mut made_from: Vec<Vec<Key>> = Vec::new();
    let last_use = |name: &[u8; 32]| end_of_use(days.get(name).map_or_else(today, |(day, _)| *day));
    let access = |name: &[u8; 32]| days.get(name).map_or(0, |(_, bytes)| *bytes);
    each(In::Traces, &mut |key, sealed| {
        let trace = shared.open(In::Traces, key, sealed, decode_trace);
        let (Some(trace), Some(name)) = (trace, key.first_chunk::<32>()) else { return false };
        let owner = Key::from_bytes(*name);
        let place = *units.entry(owner).or_insert_with(|| {
            held.units.push(Unit {
                table: In::Traces,
                entries: vec![(In::Access, name.to_vec())],
                count: 0,
                bytes: access(name),
                last_use: last_use(name),
                names: spec(&owner).into_iter().collect(),
                below: Vec::new(),
            });
            made_from.push(Vec::new());
            held.units.len() as u32 - 1
        });
        let unit = &mut held.units[place as usize];
        unit.entries.push((In::Traces, key.to_vec()));
        unit.count += 1;
        unit.bytes += (key.len() + sealed.len()) as u64;
        unit.names.extend(value(&trace.value));
        for dependency in trace.groups.iter().flatten() {
            unit.names.extend(spec(&dependency.key));
            unit.names.extend(value(&dependency.fingerprint));
            made_from[place as usize].push(dependency.key);
        }
        true
    })?;
    for (unit, keys) in held.units.iter_mut().zip(made_from) {
        unit.below = keys.iter().filter_map(|key| units.get(key).copied()).collect();
        for list in [&mut unit.below, &mut unit.names] {
            list.sort_unstable();
            list.dedup();
        }
    }
    each(In::Stamps, &mut |key, sealed| {
        let stamp = shared.open(In::Stamps, key, sealed, decode_stamp);
        let (Some(stamp), Some(name)) = (stamp, key.first_chunk::<32>()) else { return false };
        held.units.push(Unit {
            table: In::Stamps,
            entries: vec![(In::Stamps, key.to_vec()), (In::Access, key.to_vec())],
            count: 1,
            bytes: (key.len() + sealed.len()) as u64 + access(name),
            last_use: last_use(name),
            names: value(&stamp.value).into_iter().collect(),
            below: Vec::new(),
        });
        true
    })?;
    // Days that belong to nothing: of keys that were used together, and of what is gone.
    let owned: HashSet<&[u8]> = held
        .units
        .iter()
        .flat_map(|unit| &unit.entries)
        .filter(|(table, _)| *table == In::Access)
        .map(|(_, key)| &key[..])
        .collect();
    let mut alone: Vec<([u8; 32], u32, u64)> = days
        .iter()
        .filter(|(name, (_, bytes))| *bytes > 0 && !owned.contains(&name[..]))
        .map(|(name, (day, bytes))| (*name, *day, *bytes))
        .collect();
    alone.sort_unstable();
    held.units.extend(alone.into_iter().map(|(name, day, bytes)| Unit {
        table: In::Access,
        entries: vec![(In::Access, name.to_vec())],
        count: 1,
        bytes,
        last_use: end_of_use(day),
        names: Vec::new(),
        below: Vec::new(),
    }));
    each(In::Labels, &mut |key, sealed| {
        let Some(labelled) = shared.open(In::Labels, key, sealed, decode_labels) else { return false };
        let used = labelled.iter().map(|entry| {
            let unit = units.get(&entry.key).map_or(0, |place| held.units[*place as usize].last_use);
            unit.max(entry.run.micros())
        });
        held.units.push(Unit {
            table: In::Labels,
            entries: vec![(In::Labels, key.to_vec())],
            count: 1,
            bytes: (key.len() + sealed.len()) as u64,
            // It tells that there was something when that is gone, so it goes after what was used on the same day.
            last_use: used.max().unwrap_or(0) + 1,
            names: labelled.iter().filter_map(|entry| spec(&entry.key)).collect(),
            below: Vec::new(),
        });
        true
    })?;
    each(In::Runs, &mut |key, sealed| {
        let record = shared.open(In::Runs, key, sealed, |_| Some(()));
        let (Some(()), Ok(id)) = (record, <[u8; 16]>::try_from(key)) else { return false };
        held.units.push(Unit {
            table: In::Runs,
            entries: vec![(In::Runs, key.to_vec())],
            count: 1,
            bytes: (key.len() + sealed.len()) as u64,
            last_use: RunId::from_bytes(id).micros(),
            names: Vec::new(),
            below: Vec::new(),
        });
        true
    })?;
    if let Some(table) = damaged {
        return Err(Trouble::Damaged(format!("an entry of {}", table.name())));
    }
    if late {
        return Ok(Read::Cut);
    }
    for names in held.units.iter().map(|unit| &unit.names) {
        for name in names {
            held.nodes[*name as usize].uses += 1;
        }
    }
    for place in 0..held.nodes.len() {
        for name in held.nodes[place].names.clone() {
            held.nodes[name as usize].uses += 1;
        }
    }
    Ok(Read::All(held))
}

impl Held {
    /// The units in the order in which they may go: what was made from something goes before it.
    ///
    /// Whatever a unit was made from, and what it names, counts as used when it was.
    fn in_order(&mut self) -> Vec<u32> {
        let mut newest_first: Vec<u32> = (0..self.units.len() as u32).collect();
        newest_first.sort_by_key(|unit| std::cmp::Reverse(self.units[*unit as usize].last_use));
        let mut seen = vec![false; self.units.len()];
        // What is below comes out before what is above it.
        let mut below_first = Vec::with_capacity(self.units.len());
        for root in newest_first {
            let last_use = self.units[root as usize].last_use;
            let mut stack = vec![(root, 0)];
            while let Some((unit, next)) = stack.pop() {
                if next == 0 {
                    if std::mem::replace(&mut seen[unit as usize], true) {
                        continue;
                    }
                    self.units[unit as usize].last_use = last_use;
                    self.use_names(unit, last_use);
                }
                match self.units[unit as usize].below.get(next) {
                    Some(below) => {
                        stack.push((unit, next + 1));
                        if !seen[*below as usize] {
                            stack.push((*below, 0));
                        }
                    }
                    None => below_first.push(unit),
                }
            }
        }
        below_first.reverse();
        below_first.sort_by_key(|unit| self.units[*unit as usize].last_use);
        below_first
    }

    fn use_names(&mut self, unit: u32, last_use: u64) {
        let mut stack = self.units[unit as usize].names.clone();
        while let Some(node) = stack.pop() {
            let node = &mut self.nodes[node as usize];
            // Units come the newest first, so whoever was here before used it later.
            if node.last_use.is_none() {
                node.last_use = Some(last_use);
                stack.extend_from_slice(&node.names);
            }
        }
    }

    fn size(&self) -> u64 {
        let units: u64 = self.units.iter().map(|unit| unit.bytes).sum();
        units + self.nodes.iter().map(|node| node.bytes).sum::<u64>()
    }

    /// The nodes that nothing names once these are not named by somebody any more.
    fn let_go(&mut self, names: Vec<u32>, gone: &mut Vec<u32>) {
        let mut stack = names;
        while let Some(name) = stack.pop() {
            let node = &mut self.nodes[name as usize];
            node.uses -= 1;
            if node.uses == 0 {
                gone.push(name);
                stack.append(&mut node.names);
            }
        }
    }

    fn amounts(&self, kinds: &mut BTreeMap<&'static str, Amounts>) {
        for unit in &self.units {
            let amounts = kinds.entry(unit.table.name()).or_default();
            amounts.see(unit.bytes, Some(unit.last_use.min(now_micros())));
            amounts.before.count += unit.count - 1;
        }
        for node in &self.nodes {
            let last_use = node.last_use.map(|micros| micros.min(now_micros()));
            kinds.entry(node.table.name()).or_default().see(node.bytes, last_use);
        }
    }
}

/// What goes.
#[derive(Default)]
struct Going {
    batches: Vec<Leaving>,
    kept: Vec<Kept>,
}

/// What goes in one transaction.
#[derive(Default)]
struct Leaving {
    entries: Vec<(In, Vec<u8>)>,
    amounts: BTreeMap<&'static str, Amount>,
}

impl Leaving {
    fn count(&mut self, table: In, count: u64, bytes: u64) {
        let amount = self.amounts.entry(table.name()).or_default();
        amount.count += count;
        amount.bytes += bytes;
    }

    fn node(&mut self, node: &Node) {
        self.entries.push((node.table, node.name.to_vec()));
        if node.table == In::Values {
            self.entries.push((In::Names, node.name.to_vec()));
        }
        self.count(node.table, 1, node.bytes);
    }
}

impl Going {
    /// Adds what has to go in one transaction.
    fn add(&mut self, leaving: Leaving) {
        match self.batches.last_mut() {
            Some(last) if last.entries.len() + leaving.entries.len() <= BATCH => {
                last.entries.extend(leaving.entries);
                for (kind, amount) in leaving.amounts {
                    let sum = last.amounts.entry(kind).or_default();
                    sum.count += amount.count;
                    sum.bytes += amount.bytes;
                }
            }
            _ => self.batches.push(leaving),
        }
    }
}

impl Collected {
    fn went(&mut self, kind: &'static str, amount: Amount) {
        let removed = &mut self.kinds.entry(kind).or_default().removed;
        removed.count += amount.count;
        removed.bytes += amount.bytes;
    }
}

/// Chooses what goes.
fn choose(mut held: Held, collection: &Collection, alone: bool, collected: &mut Collected) -> Going {
    let now = now_micros();
    let order = held.in_order();
    held.amounts(&mut collected.kinds);
    let mut kept: Vec<(u64, &Kept)> = collection.kept.iter().map(|kept| (micros(kept.last_use), kept)).collect();
    kept.sort_by_key(|(last_use, _)| *last_use);
    for (last_use, kept) in &kept {
        collected.kinds.entry(kept.kind).or_default().see(kept.bytes, Some(*last_use));
    }
    let mut left = held.size() + kept.iter().map(|(_, kept)| kept.bytes).sum::<u64>();
    let mut going = Going::default();

    if alone {
        // What nothing names has no last use; somebody who is at work may be about to name it.
        let mut gone: Vec<u32> =
            (0..held.nodes.len() as u32).filter(|node| held.nodes[*node as usize].uses == 0).collect();
        let names = gone.iter().flat_map(|node| std::mem::take(&mut held.nodes[*node as usize].names)).collect();
        held.let_go(names, &mut gone);
        for node in gone {
            let mut leaving = Leaving::default();
            leaving.node(&held.nodes[node as usize]);
            left -= held.nodes[node as usize].bytes;
            going.add(leaving);
        }
        for entry in std::mem::take(&mut held.unknown) {
            going.add(Leaving { entries: vec![entry], ..Leaving::default() });
        }
    }

    let age = collection.older_than.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let mut kept = kept.into_iter().peekable();
    let mut order = order.into_iter().peekable();
    loop {
        let unit = order.peek().map(|unit| held.units[*unit as usize].last_use);
        let thing = kept.peek().map(|(last_use, _)| *last_use);
        let Some(last_use) = [unit, thing].into_iter().flatten().min() else { break };
        let is_too_old = age.is_some_and(|age| last_use.saturating_add(age) <= now);
        let is_too_much = collection.max_bytes.is_some_and(|max| left > max);
        let is_quiet = alone || last_use.saturating_add(DAY) <= now;
        if !(is_too_old || is_too_much) || !is_quiet {
            break;
        }
        if unit == Some(last_use) {
            let Some(unit) = order.next() else { break };
            let unit = &mut held.units[unit as usize];
            let mut leaving = Leaving { entries: std::mem::take(&mut unit.entries), ..Leaving::default() };
            leaving.count(unit.table, unit.count, unit.bytes);
            left -= unit.bytes;
            let names = std::mem::take(&mut unit.names);
            let mut gone = Vec::new();
            held.let_go(names, &mut gone);
            for node in gone {
                leaving.node(&held.nodes[node as usize]);
                left -= held.nodes[node as usize].bytes;
            }
            going.add(leaving);
        } else {
            let Some((_, thing)) = kept.next() else { break };
            if thing.needs_quiet && !alone {
                continue;
            }
            left -= thing.bytes;
            going.kept.push(thing.clone());
        }
    }
    going
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

impl Store {
    /// Takes part in the use of the store: as long as this handle or a clone of it lives, nobody collects what was used
    /// lately. Does nothing where there is no store yet.
    pub fn hold(&self) {
        if !self.shared.options.read_only {
            self.shared.in_use.hold(&self.shared.files.log(crate::in_use::NAME));
        }
    }

    /// Whether nobody can have been collecting everything since [`Store::hold`] was last called: it got its share.
    pub fn is_held(&self) -> bool {
        self.shared.in_use.is_held()
    }

    /// As [`Store::hold`], for somebody who is about to write: there is a store from now on.
    pub fn make_and_hold(&self) {
        if !self.shared.options.read_only && fs::create_dir_all(&self.shared.files.directory).is_ok() {
            self.hold();
        }
    }

    /// Ends its part in the use of the store.
    pub fn release(&self) {
        self.shared.in_use.release();
    }

    /// When the last collection ended, and how large the file was then.
    pub fn last_collection(&self) -> Option<(SystemTime, u64)> {
        let reader = self.snapshot().reader?;
        let sealed = reader.get(In::Meta, COLLECTED_KEY).ok()??;
        let (micros, bytes) = self.shared.open(In::Meta, COLLECTED_KEY, &sealed, decode_collected)?;
        Some((UNIX_EPOCH + Duration::from_micros(micros), bytes))
    }

    /// Whether it is time to collect by itself: a day after the last time, or when the file has become larger than may be
    /// kept since then. Room that was made in the file is used again, so a file that does not grow holds no more.
    pub fn is_collection_due(&self, max_bytes: Option<u64>) -> bool {
        let began = || fs::metadata(self.shared.files.log(crate::in_use::NAME))?.modified();
        let (when, bytes) = match self.last_collection() {
            Some(last) => last,
            None => (began().unwrap_or_else(|_| SystemTime::now()), 0),
        };
        let file = fs::metadata(self.shared.files.database()).map_or(0, |metadata| metadata.len());
        let has_grown = max_bytes.is_some_and(|max| file > max && file > bytes);
        has_grown || when.elapsed().is_ok_and(|age| age.as_micros() as u64 >= DAY)
    }

    /// What is kept, by kind, without collecting anything.
    pub fn survey(&self, kept: Vec<Kept>) -> Collected {
        let collection = Collection { kept, dry_run: true, ..Collection::default() };
        self.collect(&collection).unwrap_or_default()
    }

    /// Removes what was not used for longest, until what is kept is as small and as young as is asked for.
    ///
    /// Whoever writes meanwhile waits, or puts its batch beside the store. Blocks.
    ///
    /// # Errors
    ///
    /// Says why nothing was collected: somebody else writes for longer than the deadline, or the store cannot be
    /// written. What is kept beside it is collected all the same.
    pub fn collect(&self, collection: &Collection) -> io::Result<Collected> {
        let shared = &*self.shared;
        let end = collection.within.map(|within| Instant::now() + within);
        let own = self.own_files();
        let collection = &Collection { kept: [own, collection.kept.clone()].concat(), ..collection.clone() };
        let mut collected = Collected { complete: true, ..Collected::default() };
        let mut kept = Vec::new();
        let mut failed = None;
        if collection.dry_run || shared.options.read_only {
            // As if nobody else were here: what somebody else uses goes the next time.
            let held = match self.snapshot().reader {
                Some(reader) => {
                    let logged: Vec<Key> = touched(&logs::read(&shared.files.log(TOUCH_LOG))).collect();
                    read(shared, &reader, &logged, end).unwrap_or(Read::Cut)
                }
                None => Read::All(Held::default()),
            };
            match held {
                Read::All(held) => {
                    let going = choose(held, collection, true, &mut collected);
                    for (kind, amount) in going.batches.into_iter().flat_map(|leaving| leaving.amounts) {
                        collected.went(kind, amount);
                    }
                    for thing in going.kept {
                        collected.went(thing.kind, Amount { count: 1, bytes: thing.bytes });
                    }
                }
                Read::Cut => collected.complete = false,
            }
            return Ok(collected);
        }
        let alone = shared.in_use.alone(&shared.files.log(crate::in_use::NAME));
        collected.alone = alone.is_some();
        let nothing = collected.clone();
        if shared.files.database().exists() {
            let done = self.commit_and(&Batch::default(), |lease| {
                collected = nothing.clone();
                kept = self.collect_entries(lease, collection, end, &mut collected)?;
                Ok(())
            });
            if let Err(trouble) = done {
                failed = Some(trouble);
            }
        }
        if failed.is_some() || !shared.files.database().exists() {
            collected = Collected { complete: failed.is_none(), ..nothing };
            kept = choose(Held::default(), collection, alone.is_some(), &mut collected).kept;
        }
        for thing in &kept {
            shared.medium.step();
            // What cannot be removed is found again by the next collection.
            if (thing.remove)(&thing.path).is_ok() {
                collected.went(thing.kind, Amount { count: 1, bytes: thing.bytes });
            }
        }
        drop(alone);
        match failed {
            Some(trouble) if kept.is_empty() => Err(io::Error::other(trouble.to_string())),
            _ => Ok(collected),
        }
    }

    /// Files of the store that nobody reads.
    fn own_files(&self) -> Vec<Kept> {
        let listing = fs::read_dir(self.shared.files.quarantine()).into_iter().flatten().flatten();
        listing.filter_map(|entry| Kept::file("quarantine", entry.path())).collect()
    }

    fn collect_entries(
        &self,
        lease: &mut Lease,
        collection: &Collection,
        end: Option<Instant>,
        collected: &mut Collected,
    ) -> Result<Vec<Kept>, Trouble> {
        let reader = lease.begin()?;
        let held = match read(&self.shared, &reader, &[], end)? {
            Read::All(held) => held,
            Read::Cut => {
                collected.complete = false;
                return Ok(Vec::new());
            }
        };
        // As long as somebody reads the old state its pages cannot be used again.
        drop(reader);
        let alone = collected.alone;
        let going = choose(held, collection, alone, collected);
        for batch in going.batches {
            if end.is_some_and(|end| Instant::now() > end) {
                collected.complete = false;
                break;
            }
            lease.write(|writing| {
                for table in In::ALL {
                    let named =
                        batch.entries.iter().filter(|(other, _)| *other == table).map(|(_, key)| key.as_slice());
                    if table == In::Values {
                        let mut pieces = Vec::new();
                        for name in named {
                            pieces.extend(writing.keys_beginning_with(In::Values, name)?);
                        }
                        writing.remove_all(table, pieces.iter().map(Vec::as_slice))?;
                    } else {
                        writing.remove_all(table, named)?;
                    }
                }
                Ok(())
            })?;
            for (kind, amount) in batch.amounts {
                collected.went(kind, amount);
            }
        }
        if collected.complete {
            let file = fs::metadata(self.shared.files.database()).map_or(0, |metadata| metadata.len());
            let mut payload = Vec::new();
            encode_collected(now_micros(), file, &mut payload);
            let sealed = seal(In::Meta.name(), COLLECTED_KEY, &payload);
            lease.write(|writing| writing.put(In::Meta, COLLECTED_KEY, &sealed))?;
        }
        Ok(going.kept)
    }
}
