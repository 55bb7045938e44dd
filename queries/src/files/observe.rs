//! Observing the files that some globs match.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use doge::{Change, Epoch, Fingerprint, Last, Observation, ObserveContext, Root, Roots, RunId, Seen, Spec, Values};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::epoch::{IGNORE, OWN};
use crate::file_stamp::FileStamp;
use crate::files::walk::Walked;
use crate::files::{GlobError, GlobSet, walk};
use crate::told::{by_name, place};

/// The files that some globs match below a directory, with their content.
///
/// It is looked at again when a file or a folder that was entered has another stamp; then only the files whose stamp
/// moved are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FilesSpec {
    /// What the directory is relative to.
    pub root: Root,
    /// The directory, with forward slashes.
    pub directory: String,
    /// The globs.
    pub globs: Vec<GlobSet>,
    /// What the work which reads these writes itself, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnFiles>,
}

/// Files that some work writes which also reads them. That they were written just now says nothing, as long as everything is
/// as it was when the work had ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnFiles {
    /// Which work it is. What they were before it says nothing of it, so each looks for itself.
    pub writer: RunId,
    /// The files, as the work left them.
    pub files: BTreeMap<String, FileIdentity>,
    /// The names of all files that were there then.
    pub names: Fingerprint,
}

impl fmt::Display for FilesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<&str> = self.globs.iter().flat_map(|set| &set.patterns).map(String::as_str).collect();
        let told = patterns.iter().take(4).copied().collect::<Vec<_>>().join(", ");
        let more = if patterns.len() > 4 { ", ..." } else { "" };
        write!(f, "files {told}{more} in {}", self.directory)
    }
}

impl Spec for FilesSpec {
    const KIND: &'static str = "files";
    const EPOCH: Epoch = Epoch::new(3, &[OWN, IGNORE]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The files that were found, by their path relative to the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The files.
    pub files: BTreeMap<String, FileIdentity>,
    /// Symbolic links that the globs match, or that lead to folders which may hold what they match: what is in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// What tells a file from an edited one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The blake3 of its content.
    pub content: Fingerprint,
    /// It may be run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The stamps of everything that was looked at, by path; nothing for what was not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesStamp {
    base: String,
    files: Vec<(String, Option<FileStamp>)>,
    folders: Vec<(String, Option<FileStamp>)>,
}

/// Why files could not be looked at.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum FilesError {
    /// A glob cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Glob(Arc<GlobError>),
    /// A file cannot be read.
    #[error("the file `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database was made without the place that the directory is relative to.
    #[error("it is not known where `{directory}` is")]
    NoRoot {
        /// The directory.
        directory: String,
    },
}

impl FilesStamp {
    fn is_current(&self, base: &Path) -> bool {
        self.base == base.to_string_lossy() && FileStamp::are_current(base, self.folders.iter().chain(&self.files))
    }
}

/// A path as a text that no other has. What is no text in it is told in hexadecimal digits.
fn told(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            text.push_str(&hex::encode(chunk.invalid()));
        }
    }
    if cfg!(windows) { text.replace('\\', "/") } else { text }
}

