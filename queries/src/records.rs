//! Records of packages, as values that specs name.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use doge::{ActionContext, AnyError, Db, Failure, Fingerprint, Intern, Interned, Stop};
use rattler_conda_types::RepoDataRecord;
use serde::{Deserialize, Serialize};

use crate::source::SourceRecord;

/// Records of packages, sorted by name: those of archives, and those of packages that are still to be built.
///
/// A spec never carries records; it carries their name, an [`doge::Interned`] of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    binary: Vec<RepoDataRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source: Vec<Interned<SourceRecord>>,
}

impl Records {
    /// These records, sorted: the order in which they were found means nothing.
    pub fn new(records: Vec<RepoDataRecord>) -> Self {
        Self::with_sources(records, Vec::new())
    }

    /// These records of archives, and those of packages to be built, which are given in the order of their names.
    pub fn with_sources(mut binary: Vec<RepoDataRecord>, source: Vec<Interned<SourceRecord>>) -> Self {
        let key =
            |record: &RepoDataRecord| (record.package_record.name.as_normalized().to_owned(), record.url.to_string());
        binary.sort_by_cached_key(key);
        Self { binary, source }
    }

    /// The records of archives.
    pub fn as_slice(&self) -> &[RepoDataRecord] {
        &self.binary
    }

    /// The records of packages to be built.
    pub fn sources(&self) -> &[Interned<SourceRecord>] {
        &self.source
    }

    /// The same, with what they say.
    pub(crate) fn read_sources(&self, db: &Db<'_>) -> Result<Vec<Arc<SourceRecord>>, Stop<Failure<AnyError>>> {
        self.source.iter().map(|record| db.value(record)).collect()
    }

    /// The same for work; nothing if one is not at hand.
    pub(crate) async fn sources_at_hand(&self, ctx: &ActionContext) -> Option<Vec<Arc<SourceRecord>>> {
        let mut records = Vec::new();
        for record in &self.source {
            records.push(ctx.value(record).await?);
        }
        Some(records)
    }

    /// Has all records at hand, down to those of what packages are built with. `None` if something is lost.
    pub(crate) async fn bring(&self, ctx: &ActionContext) -> Option<()> {
        // Each record is read once, and every name of it is given what was read: whoever walks through the records
        // later looks nowhere else. A record can be there several times, read through different names.
        let mut read: HashMap<Fingerprint, Interned<SourceRecord>> = HashMap::new();
        let mut walked = HashSet::new();
        let mut stack = self.sources_at_hand(ctx).await?;
        while let Some(record) = stack.pop() {
            if !walked.insert(Arc::as_ptr(&record).addr()) {
                continue;
            }
            for name in record.build.source.iter().chain(&record.host.source) {
                if let Some(known) = read.get(&name.fingerprint()) {
                    name.take_from(known);
                }
                stack.push(ctx.value(name).await?);
                read.entry(name.fingerprint()).or_insert_with(|| name.clone());
            }
        }
        Some(())
    }

    /// How many packages these are.
    pub fn len(&self) -> usize {
        self.binary.len() + self.source.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Intern for Records {
    const NAME: &'static str = "records";
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.len())
    }
}
