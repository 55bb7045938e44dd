//! Solutions that were written into a lock file, kept so that going back to an earlier manifest goes back to them.
//!
//! A solve with hints depends on the lock file that the hints came from. So asking what was asked before, from another
//! lock file, would be another solve, with perhaps another answer. People who undo an edit expect what they had.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use doge::{Epoch, Fingerprint, Interned, Last, Observation, ObserveContext, Root, Roots, Seen, Spec};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

use crate::conda::Closure;
use crate::epoch::{CONDA_TYPES, OWN, RESOLVO, SOLVE};
use crate::file_stamp::FileStamp;
use crate::records::Records;
use crate::workspace::SolveDescription;

/// How many solutions are kept for one workspace.
const KEPT: usize = 64;

/// Where the solutions of a workspace are kept. A resource of the database; without it nothing is remembered.
#[derive(Clone, Debug)]
pub struct Solutions {
    /// The directory, which belongs to one workspace.
    pub directory: PathBuf,
}

/// What was found when this was asked before in this workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RememberedSolutionSpec {
    /// What was needed. A cutoff in it is a moment, not a distance from now.
    pub needs: SolveDescription,
    /// The records there were to choose from.
    pub closure: Interned<Closure>,
    /// Nothing was to be downloaded.
    pub offline: bool,
}

impl fmt::Display for RememberedSolutionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "earlier solution of {}", self.needs)
    }
}

impl Spec for RememberedSolutionSpec {
    const KIND: &'static str = "remembered_solution";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, SOLVE, RESOLVO, CONDA_TYPES]);
}

impl RememberedSolutionSpec {
    /// The name of the file: who asks the same reads the same.
    fn file(&self, solutions: &Solutions) -> Option<PathBuf> {
        let mut question = rmp_serde::to_vec_named(self).ok()?;
        for library in Self::EPOCH.libraries() {
            question.extend_from_slice(library.name.as_bytes());
            question.extend_from_slice(library.version.as_bytes());
        }
        Some(solutions.directory.join(Fingerprint::of(&question).to_hex()))
    }
}

/// A file begins with the hash of the rest: nothing that was cut off or edited is taken for a solution.
fn read(path: &Path) -> Option<Records> {
    let bytes = fs::read(path).ok()?;
    let (hash, packed) = bytes.split_first_chunk::<32>()?;
    if blake3::hash(packed) != *hash {
        return None;
    }
    rmp_serde::from_slice(&zstd::stream::decode_all(packed).ok()?).ok()
}

impl Solutions {
    /// Keeps a solution. One that cannot be kept is solved for again.
    pub(crate) fn remember(&self, question: &RememberedSolutionSpec, records: &Records) {
        let kept = (|| -> Option<()> {
            let path = question.file(self)?;
            let packed = zstd::stream::encode_all(rmp_serde::to_vec_named(records).ok()?.as_slice(), 3).ok()?;
            let mut bytes = blake3::hash(&packed).as_bytes().to_vec();
            bytes.extend_from_slice(&packed);
            if fs::read(&path).is_ok_and(|known| known == bytes) {
                return Some(());
            }
            fs::create_dir_all(&self.directory).ok()?;
            let file = tempfile::NamedTempFile::new_in(&self.directory).ok()?;
            fs::write(file.path(), bytes).ok()?;
            file.persist(path).ok()?;
            self.forget_old()
        })();
        if kept.is_none() {
            tracing::debug!(directory = %self.directory.display(), "a solution could not be kept");
        }
    }

    fn forget_old(&self) -> Option<()> {
        let mut files: Vec<_> = fs::read_dir(&self.directory)
            .ok()?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(KEPT) {
            // Whoever else removes it has done the work.
            let _ = fs::remove_file(path);
        }
        Some(())
    }
}

impl Observation for RememberedSolutionSpec {
    type Output = Option<Records>;
    type Error = Infallible;
    type Stamp = Option<FileStamp>;

    fn place(&self, roots: &Roots) -> Option<PathBuf> {
        roots.place(&Root::Workspace).map(Path::to_owned)
    }

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let path = ctx.resource::<Solutions>().and_then(|solutions| self.file(&solutions));
        let Some(path) = path else { return Ok(Seen::New { value: None, stamp: None, newest: None }) };
        Ok(ctx
            .blocking(move || {
                // What cannot be looked at is not there.
                let stamp = FileStamp::of(&path).ok().flatten();
                if last.is_some_and(|last| last.is(&stamp)) {
                    return Seen::Same;
                }
                Seen::New { value: read(&path), newest: stamp.as_ref().map(FileStamp::newest), stamp }
            })
            .await)
    }
}
