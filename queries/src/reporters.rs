//! Reporters: who is told when an operation is queued, started and finished, and within which other one.
//!
//! An operation is work that people know by name: a solve, a checkout, a build. [`Reporters`] has a place for a reporter of
//! each sort. For each operation a reporter hears [`queued`](OperationReporter::queued),
//! [`started`](OperationReporter::started) and [`finished`](OperationReporter::finished) exactly once and in this order,
//! however it ends: with a value, a failure, or because nobody needs it any more. What held and was not done is no operation
//! and is not reported.
//!
//! Reporters are called from the planner's thread and from tasks. They must be quick, and must not call back into the
//! database and wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use doge::{Event, Key, Progress, SpecName};

use crate::backend::{BuildBackendMetadataSpec, CallOutputsSpec, InstallToolSpec};
use crate::build::{BackendBuildSpec, SourceAsLockedSpec, SourceBuildSpec, SourceMetadataSpec};
use crate::conda::{ChannelIndexSpec, SolveCondaEnvironmentSpec};
use crate::environment::SolveUnitSpec;
use crate::package::FetchPackageSpec;
use crate::prefix::{InstallPixiEnvironmentSpec, LinkPrefixSpec};
use crate::source::{CheckoutGitSpec, CheckoutUrlSpec};

/// Tells an operation from all others of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// With a value.
    Done,
    /// It failed, with this error.
    Failed(String),
    /// Nobody needs it any more.
    Cancelled,
    /// It ended without a result because another process had made it, or because something it needs has to be made again
    /// first: then it is queued again as another operation.
    Retreated,
}

/// Is told of operations of one sort, each of which is described by a spec.
pub trait OperationReporter<S: ?Sized>: Send + Sync {
    /// It is needed, within another operation if there is one that is reported, and waits for whatever it needs itself.
    fn queued(&self, operation: OperationId, within: Option<OperationId>, spec: &S);

    /// Work begins: it has all its locks and permits. Operations that only ask for others start when they are queued.
    fn started(&self, operation: OperationId);

    /// How far it is.
    fn progress(&self, operation: OperationId, progress: &Progress) {
        let _ = (operation, progress);
    }

    /// A line that a program wrote in it.
    fn output(&self, operation: OperationId, line: &str) {
        let _ = (operation, line);
    }

    /// It waits for another process.
    fn waiting(&self, operation: OperationId, holder: &str) {
        let _ = (operation, holder);
    }

    /// It is over.
    fn finished(&self, operation: OperationId, how: &Finished);
}

/// A reporter, if there is one.
type Slot<S> = Option<Arc<dyn OperationReporter<S>>>;

/// What hears the events of one operation, with the type of its spec gone.
trait Hears: Send + Sync {
    fn started(&self, operation: OperationId);
    fn progress(&self, operation: OperationId, progress: &Progress);
    fn output(&self, operation: OperationId, line: &str);
    fn waiting(&self, operation: OperationId, holder: &str);
    fn finished(&self, operation: OperationId, how: &Finished);
}

struct Erased<S: ?Sized>(Arc<dyn OperationReporter<S>>);

impl<S: ?Sized> Hears for Erased<S> {
    fn started(&self, operation: OperationId) {
        self.0.started(operation);
    }

    fn progress(&self, operation: OperationId, progress: &Progress) {
        self.0.progress(operation, progress);
    }

    fn output(&self, operation: OperationId, line: &str) {
        self.0.output(operation, line);
    }

    fn waiting(&self, operation: OperationId, holder: &str) {
        self.0.waiting(operation, holder);
    }

    fn finished(&self, operation: OperationId, how: &Finished) {
        self.0.finished(operation, how);
    }
}

