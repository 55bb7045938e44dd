//! A lock file, parsed.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use fs_err as fs;
use rattler_conda_types::RepoDataRecord;
use rattler_lock::{CondaBinaryData, FileFormatVersion, LockFile, LockedPackage, ParseCondaLockError, UrlOrPath};

use super::error::LockFileError;
use crate::workspace::{
    Workspace,
    channel::ChannelResolver,
    location::{Location, WorkspaceRoot},
    platform::{Platform, beyond_defaults, parse_virtual_package, short_form},
};

/// The newest format version that can be read, and the one that is written.
pub(crate) const NEWEST_VERSION: u16 = FileFormatVersion::LATEST as u16;
/// From this version on a file tells the virtual packages of its platforms.
pub(crate) const VERSION_WITH_PLATFORMS: u16 = 7;

/// A lock file, parsed. Cheap to clone.
#[derive(Clone)]
pub struct LockedFile {
    pub(super) inner: LockFile,
    pub(super) root: WorkspaceRoot,
    path: PathBuf,
}

impl fmt::Debug for LockedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedFile").field("path", &self.path).field("version", &self.version()).finish_non_exhaustive()
    }
}

/// Something a lock file holds that the manifest no longer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Surplus {
    /// An environment.
    Environment {
        /// Its name.
        environment: String,
    },
    /// A platform of an environment.
    Platform {
        /// The environment.
        environment: String,
        /// The platform, as the lock file names it.
        platform: String,
    },
}

impl fmt::Display for Surplus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { environment } => write!(f, "environment `{environment}`"),
            Self::Platform { environment, platform } => {
                write!(f, "platform `{platform}` of environment `{environment}`")
            }
        }
    }
}

/// The entry of a lock file that stands for a platform.
pub(super) enum PlatformEntry<'l> {
    /// Subdir and virtual packages are the same.
    Same(rattler_lock::Platform<'l>),
    /// The name is the same, the rest is not.
    Changed(rattler_lock::Platform<'l>),
    Missing,
}

impl LockedFile {
    /// Parses the text of a lock file. `path` is only used to name it.
    ///
    /// # Errors
    ///
    /// If the text is not a lock file of a known version.
    pub fn parse(text: &str, path: &Path, root: &WorkspaceRoot) -> Result<Self, LockFileError> {
        if text.trim().is_empty() {
            return Err(LockFileError::Empty { path: path.to_owned() });
        }
        if let Some(line) = conflict_mark(text) {
            return Err(LockFileError::Conflict { path: path.to_owned(), line });
        }
        let inner = LockFile::from_str_with_base_directory(text, Some(root.path())).map_err(|source| match source {
            ParseCondaLockError::IncompatibleVersion { lock_file_version, .. } => {
                LockFileError::TooNew { path: path.to_owned(), found: lock_file_version, supported: NEWEST_VERSION }
            }
            source => LockFileError::Malformed { path: path.to_owned(), source: Arc::new(source) },
        })?;
        Ok(Self { inner, root: root.clone(), path: path.to_owned() })
    }

    /// The format version of the file.
    pub fn version(&self) -> u16 {
        self.inner.version() as u16
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The environments in the file, sorted by name.
    pub fn environments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.inner.environments().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// The environments in the file with the names of their platforms, sorted.
    pub(crate) fn entries(&self) -> Vec<(&str, Vec<String>)> {
        let mut entries: Vec<(&str, Vec<String>)> = self
            .inner
            .environments()
            .map(|(name, environment)| {
                let mut platforms: Vec<String> =
                    environment.platforms().map(|platform| platform.name().to_string()).collect();
                platforms.sort_unstable();
                (name, platforms)
            })
            .collect();
        entries.sort_unstable();
        entries
    }

    /// The conda packages locked for an environment on a platform. `None` if the file has no entry for them.
    ///
    /// Packages that are built from source, and such of the Python index, are left out.
    pub fn records(&self, environment: &str, platform: &Platform) -> Option<Vec<RepoDataRecord>> {
        let environment = self.inner.environment(environment)?;
        let PlatformEntry::Same(entry) = self.platform_entry(environment, platform) else {
            return None;
        };
        Some(self.packages(environment, entry).filter_map(|package| self.record(package.as_binary_conda()?)).collect())
    }

    /// What the file holds beyond what a workspace asks for, sorted.
    ///
    /// Such a file can still satisfy; it only has to be rendered again, without any solve.
    pub fn surplus(&self, workspace: &Workspace) -> Vec<Surplus> {
        let mut surplus = Vec::new();
        for name in self.environments() {
            let Ok(wanted) = workspace.environment(name) else {
                surplus.push(Surplus::Environment { environment: name.to_owned() });
                continue;
            };
            let Some(environment) = self.inner.environment(name) else { continue };
            let kept: Vec<String> = wanted
                .platforms
                .iter()
                .filter_map(|platform| match self.platform_entry(environment, platform) {
                    PlatformEntry::Same(entry) | PlatformEntry::Changed(entry) => Some(entry.name().to_string()),
                    PlatformEntry::Missing => None,
                })
                .collect();
            let mut held: Vec<String> = environment.platforms().map(|platform| platform.name().to_string()).collect();
            held.sort_unstable();
            for platform in held.into_iter().filter(|platform| !kept.contains(platform)) {
                surplus.push(Surplus::Platform { environment: name.to_owned(), platform });
            }
        }
        surplus
    }

    /// The entry of an environment for a platform: the one of the same subdir and virtual packages, whatever its name.
    pub(super) fn platform_entry<'l>(
        &'l self,
        environment: rattler_lock::Environment<'l>,
        platform: &Platform,
    ) -> PlatformEntry<'l> {
        let entries: Vec<_> = environment.platforms().collect();
        let mut same = entries.iter().filter(|entry| same_identity(entry, platform));
        let named = |entry: &&rattler_lock::Platform<'_>| entry.name().as_str() == platform.name;
        if let Some(entry) = same.clone().find(named) {
            return PlatformEntry::Same(*entry);
        }
        if let (Some(entry), None) = (same.next(), same.next()) {
            return PlatformEntry::Same(*entry);
        }
        // Older files do not tell the virtual packages they were solved with.
        let silent = self.version() < VERSION_WITH_PLATFORMS;
        if silent && let Some(entry) = entries.iter().find(|entry| entry.subdir() == platform.subdir) {
            return PlatformEntry::Same(*entry);
        }
        match entries.iter().find(named) {
            Some(entry) => PlatformEntry::Changed(*entry),
            None => PlatformEntry::Missing,
        }
    }

    /// The packages of an entry.
    pub(super) fn packages<'l>(
        &self,
        environment: rattler_lock::Environment<'l>,
        entry: rattler_lock::Platform<'l>,
    ) -> impl Iterator<Item = &'l LockedPackage> + use<'l> {
        environment.packages(entry).into_iter().flatten().collect::<Vec<_>>().into_iter()
    }

    /// The channels of an environment. One that cannot be understood is left out, so that the lists differ.
    pub(super) fn channels(&self, environment: rattler_lock::Environment<'_>) -> Vec<Location> {
        let resolver = ChannelResolver::new(&self.root, None);
        let located = environment.channels().iter().filter_map(|channel| resolver.resolve(&channel.url).ok());
        located.map(|(location, _)| location).collect()
    }

    /// A locked package as a record with absolute URLs.
    pub(super) fn record(&self, data: &CondaBinaryData) -> Option<RepoDataRecord> {
        let url = match &data.location {
            UrlOrPath::Url(url) => url.clone(),
            UrlOrPath::Path(path) => self.root.locate(path.as_str()).file_url(&self.root),
        };
        let channel = match &data.channel {
            Some(channel) => {
                let (location, _) = self.root.locate_url(channel.as_ref());
                Some(location.directory_url(&self.root))
            }
            // Packages inside the workspace are written without their channel, whose place is not known there.
            None if url.scheme() == "file" => {
                let mut channel = url.clone();
                if let Ok(mut segments) = channel.path_segments_mut() {
                    segments.pop().pop().push("");
                }
                Some(channel)
            }
            None => None,
        };
        Some(RepoDataRecord {
            package_record: data.package_record.clone(),
            identifier: data.file_name.clone(),
            url,
            channel: channel.map(String::from),
        })
    }
}

