//! Where a workspace is.

use std::convert::Infallible;
use std::fmt;

use doge::{Epoch, Last, Observation, ObserveContext, Root, Seen, Spec};
use serde::{Deserialize, Serialize};

use crate::epoch::OWN;

/// The absolute path of the workspace.
///
/// Specs name channels inside of the workspace relative to it, so that they are the same wherever it lies. Records of
/// such channels have absolute URLs. So whatever makes records from relative locations has the place in its spec, as
/// [`Placed`]; what is made of channels elsewhere is shared between workspaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkspacePlaceSpec;

impl fmt::Display for WorkspacePlaceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("place of the workspace")
    }
}

impl Spec for WorkspacePlaceSpec {
    const KIND: &'static str = "workspace_place";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);

    fn label(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The place of the workspace, for work whose result depends on it.
pub type Placed = Option<String>;

impl Observation for WorkspacePlaceSpec {
    type Output = String;
    type Error = Infallible;
    type Stamp = String;

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let place = ctx.roots().place(&Root::Workspace).map(|place| place.to_string_lossy().into_owned());
        let value = place.unwrap_or_default();
        if last.is_some_and(|last| last.is(&value)) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { stamp: value.clone(), value, newest: None })
    }
}
