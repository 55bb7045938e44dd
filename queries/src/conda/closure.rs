//! What can be reached from requirements in some channels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use doge::{ActionContext, AnyError, Db, Epoch, Failure, Fingerprint, Halt, Intern, Interned, Query, Spec};
use miette::Diagnostic;
use rattler_conda_types::{RepoDataRecord, Subdir};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conda::error::ChannelError;
use crate::conda::index::{ChannelIndexSpec, ReadShardSpec};
use crate::conda::source::{Channels, Content, subdir_url};
use crate::conda::state::{ChannelState, ChannelStateSpec};
use crate::epoch::OWN;
use crate::workspace::Location;

/// How many files of one channel are fetched at once.
const FETCHES: usize = 16;

/// The names that can be reached from some names, with what they stand for.
///
/// It over-approximates: versions are not looked at. So it never misses a record that a solver could take.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordClosureSpec {
    /// The channels in order.
    pub channels: Vec<Location>,
    /// The platform; `noarch` is always looked at too.
    pub subdir: Subdir,
    /// The names to begin with, sorted.
    pub roots: Vec<String>,
}

impl fmt::Display for RecordClosureSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.roots.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if self.roots.len() > 4 { ", ..." } else { "" };
        write!(f, "records reachable from {told}{more} on {}", self.subdir)
    }
}

impl Spec for RecordClosureSpec {
    const KIND: &'static str = "record_closure";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

/// What can be reached, by channel and platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The parts in the order in which channels count.
    pub parts: Vec<ClosurePart>,
}

/// What can be reached in one subdir of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosurePart {
    /// The channel.
    pub channel: Location,
    /// The platform.
    pub subdir: Subdir,
    /// The names with what tells their records from others.
    pub names: BTreeMap<String, Fingerprint>,
}

impl Intern for Closure {
    const NAME: &'static str = "reachable records";
}

impl fmt::Display for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: BTreeSet<&String> = self.parts.iter().flat_map(|part| part.names.keys()).collect();
        write!(f, "{} names", names.len())
    }
}

