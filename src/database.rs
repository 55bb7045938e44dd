//! The handle: how the rest of a program uses the engine.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use doge_storage::{Fingerprint, Locks, RunId, Store, StoreOptions};
use futures::channel::oneshot;
use rustc_hash::FxHashMap;

use crate::action::{Action, Resource};
use crate::context::{Resources, Roots};
use crate::dry::DryReport;
use crate::effect::Effect;
use crate::event::{Event, Listener};
use crate::explain::History;
use crate::failure::{EngineFailure, Failure};
use crate::graph::Graph;
use crate::intern::{AtHand, Intern, Interned, names_in};
use crate::kind::{ActionKind, EffectKind, ErasedKind, KindOf, ObservationKind, QueryKind, Typed};
use crate::node::NodeIndex;
use crate::observation::Observation;
use crate::persist::{BACKLOG, Persist, Writer, scope_number};
use crate::planner::{Config, Delivered, Message, Planner, Refreshed, RequestId, Want};
use crate::query::Query;
use crate::registry::Registry;
use crate::run::{Counts, RunRecord};
use crate::runtime::{Ended, Shared, Spawn, Task};
use crate::spec::SharedSpec;
use crate::sync::tokio::sync::Semaphore;
use crate::sync::{Mutex, mpsc, thread, tokio};
use crate::table::Table;

/// The stack that the planner reserves. Memory is taken only as deep as it is used.
const STACK: usize = 1 << 30;
/// What the planner makes do with where so much address space is not to be had.
const SMALL_STACK: usize = 64 << 20;
/// Salsa verifies about a kilobyte of stack a level, and executing takes a few; see `docs/architecture.md`.
const BYTES_PER_LEVEL: usize = 10 << 10;

/// How many of each resource class may be at work at once. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Solves.
    pub solve: Option<usize>,
    /// Backend builds.
    pub build: Option<usize>,
    /// Git fetches.
    pub git: Option<usize>,
    /// Downloads.
    pub url: Option<usize>,
    /// File work.
    pub io: Option<usize>,
    /// Other computations.
    pub cpu: Option<usize>,
}

impl Default for Limits {
    /// As many solves and computations as there are processors, one build, eight fetches and downloads each, a
    /// hundred pieces of file work.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            solve: Some(processors),
            build: Some(1),
            git: Some(8),
            url: Some(8),
            io: Some(100),
            cpu: Some(processors),
        }
    }
}

impl Limits {
    fn semaphores(self) -> FxHashMap<Resource, Arc<Semaphore>> {
        let of = |resource| match resource {
            Resource::Solve => self.solve,
            Resource::Build => self.build,
            Resource::Git => self.git,
            Resource::Url => self.url,
            Resource::Io => self.io,
            Resource::Cpu => self.cpu,
        };
        Resource::ALL
            .into_iter()
            .filter_map(|resource| Some((resource, Arc::new(Semaphore::new(of(resource)?.max(1))))))
            .collect()
    }
}

/// Why a request has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError<E: std::error::Error + 'static> {
    /// What was asked failed.
    #[error(transparent)]
    Failed(#[from] Failure<E>),
    /// The database was closed before the answer was there.
    #[error("the database was closed before it had an answer")]
    Closed,
}

impl<E: std::error::Error + 'static> RequestError<E> {
    /// The failure, if that is what it was.
    pub fn failure(&self) -> Option<&Failure<E>> {
        match self {
            RequestError::Failed(failure) => Some(failure),
            RequestError::Closed => None,
        }
    }
}

/// The database was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database was closed")]
pub struct Closed;

/// Why a database could not be built.
#[derive(Debug, thiserror::Error)]
#[error("could not start a thread of the engine")]
pub struct BuildError {
    #[source]
    source: std::io::Error,
}

