//! Fetching packages: a record in, a directory in the package cache out.
//!
//! The cache is rattler's and is shared with pixi: one directory for each package, extracted. A result names the
//! directory. That it is gone later does not make the result wrong: whoever needs the files looks, and has the
//! package fetched again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use doge::{Action, ActionContext, Epoch, Progress, Reporter, Resource, Spec};
use rattler_cache::package_cache::{CacheReporter, PackageCache, PackageCacheError, PackageCacheLayerError};
use rattler_conda_types::package::BuildString;
use rattler_conda_types::{PackageName, PackageRecord, RepoDataRecord, VersionWithSource};
use rattler_digest::{Md5, Sha256, Sha256Hash, parse_digest_from_hex};
use rattler_networking::LazyClient;
use rattler_networking::retry_policies::default_retry_policy;
use rattler_package_streaming::ExtractError;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::cached_package::{discard, intact, is_of_another, is_there};
use crate::epoch::{OWN, PACKAGE_STREAMING, RATTLER_CACHE};
use crate::redact::{Said, without_credentials};

/// Where packages are fetched to, and by what. A resource of the database.
#[derive(Clone)]
pub struct Packages {
    /// The cache.
    pub cache: PackageCache,
    /// Where the cache is.
    pub directory: PathBuf,
    /// How packages are downloaded.
    pub client: LazyClient,
    /// Nothing may be downloaded.
    pub offline: bool,
}

/// Fetching one package into the cache, if it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FetchPackageSpec {
    /// The name of the package.
    pub name: String,
    /// The file name of the archive.
    pub file_name: String,
    /// Where the archive is, without credentials.
    pub url: Url,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Its MD5, in hexadecimal digits. Looked at only where there is no SHA-256.
    pub md5: Option<String>,
    /// What the cache calls the package.
    pub version: String,
    /// The build string.
    pub build: String,
}

impl FetchPackageSpec {
    /// Fetching the package of a record.
    pub fn new(record: &RepoDataRecord) -> Self {
        let package = &record.package_record;
        Self {
            name: package.name.as_normalized().to_owned(),
            file_name: record.identifier.to_string(),
            url: without_credentials(&record.url),
            sha256: package.sha256.map(hex::encode),
            md5: package.md5.map(hex::encode),
            version: package.version.to_string(),
            build: package.build.to_string(),
        }
    }
}

impl fmt::Display for FetchPackageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Spec for FetchPackageSpec {
    const KIND: &'static str = "fetch_package";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, RATTLER_CACHE, PACKAGE_STREAMING]);

    fn label(&self) -> Option<String> {
        Some(format!("package {}", self.name))
    }
}

/// A package in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedPackage {
    /// Its directory, relative to the package cache, with forward slashes.
    pub directory: String,
}

/// Why a package could not be fetched.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum FetchPackageError {
    /// It is not in the cache, and nothing may be downloaded.
    #[error("package `{file_name}` is not in the package cache, and downloading is off")]
    #[diagnostic(help("run once without `--offline`"))]
    Offline {
        /// The archive.
        file_name: String,
    },
    /// It could not be downloaded, read or extracted.
    #[error("package `{file_name}` could not be fetched from {url}")]
    Fetch {
        /// The archive.
        file_name: String,
        /// Where it should be.
        url: Url,
        /// What went wrong, without credentials.
        #[source]
        source: Arc<Said>,
    },
    /// It is another archive than the one that is wanted.
    #[error(
        "package `{file_name}` could not be fetched: {url} has another one, whose hash is {found} and not {wanted}"
    )]
    #[diagnostic(help(
        "if the channel has replaced it, choose it anew with `doge install --update={name}`; if not, it is damaged there or on \
         its way"
    ))]
    OtherArchive {
        /// The package.
        name: String,
        /// The archive.
        file_name: String,
        /// Where it should be.
        url: Box<Url>,
        /// The hash of the one that is wanted.
        wanted: String,
        /// The hash of the one that is there.
        found: String,
    },
    /// The record names a version that is none.
    #[error("the record of package `{file_name}` cannot be used")]
    Unusable {
        /// The archive.
        file_name: String,
    },
    /// The database was made without a package cache.
    #[error("there is no package cache")]
    NoCache,
}

impl Action for FetchPackageSpec {
    type Output = FetchedPackage;
    type Error = FetchPackageError;
    const RESOURCE: Resource = Resource::Url;

