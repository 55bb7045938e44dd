//! Sharded repodata (CEP-16): an index that names a file for each package name, by the hash of the file.
//!
//! The files are kept where rattler keeps them, under the hash, so that pixi and we fetch each once. The index is
//! kept with what the server said of how long it is good for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doge::Fingerprint;
use http::StatusCode;
use http_cache_semantics::{AfterResponse, BeforeRequest, CachePolicy};
use rattler_conda_types::{RepoDataRecord, Shard, ShardedRepodata};
use rattler_digest::{Sha256, Sha256Hash, compute_bytes_digest};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::conda::error::ChannelError;
use crate::conda::repodata::{base, complete, digest, name_of};
use crate::conda::source::{Access, Channels, unreadable};

const INDEX: &str = "repodata_shards.msgpack.zst";
/// Where rattler keeps the files of packages.
const SHARDS: &str = "shards-v1";
/// Where we keep indexes.
const INDEXES: &str = "doge-shard-indexes-v1";
/// For how long a server without shards is not asked for them again.
const NO_SHARDS_FOR: Duration = Duration::from_secs(3600);
/// No index and no file of a package is larger than this, unpacked; what claims to be is not unpacked.
const LARGEST: u64 = 1 << 30;

/// The index, read.
pub(crate) struct ShardIndex {
    pub(crate) names: BTreeMap<String, Sha256Hash>,
    shards: Url,
    archives: Url,
    channel: String,
    subdir: String,
}

/// What is kept of an index.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// When the server was asked, in seconds since 1970.
    asked: u64,
    /// What the server said of how long its answer is good for. Nothing if it has no index.
    policy: Option<CachePolicy>,
}

/// The index of a subdir as the server or the cache has it, unpacked; nothing if there is none.
pub(crate) async fn index(channels: &Channels, subdir: &Url) -> Result<Option<Arc<[u8]>>, ChannelError> {
    let url = subdir.join(INDEX).map_err(|_| ChannelError::Unsupported { url: subdir.clone() })?;
    let path = channels.cache.join(INDEXES).join(Fingerprint::of(url.as_str().as_bytes()).to_hex());
    let kept = read_kept(&path);
    let now = SystemTime::now();
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let request = request(&url)?;
    let mut headers = http::HeaderMap::new();
    match (&kept, channels.access) {
        (Some((Kept { policy: None, .. }, _)), Access::Offline) => return Ok(None),
        (Some((Kept { asked, policy: None }, _)), Access::Online)
            if seconds(now).checked_sub(*asked).is_some_and(|age| age < NO_SHARDS_FOR.as_secs()) =>
        {
            return Ok(None);
        }
        (Some((_, bytes)), Access::Offline) => return Ok(Some(bytes.clone())),
        // Without an index there may still be a file that holds all records.
        (None, Access::Offline) => return Ok(None),
        (Some((Kept { policy: Some(policy), .. }, bytes)), access) => match policy.before_request(&request, now) {
            BeforeRequest::Fresh(_) if access == Access::Online => return Ok(Some(bytes.clone())),
            BeforeRequest::Fresh(_) => headers = revalidation(policy),
            BeforeRequest::Stale { request, .. } => headers = request.headers,
        },
        _ => {}
    }
    let response = channels.client.client().get(url.clone()).headers(headers).send().await;
    let response = response.map_err(|error| ChannelError::fetch(&url, &error))?;
    let parts = parts(&response)?;
    if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED) {
        keep(&path, &Kept { asked: seconds(now), policy: None }, &[])?;
        return Ok(None);
    }
    if let (StatusCode::NOT_MODIFIED, Some((Kept { policy: Some(policy), .. }, bytes))) = (response.status(), &kept) {
        let (AfterResponse::NotModified(policy, _) | AfterResponse::Modified(policy, _)) =
            policy.after_response(&request, &parts, now);
        keep(&path, &Kept { asked: seconds(now), policy: Some(policy) }, bytes)?;
        return Ok(Some(bytes.clone()));
    }
    let fetch_error = |error: reqwest::Error| ChannelError::fetch(&url, &error.without_url());
    let packed = response.error_for_status().map_err(fetch_error)?.bytes().await.map_err(fetch_error)?;
    let bytes: Arc<[u8]> = unpack(&packed, &url)?.into();
    keep(&path, &Kept { asked: seconds(now), policy: Some(CachePolicy::new(&request, &parts)) }, &bytes)?;
    Ok(Some(bytes))
}

