//! Files of pinned sources: where they are, and bringing them there.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use doge::storage::{LockGuard, Locks};
use doge::{
    Action, ActionContext, Change, Epoch, Last, Observation, ObserveContext, Resource, Root, Roots, Seen, Spec, Values,
};
use http::HeaderMap;
use miette::Diagnostic;
use rattler_networking::LazyClient;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::epoch::{GIX, OWN};
use crate::file_stamp::FileStamp;
use crate::redact::Said;
use crate::source::archive::{ArchiveKind, TEMPORARY, UnpackError, unpack};
use crate::source::git::Reference as GitReference;
use crate::source::git::{self, GitError};
use crate::source::inventory;
use crate::source::location::{MANIFESTS, PinnedSource};
use crate::source::logins::Logins;
use crate::source::written::Written;

/// Where checkouts are kept, and how they are fetched. A resource of the database.
#[derive(Clone)]
pub struct Sources {
    /// The directory.
    pub directory: PathBuf,
    /// How archives are downloaded.
    pub client: LazyClient,
    /// Nothing may be downloaded.
    pub offline: bool,
    /// Logins for repositories.
    pub logins: Logins,
    /// Manifests as they are written at this moment.
    pub written: Written,
}

impl Sources {
    /// The file that whoever uses an unpacked archive shares the lock of, and whoever unpacks it has locked.
    fn lock_of_archive(&self, sha256: &str) -> PathBuf {
        Locks::new(self.directory.join("locks")).path(&format!("archive-{sha256}"))
    }

    /// How repositories are asked.
    fn git(&self, repository: &git::RepositoryUrl, ctx: &ObserveContext) -> git::Options {
        let (reporter, repository) = (ctx.reporter(), repository.clone());
        let (written, stored) = (self.logins.clone(), self.logins.clone());
        git::Options {
            offline: self.offline,
            written: Some(Arc::new(move |server| written.written(&repository, server))),
            stored: Some(Arc::new(move |server| stored.stored(server))),
            waiting: Some(Arc::new(move |holder| drop(reporter.waiting_for(holder)))),
            programs: git::Programs::default(),
        }
    }
}

/// Why sources are not at hand.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum CheckoutError {
    /// A repository could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Git(Arc<GitError>),
    /// An archive could not be unpacked.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Unpack(Arc<UnpackError>),
    /// An archive could not be downloaded.
    #[error("the source archive {url} could not be fetched: {message}")]
    #[diagnostic(help("check the address, and that this machine is connected to the network"))]
    Fetch {
        /// The archive.
        url: String,
        /// What went wrong.
        message: String,
    },
    /// An archive on this machine could not be read.
    #[error("the source archive {url} cannot be read")]
    #[diagnostic(help("check the address, and that the file is there and may be read"))]
    Read {
        /// The archive.
        url: String,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// An archive is not the one that was asked for.
    #[error("the source archive {url} has the {kind} {found}, and {wanted} was asked for{}", from.by())]
    #[diagnostic(help("the archive may have been replaced; if the new one is what you want, {}", from.what_to_do()))]
    Mismatch {
        /// The archive.
        url: String,
        /// Which hash.
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// What it has.
        found: String,
        /// Where what was asked for stands.
        from: HashFrom,
    },
    /// Nothing may be downloaded.
    #[error("the source {url} is not in the cache, and downloading is off")]
    #[diagnostic(help("run once without `--offline`"))]
    Offline {
        /// The source.
        url: String,
    },
    /// A file of the cache could not be written.
    #[error("the source cache could not be changed at `{}`", path.display())]
    #[diagnostic(help("check that the folder belongs to you and that the disk is not full"))]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// There is no such directory in a checkout.
    #[error("there is no `{subdirectory}` in {source_name}")]
    NoSubdirectory {
        /// The source.
        source_name: String,
        /// The directory.
        subdirectory: String,
    },
    /// The home directory is not known.
    #[error("`{path}` is in the home directory, and it is not known where that is")]
    NoHome {
        /// The path.
        path: String,
    },
    /// A checkout vanished, or was changed, as fast as it was made.
    #[error("the checkout of {source_name} in the cache vanishes or changes as soon as it is made")]
    #[diagnostic(help("see which program writes to the cache directory"))]
    Gone {
        /// The source.
        source_name: String,
    },
    /// The database was made without a place for sources.
    #[error("there is no place for sources")]
    NoPlace,
}

