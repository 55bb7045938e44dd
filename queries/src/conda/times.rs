//! Relative cutoffs: which moment "seven days ago" stands for, as far as the records at hand can tell.
//!
//! A cutoff that moves with the clock would make every solve new. But between two records the moment makes no
//! difference: what counts is the newest record that is old enough. That changes only when the next one crosses the
//! cutoff.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::time::SystemTime;

use doge::{Action, ActionContext, Epoch, Interned, Last, Observation, ObserveContext, Resource, Seen, Spec};
use serde::{Deserialize, Serialize};

use crate::conda::closure::Closure;
use crate::conda::error::ChannelError;
use crate::epoch::{CONDA_TYPES, OWN};
use crate::workspace::milliseconds;

/// When records were made, for all records of a closure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordTimesSpec {
    /// The records.
    pub closure: Interned<Closure>,
}

impl fmt::Display for RecordTimesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("times of records")
    }
}

impl Spec for RecordTimesSpec {
    const KIND: &'static str = "record_times";
    const EPOCH: Epoch = Epoch::new(1, &[OWN, CONDA_TYPES]);
}

impl Action for RecordTimesSpec {
    /// Milliseconds since 1970, sorted, each once.
    type Output = Vec<i64>;
    type Error = ChannelError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<Vec<i64>, ChannelError> {
        let closure = ctx.value(&self.closure).await.ok_or(ChannelError::NotAtHand { what: "the list of records" })?;
        let parts = closure.records(ctx).await?;
        let records = parts.iter().flatten().flat_map(|records| records.iter());
        let times: BTreeSet<i64> = records
            .filter_map(|record| {
                let package = &record.package_record;
                let made = package.indexed_timestamp.as_ref().or(package.timestamp.as_ref())?;
                Some(made.timestamp_millis())
            })
            .collect();
        Ok(times.into_iter().collect())
    }
}

/// The newest of some moments that is at least so long ago.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CutoffRankSpec {
    /// The moments in milliseconds since 1970, sorted.
    pub times: Vec<i64>,
    /// How long ago, in seconds.
    pub before: u64,
}

impl fmt::Display for CutoffRankSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "records made more than {} s ago", self.before)
    }
}

impl Spec for CutoffRankSpec {
    const KIND: &'static str = "cutoff_rank";
    const EPOCH: Epoch = Epoch::new(1, &[OWN]);
}

impl Observation for CutoffRankSpec {
    type Output = Option<i64>;
    type Error = Infallible;
    type Stamp = Option<i64>;

    async fn observe(&self, _ctx: &ObserveContext, _last: Option<Last<Self>>) -> Result<Seen<Self>, Infallible> {
        let before = i64::try_from(self.before).unwrap_or(i64::MAX).saturating_mul(1000);
        let cutoff = milliseconds(SystemTime::now()).saturating_sub(before);
        let old_enough = self.times.partition_point(|time| *time <= cutoff);
        let value = old_enough.checked_sub(1).and_then(|place| self.times.get(place)).copied();
        Ok(Seen::New { value, stamp: value, newest: None })
    }
}