/// How a database is made.
#[derive(Default)]
pub struct Builder {
    registry: Registry,
    resources: Resources,
    roots: Roots,
    limits: Option<Limits>,
    listeners: Vec<Listener>,
    store: Option<PathBuf>,
    locks: Option<PathBuf>,
    serial: bool,
    ahead: Vec<SharedSpec>,
    depth_limit: Option<usize>,
    runtime: Option<tokio::runtime::Handle>,
    title: String,
    scope: Option<String>,
    on_refresh: Option<Arc<dyn Fn() + Send + Sync>>,
    on_close: Option<Arc<dyn Fn() + Send + Sync>>,
    patience: Option<Duration>,
    store_memory: Option<usize>,
    backlog: Option<usize>,
    tells_waits: bool,
}

impl Builder {
    fn register(mut self, kind: &'static dyn ErasedKind) -> Self {
        self.registry.register(kind);
        self
    }

    /// What a store remembers of earlier runs, told in the words of the kinds that are known. Nothing is written.
    pub fn history(self, directory: impl AsRef<Path>) -> History {
        History::knowing(directory.as_ref(), self.registry)
    }

    /// Makes a kind of query known, so that traces which name such queries can be checked.
    ///
    /// A kind that is not registered still works; what was recorded above it is not found again.
    #[must_use]
    pub fn query<Q: Query>(self) -> Self {
        self.register(QueryKind::<Q>::KIND)
    }

    /// Makes a kind of action known; see [`Builder::query`].
    #[must_use]
    pub fn action<A: Action>(self) -> Self {
        self.register(ActionKind::<A>::KIND)
    }

    /// Makes a kind of effect known; see [`Builder::query`].
    #[must_use]
    pub fn effect<E: Effect>(self) -> Self {
        self.register(EffectKind::<E>::KIND)
    }

    /// Makes a kind of observation known; see [`Builder::query`].
    #[must_use]
    pub fn observation<O: Observation>(self) -> Self {
        self.register(ObservationKind::<O>::KIND)
    }

