//! Finding locked records in channels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use doge::{Action, ActionContext, Epoch, Interned, Resource, Spec};
use rattler_conda_types::{PackageRecord, RepoDataRecord};
use serde::{Deserialize, Serialize};

use crate::conda::closure::Closure;
use crate::conda::error::ChannelError;
use crate::conda::place::Placed;
use crate::epoch::{CONDA_TYPES, OWN};
use crate::records::Records;

/// Comparing locked records with those that the channels have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatchLockedRecordsSpec {
    /// What the channels have.
    pub closure: Interned<Closure>,
    /// What is locked.
    pub locked: Interned<Records>,
    /// Where the workspace is, if a channel is inside of it.
    pub place: Placed,
    /// The names of those that are passed over.
    pub except: BTreeSet<String>,
}

impl fmt::Display for MatchLockedRecordsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("locked records in their channels")
    }
}

impl Spec for MatchLockedRecordsSpec {
    const KIND: &'static str = "match_locked_records";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);
}

/// What became of locked records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedRecords {
    /// Those that the channels still have, as they have them: fit to be preferred by a solver.
    pub found: Interned<Records>,
    /// The names of those that the channels have with other metadata.
    pub changed: Vec<String>,
    /// The names of those that the channels do not have any more.
    pub gone: Vec<String>,
}

impl MatchedRecords {
    /// Whether the channels have all of them as they are locked.
    pub fn is_unchanged(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}

impl Action for MatchLockedRecordsSpec {
    type Output = MatchedRecords;
    type Error = ChannelError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<MatchedRecords, ChannelError> {
        let closure = ctx.value(&self.closure).await.ok_or(ChannelError::NotAtHand { what: "the list of records" })?;
        let locked =
            ctx.value(&self.locked).await.ok_or(ChannelError::NotAtHand { what: "the list of locked records" })?;
        let kept = || {
            let records = locked.as_slice().iter();
            records.filter(|record| !self.except.contains(record.package_record.name.as_normalized()))
        };
        // Only the names that are locked are looked at.
        let mut asked = Closure::clone(&closure);
        let names: BTreeMap<&str, ()> = kept().map(|record| (record.package_record.name.as_normalized(), ())).collect();
        for part in &mut asked.parts {
            part.names.retain(|name, _| names.contains_key(name.as_str()));
        }
        let parts = asked.records(ctx).await?;
        let by_url: HashMap<&str, &RepoDataRecord> = parts
            .iter()
            .flatten()
            .flat_map(|records| records.iter())
            .map(|record| (record.url.as_str(), record))
            .collect();
        let (mut found, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for record in kept() {
            let name = record.package_record.name.as_normalized().to_owned();
            match by_url.get(record.url.as_str()) {
                Some(now) => {
                    if !is_same_record(&record.package_record, &now.package_record) {
                        changed.push(name);
                    }
                    found.push((*now).clone());
                }
                None => gone.push(name),
            }
        }
        let found =
            ctx.intern(Records::new(found)).map_err(|_| ChannelError::NotAtHand { what: "the list of records" })?;
        Ok(MatchedRecords { found, changed, gone })
    }
}

/// Whether two records of one file would be installed and solved alike. A lock file keeps no more than that.
pub(crate) fn is_same_record(locked: &PackageRecord, now: &PackageRecord) -> bool {
    let same_hash = match (&locked.sha256, &now.sha256) {
        (Some(locked), Some(now)) => locked == now,
        _ => locked.md5 == now.md5,
    };
    same_hash
        && locked.name == now.name
        && locked.version == now.version
        && locked.build == now.build
        && locked.depends == now.depends
        && locked.constrains == now.constrains
        && locked.extra_depends == now.extra_depends
}
