//! Reading a channel into what each of its names stands for.

use std::collections::BTreeMap;
use std::fmt;

use doge::{Action, ActionContext, Change, Epoch, Fingerprint, Intern, Interned, Resource, Spec, Values};
use rattler_conda_types::Subdir;
use serde::{Deserialize, Serialize};

use crate::conda::error::ChannelError;
use crate::conda::shards;
use crate::conda::source::{Channels, Content, subdir_url};
use crate::conda::state::{ChannelState, ChannelStateSpec};
use crate::epoch::{CONDA_TYPES, GATEWAY, OWN};
use crate::told::{archives, by_name};
use crate::workspace::Location;

/// Reading what a channel holds for a platform, in a given state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelIndexSpec {
    /// The channel.
    pub channel: Location,
    /// The platform.
    pub subdir: Subdir,
    /// The state in which it was observed.
    pub state: ChannelState,
}

impl fmt::Display for ChannelIndexSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index of {}", self.observed())
    }
}

impl Spec for ChannelIndexSpec {
    const KIND: &'static str = "channel_index";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, GATEWAY, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl ChannelIndexSpec {
    fn observed(&self) -> ChannelStateSpec {
        ChannelStateSpec { channel: self.channel.clone(), subdir: self.subdir }
    }
}

/// What each name stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelIndex {
    /// The names.
    pub names: BTreeMap<String, IndexedName>,
    /// The single records, for explanations. Nothing if only names have digests.
    pub records: Option<Interned<ChannelDetails>>,
}

/// What one name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedName {
    /// Tells its records from others.
    pub digest: Fingerprint,
    /// The names that they depend on. Nothing if that stands in a file of its own; see [`ReadShardSpec`].
    pub depends: Option<Vec<String>>,
}

/// The digest of each record, by name and file name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelDetails(BTreeMap<String, BTreeMap<String, Fingerprint>>);

impl Intern for ChannelDetails {
    const NAME: &'static str = "records of a channel";
}

impl Action for ChannelIndexSpec {
    type Output = ChannelIndex;
    type Error = ChannelError;
    const RESOURCE: Resource = Resource::Cpu;

    fn changes(&self, was: &ChannelIndex, now: &ChannelIndex, values: &Values<'_>) -> Option<Vec<Change>> {
        let details = |index: &ChannelIndex| index.records.as_ref().and_then(|records| values.get(records));
        let (Some(before), Some(after)) = (details(was), details(now)) else {
            let digest = |name: &str, _: Option<&IndexedName>, _: Option<&IndexedName>| {
                Change::new("records of package changed", name, None, None)
            };
            return Some(by_name(&was.names, &now.names, digest));
        };
        let files = |details: &ChannelDetails| -> BTreeMap<String, Fingerprint> {
            details.0.values().flatten().map(|(file, digest)| (file.clone(), *digest)).collect()
        };
        let (before, after) = (files(&before), files(&after));
        let mut changes = archives(before.keys().map(String::as_str), after.keys().map(String::as_str));
        let edited = before.iter().filter(|(file, digest)| after.get(*file).is_some_and(|now| now != *digest));
        changes.extend(edited.map(|(file, _)| Change::new("record of package changed", file.clone(), None, None)));
        Some(changes)
    }

    async fn run(&self, ctx: &ActionContext) -> Result<ChannelIndex, ChannelError> {
        let channels = ctx.resource::<Channels>().ok_or(ChannelError::NotAtHand { what: "the access to channels" })?;
        let observed = self.observed();
        let read = channels.read(ctx, &observed).await?;
        if read.state != self.state {
            channels.forget_one(&observed);
            ctx.observe_again(&observed);
            return Err(ChannelError::Restless { url: subdir_url(ctx, &observed)? });
        }
        match &read.content {
            Content::Absent => Ok(ChannelIndex::default()),
            Content::Plain(repodata) => {
                let indexed = |name: &str| {
                    let digest = repodata.digest(name)?;
                    Some((name.to_owned(), IndexedName { digest, depends: Some(repodata.depends(name)) }))
                };
                let records = ctx
                    .intern(ChannelDetails(repodata.details()))
                    .map_err(|_| ChannelError::NotAtHand { what: "the list of records" })?;
                Ok(ChannelIndex { names: repodata.names().filter_map(indexed).collect(), records: Some(records) })
            }
            Content::Sharded(index) => {
                let names =
                    index.digests().map(|(name, digest)| (name.to_owned(), IndexedName { digest, depends: None }));
                Ok(ChannelIndex { names: names.collect(), records: None })
            }
        }
    }
}

/// Reading the records of one name of a sharded channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadShardSpec {
    /// The channel.
    pub channel: Location,
    /// The platform.
    pub subdir: Subdir,
    /// The name.
    pub name: String,
    /// What tells its records from others.
    pub digest: Fingerprint,
}

impl fmt::Display for ReadShardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records of {} in {}/{}", self.name, self.channel.to_string().trim_end_matches('/'), self.subdir)
    }
}

impl Spec for ReadShardSpec {
    const KIND: &'static str = "read_shard";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, GATEWAY, CONDA_TYPES]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What the records of one name are and need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSummary {
    /// The names that they depend on, sorted.
    pub depends: Vec<String>,
    /// The digest of each record, by file name.
    pub records: BTreeMap<String, Fingerprint>,
}

impl Action for ReadShardSpec {
    type Output = ShardSummary;
    type Error = ChannelError;
    const RESOURCE: Resource = Resource::Url;

    async fn run(&self, ctx: &ActionContext) -> Result<ShardSummary, ChannelError> {
        let channels = ctx.resource::<Channels>().ok_or(ChannelError::NotAtHand { what: "the access to channels" })?;
        let observed = ChannelStateSpec { channel: self.channel.clone(), subdir: self.subdir };
        let read = channels.read(ctx, &observed).await?;
        let index = match &read.content {
            Content::Sharded(index) if index.digest(&self.name) == Some(self.digest) => index,
            _ => {
                channels.forget_one(&observed);
                ctx.observe_again(&observed);
                return Err(ChannelError::Restless { url: subdir_url(ctx, &observed)? });
            }
        };
        let records = index.records(&channels, &self.name).await?;
        let digest = |record| Fingerprint::of(&rmp_serde::to_vec_named(record).unwrap_or_default());
        Ok(ShardSummary {
            depends: shards::depends(&records),
            records: records
                .iter()
                .map(|record| (record.identifier.to_file_name(), digest(&record.package_record)))
                .collect(),
        })
    }
}