/// Why it is not known what can be reached.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ClosureError {
    /// There is no such channel.
    #[error("there is no channel at {channel}: it has neither `{subdir}` nor `noarch`")]
    #[diagnostic(help(
        "check the address of the channel; a channel is a folder with `repodata.json` in its subfolders"
    ))]
    NoChannel {
        /// Where it should be.
        channel: Location,
        /// The platform that was looked for.
        subdir: Subdir,
    },
    /// A channel cannot be read.
    #[error(transparent)]
    Channel(#[from] Failure<ChannelError>),
    /// What can be reached cannot be written down.
    #[error(transparent)]
    Engine(#[from] Failure<AnyError>),
}

impl Query for RecordClosureSpec {
    type Output = Interned<Closure>;
    type Error = ClosureError;

    fn compute(&self, db: &Db<'_>) -> Result<Interned<Closure>, Halt<ClosureError>> {
        let subdirs: &[Subdir] =
            if self.subdir == Subdir::NoArch { &[Subdir::NoArch] } else { &[self.subdir, Subdir::NoArch] };
        let observed: Vec<ChannelStateSpec> = self
            .channels
            .iter()
            .flat_map(|channel| {
                subdirs.iter().map(|subdir| ChannelStateSpec { channel: channel.clone(), subdir: *subdir })
            })
            .collect();
        let states = db.join(|join| observed.iter().map(|spec| join.observe(spec)).collect::<Vec<_>>())?;
        for (channel, states) in self.channels.iter().zip(states.chunks(subdirs.len())) {
            if states.iter().all(|state| **state == ChannelState::Absent) {
                return Err(Halt::fail(ClosureError::NoChannel { channel: channel.clone(), subdir: self.subdir }));
            }
        }
        let specs: Vec<ChannelIndexSpec> = observed
            .iter()
            .zip(&states)
            .map(|(spec, state)| ChannelIndexSpec {
                channel: spec.channel.clone(),
                subdir: spec.subdir,
                state: ChannelState::clone(state),
            })
            .collect();
        let indexes = db.join(|join| specs.iter().map(|spec| join.act(spec)).collect::<Vec<_>>())?;
        let mut parts: Vec<ClosurePart> = observed
            .into_iter()
            .map(|ChannelStateSpec { channel, subdir }| ClosurePart { channel, subdir, names: BTreeMap::new() })
            .collect();
        let mut seen: BTreeSet<String> = self.roots.iter().cloned().collect();
        let mut frontier: Vec<String> = self.roots.clone();
        while !frontier.is_empty() {
            let mut next = BTreeSet::new();
            let mut unread = Vec::new();
            for name in &frontier {
                for (index, part) in indexes.iter().zip(&mut parts) {
                    let Some(indexed) = index.names.get(name) else { continue };
                    part.names.insert(name.clone(), indexed.digest);
                    match &indexed.depends {
                        Some(depends) => next.extend(depends.iter().cloned()),
                        None => unread.push(ReadShardSpec {
                            channel: part.channel.clone(),
                            subdir: part.subdir,
                            name: name.clone(),
                            digest: indexed.digest,
                        }),
                    }
                }
            }
            if !unread.is_empty() {
                let shards = db.join(|join| unread.iter().map(|spec| join.act(spec)).collect::<Vec<_>>())?;
                next.extend(shards.iter().flat_map(|shard| shard.depends.iter().cloned()));
            }
            frontier = next.into_iter().filter(|name| seen.insert(name.clone())).collect();
        }
        Ok(db.intern(Closure { parts })?)
    }
}

impl Closure {
    /// The very records that the closure stands for, by part. Records that are others by now are refused, and the
    /// channel is observed again.
    pub(crate) async fn records(&self, ctx: &ActionContext) -> Result<Vec<Vec<Arc<[RepoDataRecord]>>>, ChannelError> {
        let channels = ctx.resource::<Channels>().ok_or(ChannelError::NotAtHand { what: "the access to channels" })?;
        let mut parts = Vec::new();
        for part in &self.parts {
            if part.names.is_empty() {
                parts.push(Vec::new());
                continue;
            }
            let observed = ChannelStateSpec { channel: part.channel.clone(), subdir: part.subdir };
            let read = channels.read(ctx, &observed).await?;
            let is_same = part.names.iter().all(|(name, digest)| match &read.content {
                Content::Absent => false,
                Content::Plain(repodata) => repodata.digest(name) == Some(*digest),
                Content::Sharded(index) => index.digest(name) == Some(*digest),
            });
            if !is_same {
                channels.forget_one(&observed);
                ctx.observe_again(&observed);
                return Err(ChannelError::Restless { url: subdir_url(ctx, &observed)? });
            }
            let mut records = Vec::new();
            match &read.content {
                Content::Absent => {}
                Content::Plain(_) => {
                    let (read, names) = (read.clone(), part.names.keys().cloned().collect::<Vec<_>>());
                    let all = ctx.cpu(move || match &read.content {
                        Content::Plain(repodata) => {
                            use rayon::prelude::*;
                            names.par_iter().map(|name| repodata.records(name)).collect::<Result<Vec<_>, _>>()
                        }
                        _ => Ok(Vec::new()),
                    });
                    records.extend(all.await?);
                }
                Content::Sharded(index) => {
                    use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
                    let mut fetch = Vec::new();
                    for name in part.names.keys() {
                        fetch.push(index.records(&channels, name).boxed());
                    }
                    let all: Vec<Vec<RepoDataRecord>> =
                        futures::stream::iter(fetch).buffered(FETCHES).try_collect().await?;
                    records.extend(all.into_iter().map(Arc::from));
                }
            }
            parts.push(records);
        }
        Ok(parts)
    }
}