    /// Gives the work something to use, found again by its type.
    #[must_use]
    pub fn resource<T: Send + Sync + 'static>(mut self, resource: T) -> Self {
        self.resources.insert(resource);
        self
    }

    /// Gives the work something to use that others use, too; see [`Builder::resource`].
    #[must_use]
    pub fn resource_shared<T: Send + Sync + 'static>(mut self, resource: Arc<T>) -> Self {
        self.resources.insert_shared(resource);
        self
    }

    /// Says where the roots of relative paths are.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Sets how much may be at work at once.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Adds somebody to be told of events.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// Keeps results in this directory, and finds those of earlier runs there. Without it nothing is persisted.
    #[must_use]
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.store = Some(directory.into());
        self
    }

    /// How much of the store is kept in memory at most, in bytes; 64 MiB if nothing is said.
    #[must_use]
    pub fn store_memory(mut self, bytes: usize) -> Self {
        self.store_memory = Some(bytes);
        self
    }

    /// How long another writer of the store is waited for before results are put beside it: for tests that have no
    /// two seconds to spare.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// How many bytes may wait to be written before nothing goes on until they are; 64 MiB if nothing is said.
    #[must_use]
    pub fn backlog(mut self, bytes: usize) -> Self {
        self.backlog = Some(bytes);
        self
    }

    /// Where locks between processes are kept; by default beside the store.
    #[must_use]
    pub fn locks(mut self, directory: impl Into<PathBuf>) -> Self {
        self.locks = Some(directory.into());
        self
    }

    /// Runs one piece of work at a time, in the order of discovery.
    #[must_use]
    pub fn serial(mut self, serial: bool) -> Self {
        self.serial = serial;
        self
    }

    /// Has the engine begin to look at what will be asked for as soon as it is there, so that whoever asks need not wait for
    /// it: while a program finds out yet what to ask, say.
    ///
    /// It is no request. Of a session in which nothing is asked nothing is recorded, and a look that failed is made again for
    /// the first who asks. In serial mode nothing is begun.
    #[must_use]
    pub fn look_ahead<O: Observation>(mut self, observation: &O) -> Self {
        self.ahead.push(Typed::<ObservationKind<O>>::share(observation));
        self
    }

    /// How deep specs may need each other.
    #[must_use]
    pub fn depth_limit(mut self, levels: usize) -> Self {
        self.depth_limit = Some(levels);
        self
    }

    /// The tokio runtime that work runs on; by default the one that [`Builder::build`] is called from.
    #[must_use]
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Tells listeners of queries that wait, too: [`Event::DidPend`] and [`Event::DidSettle`]. There are many of them.
    #[must_use]
    pub fn tells_waits(mut self) -> Self {
        self.tells_waits = true;
        self
    }

    /// What the record of the run is called.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// What labels are told apart by: a store may be shared by several workspaces, and a spec is compared with the
    /// previous one of its label in the same scope.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Is called when the database is closed, once work has been stopped: for resources that hold on to something outside.
    /// It must be quick.
    #[must_use]
    pub fn on_close(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_close = Some(Arc::new(hook));
        self
    }

    /// Called at the beginning of each refresh, for resources that keep what they saw of the world.
    #[must_use]
    pub fn on_refresh(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_refresh = Some(Arc::new(hook));
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started. A store that cannot be used is no error; the engine goes on without and
    /// says so by an event.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime, unless [`Builder::runtime`] was given one.
    pub fn build(mut self) -> Result<Database, BuildError> {
        let failed = |source| BuildError { source };
        let runtime = self.runtime.take().unwrap_or_else(tokio::runtime::Handle::current);
        let (messages, inbox) = mpsc::channel();
        let spawn = TokioSpawn::new(runtime.clone(), messages.clone());
        let depth_limit = self.depth_limit;
        let mut config = self.config(Some(runtime), Box::new(spawn));
        let start = |stack: usize, limit: usize, inbox: Arc<Mutex<Option<Inbox>>>| {
            thread::Builder::new().name("doge-planner".into()).stack_size(stack).spawn(move || {
                let taken = inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((mut config, inbox)) = taken {
                    config.table.depth_limit = depth_limit.unwrap_or(usize::MAX).min(limit);
                    run(Planner::new(config), &inbox);
                }
            })
        };
        config.table.depth_limit = STACK / BYTES_PER_LEVEL;
        let inbox = Arc::new(Mutex::new(Some((config, inbox))));
        let started = start(STACK, STACK / BYTES_PER_LEVEL, inbox.clone());
        let thread = match started {
            Ok(thread) => thread,
            Err(_) => start(SMALL_STACK, SMALL_STACK / BYTES_PER_LEVEL, inbox).map_err(failed)?,
        };
        Ok(Database {
            handle: Arc::new(Handle { messages, next: AtomicU64::new(0), thread: Mutex::new(Some(thread)) }),
        })
    }

    /// Everything but the threads.
    pub(crate) fn config(self, runtime: Option<tokio::runtime::Handle>, spawn: Box<dyn Spawn>) -> Config {
        let listeners = self.listeners;
        let listener: Option<Listener> = match listeners.len() {
            0 => None,
            1 => listeners.into_iter().next(),
            _ => Some(Arc::new(move |event: &Event| listeners.iter().for_each(|listener| listener(event)))),
        };
        let remarks = Arc::<Mutex<Vec<String>>>::default();
        let store = self.store.as_ref().map(|directory| {
            let mut options = StoreOptions::new(directory);
            options.names = names_in;
            options.lease_deadline = self.patience.unwrap_or(options.lease_deadline);
            options.cache_size = self.store_memory.unwrap_or(options.cache_size);
            let (remarks, listener) = (remarks.clone(), listener.clone());
            options.listener = Some(Arc::new(move |event| {
                if event.is_trouble() {
                    remarks.lock().unwrap_or_else(PoisonError::into_inner).push(event.to_string());
                }
                if let Some(listener) = &listener {
                    listener(&Event::Store(event));
                }
            }));
            Store::open(options)
        });
        let backlog = self.backlog.unwrap_or(BACKLOG);
        let writer = store.clone().map(|store| Writer::new(store, backlog));
        let at_hand = Arc::new(AtHand::default());
        let persist = store.clone().zip(writer.clone()).map(|(store, writer)| {
            let (at_hand, scope) = (at_hand.clone(), self.scope.clone());
            Box::new(move || Persist::new(store, writer, at_hand, RunId::new(), scope)) as Box<_>
        });
        let locks = self.locks.or_else(|| self.store.map(|store| store.join("locks"))).map(Locks::new);
        let depth_limit = self.depth_limit.unwrap_or(SMALL_STACK / BYTES_PER_LEVEL);
        let shared = Arc::new(Shared {
            resources: self.resources,
            roots: self.roots,
            limits: self.limits.unwrap_or_default().semaphores(),
            listener: listener.clone(),
            store,
            scope: scope_number(self.scope.as_deref()),
            writer,
            locks,
            runtime,
            at_hand,
            sightings: Mutex::default(),
            at_work: Mutex::default(),
            waits: Mutex::default(),
            remarks,
        });
        Config {
            table: Table::new(self.registry, depth_limit, listener, self.tells_waits),
            persist,
            shared,
            spawn,
            serial: self.serial,
            ahead: self.ahead,
            title: self.title,
            scope: self.scope,
            on_refresh: self.on_refresh,
            on_close: self.on_close,
        }
    }
}