/// Where the hash of an archive stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashFrom {
    /// In this manifest.
    Manifest(PathBuf),
    /// In the lock file, and in no manifest of the workspace.
    LockFile,
    /// Neither there nor here: in a manifest of a package that lies elsewhere, or it was different a moment ago.
    Unknown,
}

impl HashFrom {
    fn of(hash: &str, sources: &Sources, roots: &Roots) -> Self {
        if let Some(manifest) = sources.written.with_hash(hash) {
            return Self::Manifest(manifest);
        }
        let lock_file = roots.resolve(&Root::Workspace, "pixi.lock");
        let text = lock_file.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        if Written::has_hash(&text, hash) { Self::LockFile } else { Self::Unknown }
    }

    fn by(&self) -> String {
        match self {
            Self::Manifest(path) => format!(" by `{}`", path.display()),
            Self::LockFile => " by the lock file".to_owned(),
            Self::Unknown => String::new(),
        }
    }

    fn what_to_do(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "put its hash there",
            Self::LockFile => "take it with `--update=PKG`, where PKG is the package that is built from it",
            Self::Unknown => {
                "put its hash into the manifest that asks for it, or, where no manifest does, take it with \
                 `--update=PKG`, where PKG is the package that is built from it"
            }
        }
    }
}

/// Where the files of a path are.
pub(crate) fn path_place(path: &str) -> Result<(Root, String), CheckoutError> {
    if let Some(rest) = path.strip_prefix('~') {
        let home = dirs::home_dir().ok_or_else(|| CheckoutError::NoHome { path: path.to_owned() })?;
        let whole = format!("{}/{}", home.to_string_lossy(), rest.trim_start_matches('/'));
        return Ok((Root::Absolute, crate::source::normalized(&whole)));
    }
    if crate::source::is_absolute(path) {
        return Ok((Root::Absolute, path.to_owned()));
    }
    Ok((Root::Workspace, path.to_owned()))
}

/// A place in a source: the directory, and the manifest if the place names one.
pub(crate) fn split_manifest(path: &str) -> (String, Option<String>) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if MANIFESTS.contains(&name) {
        let parent = if parent.is_empty() { "." } else { parent };
        return (parent.to_owned(), Some(name.to_owned()));
    }
    (path.to_owned(), None)
}

/// Fetching a commit and checking it out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckoutGitSpec {
    /// The repository.
    pub url: String,
    /// The commit.
    pub commit: String,
    /// Whether files of git LFS are fetched, too.
    pub lfs: bool,
}

impl fmt::Display for CheckoutGitSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkout of {} at {}", self.url, self.commit.get(..12).unwrap_or(&self.commit))
    }
}

impl Spec for CheckoutGitSpec {
    const KIND: &'static str = "checkout_git";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, GIX]);

    fn label(&self) -> Option<String> {
        Some(format!("checkout of {}", self.url))
    }
}

/// Downloading an archive and unpacking it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckoutUrlSpec {
    /// The archive.
    pub url: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Its MD5, if that was asked for.
    pub md5: Option<String>,
}

impl fmt::Display for CheckoutUrlSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sources of {}", self.url)
    }
}

impl Spec for CheckoutUrlSpec {
    const KIND: &'static str = "checkout_url";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Sources in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// Their directory, relative to the place of sources.
    pub directory: String,
}

impl Action for CheckoutGitSpec {
    type Output = Checkout;
    type Error = CheckoutError;
    const RESOURCE: Resource = Resource::Git;

    async fn run(&self, ctx: &ActionContext) -> Result<Checkout, CheckoutError> {
        self.make(ctx, Use::Shared).await
    }
}

