//! A scripted world: variables that are observed, and work that reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Resource};
use crate::answer::Halt;
use crate::context::{ActionContext, ObserveContext};
use crate::db::Db;
use crate::failure::AnyError;
use crate::observation::{Last, Observation, Seen};
use crate::query::Query;
use crate::spec::{Epoch, Spec};
use crate::sync::{Mutex, MutexGuard};

/// Lets whoever drives the work do something else once, as work that waits for a disk does.
async fn pause() {
    let mut waited = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A query whose value stands in its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Constant(
    /// The value.
    pub u64,
);

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "constant({})", self.0)
    }
}

impl Spec for Constant {
    const KIND: &'static str = "constant";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

impl Query for Constant {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, _db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(self.0)
    }
}

/// The world of a test: named variables. Give a clone to [`crate::Builder::resource`].
///
/// Setting a variable moves its stamp, as writing a file does, even if the value stays the same.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

type During = Box<dyn FnOnce(&Script) + Send>;

#[derive(Default)]
struct State {
    variables: BTreeMap<String, Variable>,
    ticks: u64,
    during: BTreeMap<String, During>,
}

#[derive(Clone, Default)]
struct Variable {
    value: Option<u64>,
    broken: bool,
    stamp: u64,
    newest: Option<SystemTime>,
}

impl Script {
    /// A world in which no variable is set.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Variable)) {
        let mut state = self.state();
        state.ticks += 1;
        let stamp = state.ticks;
        let variable = state.variables.entry(name.to_owned()).or_default();
        variable.stamp = stamp;
        change(variable);
    }

    /// Sets a variable.
    pub fn set(&self, name: &str, value: u64) {
        self.change(name, |variable| {
            variable.value = Some(value);
            variable.broken = false;
        });
    }

    /// Sets a variable as if it had just been written, so that its stamp proves nothing yet.
    pub fn set_at(&self, name: &str, value: u64, newest: SystemTime) {
        self.change(name, |variable| {
            variable.value = Some(value);
            variable.newest = Some(newest);
        });
    }

    /// Sets a variable without moving its stamp, as writing a file twice within a tick of its clock does.
    pub fn set_unnoticed(&self, name: &str, value: u64) {
        self.state().variables.entry(name.to_owned()).or_default().value = Some(value);
    }

    /// Unsets a variable.
    pub fn unset(&self, name: &str) {
        self.change(name, |variable| variable.value = None);
    }

    /// Makes looking at a variable fail until it is set again.
    pub fn break_it(&self, name: &str) {
        self.change(name, |variable| variable.broken = true);
    }

    /// Has something happen while the work of this name is being done, once.
    pub fn during(&self, work: &str, happens: impl FnOnce(&Script) + Send + 'static) {
        self.state().during.insert(work.to_owned(), Box::new(happens));
    }

    /// Sets a variable under this stamp, so that several processes can agree on the stamps of a world.
    pub fn set_stamped(&self, name: &str, value: Option<u64>, stamp: u64) {
        self.change(name, |variable| {
            variable.value = value;
            variable.broken = false;
            variable.stamp = stamp;
        });
    }

    /// Whether looking at a variable fails.
    pub fn is_broken(&self, name: &str) -> bool {
        self.variable(name).broken
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.state().variables.get(name).and_then(|variable| variable.value)
    }

    fn variable(&self, name: &str) -> Variable {
        self.state().variables.get(name).cloned().unwrap_or_default()
    }
}

/// Looking at a variable of the [`Script`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Look(
    /// Its name.
    pub String,
);

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "look({})", self.0)
    }
}

impl Spec for Look {
    const KIND: &'static str = "look";
    const EPOCH: Epoch = Epoch::new(1, &[]);
}

/// Why scripted work failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is broken")]
pub struct WorkError {
    /// What is broken.
    pub what: String,
}

impl Observation for Look {
    type Output = Option<u64>;
    type Error = WorkError;
    type Stamp = u64;

    async fn observe(&self, ctx: &ObserveContext, last: Option<Last<Self>>) -> Result<Seen<Self>, WorkError> {
        let script = ctx.resource::<Script>().unwrap_or_default();
        pause().await;
        let variable = script.variable(&self.0);
        if variable.broken {
            return Err(WorkError { what: self.0.clone() });
        }
        if last.is_some_and(|last| last.is(&variable.stamp)) {
            return Ok(Seen::Same);
        }
        Ok(Seen::New { value: variable.value, stamp: variable.stamp, newest: variable.newest })
    }
}

/// Work that adds its input to the variables it reads, and fails on a broken or missing one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Work {
    /// What it is called.
    pub name: String,
    /// What is added.
    pub input: u64,
    /// The variables that it reads, and reports to have read.
    pub reads: Vec<String>,
}

impl Work {
    /// Work that reads nothing.
    pub fn new(name: &str, input: u64) -> Self {
        Self { name: name.to_owned(), input, reads: Vec::new() }
    }

    /// The same, reading a variable as well.
    #[must_use]
    pub fn reading(mut self, variable: &str) -> Self {
        self.reads.push(variable.to_owned());
        self
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "work({} {}", self.name, self.input)?;
        if !self.reads.is_empty() {
            write!(f, " reading {}", self.reads.join(","))?;
        }
        f.write_str(")")
    }
}

impl Spec for Work {
    const KIND: &'static str = "work";
    const EPOCH: Epoch = Epoch::new(1, &[]);

    fn label(&self) -> Option<String> {
        Some(format!("work {}", self.name))
    }
}

impl Action for Work {
    type Output = u64;
    type Error = WorkError;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, WorkError> {
        let script = ctx.resource::<Script>().unwrap_or_default();
        let mut sum = self.input;
        pause().await;
        for name in &self.reads {
            ctx.report_read(&Look(name.clone()));
            let variable = script.variable(name);
            match variable.value {
                Some(value) if !variable.broken => sum = sum.wrapping_add(value),
                _ => return Err(WorkError { what: name.clone() }),
            }
        }
        let happens = script.state().during.remove(&self.name);
        if let Some(happens) = happens {
            happens(&script);
        }
        Ok(sum)
    }
}
