//! Doge: a persistent engine for incremental computation.
//!
//! A program describes its work as **specs**, plain data that each name one unit of work. A spec is
//!
//! * a [`Query`]: a pure function of other specs,
//! * an [`Action`]: asynchronous work whose result depends on its spec and on what it reports to have read,
//! * an [`Effect`]: an action that changes something observed, or
//! * an [`Observation`]: a look at the outside world.
//!
//! Asking a [`Database`] for a spec yields its value. Each is worked out once: within a session because equal
//! specs are one, and between sessions because each result is kept together with a **trace** of what it was made
//! from. A result is reused exactly when asking again for what its trace names gives the answers that it names.
//!
//! ```
//! use doge::{Action, ActionContext, AnyError, Database, Db, Epoch, Halt, Query, Resource, Spec};
//!
//! /// Work that takes a while.
//! #[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
//! struct Square(u64);
//!
//! impl std::fmt::Display for Square {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         write!(f, "{} squared", self.0)
//!     }
//! }
//!
//! impl Spec for Square {
//!     const KIND: &'static str = "square";
//!     const EPOCH: Epoch = Epoch::new(1, &[]);
//! }
//!
//! impl Action for Square {
//!     type Output = u64;
//!     type Error = std::convert::Infallible;
//!     const RESOURCE: Resource = Resource::Cpu;
//!
//!     async fn run(&self, _ctx: &ActionContext) -> Result<u64, Self::Error> {
//!         Ok(self.0 * self.0)
//!     }
//! }
//!
//! /// A pure function of it.
//! #[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
//! struct SumOfSquares(u64);
//!
//! impl std::fmt::Display for SumOfSquares {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         write!(f, "sum of squares up to {}", self.0)
//!     }
//! }
//!
//! impl Spec for SumOfSquares {
//!     const KIND: &'static str = "sum_of_squares";
//!     const EPOCH: Epoch = Epoch::new(1, &[]);
//! }
//!
//! impl Query for SumOfSquares {
//!     type Output = u64;
//!     type Error = AnyError;
//!
//!     fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
//!         let squares = db.join(|join| (1..=self.0).map(|n| join.act(&Square(n))).collect::<Vec<_>>())?;
//!         Ok(squares.iter().map(|square| **square).sum())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = tempfile::tempdir()?;
//! let open = || Database::builder().query::<SumOfSquares>().action::<Square>().store(cache.path()).build();
//!
//! let database = open()?;
//! assert_eq!(*database.get(&SumOfSquares(10)).await?, 385);
//! assert_eq!(database.close().await?.counts.executed["square"], 10);
//!
//! // The next process finds the results, and that they still hold.
//! let database = open()?;
//! assert_eq!(*database.get(&SumOfSquares(10)).await?, 385);
//! assert!(database.close().await?.counts.executed.is_empty());
//! # Ok(()) }
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | [`Spec`] | plain data that names one unit of work; its [`Key`] is the hash of its kind, epoch and content |
//! | [`Fingerprint`] | the hash of an encoded value; equality of values is equality of fingerprints |
//! | trace | what a result was made from: groups of (key, fingerprint) in the order of asking |
//! | world | a trace in memory: what must be so for a value to be right |
//! | session | the time in which each observation is made once; [`Database::refresh`] begins the next |
//! | cut off | an evaluation came to the value it had before, so what depends on it still holds |
//! | [`Failure`] | how a spec ends without a value; shared by those who saw it, never kept |
//!
//! The architecture is told in `docs/architecture.md`, what is promised in `docs/semantics.md`.

mod action;
mod answer;
mod context;
mod critical;
mod database;
mod db;
mod dry;
mod effect;
mod evaluate;
mod event;
mod explain;
mod failure;
mod graph;
mod intern;
mod kind;
mod lock;
mod look;
mod memo;
mod node;
mod observation;
mod persist;
mod planner;
mod query;
mod record;
mod registry;
mod run;
mod runtime;
mod schedule;
mod spec;
mod sync;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod value;

/// The target of the spans in which specs are worked on: queries and observations at the level `trace`, actions and effects at
/// `debug`. Each has the fields `kind`, `spec`, `label`, `key` and `outcome`. Where nobody listens none is made.
pub const SPANS: &str = "doge::spec";

pub use doge_storage as storage;
pub use doge_storage::{Fingerprint, Key, RunId};

pub use crate::action::{Action, Resource};
pub use crate::answer::{Asked, Halt, Pending, Stop, Tolerate};
pub use crate::context::{ActionContext, FileRef, Hold, ObserveContext, Reporter, Root, Roots, Waiting};
pub use crate::database::{BuildError, Builder, Closed, Database, Limits, Request, RequestError, WeakDatabase};
pub use crate::db::{Db, IntoAnyFailure, Join, Joined, Member, Never, Settled};
pub use crate::dry::{DryReport, DryVerdict, WouldRun};
pub use crate::effect::Effect;
pub use crate::evaluate::panic_message;
pub use crate::event::{Event, Listener, Progress, Retreat};
pub use crate::explain::{Cause, CauseSort, Change, Checked, Explanation, History, Step, Values, differing_lines};
pub use crate::failure::{AnyError, DomainError, EngineFailure, Failure};
pub use crate::graph::{Difference, Graph, GraphNode};
pub use crate::intern::{Intern, Interned, names_in};
pub use crate::kind::Role;
pub use crate::lock::Held;
pub use crate::observation::{Last, Observation, Seen};
pub use crate::planner::Refreshed;
pub use crate::query::Query;
pub use crate::run::{Counts, Outcome, Reason, RecordedRequest, RecordedSpec, RecordedWait, RunRecord};
pub use crate::spec::{Epoch, Library, Spec, SpecName};
pub use crate::value::Value;