impl CheckoutGitSpec {
    async fn make(&self, ctx: &ActionContext, by: Use) -> Result<Checkout, CheckoutError> {
        let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
        let repository = git::RepositoryUrl::parse(&self.url).map_err(|error| CheckoutError::Git(Arc::new(error)))?;
        let (spec, base) = (self.clone(), sources.directory.clone());
        let options = sources.git(&repository, ctx);
        let _end = options.programs.end_with_this();
        let held = ctx.held();
        let place = blocking(ctx, move |interrupt| {
            let _held = held;
            let (places, commit) = (git::Places::below(&sources.directory), spec.commit.parse()?);
            git::checkout_by(&repository, commit, spec.lfs, &places, &options, interrupt, by == Use::Alone)
        })
        .await
        .map_err(|error| CheckoutError::Git(Arc::new(error)))?;
        let directory = place.strip_prefix(&base).unwrap_or(&place);
        Ok(Checkout { directory: directory.to_string_lossy().replace('\\', "/") })
    }
}

/// Runs work that looks at a flag to see whether it is to stop.
async fn blocking<T: Send + 'static>(
    ctx: &ObserveContext,
    work: impl FnOnce(&Arc<AtomicBool>) -> T + Send + 'static,
) -> T {
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let flag = stop.0.clone();
    ctx.blocking(move || work(&flag)).await
}

/// Which commit a reference stands for. It is asked once in a session; who has a lock file need not ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GitReferenceSpec {
    /// The repository.
    pub url: String,
    /// The reference.
    pub reference: GitReference,
}

impl fmt::Display for GitReferenceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.reference, self.url)
    }
}

impl Spec for GitReferenceSpec {
    const KIND: &'static str = "git_reference";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, GIX]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Observation for GitReferenceSpec {
    type Output = String;
    type Error = CheckoutError;
    type Stamp = String;
    const RESOURCE: Resource = Resource::Git;

    fn changes(&self, was: &String, now: &String, _: &Values<'_>) -> Option<Vec<Change>> {
        Some(vec![Change::new("commit", self.to_string(), Some(was.clone()), Some(now.clone()))])
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, CheckoutError> {
        let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
        let repository = git::RepositoryUrl::parse(&self.url).map_err(|error| CheckoutError::Git(Arc::new(error)))?;
        let (spec, options) = (self.clone(), sources.git(&repository, ctx));
        let commit = blocking(ctx, move |interrupt| {
            let places = git::Places::below(&sources.directory);
            git::resolve(&repository, &spec.reference, &places, &options, interrupt)
        })
        .await
        .map_err(|error| CheckoutError::Git(Arc::new(error)))?;
        let commit = commit.to_string();
        if last.is_some_and(|last| last.is(&commit)) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { value: commit.clone(), stamp: commit, newest: None })
    }
}

/// What is in an archive that nobody gave a hash for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArchiveContentSpec {
    /// The archive.
    pub url: String,
}

impl fmt::Display for ArchiveContentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "archive {}", self.url)
    }
}

impl Spec for ArchiveContentSpec {
    const KIND: &'static str = "archive_content";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What is cheap to see of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveStamp {
    /// Of a file.
    File(Option<FileStamp>),
    /// What a server said of it.
    Server {
        /// Its entity tag.
        etag: Option<String>,
        /// When it was modified.
        modified: Option<String>,
    },
}

impl ArchiveStamp {
    fn says_something(&self) -> bool {
        !matches!(self, Self::File(None) | Self::Server { etag: None, modified: None })
    }
}

impl Observation for ArchiveContentSpec {
    /// The SHA-256.
    type Output = String;
    type Error = CheckoutError;
    type Stamp = ArchiveStamp;
    const RESOURCE: Resource = Resource::Url;

    fn place(&self, _roots: &Roots) -> Option<PathBuf> {
        None
    }