type Inbox = (Config, mpsc::Receiver<Message>);

/// The planner thread.
fn run(mut planner: Planner, inbox: &mpsc::Receiver<Message>) {
    while let Ok(message) = inbox.recv() {
        planner.handle(message);
        while let Ok(message) = inbox.try_recv() {
            planner.handle(message);
        }
        planner.advance();
        if planner.is_closed() {
            return;
        }
    }
}

/// Runs tasks on tokio.
struct TokioSpawn {
    runtime: tokio::runtime::Handle,
    messages: mpsc::Sender<Message>,
    running: FxHashMap<NodeIndex, (u64, tokio::task::AbortHandle)>,
    /// Every task has one of these until it is gone.
    there: Option<mpsc::Sender<Infallible>>,
    gone: mpsc::Receiver<Infallible>,
}

/// How long is waited for tasks that were aborted.
const PATIENCE: Duration = Duration::from_millis(250);

impl TokioSpawn {
    fn new(runtime: tokio::runtime::Handle, messages: mpsc::Sender<Message>) -> Self {
        let (there, gone) = mpsc::channel();
        Self { runtime, messages, running: FxHashMap::default(), there: Some(there), gone }
    }
}

impl Spawn for TokioSpawn {
    fn spawn(&mut self, task: Task) {
        let Task { node, attempt, cancel, work } = task;
        let messages = self.messages.clone();
        let there = self.there.clone();
        let handle = self.runtime.spawn(async move {
            // Gone after the work, whether that ends or is aborted.
            let _there = there;
            let ended = work.await;
            let ended = if cancel.is_cancelled() { Ended::Cancelled } else { ended };
            // The planner may have ended.
            let _ = messages.send(Message::Finished { node, attempt, ended });
        });
        self.running.insert(node, (attempt, handle.abort_handle()));
    }

    fn abort(&mut self, node: NodeIndex, attempt: u64) {
        if let Some((running, handle)) = self.running.remove(&node) {
            if running == attempt {
                handle.abort();
            } else {
                self.running.insert(node, (running, handle));
            }
        }
    }

    fn wait(&mut self) {
        self.there = None;
        let _ = self.gone.recv_timeout(PATIENCE);
    }
}