fn relative(base: &Path, path: &Path) -> String {
    match path.strip_prefix(base) {
        Ok(inside) => told(inside),
        // A glob may lead out of the directory.
        Err(_) => {
            let common = base.components().zip(path.components()).take_while(|(a, b)| a == b).count();
            let up = std::iter::repeat_n("..".to_owned(), base.components().count() - common);
            let down = path.components().skip(common).map(|part| told(part.as_ref()));
            up.chain(down).collect::<Vec<_>>().join("/")
        }
    }
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        metadata.permissions().mode() & 0o100 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// How many stamps are looked at without another thread.
const FEW: usize = 32;

/// How old a file has to be for its stamp to tell it from an edited one.
const TRUSTED_AFTER: Duration = Duration::from_secs(2);

/// The files and links that some globs match, relative to the directory.
pub(crate) fn names(base: &Path, globs: &[GlobSet]) -> BTreeSet<String> {
    walk(globs, base).map(|walked| names_in(base, &walked)).unwrap_or_default()
}

fn names_in(base: &Path, walked: &Walked) -> BTreeSet<String> {
    walked.files.iter().chain(&walked.links).map(|path| relative(base, path)).collect()
}

/// What tells names from others.
pub(crate) fn fingerprint_of(names: &BTreeSet<String>) -> Fingerprint {
    Fingerprint::of(&rmp_serde::to_vec(names).unwrap_or_default())
}

/// The files that some globs match and that were written since a moment, relative to the directory.
pub(crate) fn written_since(base: &Path, globs: &[GlobSet], moment: SystemTime) -> Vec<String> {
    let Ok(walked) = walk(globs, base) else { return Vec::new() };
    let is_new = |path: &&PathBuf| FileStamp::of(path).ok().flatten().is_some_and(|stamp| stamp.newest() >= moment);
    walked.files.iter().filter(is_new).map(|path| relative(base, path)).collect()
}

/// What is in those of these files, by their path relative to the directory, that are there and can be read.
pub(crate) fn identities<'p>(base: &Path, paths: impl Iterator<Item = &'p String>) -> BTreeMap<String, FileIdentity> {
    paths.filter_map(|path| Some((path.clone(), identify(&base.join(path)).ok()??))).collect()
}

/// The content of a file; nothing if it is gone.
fn identify(path: &Path) -> Result<Option<FileIdentity>, FilesError> {
    let gone = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let unreadable = |source| FilesError::Read { path: path.to_owned(), source: Arc::new(source) };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(FileIdentity { content: Fingerprint::of(&bytes), executable: is_executable(&metadata) })),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

fn look(
    base: &Path,
    globs: &[GlobSet],
    own: Option<&OwnFiles>,
    last: Option<(FilesStamp, Files)>,
) -> Result<Seen<FilesSpec>, FilesError> {
    let began = SystemTime::now();
    let walked = walk(globs, base).map_err(|error| FilesError::Glob(Arc::new(error)))?;
    let stamp_of = |path: &Path| FileStamp::of(path).ok().flatten();
    let known: BTreeMap<&str, &Option<FileStamp>> = last
        .iter()
        .filter(|(stamp, _)| stamp.base == base.to_string_lossy())
        .flat_map(|(stamp, _)| stamp.files.iter().map(|(path, stamp)| (path.as_str(), stamp)))
        .collect();
    let mut files = Files::default();
    let mut stamp = FilesStamp { base: base.to_string_lossy().into_owned(), files: Vec::new(), folders: Vec::new() };
    for folder in walked.folders.iter().chain(&walked.looked_for) {
        stamp.folders.push((relative(base, folder), stamp_of(folder)));
    }
    for path in &walked.files {
        let name = relative(base, path);
        // Taken before the content is read.
        let now = stamp_of(path);
        let before = last.as_ref().filter(|_| now.is_some() && known.get(name.as_str()) == Some(&&now));
        let identity = match before.and_then(|(_, files)| files.files.get(&name)) {
            Some(identity) => Some(identity.clone()),
            None => identify(path)?,
        };
        if let Some(identity) = identity {
            files.files.insert(name.clone(), identity);
        }
        stamp.files.push((name, now));
    }
    for link in &walked.links {
        if let Ok(target) = std::fs::read_link(link) {
            files.links.insert(relative(base, link), told(&target));
        }
    }
    let is_own = |path: &str| own.is_some_and(|own| own.files.contains_key(path));
    // Somebody else may have written them since.
    let is_as_left = |path: &str| own.is_some_and(|own| own.files.get(path) == files.files.get(path));
    let names_are_as_left = own.is_some_and(|own| own.names == fingerprint_of(&names_in(base, &walked)));
    let holds_own = |folder: &str| {
        let parent = |path: &String| path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        own.is_some_and(|own| own.files.keys().any(|path| parent(path) == folder))
    };
    let files_newest = stamp.files.iter().filter(|(path, _)| !(is_own(path) && is_as_left(path)));
    let folders_newest = stamp.folders.iter().filter(|(path, _)| !(holds_own(path) && names_are_as_left));
    let newest =
        files_newest.chain(folders_newest).filter_map(|(_, stamp)| stamp.as_ref()).map(FileStamp::newest).max();
    // What the work writes itself, and where it does, is looked at again until the stamps can be trusted.
    let own_files = stamp.files.iter_mut().filter(|(path, _)| is_own(path));
    let own_folders = stamp.folders.iter_mut().filter(|(path, _)| holds_own(path));
    for (_, stamp) in own_files.chain(own_folders) {
        *stamp = stamp.filter(|stamp| stamp.newest() + TRUSTED_AFTER <= began);
    }
    Ok(Seen::New { value: files, stamp, newest })
}