/// Defines the reporters: a field for each sort, and how its operations are told from the rest.
macro_rules! reporters {
    ($($(#[$doc:meta])* $field:ident: $spec:ty, $as_spec:ident;)*) => {
        /// Who is told of which operations.
        #[derive(Clone, Default)]
        pub struct Reporters {
            $($(#[$doc])* pub $field: Slot<$spec>,)*
        }

        impl Reporters {
            /// Whether there is any.
            fn is_any(&self) -> bool {
                $(self.$field.is_some())||*
            }

            /// Tells that an operation is queued, if it is one that somebody wants to hear of, and who wants to hear the rest.
            fn queue(&self, spec: &SpecName, new: impl FnOnce() -> (OperationId, Option<OperationId>)) -> Option<(OperationId, Arc<dyn Hears>)> {
                $(
                    if let (Some(reporter), Some(spec)) = (&self.$field, spec.$as_spec::<$spec>()) {
                        let (operation, within) = new();
                        reporter.queued(operation, within, spec);
                        return Some((operation, Arc::new(Erased(reporter.clone()))));
                    }
                )*
                None
            }
        }

        impl<R> From<Arc<R>> for Reporters
        where
            R: $(OperationReporter<$spec> +)* 'static,
        {
            /// One who is told of everything.
            fn from(reporter: Arc<R>) -> Self {
                Self { $($field: Some(reporter.clone()),)* }
            }
        }

        $(
            #[cfg(any(test, feature = "testing"))]
            impl OperationReporter<$spec> for crate::testing::EventReporter {
                fn queued(&self, operation: OperationId, within: Option<OperationId>, spec: &$spec) {
                    self.put(operation, within, stringify!($field), spec);
                }

                fn started(&self, operation: OperationId) {
                    self.note(operation, "started");
                }

                fn output(&self, operation: OperationId, line: &str) {
                    self.note(operation, &format!("output `{line}`"));
                }

                fn finished(&self, operation: OperationId, how: &Finished) {
                    let how = match how {
                        Finished::Done => "finished",
                        Finished::Failed(_) => "failed",
                        Finished::Cancelled => "cancelled",
                        Finished::Retreated => "retreated",
                    };
                    self.note(operation, how);
                }
            }
        )*
    };
}

reporters! {
    /// The records of an environment.
    pixi_solve: SolveUnitSpec, as_query;
    /// The solver's part of that.
    conda_solve: SolveCondaEnvironmentSpec, as_action;
    /// An environment that is made what it should be.
    pixi_install: InstallPixiEnvironmentSpec, as_query;
    /// Files that come into an environment, and go.
    link: LinkPrefixSpec, as_effect;
    /// A package that is fetched and extracted.
    fetch: FetchPackageSpec, as_action;
    /// A commit that is checked out.
    git_checkout: CheckoutGitSpec, as_action;
    /// An archive that is unpacked.
    url_checkout: CheckoutUrlSpec, as_action;
    /// The environment of a build backend.
    instantiate_backend: InstallToolSpec, as_action;
    /// What a backend says of a source.
    build_backend_metadata: BuildBackendMetadataSpec, as_query;
    /// The call to the backend for that, with what it writes.
    call_outputs: CallOutputsSpec, as_action;
    /// The records of a package of a source.
    source_metadata: SourceMetadataSpec, as_query;
    /// The record of a package of a source, with just what is locked.
    source_as_locked: SourceAsLockedSpec, as_query;
    /// A package that is built, after what it is built with.
    source_build: SourceBuildSpec, as_query;
    /// The call to the backend for that, with what it writes.
    backend_build: BackendBuildSpec, as_action;
    /// Repodata that is read.
    gateway: ChannelIndexSpec, as_action;
}

impl fmt::Debug for Reporters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_any() { "reporters" } else { "no reporters" })
    }
}

/// Turns the events of a database into calls of reporters.
pub(crate) struct Dispatch {
    reporters: Reporters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// What is under way, by the key of its spec.
    current: HashMap<Key, Current>,
}

struct Current {
    spec: SpecName,
    /// Who asked for it.
    parent: Option<Key>,
    /// Whether it was decided what it is.
    is_told: bool,
    /// The operation that it is, and who hears of it.
    operation: Option<(OperationId, Arc<dyn Hears>)>,
    is_started: bool,
}

impl Dispatch {
    /// What hears events for these reporters; nothing if there are none.
    pub(crate) fn to(reporters: &Reporters) -> Option<Self> {
        reporters.is_any().then(|| Self { reporters: reporters.clone(), state: Mutex::default() })
    }

    /// Hears an event.
    pub(crate) fn hear(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::DidPend { spec, parent } => state.note(spec, parent.as_ref()),
            Event::WillRun { spec, parent } => {
                state.note(spec, parent.as_ref());
                self.tell(&mut state, spec);
            }
            Event::DidStart { spec } => state.start(spec),
            Event::WillWait { spec, holder } => state.tell(spec, |hears, operation| hears.waiting(operation, holder)),
            Event::Progress { spec, progress } => {
                state.tell(spec, |hears, operation| hears.progress(operation, progress));
            }
            Event::OutputLine { spec, line } => state.tell(spec, |hears, operation| hears.output(operation, line)),
            Event::DidRun { spec, .. } | Event::DidSettle { spec, failed: false } => {
                state.finish(spec, &Finished::Done)
            }
            // Of a query that waits, this comes before it settles; it is over all the same.
            Event::DidFail { spec, message } => {
                self.tell(&mut state, spec);
                state.finish(spec, &Finished::Failed(message.clone()));
            }
            Event::DidSettle { spec, failed: true } => {
                self.tell(&mut state, spec);
                state.finish(spec, &Finished::Failed(String::new()));
            }
            Event::DidRetreat { spec, .. } => state.finish(spec, &Finished::Retreated),
            Event::DidCancel { spec } => state.finish(spec, &Finished::Cancelled),
            _ => {}
        }
    }

    /// Tells of what is under way and of all that is around it, the outermost first. A query is told of only now that
    /// something is done for it: one that waits for looks at the world may find that it holds.
    fn tell(&self, state: &mut State, spec: &SpecName) {
        let mut untold = Vec::new();
        let mut next = spec.key();
        while let Some(key) = next
            && let Some(current) = state.current.get_mut(&key)
            && !std::mem::replace(&mut current.is_told, true)
        {
            untold.push(key);
            next = current.parent;
        }
        for (place, key) in untold.into_iter().enumerate().rev() {
            let Some(current) = state.current.get(&key) else { continue };
            let (spec, within) = (current.spec.clone(), state.around(current.parent));
            let id = OperationId(state.last + 1);
            let operation = self.reporters.queue(&spec, || (id, within));
            state.last += u64::from(operation.is_some());
            if let Some(current) = state.current.get_mut(&key) {
                current.operation = operation;
            }
            // A query does nothing but to ask, and that it has done.
            if place > 0 {
                state.start(&spec);
            }
        }
    }
}

