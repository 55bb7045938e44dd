//! The manifests in a directory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use doge::{Change, Epoch, Last, Observation, ObserveContext, Root, Roots, Seen, Spec, Values};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::epoch::OWN;
use crate::file_stamp::FileStamp;
use crate::redact::text_without_credentials;
use crate::source::Sources;
use crate::told::{lines, place};

/// The names that are looked for, the one that goes before the others first.
pub(super) const NAMES: [&str; 3] = ["pixi.toml", "pyproject.toml", "mojoproject.toml"];
/// Files of which only counts that they are there.
const RECIPES: [&str; 5] = ["recipe.yaml", "recipe.yml", "recipe/recipe.yaml", "recipe/recipe.yml", "package.xml"];

/// The manifests in a directory. Looked at again when the directory or one of them has another stamp.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestsSpec {
    /// What the directory is relative to.
    pub root: Root,
    /// The directory, with forward slashes.
    pub directory: String,
}

impl fmt::Display for ManifestsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifests in {}", self.directory)
    }
}

impl Spec for ManifestsSpec {
    const KIND: &'static str = "manifests";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The manifests in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifests {
    /// Whether there is such a directory.
    pub is_there: bool,
    /// The manifests of pixi, with their text without credentials, in the order in which they are looked for.
    pub manifests: Vec<(String, String)>,
    /// The recipes and package descriptions, in the order in which they are looked for.
    pub recipes: Vec<String>,
}

impl Manifests {
    /// The text of a manifest.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.manifests.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }
}

/// The stamps of the directory and of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestsStamp {
    place: String,
    stamps: Vec<(String, Option<FileStamp>)>,
}

/// Why manifests could not be read.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error("the manifest `{}` cannot be read", path.display())]
pub struct ManifestsError {
    /// The file.
    pub path: PathBuf,
    #[source]
    source: Arc<io::Error>,
}

/// Reads the manifests in a directory, and tells what was looked at.
pub(crate) fn read(directory: &Path) -> Result<(Manifests, ManifestsStamp), ManifestsError> {
    let mut found = Manifests { is_there: directory.is_dir(), ..Manifests::default() };
    let stamp_of = |name: &str| {
        let path = if name.is_empty() { directory.to_owned() } else { directory.join(name) };
        let stamp = FileStamp::of(&path).map_err(|source| ManifestsError { path, source: Arc::new(source) })?;
        Ok((name.to_owned(), stamp))
    };
    let mut stamps = vec![stamp_of("")?, stamp_of("recipe")?];
    for name in NAMES {
        let path = directory.join(name);
        let (name, stamp) = stamp_of(name)?;
        // Neither a directory is one nor a pipe, which could be read only when somebody writes to it.
        if stamp.is_none() || std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            continue;
        }
        stamps.push((name.clone(), stamp));
        match std::fs::read(&path) {
            Ok(bytes) => {
                // Others may be written in other ways, and whoever reads them sees to that.
                if let (true, Err(error)) = (name.ends_with(".toml"), std::str::from_utf8(&bytes)) {
                    let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                    let source = io::Error::other(format!("it is not UTF-8, as TOML has to be, in line {line}"));
                    return Err(ManifestsError { path, source: Arc::new(source) });
                }
                let text = String::from_utf8_lossy(&bytes);
                found.manifests.push((name, text_without_credentials(&text).into_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ManifestsError { path, source: Arc::new(source) }),
        }
    }
    found.recipes = RECIPES.iter().filter(|name| directory.join(name).is_file()).map(|&name| name.to_owned()).collect();
    Ok((found, ManifestsStamp { place: directory.to_string_lossy().into_owned(), stamps }))
}

impl Observation for ManifestsSpec {
    type Output = Manifests;
    type Error = ManifestsError;
    type Stamp = ManifestsStamp;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        roots.resolve(&self.root, &self.directory)
    }

    fn changes(&self, was: &Manifests, now: &Manifests, _: &Values<'_>) -> Option<Vec<Change>> {
        let place = |name: &str| place(&self.directory, name);
        let texts =
            |manifests: &Manifests| -> BTreeMap<String, String> { manifests.manifests.iter().cloned().collect() };
        let (before, after) = (texts(was), texts(now));
        let mut changes = Vec::new();
        for name in NAMES {
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) => changes.extend(lines(&place(name), before, after)),
                (None, Some(_)) => changes.push(Change::new("file added", place(name), None, None)),
                (Some(_), None) => changes.push(Change::new("file removed", place(name), None, None)),
                (None, None) => {}
            }
        }
        for name in RECIPES {
            let (before, after) = (was.recipes.iter().any(|r| r == name), now.recipes.iter().any(|r| r == name));
            if before != after {
                let what = if after { "file added" } else { "file removed" };
                changes.push(Change::new(what, place(name), None, None));
            }
        }
        Some(changes)
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, ManifestsError> {
        let directory = Observation::place(self, ctx.roots()).unwrap_or_default();
        if let Some(sources) = ctx.resource::<Sources>() {
            sources.written.look_in(&directory);
        }
        let is_current = |stamp: &ManifestsStamp| {
            stamp.place == directory.to_string_lossy() && FileStamp::are_current(&directory, &stamp.stamps)
        };
        // A few stamps; to have somebody else look at them takes longer.
        if last.and_then(|last| last.stamp()).is_some_and(|stamp| is_current(&stamp)) {
            return Ok(Seen::Same);
        }
        ctx.blocking(move || {
            let (value, stamp) = read(&directory)?;
            let newest = stamp.stamps.iter().filter_map(|(_, stamp)| stamp.as_ref()).map(FileStamp::newest).max();
            Ok(Seen::New { value, stamp, newest })
        })
        .await
    }
}
