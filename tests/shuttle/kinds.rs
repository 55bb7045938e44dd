//! Work that counts itself, and what is asked of it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use doge::testing::{EventLog, Look, Script};
use doge::{Action, ActionContext, AnyError, Builder, Database, Db, Epoch, Event, Halt, Query, Resource, Spec};
use serde::{Deserialize, Serialize};
use shuttle::future::yield_now;
use shuttle::rand::Rng;

macro_rules! spec {
    ($type:ident, $kind:literal, |$this:ident| $display:expr) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) started: usize,
    pub(crate) ended: usize,
    /// Dropped before it ended.
    pub(crate) dropped: usize,
}

impl Tally {
    pub(crate) const ONCE: Self = Self { started: 1, ended: 1, dropped: 0 };
}

/// What became of each piece of work. Its lock is no step of its own.
#[derive(Clone, Default)]
pub(crate) struct Tallies(Arc<Mutex<BTreeMap<String, Tally>>>);

impl Tallies {
    fn note(&self, name: &str, note: impl FnOnce(&mut Tally)) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default());
    }

    pub(crate) fn of(&self, name: &str) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or_default()
    }

    pub(crate) fn ended(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(|tally| tally.ended).sum()
    }
}

/// Work under way: ended, or dropped.
struct UnderWay<'a> {
    tallies: &'a Tallies,
    name: &'a str,
    ended: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let ended = self.ended;
        self.tallies.note(self.name, |tally| if ended { tally.ended += 1 } else { tally.dropped += 1 });
    }
}

/// Work that waits twice and comes to the length of its name, and to what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Toil {
    pub(crate) name: String,
    pub(crate) reads: Option<String>,
    pub(crate) elsewhere: bool,
}
spec!(Toil, "toil", |this| format!("toil({})", this.name));

impl Toil {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), reads: None, elsewhere: false }
    }

    pub(crate) fn reading(name: &str, variable: &str) -> Self {
        Self { reads: Some(variable.to_owned()), ..Self::new(name) }
    }

    /// The same, done by threads that may block and compute.
    pub(crate) fn elsewhere(name: &str) -> Self {
        Self { elsewhere: true, ..Self::new(name) }
    }
}

impl Action for Toil {
    type Output = u64;
    type Error = std::convert::Infallible;
    const RESOURCE: Resource = Resource::Cpu;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, Self::Error> {
        Ok(toil(self, ctx).await)
    }
}

/// The same, as work that takes so long that its result is committed at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LongToil(pub(crate) Toil);
spec!(LongToil, "long_toil", |this| format!("long {}", this.0));

impl Action for LongToil {
    type Output = u64;
    type Error = std::convert::Infallible;
    const RESOURCE: Resource = Resource::Build;
    const EXPENSIVE: bool = true;

    async fn run(&self, ctx: &ActionContext) -> Result<u64, Self::Error> {
        Ok(toil(&self.0, ctx).await)
    }
}

async fn toil(toil: &Toil, ctx: &ActionContext) -> u64 {
    let tallies = ctx.resource::<Tallies>().expect("the builder was given one");
    tallies.note(&toil.name, |tally| tally.started += 1);
    let mut under_way = UnderWay { tallies: &tallies, name: &toil.name, ended: false };
    yield_now().await;
    let mut value = toil.name.len() as u64;
    if let Some(variable) = &toil.reads {
        ctx.report_read(&Look(variable.clone()));
        let script = ctx.resource::<Script>().expect("the builder was given one");
        value += script.get(variable).unwrap_or(0);
    }
    if toil.elsewhere {
        value = ctx.blocking(move || value + 1).await;
        value = ctx.cpu(move || value - 1).await;
    }
    yield_now().await;
    under_way.ended = true;
    value
}

/// The sum of several pieces of work, done together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Together(pub(crate) Vec<Toil>);
spec!(Together, "together", |this| format!(
    "together({})",
    this.0.iter().map(|toil| toil.name.as_str()).collect::<Vec<_>>().join("+")
));

pub(crate) fn together(names: &[&str]) -> Together {
    Together(names.iter().map(|name| Toil::new(name)).collect())
}

impl Query for Together {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let done = db.join(|join| self.0.iter().map(|toil| join.act(toil)).collect::<Vec<_>>())?;
        Ok(done.iter().map(|value| **value).sum())
    }
}

/// One piece of work after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct InTurn(pub(crate) Vec<Toil>);
spec!(InTurn, "in_turn", |this| format!(
    "in_turn({})",
    this.0.iter().map(|toil| toil.name.as_str()).collect::<Vec<_>>().join(",")
));

impl Query for InTurn {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        let mut value = 0;
        for toil in &self.0 {
            value += *db.act(toil)?;
        }
        Ok(value)
    }
}

/// Long work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Long(pub(crate) Toil);
spec!(Long, "long", |this| format!("long({})", this.0.name));

impl Query for Long {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(*db.act(&LongToil(self.0.clone()))?)
    }
}

/// A variable, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Seen(pub(crate) String);
spec!(Seen, "seen", |this| format!("seen({})", this.0));

impl Query for Seen {
    type Output = u64;
    type Error = AnyError;

    fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
        Ok(db.observe(&Look(self.0.clone()))?.unwrap_or(0))
    }
}

/// A database with all that a test looks at.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) script: Script,
    pub(crate) tallies: Tallies,
    pub(crate) log: EventLog,
}

impl World {
    /// Sets a variable long before anything begins.
    pub(crate) fn has(&self, name: &str, value: u64) {
        self.script.set_at(name, value, SystemTime::now() - Duration::from_secs(60));
    }

    pub(crate) fn builder(&self) -> Builder {
        Database::builder()
            .query::<Together>()
            .query::<InTurn>()
            .query::<Long>()
            .query::<Seen>()
            .action::<Toil>()
            .action::<LongToil>()
            .observation::<Look>()
            .resource(self.script.clone())
            .resource(self.tallies.clone())
            .listener(self.log.listener())
    }

    pub(crate) fn open(&self) -> Database {
        self.builder().build().expect("threads can be started")
    }
}

/// How often each spec began to run, ran to an answer and was cancelled, by its name, and how often each query executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) will_run: usize,
    pub(crate) did_run: usize,
    pub(crate) cancelled: usize,
    pub(crate) executed: usize,
}

pub(crate) fn told(events: &[Event]) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for event in events {
        match event {
            Event::WillRun { spec, .. } => told.entry(spec.to_string()).or_default().will_run += 1,
            Event::DidRun { spec, .. } => told.entry(spec.to_string()).or_default().did_run += 1,
            Event::DidCancel { spec } => told.entry(spec.to_string()).or_default().cancelled += 1,
            Event::DidExecute { spec, .. } => told.entry(spec.to_string()).or_default().executed += 1,
            _ => {}
        }
    }
    told
}

/// Sets a variable now.
pub(crate) fn set(script: &Script, name: &str, value: u64) {
    script.set_at(name, value, SystemTime::now());
}

/// Polls a future as often as chance wants, with others going on in between, and drops it unless it has ended by then.
pub(crate) async fn lose_patience<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let patience = shuttle::rand::thread_rng().gen_range(0..6);
    for _ in 0..patience {
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
    }
    None
}
