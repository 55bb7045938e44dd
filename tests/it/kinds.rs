//! Small kinds that the topics share.

use std::fmt;
use std::path::Path;

use doge::testing::{EventLog, Look, Script, Stepper, Work};
use doge::{
    ActionContext, AnyError, Builder, Database, Db, Effect, Epoch, Failure, Halt, Query, Resource, Spec, Tolerate,
};
use serde::{Deserialize, Serialize};

macro_rules! spec {
    ($type:ident, $kind:literal, |$this:ident| $display:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $this = self;
                f.write_str(&*$display)
            }
        }

        impl Spec for $type {
            const KIND: &'static str = $kind;
            const EPOCH: Epoch = Epoch::new(1, &[]);
        }
    };
}

pub(crate) use spec;

/// The sum of variables, looked at together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Total(pub(crate) Vec<String>);
spec!(Total, "total", |this| format!("total({})", this.0.join("+")));

pub(crate) fn total(names: &[&str]) -> Total {
    Total(names.iter().map(|name| (*name).to_owned()).collect())
}

impl Query for Total {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let seen = db.join(|join| self.0.iter().map(|name| join.observe(&Look(name.clone()))).collect::<Vec<_>>())?;
        Ok(seen.iter().map(|value| value.unwrap_or(0)).sum())
    }
}

/// Whether a sum is odd: what stands on it is cut off when the sum changes by two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Parity(pub(crate) Total);
spec!(Parity, "parity", |this| format!("parity of {}", this.0));

impl Query for Parity {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(*db.get(&self.0)? % 2)
    }
}

/// The sum of parities, asked together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Parities(pub(crate) Vec<Total>);
spec!(Parities, "parities", |this| format!("parities of {}", this.0.len()));

impl Query for Parities {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let all = db.join(|join| self.0.iter().map(|total| join.get(&Parity(total.clone()))).collect::<Vec<_>>())?;
        Ok(all.iter().map(|value| **value).sum())
    }
}

/// Work whose input is a parity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct WorkOnParity(pub(crate) Total);
spec!(WorkOnParity, "work_on_parity", |this| format!("work on parity of {}", this.0));

impl Query for WorkOnParity {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let parity = *db.get(&Parity(self.0.clone()))?;
        Ok(*db.act(&Work::new("on parity", parity))?)
    }
}

/// The sum of several pieces of work, done together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct All(pub(crate) Vec<Work>);
spec!(All, "all", |this| format!("all of {}", this.0.len()));

impl Query for All {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let done = db.join(|join| self.0.iter().map(|work| join.act(work)).collect::<Vec<_>>())?;
        Ok(done.iter().map(|value| **value).sum())
    }
}

/// One piece of work after the other, each with the result of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct InTurn(pub(crate) Vec<String>);
spec!(InTurn, "in_turn", |this| format!("in turn {}", this.0.join(" ")));

impl Query for InTurn {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let mut value = 0;
        for name in &self.0 {
            value = *db.act(&Work::new(name, value + 1))?;
        }
        Ok(value)
    }
}

/// Work whose failure counts as a hundred.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Tolerant(pub(crate) Work);
spec!(Tolerant, "tolerant", |this| format!("tolerant of {}", this.0));

impl Query for Tolerant {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(db.act(&self.0).settle()?.map_or(100, |value| *value))
    }
}

/// One piece of work, tolerated if it fails, and then another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TolerantThen(pub(crate) Work, pub(crate) Work);
spec!(TolerantThen, "tolerant_then", |this| format!("tolerant of {} then {}", this.0, this.1));

impl Query for TolerantThen {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let first = *db.get(&Tolerant(self.0.clone()))?;
        Ok(first + *db.act(&self.1)?)
    }
}

/// Whether the sum of several pieces of work is odd.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct OddAll(pub(crate) All);
spec!(OddAll, "odd_all", |this| format!("odd {}", this.0));

impl Query for OddAll {
    type Output = bool;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<bool, Halt<AnyError>> {
        Ok(*db.get(&self.0)? % 2 == 1)
    }
}

/// Stands on whether a sum is odd.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct AboveOdd(pub(crate) OddAll);
spec!(AboveOdd, "above_odd", |this| format!("above {}", this.0));

impl Query for AboveOdd {
    type Output = bool;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<bool, Halt<AnyError>> {
        Ok(*db.get(&self.0)?)
    }
}

/// Asks for two pieces of work together after it has seen the first of them fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct KnownToFail {
    pub(crate) fails: Work,
    pub(crate) other: Work,
}
spec!(KnownToFail, "known_to_fail", |this| format!("{} then {}", this.fails, this.other));

impl Query for KnownToFail {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let failed = db.act(&self.fails).settle()?.is_err();
        let (first, other) = db.join(|join| (join.act(&self.fails), join.act(&self.other)))?;
        Ok(*first + *other + u64::from(failed))
    }
}

/// A member of a ring that is closed while the variable `open` is not set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ring {
    pub(crate) place: u64,
    pub(crate) of: u64,
}
spec!(Ring, "ring", |this| format!("ring {}/{}", this.place, this.of));

