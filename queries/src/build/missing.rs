//! Archives that were built, and that somebody needed and did not find.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use doge::{ActionContext, Epoch, Last, Observation, ObserveContext, Root, RunId, Seen, Spec};
use serde::{Deserialize, Serialize};

use crate::build::build::{ARTIFACTS, BuildAgainSpec};
use crate::epoch::OWN;

/// The archives that were looked for in this process and not found. A resource of the database.
///
/// That an archive is gone does not make the result wrong that names it. It is made again when somebody needs it.
#[derive(Debug, Default)]
pub struct MissingArtifacts {
    missing: Mutex<BTreeMap<String, RunId>>,
    times: Mutex<BTreeMap<String, u32>>,
    granted: Mutex<HashSet<BuildAgainSpec>>,
}

impl MissingArtifacts {
    /// Grants a wish, unless it was granted already.
    pub(crate) fn grant(&self, wish: &BuildAgainSpec) -> bool {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).insert(wish.clone())
    }
}

/// Which archives are to be made again. Nothing of the outside world is looked at for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MissingArtifactsSpec;

impl fmt::Display for MissingArtifactsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("packages that were built and are gone")
    }
}

impl Spec for MissingArtifactsSpec {
    const KIND: &'static str = "missing_artifacts";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Observation for MissingArtifactsSpec {
    /// The wish to have each made again, by its path in the workspace.
    type Output = BTreeMap<String, RunId>;
    type Error = Infallible;
    type Stamp = BTreeMap<String, RunId>;
    /// How often one archive can be missed in a process is limited by who says that it is.
    const MOVES_FREELY: bool = true;

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let missing = ctx.resource::<MissingArtifacts>();
        let value = missing
            .map(|missing| missing.missing.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default();
        if last.is_some_and(|last| last.is(&value)) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { stamp: value.clone(), value, newest: None })
    }
}

/// So often is one archive made again in a process. Where it vanishes each time, something else is wrong.
const PATIENCE: u32 = 8;

/// Has an archive made again, if it is one that was built in this workspace. Who calls this ends with an error, which is
/// dropped.
pub(crate) fn make_again(ctx: &ActionContext, archive: &Path) {
    let Some(root) = ctx.roots().place(&Root::Workspace) else { return };
    let Ok(inside) = archive.strip_prefix(root) else { return };
    let path = inside.to_string_lossy().replace('\\', "/");
    if !path.starts_with(ARTIFACTS) {
        return;
    }
    if let Some(missing) = ctx.resource::<MissingArtifacts>() {
        {
            let mut times = missing.times.lock().unwrap_or_else(PoisonError::into_inner);
            let times = times.entry(path.clone()).or_default();
            if *times == PATIENCE {
                return;
            }
            *times += 1;
        }
        missing.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(path, RunId::new());
        ctx.observe_again(&MissingArtifactsSpec);
    }
}