impl State {
    fn note(&mut self, spec: &SpecName, parent: Option<&SpecName>) {
        if let Some(key) = spec.key() {
            let parent = parent.and_then(SpecName::key);
            let new = Current { spec: spec.clone(), parent, is_told: false, operation: None, is_started: false };
            self.current.entry(key).or_insert(new);
        }
    }

    /// The nearest operation around something.
    fn around(&self, mut parent: Option<Key>) -> Option<OperationId> {
        // Who asked whom first is no ring, but nothing hangs on that.
        for _ in 0..=self.current.len() {
            let current = self.current.get(&parent?)?;
            if let Some((operation, _)) = &current.operation {
                return Some(*operation);
            }
            parent = current.parent;
        }
        None
    }

    fn tell(&self, spec: &SpecName, tell: impl FnOnce(&dyn Hears, OperationId)) {
        let current = spec.key().and_then(|key| self.current.get(&key));
        if let Some((operation, hears)) = current.and_then(|current| current.operation.as_ref()) {
            tell(&**hears, *operation);
        }
    }

    fn start(&mut self, spec: &SpecName) {
        if let Some(current) = spec.key().and_then(|key| self.current.get_mut(&key))
            && !std::mem::replace(&mut current.is_started, true)
            && let Some((operation, hears)) = &current.operation
        {
            hears.started(*operation);
        }
    }

    fn finish(&mut self, spec: &SpecName, how: &Finished) {
        // It may never have got to the point of starting; who counts on a start before an end gets one.
        self.start(spec);
        if let Some(current) = spec.key().and_then(|key| self.current.remove(&key))
            && let Some((operation, hears)) = current.operation
        {
            hears.finished(operation, how);
        }
    }
}