    fn changes(&self, was: &String, now: &String, _: &Values<'_>) -> Option<Vec<Change>> {
        Some(vec![Change::new("archive", self.to_string(), Some(was.clone()), Some(now.clone()))])
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, CheckoutError> {
        let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
        let url = parse(&self.url)?;
        let file = file_of(&url);
        let stamp = match &file {
            Some(path) => ArchiveStamp::File(FileStamp::of(path).map_err(|error| unreadable(&url, error))?),
            None if sources.offline => match last.and_then(|last| last.stamp()) {
                Some(_) => return Ok(Seen::Same),
                None => return Err(CheckoutError::Offline { url: self.url.clone() }),
            },
            None => head(&sources, &url).await?,
        };
        if last.is_some_and(|last| last.is(&stamp) && stamp.says_something()) {
            return Ok(Seen::Same);
        }
        let newest: Option<SystemTime> = match &stamp {
            ArchiveStamp::File(stamp) => stamp.as_ref().map(FileStamp::newest),
            ArchiveStamp::Server { .. } => None,
        };
        let (fetched, said) = fetch(ctx, &sources, &url).await?;
        // It may be another one than a moment ago.
        Ok(Seen::New { value: fetched, stamp: said.unwrap_or(stamp), newest })
    }
}

fn parse(url: &str) -> Result<Url, CheckoutError> {
    Url::parse(url).map_err(|error| CheckoutError::Fetch { url: url.to_owned(), message: error.to_string() })
}

fn file_of(url: &Url) -> Option<PathBuf> {
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

fn io_error(path: &Path, source: std::io::Error) -> CheckoutError {
    CheckoutError::Io { path: path.to_owned(), source: Arc::new(source) }
}

fn unreadable(url: &Url, source: std::io::Error) -> CheckoutError {
    CheckoutError::Read { url: url.to_string(), source: Arc::new(source) }
}

/// On which side copying a file failed.
enum Copying {
    From(std::io::Error),
    To(std::io::Error),
}

/// Copies a file. What is none, such as a pipe that nobody writes to, is not read.
fn copy(from: &Path, to: &mut std::fs::File) -> Result<(), Copying> {
    use std::io::{Error, Read as _, Write as _};
    let metadata = std::fs::metadata(from).map_err(Copying::From)?;
    if !metadata.is_file() {
        return Err(Copying::From(Error::other("it is not a file")));
    }
    let mut file = std::fs::File::open(from).map_err(Copying::From)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length]).map_err(Copying::To)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copying::From(error)),
        }
    }
}

fn failed(url: &Url, error: &dyn std::error::Error) -> CheckoutError {
    use std::error::Error as _;
    let said = Said::of(error);
    let mut message = said.to_string();
    let mut below = said.source();
    while let Some(error) = below {
        message = format!("{message}: {error}");
        below = error.source();
    }
    CheckoutError::Fetch { url: url.to_string(), message }
}

async fn head(sources: &Sources, url: &Url) -> Result<ArchiveStamp, CheckoutError> {
    let client = sources.client.client();
    let response = client.head(url.clone()).send().await.map_err(|error| failed(url, &error))?;
    if !response.status().is_success() {
        // Not every server answers that; then it is fetched to be looked at.
        return Ok(ArchiveStamp::Server { etag: None, modified: None });
    }
    Ok(said_of(response.headers()))
}

/// How long before an answer something was modified whose time of modification tells it from what comes after it. These
/// times count in seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// What a server says of an archive; nothing if it may say the same of another one.
fn said_of(headers: &HeaderMap) -> ArchiveStamp {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (etag, modified) = (header("etag"), header("last-modified"));
    let time = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp());
    let is_settled = |modified: &String| {
        let (now, modified) = (time(&header("date")?)?, time(modified)?);
        Some(Duration::try_from(now.duration_since(modified)).is_ok_and(|age| age >= SETTLED))
    };
    // Servers make weak tags of that time.
    let is_strong = etag.as_ref().is_some_and(|etag| !etag.starts_with("W/"));
    if !is_strong && modified.as_ref().is_some_and(|modified| is_settled(modified) != Some(true)) {
        return ArchiveStamp::Server { etag: None, modified: None };
    }
    ArchiveStamp::Server { etag, modified }
}

