//! Where channels are read from: folders, and servers by way of the cache that is shared with pixi.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use doge::{ActionContext, Fingerprint, ObserveContext, Root};
use rattler_conda_types::Subdir;
use rattler_networking::LazyClient;
use rattler_repodata_gateway::fetch::{CacheAction, FetchRepoDataError, FetchRepoDataOptions, fetch_repo_data};
use url::Url;

use crate::conda::error::ChannelError;
use crate::conda::repodata::Repodata;
use crate::conda::shards::{self, ShardIndex};
use crate::conda::state::{ChannelState, ChannelStateSpec};
use crate::file_stamp::FileStamp;
use crate::workspace::{Location, WorkspaceRoot};

/// How far the cache of repodata is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// As long as servers said it may be, then they are asked.
    #[default]
    Online,
    /// Always: no server is asked.
    Offline,
    /// Not at all: servers are asked, whatever they said before.
    Refresh,
}

/// How channels are read. A resource of the database.
pub struct Channels {
    /// How servers are asked.
    pub client: LazyClient,
    /// Where repodata is kept. pixi and other tools may keep theirs in the same place.
    pub cache: PathBuf,
    /// How far that is trusted.
    pub access: Access,
    /// What was read in this session.
    read: Mutex<HashMap<ChannelStateSpec, Arc<Read>>>,
}

/// The names of the index files, the preferred first.
const FILES: [&str; 2] = ["repodata.json", "repodata.json.zst"];

/// What a subdir of a channel holds, read.
pub(crate) enum Content {
    Absent,
    Plain(Repodata),
    Sharded(ShardIndex),
}

/// What was read, and what it was when it was.
pub(crate) struct Read {
    pub(crate) state: ChannelState,
    pub(crate) content: Content,
}

/// Where a subdir of a channel is.
pub(crate) enum Place {
    Folder(PathBuf),
    Server,
}

impl Channels {
    /// Channels that are read with `client` and kept in `cache`.
    pub fn new(client: LazyClient, cache: impl Into<PathBuf>, access: Access) -> Self {
        Self { client, cache: cache.into(), access, read: Mutex::default() }
    }

    /// Forgets what was read, as at the beginning of a session.
    pub fn forget(&self) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn forget_one(&self, spec: &ChannelStateSpec) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(spec);
    }

    fn known(&self, spec: &ChannelStateSpec) -> Option<Arc<Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).get(spec).cloned()
    }

    /// What the subdir holds, read once in a session. Whether it is what was observed is for the caller to see.
    pub(crate) async fn read(&self, ctx: &ActionContext, spec: &ChannelStateSpec) -> Result<Arc<Read>, ChannelError> {
        if let Some(known) = self.known(spec) {
            return Ok(known);
        }
        let (channel, subdir) = (channel_url(ctx, &spec.channel)?, subdir_url(ctx, spec)?);
        let read = match place(&subdir)? {
            Place::Folder(folder) => {
                let url = subdir.clone();
                ctx.cpu(move || read_folder(&folder, &channel, &url)).await?
            }
            Place::Server => match shards::index(self, &subdir).await? {
                Some(bytes) => {
                    let state = ChannelState::Sharded { index: Fingerprint::of(&bytes) };
                    Read { state, content: Content::Sharded(ShardIndex::parse(&bytes, &channel, &subdir)?) }
                }
                None => match self.fetch(&subdir, true).await? {
                    Some(path) => ctx.cpu(move || read_file(&path, &channel, &subdir)).await?,
                    None => Read { state: ChannelState::Absent, content: Content::Absent },
                },
            },
        };
        let read = Arc::new(read);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(spec.clone(), read.clone());
        Ok(read)
    }

    /// The file in the cache that holds the repodata of a subdir; nothing if the server has none.
    ///
    /// `again` says that it was fetched in this session, so that what is in the cache is what is meant.
    pub(crate) async fn fetch(&self, subdir: &Url, again: bool) -> Result<Option<PathBuf>, ChannelError> {
        let cache_action = match self.access {
            Access::Offline => CacheAction::ForceCacheOnly,
            _ if again => CacheAction::CacheOrFetch,
            Access::Online => CacheAction::CacheOrFetch,
            Access::Refresh => CacheAction::NoCache,
        };
        let options = FetchRepoDataOptions { cache_action, bz2_enabled: false, ..FetchRepoDataOptions::default() };
        std::fs::create_dir_all(&self.cache).map_err(|source| unreadable(&self.cache, source))?;
        match fetch_repo_data(subdir.clone(), self.client.clone(), self.cache.clone(), options, None).await {
            Ok(fetched) => Ok(Some(fetched.repo_data_json_path)),
            Err(FetchRepoDataError::NotFound(_)) => Ok(None),
            Err(FetchRepoDataError::NoCacheAvailable(_)) => Err(ChannelError::Offline { url: subdir.clone() }),
            Err(error) => Err(ChannelError::fetch(subdir, &error)),
        }
    }
}

