//! The lock file: observing and writing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use doge::{
    ActionContext, Change, Effect, Epoch, Fingerprint, Intern, Interned, Last, Observation, ObserveContext, Resource,
    Root, Roots, Seen, Spec, Values,
};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conda::{ChannelError, workspace_root};
use crate::environment::manifest::{ManifestText, ReadManifestError};
use crate::environment::remembered::{RememberedSolutionSpec, Solutions};
use crate::epoch::{LOCK, OWN};
use crate::file_stamp::FileStamp;
use crate::records::Records;
use crate::redact::text_without_credentials;
use crate::source::Locking;
use crate::told::{archives, by_name, lines};
use crate::workspace::EnvironmentDescription;
use crate::workspace::lock::{
    LockFileError, LockedFile, NEWEST_VERSION, RenderError, Solved, WriteError, Written, render, write_if_changed,
};

/// The text of a lock file, without credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockText(String);

impl LockText {
    /// What a lock file says. User names, passwords and tokens in URLs are left out.
    pub fn new(text: &str) -> Self {
        Self(text_without_credentials(text).into_owned())
    }

    /// Whether it names packages relative to the workspace.
    pub(crate) fn is_placed(&self) -> bool {
        let locations = self.0.lines().filter_map(|line| line.trim().strip_prefix("- conda: "));
        locations.into_iter().any(|location| !location.contains("://") && !location.starts_with('/'))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Intern for LockText {
    const NAME: &'static str = "lock file";
}

/// What a lock file says. Looked at again when its stamp moved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockFileSpec {
    /// Its path in the workspace, with forward slashes.
    pub path: String,
}

impl fmt::Display for LockFileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl Spec for LockFileSpec {
    const KIND: &'static str = "lock_file";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Why a lock file cannot be read.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ReadLockFileError {
    /// The system does not let us, or it is no text.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Unreadable(Arc<LockFileError>),
    /// The database was made without the place of the workspace.
    #[error("it is not known where the workspace is")]
    NoRoot,
}

impl LockFileSpec {
    /// Where the file is.
    pub fn place(&self, roots: &Roots) -> Option<PathBuf> {
        roots.resolve(&Root::Workspace, &self.path)
    }
}

impl Observation for LockFileSpec {
    type Output = Option<LockText>;
    type Error = ReadLockFileError;
    type Stamp = Option<FileStamp>;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        LockFileSpec::place(self, roots)
    }

    fn changes(&self, was: &Option<LockText>, now: &Option<LockText>, _: &Values<'_>) -> Option<Vec<Change>> {
        let (was, now) = match (was, now) {
            (Some(was), Some(now)) => (was.as_str(), now.as_str()),
            (None, _) => return Some(vec![Change::new("file added", self.path.clone(), None, None)]),
            (_, None) => return Some(vec![Change::new("file removed", self.path.clone(), None, None)]),
        };
        let locked = |text: &'_ str| -> Vec<String> {
            let locations = text.lines().filter_map(|line| line.trim().strip_prefix("- conda: "));
            locations.filter_map(|location| location.rsplit('/').next()).map(str::to_owned).collect()
        };
        let (before, after) = (locked(was), locked(now));
        let mut changes = archives(before.iter().map(String::as_str), after.iter().map(String::as_str));
        changes.extend(by_name(&sources(was), &sources(now), |name, was, now| {
            let places =
                |places: Option<&BTreeSet<String>>| places.map(|places| Vec::from_iter(places.clone()).join(" and "));
            Change::new("package", name, places(was), places(now))
        }));
        Some(if changes.is_empty() { lines(&self.path, was, now) } else { changes })
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, ReadLockFileError> {
        let path = LockFileSpec::place(self, ctx.roots()).ok_or(ReadLockFileError::NoRoot)?;
        ctx.blocking(move || {
            let unreadable = |source| LockFileError::Read { path: path.clone(), source: Arc::new(source) };
            let stamp = FileStamp::of(&path).map_err(unreadable)?;
            if last.is_some_and(|last| last.is(&stamp)) {
                return Ok(Seen::Same);
            }
            let value = read(&path)?;
            Ok(Seen::New { value, newest: stamp.as_ref().map(FileStamp::newest), stamp })
        })
        .await
        .map_err(|error: LockFileError| ReadLockFileError::Unreadable(Arc::new(error)))
    }
}

/// Where the packages are from that are built, by name. What tells the variants of one apart is nothing for people.
fn sources(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sources: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in text.lines().filter_map(|line| line.trim().strip_prefix("- conda_source: ")) {
        let Some((name, place)) = entry.split_once(" @ ") else { continue };
        let name = name.split('[').next().unwrap_or(name);
        let place = match place.rsplit_once('#') {
            Some((place, pin)) => format!("{place} at {}", first_digits(pin.strip_prefix("sha256=").unwrap_or(pin))),
            None => place.to_owned(),
        };
        sources.entry(name.to_owned()).or_default().insert(place);
    }
    sources
}

/// As much of a hash as tells it from others.
fn first_digits(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn read(path: &std::path::Path) -> Result<Option<LockText>, LockFileError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LockFileError::Read { path: path.to_owned(), source: Arc::new(source) }),
    };
    let text = String::from_utf8(bytes).map_err(|_| LockFileError::NotText { path: path.to_owned() })?;
    Ok(Some(LockText::new(&text)))
}

/// What is locked while a lock file is read and written, in the workspace.
const WRITE_LOCK: &str = ".pixi/.doge-lock";