/// Brings an archive into the cache, under its hash. Yields the hash, and what a server said of it.
async fn fetch(
    ctx: &ObserveContext,
    sources: &Sources,
    url: &Url,
) -> Result<(String, Option<ArchiveStamp>), CheckoutError> {
    use tokio::io::AsyncWriteExt as _;
    let directory = sources.directory.join("archives");
    std::fs::create_dir_all(&directory).map_err(|error| io_error(&directory, error))?;
    let kept = tempfile::NamedTempFile::new_in(&directory).map_err(|error| io_error(&directory, error))?;
    let (kept_file, kept_path) = kept.into_parts();
    let said = if let Some(path) = file_of(url) {
        let mut kept = kept_file;
        let copied = ctx.blocking(move || copy(&path, &mut kept)).await;
        copied.map_err(|error| match error {
            Copying::From(source) => unreadable(url, source),
            Copying::To(source) => io_error(&kept_path, source),
        })?;
        None
    } else {
        if sources.offline {
            return Err(CheckoutError::Offline { url: url.to_string() });
        }
        let client = sources.client.client();
        let mut response = client.get(url.clone()).send().await.map_err(|error| failed(url, &error))?;
        if !response.status().is_success() {
            let message = format!("the server says {}", response.status());
            return Err(CheckoutError::Fetch { url: url.to_string(), message });
        }
        let (total, said) = (response.content_length(), said_of(response.headers()));
        let mut file = tokio::fs::File::from_std(kept_file);
        let mut done = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, &error))? {
            file.write_all(&chunk).await.map_err(|error| io_error(&kept_path, error))?;
            done += chunk.len() as u64;
            ctx.reporter().progress(doge::Progress { message: None, done, total, bytes: true });
        }
        file.flush().await.map_err(|error| io_error(&kept_path, error))?;
        Some(said)
    };
    let hash = {
        let path = kept_path.to_path_buf();
        ctx.blocking(move || rattler_digest::compute_file_digest::<rattler_digest::Sha256>(&path))
            .await
            .map_err(|error| io_error(&kept_path, error))?
    };
    let hash = hex::encode(hash);
    let place = directory.join(&hash);
    kept_path.persist(&place).map_err(|error| io_error(&place, error.error))?;
    Ok((hash, said))
}

impl CheckoutUrlSpec {
    fn mismatch(
        &self,
        sources: &Sources,
        roots: &Roots,
        kind: &'static str,
        wanted: &str,
        found: String,
    ) -> CheckoutError {
        let from = HashFrom::of(wanted, sources, roots);
        CheckoutError::Mismatch { url: self.url.clone(), kind, wanted: wanted.to_owned(), found, from }
    }
}

impl Action for CheckoutUrlSpec {
    type Output = Checkout;
    type Error = CheckoutError;
    const RESOURCE: Resource = Resource::Url;

    async fn run(&self, ctx: &ActionContext) -> Result<Checkout, CheckoutError> {
        self.make(ctx, Use::Shared).await
    }
}

impl CheckoutUrlSpec {
    async fn make(&self, ctx: &ActionContext, by: Use) -> Result<Checkout, CheckoutError> {
        let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
        let url = parse(&self.url)?;
        let directory = format!("unpacked/{}", self.sha256);
        let target = sources.directory.join(&directory);
        if by == Use::Shared {
            let lock = sources.lock_of_archive(&self.sha256);
            let lock = crate::waiting::acquire(ctx, &lock, &self.to_string()).await;
            ctx.hold(lock.map_err(|error| io_error(&sources.directory, error))?);
        }
        let held = ctx.held();
        let place = target.clone();
        let is_there = ctx.blocking(move || is_unpacked(&place)).await;
        if is_there && self.md5.is_none() {
            return Ok(Checkout { directory });
        }
        let archive = sources.directory.join("archives").join(&self.sha256);
        let (path, wanted) = (archive.clone(), self.sha256.clone());
        // It may have been damaged, and not every kind of archive would show that.
        let is_whole = move || {
            let found = rattler_digest::compute_file_digest::<rattler_digest::Sha256>(&path);
            found.is_ok_and(|found| hex::encode(found) == wanted)
        };
        if !ctx.blocking(is_whole).await {
            let (found, _) = fetch(ctx, &sources, &url).await?;
            if found != self.sha256 {
                return Err(self.mismatch(&sources, ctx.roots(), "SHA-256", &self.sha256, found));
            }
        }
        if let Some(wanted) = self.md5.clone() {
            let path = archive.clone();
            let found = ctx
                .blocking(move || rattler_digest::compute_file_digest::<rattler_digest::Md5>(&path))
                .await
                .map_err(|error| io_error(&archive, error))?;
            let found = hex::encode(found);
            if found != wanted {
                return Err(self.mismatch(&sources, ctx.roots(), "MD5", &wanted, found));
            }
        }
        if is_there {
            return Ok(Checkout { directory });
        }
        let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        blocking(ctx, move |stop| {
            let _held = held;
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(|error| io_error(parent, error))?;
                remove(&target, parent).map_err(|error| io_error(&target, error))?;
            }
            let unpacked = ArchiveKind::of(&name)
                .and_then(|kind| unpack(&archive, kind, &target, &|| stop.load(Ordering::Relaxed)));
            unpacked.map_err(|error| CheckoutError::Unpack(Arc::new(error)))?;
            let inventory = inventory::of(&target).map_err(|error| io_error(&target, error))?;
            let file = inventory_of(&target);
            crate::whole::write_whole(&file, inventory.as_bytes()).map_err(|error| io_error(&file, error))
        })
        .await?;
        Ok(Checkout { directory })
    }
}