/// Whether an entry of a lock file means a platform.
fn same_identity(entry: &rattler_lock::Platform<'_>, platform: &Platform) -> bool {
    if entry.subdir() != platform.subdir {
        return false;
    }
    let Some(declared) = declared_by(entry) else {
        return false;
    };
    let mut wanted = platform.declared_text();
    wanted.sort_unstable();
    declared == wanted
}

/// The virtual packages an entry declares beyond the defaults, sorted. `None` if one cannot be understood.
fn declared_by(entry: &rattler_lock::Platform<'_>) -> Option<Vec<String>> {
    let packages: Option<Vec<_>> = entry.virtual_packages().iter().map(|text| parse_virtual_package(text)).collect();
    let mut declared: Vec<_> = beyond_defaults(&packages?, entry.subdir()).map(short_form).collect();
    declared.sort_unstable();
    Some(declared)
}

/// How an entry describes itself.
pub(super) fn describe_entry(entry: &rattler_lock::Platform<'_>) -> String {
    describe_platform(entry.subdir().as_str(), &declared_by(entry).unwrap_or_else(|| entry.virtual_packages().to_vec()))
}

/// A platform by its subdir and what it declares.
pub(super) fn describe_platform(subdir: &str, declared: &[String]) -> String {
    match declared {
        [] => subdir.to_owned(),
        declared => format!("{subdir} with {}", declared.join(", ")),
    }
}

/// The line of the first mark of a merge conflict, counted from one.
fn conflict_mark(text: &str) -> Option<usize> {
    let is_mark = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") || line == "=======";
    text.lines().position(|line| is_mark(line.trim_end())).map(|index| index + 1)
}

/// Reads a lock file from disk. `None` if there is none.
///
/// # Errors
///
/// If there is one that cannot be read or understood.
pub fn load(path: &Path, root: &WorkspaceRoot) -> Result<Option<LockedFile>, LockFileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LockFileError::Read { path: path.to_owned(), source: Arc::new(error) }),
    };
    let text = String::from_utf8(bytes).map_err(|_| LockFileError::NotText { path: path.to_owned() })?;
    LockedFile::parse(&text, path, root).map(Some)
}