fn request(url: &Url) -> Result<http::Request<()>, ChannelError> {
    http::Request::get(url.as_str()).body(()).map_err(|_| ChannelError::Unsupported { url: url.clone() })
}

fn parts(response: &reqwest::Response) -> Result<http::Response<()>, ChannelError> {
    let mut parts = http::Response::new(());
    *parts.status_mut() = response.status();
    *parts.headers_mut() = response.headers().clone();
    Ok(parts)
}

/// The headers that ask whether an answer is still right, though it is not yet too old.
fn revalidation(policy: &CachePolicy) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    // Far enough in the future every answer is too old.
    let later = SystemTime::now() + Duration::from_secs(100 * 365 * 86_400);
    let any = http::Request::new(());
    if let BeforeRequest::Stale { request, .. } = policy.before_request(&any, later) {
        headers = request.headers;
    }
    headers
}

fn read_kept(path: &Path) -> Option<(Kept, Arc<[u8]>)> {
    let bytes = std::fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = bytes.split_at(end);
    let kept = serde_json::from_slice(head).ok()?;
    // The digest stands at the end: a file that was cut off, or of which something was lost, has another.
    let (body, seal) = body.get(1..)?.split_last_chunk::<32>()?;
    (Fingerprint::of(body).as_bytes() == seal).then(|| (kept, body.into()))
}

fn keep(path: &Path, kept: &Kept, body: &[u8]) -> Result<(), ChannelError> {
    let mut bytes = serde_json::to_vec(kept).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(Fingerprint::of(body).as_bytes());
    write_aside(path, &bytes)
}

fn write_aside(path: &Path, bytes: &[u8]) -> Result<(), ChannelError> {
    let write = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut aside = tempfile::Builder::new().prefix(".doge-").tempfile_in(folder)?;
        std::io::Write::write_all(&mut aside, bytes)?;
        aside.persist(path).map(|_| ()).map_err(|error| error.error)
    };
    write().map_err(|source| unreadable(path, source))
}

fn unpack(packed: &[u8], url: &Url) -> Result<Vec<u8>, ChannelError> {
    let malformed = |message: String| ChannelError::Malformed { url: url.clone(), message };
    let decoder = zstd::Decoder::new(packed).map_err(|error| malformed(error.to_string()))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, LARGEST), &mut bytes)
        .map_err(|error| malformed(error.to_string()))?;
    if bytes.len() as u64 == LARGEST {
        return Err(malformed("it is too large".to_owned()));
    }
    Ok(bytes)
}

impl ShardIndex {
    pub(crate) fn parse(bytes: &[u8], channel: &Url, subdir: &Url) -> Result<Self, ChannelError> {
        let malformed = |message: String| ChannelError::Malformed { url: subdir.clone(), message };
        let index: ShardedRepodata = rmp_serde::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let url = |text: &str| base(subdir, Some(text)).ok_or_else(|| malformed(format!("`{text}` is no base URL")));
        let subdir_name = subdir.path_segments().and_then(|mut parts| parts.rfind(|part| !part.is_empty()));
        Ok(Self {
            shards: url(&index.info.shards_base_url)?,
            archives: url(&index.info.base_url)?,
            names: index.shards.into_iter().collect(),
            channel: channel.to_string(),
            subdir: subdir_name.unwrap_or_default().to_owned(),
        })
    }

