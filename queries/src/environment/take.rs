//! Taking one environment's part of what its group was solved to.

use std::fmt;

use doge::{Action, ActionContext, Epoch, Interned, Resource, Spec};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::conda::{ChannelError, workspace_root};
use crate::epoch::{CONDA_TYPES, OWN};
use crate::records::Records;
use crate::workspace::{SolveDescription, reachable};

/// Taking from the solution of a group what one of its environments needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TakeRecordsSpec {
    /// The solution.
    pub records: Interned<Records>,
    /// What the environment needs.
    pub needs: SolveDescription,
}

impl fmt::Display for TakeRecordsSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part of a solution for {}", self.needs)
    }
}

impl Spec for TakeRecordsSpec {
    const KIND: &'static str = "take_records";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);
}

/// Why a part could not be taken.
#[derive(Clone, Debug, Error, Diagnostic)]
#[error(transparent)]
#[diagnostic(transparent)]
pub struct TakeRecordsError(#[from] ChannelError);

impl Action for TakeRecordsSpec {
    type Output = Interned<Records>;
    type Error = TakeRecordsError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Interned<Records>, TakeRecordsError> {
        let gone = ChannelError::NotAtHand { what: "the solution" };
        let records = ctx.value(&self.records).await.ok_or_else(|| gone.clone())?;
        records.bring(ctx).await.ok_or_else(|| gone.clone())?;
        let (root, needs) = (workspace_root(ctx)?, self.needs.clone());
        let taken = ctx.cpu(move || reachable(&records, &needs, &root)).await;
        Ok(ctx.intern(taken).map_err(|_| gone)?)
    }
}