#[derive(Debug, thiserror::Error)]
#[error("ring {place} is not open")]
pub(crate) struct RingError {
    place: u64,
    #[source]
    pub(crate) source: Failure<AnyError>,
}

impl Query for Ring {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        if db.observe(&Look("open".to_owned()))?.is_some() && self.place == 0 {
            return Ok(0);
        }
        Ok(*db.get(&Ring { place: (self.place + 1) % self.of, of: self.of })? + 1)
    }
}

/// A spec above a ring, with an error of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct AboveRing(pub(crate) u64);
spec!(AboveRing, "above_ring", |this| format!("above ring of {}", this.0));

impl Query for AboveRing {
    type Output = u64;
    type Error = RingError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<RingError>> {
        let ring = Ring { place: 1, of: self.0 };
        let value = db.get(&ring).map_err(|stop| stop.map(|source| RingError { place: 1, source }))?;
        Ok(*value)
    }
}

/// A chain of queries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Chain(pub(crate) u64);
spec!(Chain, "chain", |this| format!("chain({})", this.0));

impl Query for Chain {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        match self.0 {
            0 => Ok(db.observe(&Look("end".to_owned()))?.unwrap_or(0)),
            n => Ok(*db.get(&Chain(n - 1))? + 1),
        }
    }
}

/// A body that panics while the variable `safe` is not set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Panics;
spec!(Panics, "panics", |_this| "panics".to_owned());

impl Query for Panics {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let safe = db.observe(&Look("safe".to_owned()))?;
        Ok(safe.expect("it is not safe"))
    }
}

/// A variable that is kept at a value: an effect sets it when it is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Keep {
    pub(crate) variable: String,
    pub(crate) value: u64,
    /// Ask for the effect even if the value is as wanted; the number makes each such request a spec of its own.
    pub(crate) force: Option<u64>,
}
spec!(Keep, "keep", |this| format!("keep {}={}", this.variable, this.value));

pub(crate) fn keep(variable: &str, value: u64) -> Keep {
    Keep { variable: variable.to_owned(), value, force: None }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("{variable} is {found:?} and not {wanted}")]
    NotAsWanted { variable: String, found: Option<u64>, wanted: u64 },
    #[error(transparent)]
    Below(#[from] Failure<doge::testing::WorkError>),
    #[error(transparent)]
    Put(#[from] Failure<PutError>),
}

impl Query for Keep {
    type Output = u64;
    type Error = KeepError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<KeepError>> {
        let found = *db.observe(&Look(self.variable.clone()))?;
        let wanted = Some(self.value);
        if found != wanted || self.force.is_some() {
            db.effect(&Put { variable: self.variable.clone(), value: self.value, seen: found })?;
            if found != wanted {
                let variable = self.variable.clone();
                return Err(Halt::fail(KeepError::NotAsWanted { variable, found, wanted: self.value }));
            }
        }
        Ok(self.value)
    }
}

/// Sets a variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Put {
    variable: String,
    value: u64,
    seen: Option<u64>,
}
spec!(Put, "put", |this| format!("put {}={}", this.variable, this.value));

#[derive(Clone, Debug, thiserror::Error)]
#[error("{0} does not hold still")]
pub(crate) struct PutError(String);

impl Effect for Put {
    type Output = u64;
    type Error = PutError;
    type Target = Look;
    const RESOURCE: Resource = Resource::Io;

    fn target(&self) -> Look {
        Look(self.variable.clone())
    }

    async fn run(&self, ctx: &ActionContext) -> Result<u64, PutError> {
        let script = ctx.resource::<Script>().unwrap_or_default();
        if script.get("restless").is_some() {
            script.set(&self.variable, script.get(&self.variable).unwrap_or(0) + 1);
        }
        if script.get(&self.variable) != self.seen {
            ctx.observe_again(&self.target());
            return Err(PutError(self.variable.clone()));
        }
        if script.get("stuck").is_none() {
            script.set(&self.variable, self.value);
        }
        Ok(self.value)
    }
}

/// A builder that knows all of these.
pub(crate) fn builder(script: &Script, log: &EventLog) -> Builder {
    Database::builder()
        .query::<Total>()
        .query::<Parity>()
        .query::<Parities>()
        .query::<WorkOnParity>()
        .query::<All>()
        .query::<InTurn>()
        .query::<Tolerant>()
        .query::<Ring>()
        .query::<AboveRing>()
        .query::<Chain>()
        .query::<Panics>()
        .query::<Keep>()
        .effect::<Put>()
        .action::<Work>()
        .observation::<Look>()
        .resource(script.clone())
        .listener(log.listener())
}

/// An engine with a store in this directory, driven by hand.
pub(crate) fn open(directory: &Path, script: &Script, log: &EventLog) -> Stepper {
    Stepper::new(builder(script, log).store(directory))
}

/// An engine without a store, driven by hand.
pub(crate) fn stepper(script: &Script, log: &EventLog) -> Stepper {
    Stepper::new(builder(script, log))
}