/// A handle to the engine: cheap to clone, usable from any thread.
///
/// The engine ends when the last handle is dropped, after writing down what it found. Dropping the future of a
/// request withdraws the request; work that no other request needs is stopped.
///
/// ```
/// use doge::{Database, Db, Epoch, Halt, AnyError, Query, Spec};
///
/// #[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
/// struct Fibonacci(u64);
///
/// impl std::fmt::Display for Fibonacci {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "fibonacci({})", self.0)
///     }
/// }
///
/// impl Spec for Fibonacci {
///     const KIND: &'static str = "fibonacci";
///     const EPOCH: Epoch = Epoch::new(1, &[]);
/// }
///
/// impl Query for Fibonacci {
///     type Output = u64;
///     type Error = AnyError;
///
///     fn compute(&self, db: &Db<'_>) -> Result<u64, Halt<AnyError>> {
///         if self.0 < 2 {
///             return Ok(self.0);
///         }
///         let (a, b) = db.join(|join| (join.get(&Fibonacci(self.0 - 1)), join.get(&Fibonacci(self.0 - 2))))?;
///         Ok(*a + *b)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database::builder().build()?;
/// assert_eq!(*database.get(&Fibonacci(80)).await?, 23_416_728_348_467_685);
/// assert_eq!(database.counts().await?.executed["fibonacci"], 81);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Database {
    handle: Arc<Handle>,
}

/// A handle that does not keep the engine alive.
#[derive(Clone)]
pub struct WeakDatabase {
    handle: Weak<Handle>,
}

struct Handle {
    messages: mpsc::Sender<Message>,
    next: AtomicU64,
    /// `None` once it was closed: all is written then, and the thread gives back by itself what it knows.
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Handle {
    fn take_thread(&self) -> Option<thread::JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.messages.send(Message::Abandoned);
        // The planner itself may drop the last handle, through a resource that holds one.
        if let Some(thread) = self.take_thread().filter(|thread| thread.thread().id() != thread::current().id()) {
            // A planner that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl WeakDatabase {
    /// The database, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Database> {
        self.handle.upgrade().map(|handle| Database { handle })
    }
}

impl Database {
    /// How to make one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle that does not keep the engine alive.
    pub fn downgrade(&self) -> WeakDatabase {
        WeakDatabase { handle: Arc::downgrade(&self.handle) }
    }

    /// The value of a query.
    ///
    /// # Errors
    ///
    /// Fails as the query does. A failure is not remembered: asking again tries again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request. Work that is needed by nobody else is stopped, and nothing
    /// half-done is recorded.
    pub fn get<Q: Query>(&self, query: &Q) -> Request<Q::Output, Q::Error> {
        self.request::<QueryKind<Q>, _>(query, Want::Value)
    }

    /// The result of an action; see [`Database::get`].
    pub fn act<A: Action>(&self, action: &A) -> Request<A::Output, A::Error> {
        self.request::<ActionKind<A>, _>(action, Want::Value)
    }

    /// What an observation sees; see [`Database::get`].
    pub fn observe<O: Observation>(&self, observation: &O) -> Request<O::Output, O::Error> {
        self.request::<ObservationKind<O>, _>(observation, Want::Value)
    }

    /// The fingerprint of the value of a query; the value itself is not decoded if it comes from the store.
    ///
    /// Otherwise as [`Database::get`].
    pub async fn ensure<Q: Query>(&self, query: &Q) -> Result<Fingerprint, RequestError<Q::Error>> {
        let request: Request<Q::Output, Q::Error> = self.request::<QueryKind<Q>, _>(query, Want::Fingerprint);
        match request.delivered().await {
            Some(Delivered::Value { fingerprint, .. }) => Ok(fingerprint),
            Some(Delivered::Failed(failure)) => Err(RequestError::Failed(Failure::from_inner(failure))),
            None => Err(RequestError::Closed),
        }
    }

    /// Gives a name to a value that is too large to stand in a spec.
    ///
    /// # Errors
    ///
    /// Fails with [`EngineFailure::NotEncodable`] if the value has no encoding.
    pub fn intern<T: Intern>(&self, value: T) -> Result<Interned<T>, EngineFailure> {
        let (interned, bytes) = Interned::encoded(value).map_err(|failure| {
            Failure::<()>::from_inner(failure).engine().cloned().expect("invariant: interning fails as the engine does")
        })?;
        self.send(Message::Keep { fingerprint: interned.fingerprint(), bytes });
        Ok(interned)
    }