/// The file beside an unpacked archive that says what is in it. What is in it belongs to the archive alone.
fn inventory_of(unpacked: &Path) -> PathBuf {
    unpacked.with_extension("inventory")
}

/// Whether an archive was unpacked, and nothing of it was changed since. Costs a look at every file.
fn is_unpacked(target: &Path) -> bool {
    let said = std::fs::read_to_string(inventory_of(target));
    said.is_ok_and(|said| inventory::of(target).is_ok_and(|found| found == said))
}

/// Removes a directory, which disappears at once.
fn remove(target: &Path, parent: &Path) -> std::io::Result<()> {
    let aside = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(parent)?;
    match std::fs::rename(target, aside.path().join("old")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How a checkout is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Others use it, too.
    Shared,
    /// Nobody else does.
    Alone,
}

/// Takes the locks of the checkouts of these sources until the work has ended: they are not replaced meanwhile. All that a
/// work needs is taken by one call, and in one order by all.
pub(crate) async fn use_checkouts(
    ctx: &ActionContext,
    pins: impl IntoIterator<Item = &PinnedSource>,
    by: Use,
) -> Result<(), CheckoutError> {
    let mut locks = BTreeSet::new();
    for pin in pins {
        let sources = || ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace);
        match pin {
            PinnedSource::Path { .. } => {}
            PinnedSource::Git { url, commit, lfs, .. } => {
                let (repository, pinned, spec) = git_of(url, commit, *lfs)?;
                locks.insert(git::Places::below(&sources()?.directory).use_lock(&repository, pinned, spec.lfs));
            }
            PinnedSource::Url { sha256, .. } => drop(locks.insert(sources()?.lock_of_archive(sha256))),
        }
    }
    for lock in locks {
        ctx.hold(in_use(ctx, &lock, by).await?);
    }
    Ok(())
}

fn git_of(
    url: &str,
    commit: &str,
    lfs: Option<bool>,
) -> Result<(git::RepositoryUrl, git::Commit, CheckoutGitSpec), CheckoutError> {
    let repository = git::RepositoryUrl::parse(url).map_err(|error| CheckoutError::Git(Arc::new(error)))?;
    let pinned = commit.parse().map_err(|error| CheckoutError::Git(Arc::new(error)))?;
    Ok((repository, pinned, checkout_git(url, commit, lfs)))
}

/// Where nothing can be written, nobody can replace a checkout either.
async fn in_use(ctx: &ActionContext, lock: &Path, by: Use) -> Result<Option<LockGuard>, CheckoutError> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let purpose = "using the checkout";
    let taken = match by {
        Use::Shared => crate::waiting::share(ctx, lock, purpose).await,
        Use::Alone => crate::waiting::acquire(ctx, lock, purpose).await,
    };
    match taken {
        Ok(guard) => Ok(guard),
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => Ok(None),
        Err(error) => Err(io_error(lock, error)),
    }
}

/// Where the files of a source are at this moment, for work that needs them. They stay as they are until that has ended, unless
/// it changes them itself.
#[derive(Clone, Debug)]
pub(crate) struct SourcePlace {
    /// The top of the checkout; the directory itself for paths.
    pub(crate) top: PathBuf,
    /// The directory that is meant, below the top.
    pub(crate) directory: PathBuf,
    /// What tells a checkout from one that was made in its place.
    pub(crate) made: Option<FileStamp>,
}