    /// What tells the records of a name from others; nothing if there are none.
    pub(crate) fn digest(&self, name: &str) -> Option<Fingerprint> {
        self.names.get(name).map(|hash| self.digest_of(hash))
    }

    fn digest_of(&self, hash: &Sha256Hash) -> Fingerprint {
        digest(Some(self.archives.as_str()), std::iter::once((hex::encode(hash).as_str(), Fingerprint::of(hash))))
    }

    /// The names with their digests, sorted.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, Fingerprint)> {
        self.names.iter().map(|(name, hash)| (name.as_str(), self.digest_of(hash)))
    }

    /// The records of a name, from the cache or the server.
    pub(crate) async fn records(&self, channels: &Channels, name: &str) -> Result<Vec<RepoDataRecord>, ChannelError> {
        let Some(hash) = self.names.get(name) else { return Ok(Vec::new()) };
        let path: PathBuf = channels.cache.join(SHARDS).join(format!("{}.msgpack", hex::encode(hash)));
        if let Ok(bytes) = std::fs::read(&path)
            && let Ok(records) = self.parse_shard(&bytes, name)
        {
            return Ok(records);
        }
        let url = self.shards.join(&format!("{}.msgpack.zst", hex::encode(hash)));
        let url = url.map_err(|_| ChannelError::Unsupported { url: self.shards.clone() })?;
        if channels.access == Access::Offline {
            return Err(ChannelError::Offline { url });
        }
        let response = channels.client.client().get(url.clone()).send().await;
        let response = response.map_err(|error| ChannelError::fetch(&url, &error))?;
        let fetch_error = |error: reqwest::Error| ChannelError::fetch(&url, &error.without_url());
        let packed = response.error_for_status().map_err(fetch_error)?.bytes().await.map_err(fetch_error)?;
        if compute_bytes_digest::<Sha256>(&packed) != *hash {
            return Err(ChannelError::Malformed {
                url,
                message: "its content has another hash than the index says".to_owned(),
            });
        }
        let bytes = unpack(&packed, &url)?;
        let records = self.parse_shard(&bytes, name)?;
        write_aside(&path, &bytes)?;
        Ok(records)
    }

    fn parse_shard(&self, bytes: &[u8], name: &str) -> Result<Vec<RepoDataRecord>, ChannelError> {
        let malformed = |message: String| ChannelError::Malformed {
            url: self.shards.clone(),
            message: format!("the records of `{name}`: {message}"),
        };
        let shard: Shard = rmp_serde::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let mut records = BTreeMap::new();
        let legacy = shard.packages.into_iter().chain(shard.conda_packages);
        records.extend(legacy.map(|(file, record)| (file.to_file_name(), record)));
        // A file that is listed twice is what its newest listing says.
        records.extend(shard.v3.tar_bz2.into_iter().map(|(file, record)| (format!("{file}.tar.bz2"), record)));
        records.extend(shard.v3.conda.into_iter().map(|(file, record)| (format!("{file}.conda"), record)));
        let removed: BTreeSet<String> = shard.removed.iter().map(ToString::to_string).collect();
        let doubled: BTreeSet<String> =
            records.keys().filter_map(|file| Some(format!("{}.tar.bz2", file.strip_suffix(".conda")?))).collect();
        records
            .into_iter()
            .filter(|(file, record)| {
                !removed.contains(file) && !doubled.contains(file) && record.name.as_normalized() == name
            })
            .map(|(file, record)| {
                complete(record, &file, &self.subdir, &self.channel, &self.archives).map_err(malformed)
            })
            .collect()
    }
}

/// The names that records depend on, sorted.
pub(crate) fn depends(records: &[RepoDataRecord]) -> Vec<String> {
    let of = |record: &RepoDataRecord| {
        let package = &record.package_record;
        let specs = package.depends.iter().chain(package.extra_depends.values().flatten());
        specs.filter_map(|spec| name_of(spec)).collect::<Vec<_>>()
    };
    let names: BTreeSet<String> = records.iter().flat_map(of).collect();
    names.into_iter().collect()
}