impl FilesSpec {
    /// The glob that a file is matched by, in words; nothing if that is not plain.
    fn matching(&self, name: &str) -> Option<String> {
        let is_matching = |pattern: &&String| {
            let mut builder = ignore::overrides::OverrideBuilder::new("/");
            let built = builder.add(pattern).and_then(|builder| builder.build());
            built.is_ok_and(|glob| glob.matched(name, false).is_whitelist())
        };
        let mut patterns = self.globs.iter().filter(|set| set.root.is_none()).flat_map(|set| &set.patterns);
        patterns.find(is_matching).map(|pattern| format!("(matches `{pattern}`)"))
    }

    /// Where the directory is.
    pub(crate) fn base(&self, roots: &Roots) -> Option<PathBuf> {
        roots.resolve(&self.root, crate::source::normalized(&self.directory))
    }
}

impl Observation for FilesSpec {
    type Output = Files;
    type Error = FilesError;
    type Stamp = FilesStamp;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        self.base(roots)
    }

    fn newest_is_of_all(&self) -> bool {
        // What the work writes itself, and the folders that it writes it into, are left out.
        self.own.is_none()
    }

    fn changes(&self, was: &Files, now: &Files, _: &Values<'_>) -> Option<Vec<Change>> {
        let place = |name: &str| place(&self.directory, name);
        let file = |name: &str, was: Option<&FileIdentity>, now: Option<&FileIdentity>| match (was, now) {
            (None, _) => Change::new("file added", place(name), None, self.matching(name)),
            (_, None) => Change::new("file removed", place(name), None, None),
            (Some(was), Some(now)) if was.content == now.content => {
                Change::new("file's mode changed", place(name), None, None)
            }
            _ => Change::new("file changed", place(name), None, None),
        };
        let leads_to = |target: &String| Some(format!("(leads to `{target}`)"));
        let link = |name: &str, from: Option<&String>, to: Option<&String>| match (from, to) {
            (Some(from), Some(to)) => {
                Change::new("link leads elsewhere", place(name), Some(from.clone()), Some(to.clone()))
            }
            (_, Some(to)) if was.files.contains_key(name) => {
                Change::new("file became a link", place(name), None, leads_to(to))
            }
            (_, Some(to)) => Change::new("link added", place(name), None, leads_to(to)),
            _ if now.files.contains_key(name) => Change::new("link became a file", place(name), None, None),
            _ => Change::new("link removed", place(name), None, None),
        };
        // What a link leads to is read under its name, so of one that is another this says no more.
        let is_led = |name: &String| was.links.get(name) != now.links.get(name);
        let own = |files: &BTreeMap<String, FileIdentity>| -> BTreeMap<String, FileIdentity> {
            let files = files.iter().filter(|(name, _)| !is_led(name));
            files.map(|(name, file)| (name.clone(), file.clone())).collect()
        };
        let mut changes = by_name(&own(&was.files), &own(&now.files), file);
        changes.extend(by_name(&was.links, &now.links, link));
        Some(changes)
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, FilesError> {
        let no_root = || FilesError::NoRoot { directory: self.directory.clone() };
        let base = self.base(ctx.roots()).ok_or_else(no_root)?;
        let (globs, own) = (self.globs.clone(), self.own.clone());
        // Most are as they were, and to look at some stamps takes less time than to have somebody else do it.
        let stamp = last.as_ref().and_then(Last::stamp);
        let few = stamp.as_ref().is_some_and(|stamp| stamp.files.len() + stamp.folders.len() <= FEW);
        if few && stamp.as_ref().is_some_and(|stamp| stamp.is_current(&base)) {
            return Ok(Seen::Same);
        }
        ctx.blocking(move || {
            let last = match last.zip(stamp) {
                Some((_, stamp)) if !few && stamp.is_current(&base) => return Ok(Seen::Same),
                Some((last, stamp)) => last.value().map(|value| (stamp, value)),
                None => None,
            };
            look(&base, &globs, own.as_ref(), last)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something was written last that says something.
    fn newest(base: &Path, globs: &[GlobSet], own: &OwnFiles) -> Option<SystemTime> {
        match look(base, globs, Some(own), None) {
            Ok(Seen::New { newest, .. }) => newest,
            other => panic!("it is looked at: {:?}", other.is_ok()),
        }
    }

    #[test]
    fn what_work_writes_itself_says_nothing_as_long_as_it_is_as_the_work_left_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let base = directory.path();
        let write = |name: &str, text: &str| std::fs::write(base.join(name), text).expect("it can be written");
        let globs =
            [GlobSet { patterns: vec!["*.txt".to_owned()], markers: Vec::new(), exclude_hidden: false, root: None }];
        write("own.txt", "one");
        let own = |names: &BTreeSet<String>| OwnFiles {
            writer: RunId::new(),
            files: identities(base, ["own.txt".to_owned()].iter()),
            names: fingerprint_of(names),
        };
        let left = own(&names(base, &globs));
        assert_eq!(newest(base, &globs, &left), None);
        write("own.txt", "two");
        assert!(newest(base, &globs, &left).is_some(), "somebody wrote another text");
        write("own.txt", "one");
        assert_eq!(newest(base, &globs, &left), None);
        let with_another = own(&["other.txt".to_owned(), "own.txt".to_owned()].into());
        assert!(newest(base, &globs, &with_another).is_some(), "somebody took a file away");
        // Two changes of a folder may bear one time.
        let Ok(Seen::New { stamp, .. }) = look(base, &globs, Some(&left), None) else { panic!("it is looked at") };
        assert!(stamp.folders.iter().all(|(_, stamp)| stamp.is_none()), "a fresh stamp is trusted");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_text_are_told_apart() {
        use std::os::unix::ffi::OsStrExt as _;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let base = directory.path();
        let place = |name: &[u8]| base.join(std::ffi::OsStr::from_bytes(name));
        let globs =
            [GlobSet { patterns: vec!["**".to_owned()], markers: Vec::new(), exclude_hidden: true, root: None }];
        let found = || match look(base, &globs, None, None) {
            Ok(Seen::New { value, .. }) => value.files,
            other => panic!("it is looked at: {:?}", other.is_ok()),
        };
        std::fs::create_dir(base.join("a")).expect("it can be made");
        for name in [&b"\xe4.txt"[..], b"\xf6.txt", b"a\\b.txt", b"a/b.txt"] {
            std::fs::write(place(name), "one").expect("it can be written");
        }
        let before = found();
        assert_eq!(before.len(), 4, "{:?}", before.keys());
        std::fs::rename(place(b"\xe4.txt"), place(b"\xfc.txt")).expect("it is there");
        assert_ne!(found(), before);
    }
}