pub(crate) fn unreadable(path: &Path, source: std::io::Error) -> ChannelError {
    ChannelError::Read { path: path.to_owned(), source: Arc::new(source) }
}

/// The root of the workspace, which relative locations are relative to.
pub(crate) fn workspace_root(ctx: &ObserveContext) -> Result<WorkspaceRoot, ChannelError> {
    ctx.roots()
        .place(&Root::Workspace)
        .and_then(|place| WorkspaceRoot::new(place).ok())
        .ok_or(ChannelError::NotAtHand { what: "the place of the workspace" })
}

pub(crate) fn channel_url(ctx: &ObserveContext, channel: &Location) -> Result<Url, ChannelError> {
    Ok(channel.directory_url(&workspace_root(ctx)?))
}

pub(crate) fn subdir_url(ctx: &ObserveContext, spec: &ChannelStateSpec) -> Result<Url, ChannelError> {
    subdir_of(&channel_url(ctx, &spec.channel)?, spec.subdir)
}

fn subdir_of(channel: &Url, subdir: Subdir) -> Result<Url, ChannelError> {
    channel.join(&format!("{}/", subdir.as_str())).map_err(|_| ChannelError::Unsupported { url: channel.clone() })
}

/// Where a URL leads.
pub(crate) fn place(url: &Url) -> Result<Place, ChannelError> {
    if url.scheme() != "file" {
        return Ok(Place::Server);
    }
    url.to_file_path().map(Place::Folder).map_err(|()| ChannelError::Unsupported { url: url.clone() })
}

/// The index file in a folder, and the stamps of those that were looked for until it was found.
pub(crate) fn find(folder: &Path) -> Result<(Option<PathBuf>, Vec<Option<FileStamp>>), ChannelError> {
    let mut stamps = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let stamp = FileStamp::of(&path).map_err(|source| unreadable(&path, source))?;
        stamps.push(stamp);
        if stamp.is_some() {
            return Ok((Some(path), stamps));
        }
    }
    Ok((None, stamps))
}

/// The bytes of an index file, and what they are as a state.
pub(crate) fn load(path: &Path) -> Result<(Vec<u8>, ChannelState), ChannelError> {
    let bytes = std::fs::read(path).map_err(|source| unreadable(path, source))?;
    let state = ChannelState::Plain { content: Fingerprint::of(&bytes) };
    Ok((bytes, state))
}

fn read_folder(folder: &Path, channel: &Url, subdir: &Url) -> Result<Read, ChannelError> {
    match find(folder)?.0 {
        Some(path) => read_file(&path, channel, subdir),
        None => Ok(Read { state: ChannelState::Absent, content: Content::Absent }),
    }
}

fn read_file(path: &Path, channel: &Url, subdir: &Url) -> Result<Read, ChannelError> {
    let (mut bytes, state) = load(path)?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        bytes = zstd::decode_all(bytes.as_slice()).map_err(|source| unreadable(path, source))?;
    }
    Ok(Read { state, content: Content::Plain(Repodata::parse(bytes, channel, subdir)?) })
}
