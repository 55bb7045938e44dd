//! Manifests as they are written at this moment, for what is kept nowhere: logins, and where a hash comes from.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::source::manifests::NAMES;

/// The directories of the manifests that this process looked at. Cheap to clone; nothing is read before it is asked for.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<Mutex<BTreeSet<OsString>>>);

impl Written {
    /// Adds the manifests of a directory.
    pub fn look_in(&self, directory: &Path) {
        let mut directories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !directories.contains(directory.as_os_str()) {
            directories.insert(directory.into());
        }
    }

    /// All manifests with their texts.
    pub(crate) fn manifests(&self) -> impl Iterator<Item = (PathBuf, String)> + use<> {
        let directories = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        directories
            .into_iter()
            .flat_map(|directory| NAMES.map(|name| Path::new(&directory).join(name)))
            .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
    }

    /// The manifest that has this hash in it.
    pub(crate) fn with_hash(&self, hash: &str) -> Option<PathBuf> {
        self.manifests().find(|(_, text)| Self::has_hash(text, hash)).map(|(path, _)| path)
    }

    /// Whether a text has this hash in it, in whatever case.
    pub(crate) fn has_hash(text: &str, hash: &str) -> bool {
        text.to_ascii_lowercase().contains(&hash.to_ascii_lowercase())
    }
}