/// Finds the files of a source, whose lock is held. Where a checkout is gone or was changed, it is made again, and this work
/// runs again after it; by who is alone with it at once.
pub(crate) async fn place_of(ctx: &ActionContext, pin: &PinnedSource, by: Use) -> Result<SourcePlace, CheckoutError> {
    let (top, subdirectory, made) = match pin {
        PinnedSource::Path { path } => {
            let (root, directory) = path_place(&split_manifest(path).0)?;
            let directory = ctx.roots().resolve(&root, directory).ok_or(CheckoutError::NoPlace)?;
            // One place has one name; what is not there is found out by whoever looks into it.
            let directory = std::fs::canonicalize(&directory).unwrap_or(directory);
            return Ok(SourcePlace { top: directory.clone(), directory, made: None });
        }
        PinnedSource::Git { url, commit, subdirectory, lfs, .. } => {
            let (repository, pinned, spec) = git_of(url, commit, *lfs)?;
            let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
            let top = git::Places::below(&sources.directory).checkout(&repository, pinned, spec.lfs);
            if !is_whole(ctx, pin).await? {
                if by == Use::Shared {
                    return Err(changed(ctx, pin));
                }
                spec.make(ctx, by).await?;
            }
            let made = git::made(&top);
            (top, subdirectory, made)
        }
        PinnedSource::Url { url, sha256, md5, subdirectory } => {
            let sources = ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace)?;
            let top = sources.directory.join("unpacked").join(sha256);
            if !is_whole(ctx, pin).await? {
                if by == Use::Shared {
                    return Err(changed(ctx, pin));
                }
                CheckoutUrlSpec { url: url.clone(), sha256: sha256.clone(), md5: md5.clone() }.make(ctx, by).await?;
            }
            let made = inventory_of(&top);
            (top, subdirectory, made)
        }
    };
    let directory = top.join(split_manifest(subdirectory).0);
    if !directory.is_dir() {
        let (source_name, subdirectory) = (pin.to_string(), subdirectory.clone());
        return Err(CheckoutError::NoSubdirectory { source_name, subdirectory });
    }
    let made = FileStamp::of(&made).ok().flatten();
    Ok(SourcePlace { top, directory, made })
}

/// Has a checkout made again, and then this work done again.
pub(crate) fn changed(ctx: &ActionContext, pin: &PinnedSource) -> CheckoutError {
    match pin {
        PinnedSource::Path { .. } => {}
        PinnedSource::Git { url, commit, lfs, .. } => ctx.remake(&checkout_git(url, commit, *lfs)),
        PinnedSource::Url { url, sha256, md5, .. } => {
            ctx.remake(&CheckoutUrlSpec { url: url.clone(), sha256: sha256.clone(), md5: md5.clone() });
        }
    }
    CheckoutError::Gone { source_name: pin.to_string() }
}

/// Whether the checkout of a source is there, and as it was made. Costs a look at each of its files.
pub(crate) async fn is_whole(ctx: &ActionContext, pin: &PinnedSource) -> Result<bool, CheckoutError> {
    let sources = || ctx.resource::<Sources>().ok_or(CheckoutError::NoPlace);
    match pin {
        PinnedSource::Path { .. } => Ok(true),
        PinnedSource::Git { url, commit, lfs, .. } => {
            let (repository, pinned, spec) = git_of(url, commit, *lfs)?;
            let top = git::Places::below(&sources()?.directory).checkout(&repository, pinned, spec.lfs);
            Ok(ctx.blocking(move || git::is_complete(&top)).await)
        }
        PinnedSource::Url { sha256, .. } => {
            let top = sources()?.directory.join("unpacked").join(sha256);
            Ok(ctx.blocking(move || is_unpacked(&top)).await)
        }
    }
}

/// The checkout of a commit.
pub(crate) fn checkout_git(url: &str, commit: &str, lfs: Option<bool>) -> CheckoutGitSpec {
    CheckoutGitSpec { url: url.to_owned(), commit: commit.to_owned(), lfs: lfs.unwrap_or(false) }
}