    async fn run(&self, ctx: &ActionContext) -> Result<FetchedPackage, FetchPackageError> {
        let packages = ctx.resource::<Packages>().ok_or(FetchPackageError::NoCache)?;
        if let Some(archive) = self.archive_sha256() {
            // Whoever links it looks at each of its files.
            let package = self.directory(&packages);
            let there = ctx.blocking(move || is_there(&package, &archive).then_some(package)).await;
            if let Some(package) = there {
                return Ok(self.output(&packages, &package));
            }
        }
        let record = self.record()?;
        // One process fetches a package at a time; who waited finds it there.
        let _lock = ctx.lock(&self.lock_name()).await;
        let reporter: Arc<dyn CacheReporter> = Arc::new(Reports(ctx.reporter()));
        let fetched = match self.url.to_file_path() {
            Ok(path) if self.url.scheme() == "file" => {
                let fetched = packages.cache.get_or_fetch_from_path(&path, Some(&record), Some(reporter)).await;
                if fetched.is_err()
                    && self.in_cache(&packages, &record).await.is_none()
                    && !self.is_whole(ctx, &path).await
                {
                    // One that was built here can be built again. If it is as it was, something else is wrong.
                    crate::build::make_again(ctx, &path);
                }
                fetched
            }
            _ if packages.offline => {
                let offline = FetchPackageError::Offline { file_name: self.file_name.clone() };
                return self.in_cache(&packages, &record).await.ok_or(offline);
            }
            _ => {
                let client = packages.client.clone();
                let retry = default_retry_policy();
                let (url, cache) = (self.url.clone(), &packages.cache);
                cache.get_or_fetch_from_url_with_retry(&record, url, client, retry, Some(reporter), None).await
            }
        };
        match fetched {
            Ok(fetched) => Ok(self.output(&packages, fetched.path())),
            // Who does not know our locks may have put it there first, and then the second cannot.
            Err(error) => self.in_cache(&packages, &record).await.ok_or_else(|| self.failed(&error)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("downloading is off")]
struct NotDownloaded;

/// A file name that can be part of a file name of ours, whatever a channel calls its files.
fn sanitized(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(120).collect();
    format!("{plain}-{}", doge::Fingerprint::of(name.as_bytes()))
}

impl FetchPackageSpec {
    fn lock_name(&self) -> String {
        format!("package-{}", sanitized(&self.file_name))
    }

    fn archive_sha256(&self) -> Option<Sha256Hash> {
        self.sha256.as_deref().and_then(parse_digest_from_hex::<Sha256>)
    }

    /// What the cache's error is for people.
    fn failed(&self, error: &PackageCacheError) -> FetchPackageError {
        let (file_name, url) = (self.file_name.clone(), self.url.clone());
        if let PackageCacheError::LayerError(error) = error
            && let Some(PackageCacheLayerError::FetchError(error)) = error.downcast_ref()
            && let Some(ExtractError::HashMismatch { expected, actual, .. }) = error.downcast_ref()
        {
            let (name, wanted, found) = (self.name.clone(), expected.clone(), actual.clone());
            return FetchPackageError::OtherArchive { name, file_name, url: Box::new(url), wanted, found };
        }
        FetchPackageError::Fetch { file_name, url, source: Arc::new(Said::of(error)) }
    }

    /// Whether the archive at `path` is the one that is wanted.
    async fn is_whole(&self, ctx: &ActionContext, path: &std::path::Path) -> bool {
        let Some(wanted) = self.archive_sha256() else { return false };
        let path = path.to_owned();
        ctx.blocking(move || rattler_digest::compute_file_digest::<Sha256>(&path).is_ok_and(|found| found == wanted))
            .await
    }

    /// The package, if the cache has it.
    async fn in_cache(&self, packages: &Packages, record: &PackageRecord) -> Option<FetchedPackage> {
        let none = |_| std::future::ready(Err::<Option<_>, _>(NotDownloaded));
        let found = packages.cache.get_or_fetch(record, none, None).await.ok()?;
        Some(self.output(packages, found.path()))
    }

    /// Takes the package out of the cache if it is there and not whole.
    pub(crate) async fn discard_damaged(&self, ctx: &ActionContext, packages: &Packages) -> std::io::Result<()> {
        let _lock = ctx.lock(&self.lock_name()).await;
        let package = self.directory(packages);
        // Somebody else may have fetched it again by now.
        let archive = self.archive_sha256();
        let is_good = move |package: &Path| !is_of_another(package, archive.as_ref()) && intact(package).is_some();
        ctx.blocking(move || if is_good(&package) { Ok(()) } else { discard(&package) }).await
    }

    /// Where the cache has the package, if it has it.
    pub(crate) fn directory(&self, packages: &Packages) -> PathBuf {
        packages.directory.join(format!("{}-{}-{}", self.name, self.version, self.build))
    }

    fn output(&self, packages: &Packages, path: &Path) -> FetchedPackage {
        let relative = path.strip_prefix(&packages.directory).unwrap_or(path);
        let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        FetchedPackage { directory: parts.join("/") }
    }

    /// A record that says no more than the cache looks at.
    fn record(&self) -> Result<PackageRecord, FetchPackageError> {
        let unusable = || FetchPackageError::Unusable { file_name: self.file_name.clone() };
        let mut record = PackageRecord::new(
            PackageName::new_unchecked(&self.name),
            VersionWithSource::from_str(&self.version).map_err(|_| unusable())?,
            BuildString::new_unchecked(&self.build),
        );
        record.sha256 = self.archive_sha256();
        record.md5 = self.md5.as_deref().and_then(parse_digest_from_hex::<Md5>);
        Ok(record)
    }
}

/// Passes what the cache does on as progress.
struct Reports(Reporter);

impl CacheReporter for Reports {
    fn on_validate_start(&self) -> usize {
        0
    }

    fn on_validate_complete(&self, _index: usize) {}

    fn on_download_start(&self) -> usize {
        0
    }

    fn on_download_progress(&self, _index: usize, done: u64, total: Option<u64>) {
        self.0.progress(Progress { message: None, done, total, bytes: true });
    }

    fn on_download_completed(&self, _index: usize) {}
}
