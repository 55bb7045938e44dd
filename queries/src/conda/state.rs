//! Observing a channel.

use std::fmt;
use std::path::PathBuf;

use doge::{Change, Epoch, Fingerprint, Last, Observation, ObserveContext, Resource, Root, Roots, Seen, Spec, Values};
use rattler_conda_types::Subdir;
use serde::{Deserialize, Serialize};

use crate::conda::error::ChannelError;
use crate::conda::shards;
use crate::conda::source::{Channels, Place, find, load, place, subdir_url};
use crate::epoch::{GATEWAY, OWN};
use crate::file_stamp::FileStamp;
use crate::workspace::{Location, WorkspaceRoot};

/// What a channel holds for a platform, as little as tells a change.
///
/// A folder is read again when the stamp of its index file moved. A server is asked when the time that it gave the
/// last answer is over, and then with the entity tag of that answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelStateSpec {
    /// The channel.
    pub channel: Location,
    /// The platform.
    pub subdir: Subdir,
}

impl fmt::Display for ChannelStateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}/{}", self.channel.to_string().trim_end_matches('/'), self.subdir)
    }
}

impl Spec for ChannelStateSpec {
    const KIND: &'static str = "channel_state";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, GATEWAY]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What tells the content of a channel from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// The channel has nothing for the platform.
    Absent,
    /// One file holds all records.
    Plain {
        /// Its content.
        content: Fingerprint,
    },
    /// Each name has a file of its own, and an index names their hashes.
    Sharded {
        /// The content of the index.
        index: Fingerprint,
    },
}

/// What is cheap to see of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStamp {
    /// The files that were looked for, until one was there.
    Files(Vec<Option<FileStamp>>),
    /// What a server said.
    Said(ChannelState),
}

impl Observation for ChannelStateSpec {
    type Output = ChannelState;
    type Error = ChannelError;
    type Stamp = ChannelStamp;
    const RESOURCE: Resource = Resource::Url;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        let root = WorkspaceRoot::new(roots.place(&Root::Workspace)?).ok()?;
        self.channel.inside().map(|_| root.path().to_owned())
    }

    fn changes(&self, _: &ChannelState, _: &ChannelState, _: &Values<'_>) -> Option<Vec<Change>> {
        // Only that something changed; what did is told by the index.
        Some(Vec::new())
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, ChannelError> {
        let channels = ctx.resource::<Channels>().ok_or(ChannelError::NotAtHand { what: "the access to channels" })?;
        // Whoever looks again does so because what was read may not be what is there.
        channels.forget_one(self);
        let subdir = subdir_url(ctx, self)?;
        let found = match place(&subdir)? {
            Place::Folder(folder) => ctx.blocking(move || find(&folder)).await?,
            Place::Server => {
                if let Some(index) = shards::index(&channels, &subdir).await? {
                    return Ok(said(ChannelState::Sharded { index: Fingerprint::of(&index) }));
                }
                let Some(path) = channels.fetch(&subdir, false).await? else { return Ok(said(ChannelState::Absent)) };
                let stamp = FileStamp::of(&path).map_err(|source| super::source::unreadable(&path, source))?;
                (Some(path), vec![stamp])
            }
        };
        let (path, stamps) = found;
        let newest = stamps.iter().flatten().map(FileStamp::newest).max();
        let stamp = ChannelStamp::Files(stamps);
        if last.is_some_and(|last| last.is(&stamp)) {
            return Ok(Seen::Same);
        }
        let value = match path {
            None => ChannelState::Absent,
            Some(path) => ctx.blocking(move || load(&path)).await?.1,
        };
        Ok(Seen::New { value, stamp, newest })
    }
}

fn said(value: ChannelState) -> Seen<ChannelStateSpec> {
    Seen::New { stamp: ChannelStamp::Said(value.clone()), value, newest: None }
}