/// Writing newly solved records into a lock file, next to what stays in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriteLockFileSpec {
    /// The file.
    pub lock_file: LockFileSpec,
    /// The manifest that it is for.
    pub manifest: Interned<ManifestText>,
    /// What it said when it was decided to write.
    pub seen: Option<Interned<LockText>>,
    /// What was solved.
    pub solved: Vec<SolvedTarget>,
    /// Why it is written, for people.
    pub reason: String,
    /// What each solve was asked, so that its answer can be found again when it is asked the same.
    pub remember: Vec<(RememberedSolutionSpec, Interned<Records>)>,
}

/// What was solved for an environment on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SolvedTarget {
    /// What was asked for.
    pub description: EnvironmentDescription,
    /// What it gets.
    pub records: Interned<Records>,
}

impl fmt::Display for WriteLockFileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", self.lock_file)
    }
}

impl Spec for WriteLockFileSpec {
    const KIND: &'static str = "write_lock_file";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, LOCK]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLockFile {
    /// The content of the file.
    pub content: Fingerprint,
    /// Whether it said something else before.
    pub changed: bool,
}

/// Why a lock file could not be written.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum WriteLockFileError {
    /// Somebody writes it all the time.
    #[error("the lock file `{}` is changed by somebody else all the time", path.display())]
    Restless {
        /// The file.
        path: PathBuf,
    },
    /// What is there cannot be understood, so it is not replaced.
    #[error(transparent)]
    #[diagnostic(transparent)]
    LockFile(#[from] LockFileError),
    /// The manifest cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(#[from] ReadManifestError),
    /// What was solved cannot be written down.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Render(#[from] RenderError),
    /// The file cannot be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Write(#[from] WriteError),
    /// A value or a resource is not at hand.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NotAtHand(#[from] ChannelError),
    /// The place of the file is not known.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Read(#[from] ReadLockFileError),
}

impl Effect for WriteLockFileSpec {
    type Output = WrittenLockFile;
    type Error = WriteLockFileError;
    type Target = LockFileSpec;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> LockFileSpec {
        self.lock_file.clone()
    }

    fn found(&self) -> Vec<String> {
        vec![self.reason.clone()]
    }

    async fn run(&self, ctx: &ActionContext) -> Result<WrittenLockFile, WriteLockFileError> {
        let gone = |what| ChannelError::NotAtHand { what };
        let root = workspace_root(ctx)?;
        let path = LockFileSpec::place(&self.lock_file, ctx.roots()).ok_or(ReadLockFileError::NoRoot)?;
        let manifest = ctx.value(&self.manifest).await.ok_or_else(|| gone("the text of the manifest"))?;
        let workspace = manifest.parse(&root).map_err(ReadManifestError::Manifest)?;
        let mut solved = Vec::new();
        let mut has_sources = false;
        for target in &self.solved {
            let records = ctx.value(&target.records).await.ok_or_else(|| gone("a solution"))?;
            has_sources |= !records.sources().is_empty();
            records.bring(ctx).await.ok_or_else(|| gone("a solution"))?;
            let packages = Locking::default().packages(&records).ok_or_else(|| gone("a solution"))?;
            solved.push((target.description.clone(), packages));
        }
        let mut remember = Vec::new();
        for (question, records) in &self.remember {
            remember.push((question.clone(), ctx.value(records).await.ok_or_else(|| gone("a solution"))?));
        }
        let solutions = ctx.resource::<Solutions>();

        // Whoever else writes this file, here or in another process and with whatever cache, waits.
        let _lock = crate::waiting::acquire(ctx, &root.path().join(WRITE_LOCK), "writing the lock file")
            .await
            .map_err(|source| WriteLockFileError::Write(WriteError { path: root.path().join(WRITE_LOCK), source }))?;
        let seen = self.seen.as_ref().map(Interned::fingerprint);
        let work = {
            let path = path.clone();
            move || -> Result<Option<(WrittenLockFile, Written)>, WriteLockFileError> {
                let before = read(&path)?;
                let content = before.as_ref().and_then(|text| rmp_serde::to_vec_named(text).ok());
                if content.as_deref().map(Fingerprint::of) != seen {
                    return Ok(None);
                }
                let before = before.map(|text| LockedFile::parse(text.as_str(), &path, &root)).transpose()?;
                let solved: Vec<Solved<'_>> =
                    solved.iter().map(|(description, packages)| Solved { description, packages }).collect();
                let text = render(&workspace, before.as_ref(), &solved)?;
                let written = write_if_changed(&path, &text)?;
                if let Some(solutions) = solutions {
                    for (question, records) in &remember {
                        solutions.remember(question, records);
                    }
                }
                let changed = written != Written::Unchanged;
                Ok(Some((WrittenLockFile { content: Fingerprint::of(text.as_bytes()), changed }, written)))
            }
        };
        match ctx.blocking(work).await? {
            Some((written, how)) => {
                if has_sources && written.changed {
                    // The folder that it is in may be a source of what is built next.
                    crate::waiting::file_times().await;
                }
                if let Written::Updated { from_version: Some(version) } = how
                    && version < NEWEST_VERSION
                {
                    ctx.reporter().output_line(format!(
                        "the lock file was of version {version} and is now of version {NEWEST_VERSION}"
                    ));
                }
                Ok(written)
            }
            None => {
                ctx.observe_again(&self.lock_file);
                Err(WriteLockFileError::Restless { path })
            }
        }
    }
}