    /// What asking would do: observations are made and traces checked, but no action starts and nothing is
    /// recorded.
    ///
    /// # Errors
    ///
    /// Fails if the database is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn dry<Q: Query>(&self, query: &Q) -> Result<DryReport, Closed> {
        let spec = Typed::<QueryKind<Q>>::share(query);
        self.tell(|reply| Message::Dry { spec, reply }).await
    }

    /// Begins a new session: everything that was observed is observed again, and what depends on what changed is
    /// found out of date. Requests that arrive meanwhile wait for it.
    ///
    /// # Errors
    ///
    /// Fails if the database is closed.
    ///
    /// # Cancel safety
    ///
    /// The refresh goes on if the future is dropped.
    pub async fn refresh(&self) -> Result<Refreshed, Closed> {
        self.tell(Message::Refresh).await
    }

    /// A picture of the graph as it is.
    ///
    /// # Errors
    ///
    /// Fails if the database is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn graph(&self) -> Result<Graph, Closed> {
        self.tell(Message::Snapshot).await
    }

    /// What was done in this session so far.
    ///
    /// # Errors
    ///
    /// Fails if the database is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn counts(&self) -> Result<Counts, Closed> {
        self.tell(Message::Report).await
    }

    /// Ends the session: running work is stopped, what was found is written down, and the record of the run
    /// returned. Requests that have no answer yet end with [`RequestError::Closed`].
    ///
    /// The futures of work that was stopped are dropped by then, so that what they end when they are dropped has ended. That is
    /// waited for a quarter of a second at most: a runtime of one thread that nobody drives meanwhile drops nothing.
    ///
    /// # Errors
    ///
    /// Fails if the database is closed already.
    ///
    /// # Cancel safety
    ///
    /// The database closes even if the future is dropped.
    pub async fn close(&self) -> Result<RunRecord, Closed> {
        let closed = self.tell(Message::Close).await;
        if closed.is_ok() {
            drop(self.handle.take_thread());
        }
        closed
    }

    fn send(&self, message: Message) {
        // If the planner has ended, the reply that came with the message reports it by ending.
        let _ = self.handle.messages.send(message);
    }

    async fn tell<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply));
        answer.await.map_err(|_| Closed)
    }

    fn request<K: KindOf, E>(&self, spec: &K::Spec, want: Want) -> Request<K::Output, E> {
        // Only uniqueness matters.
        let id = RequestId(self.handle.next.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ask { id, spec: Typed::<K>::share(spec), want, reply });
        Request { id, answer: Some(answer), handle: self.handle.clone(), result: PhantomData }
    }
}

/// A request under way; withdrawn when dropped.
#[must_use = "a request is withdrawn when it is dropped"]
pub struct Request<T, E> {
    id: RequestId,
    answer: Option<oneshot::Receiver<Delivered>>,
    handle: Arc<Handle>,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T, E> Request<T, E> {
    async fn delivered(mut self) -> Option<Delivered> {
        std::future::poll_fn(|cx| self.poll_delivered(cx)).await
    }

    fn poll_delivered(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivered>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(None) };
        match Pin::new(answer).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(delivered) => {
                self.answer = None;
                Poll::Ready(delivered.ok())
            }
        }
    }
}

impl<T: Send + Sync + 'static, E: std::error::Error + 'static> Future for Request<T, E> {
    type Output = Result<Arc<T>, RequestError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_delivered(cx).map(|delivered| match delivered {
            Some(Delivered::Value { value: Some(value), .. }) => match value.downcast::<T>() {
                Ok(value) => Ok(value),
                Err(_) => Err(RequestError::Closed),
            },
            Some(Delivered::Failed(failure)) => Err(RequestError::Failed(Failure::from_inner(failure))),
            Some(Delivered::Value { value: None, .. }) | None => Err(RequestError::Closed),
        })
    }
}

impl<T, E> Drop for Request<T, E> {
    fn drop(&mut self) {
        if self.answer.is_some() {
            // If the planner has ended, there is nothing to withdraw.
            let _ = self.handle.messages.send(Message::Cancel(self.id));
        }
    }
}
