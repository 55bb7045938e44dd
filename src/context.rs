//! What actions, effects and observations see of the engine while they work.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use doge_storage::Fingerprint;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::action::Action;
use crate::event::{Event, Progress};
use crate::intern::{Intern, Interned};
use crate::kind::{ActionKind, ObservationKind, Typed};
use crate::lock::Held;
use crate::observation::Observation;
use crate::runtime::{Shared, Waited};
use crate::spec::{NameInner, SharedSpec, SpecName};
use crate::sync::Mutex;

/// What the work of a database may use and no spec names: clients, caches, gateways.
///
/// Nothing in here may change a result; what can belongs into a spec or is observed.
#[derive(Default)]
pub(crate) struct Resources(FxHashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Resources {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, resource: T) {
        self.insert_shared(Arc::new(resource));
    }

    pub(crate) fn insert_shared<T: Send + Sync + 'static>(&mut self, resource: Arc<T>) {
        self.0.insert(TypeId::of::<T>(), resource);
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}

/// A place that relative paths are relative to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// The workspace.
    Workspace,
    /// The cache directory.
    Cache,
    /// The file system's root: the path is absolute, and whatever names it stays on this machine.
    Absolute,
}

/// Where the roots are in this process. Specs and values name the root; only work knows the place.
#[derive(Clone, Debug, Default)]
pub struct Roots(BTreeMap<Root, PathBuf>);

impl Roots {
    /// Sets the place of a root.
    #[must_use]
    pub fn with(mut self, root: Root, place: impl Into<PathBuf>) -> Self {
        self.0.insert(root, place.into());
        self
    }

    /// The place of a root, if it has one here.
    pub fn place(&self, root: &Root) -> Option<&Path> {
        match root {
            Root::Absolute => Some(Path::new("")),
            root => self.0.get(root).map(PathBuf::as_path),
        }
    }

    /// The place of a path below a root.
    pub fn resolve(&self, root: &Root, path: impl AsRef<Path>) -> Option<PathBuf> {
        Some(self.place(root)?.join(path))
    }
}

/// A file that a value names: where it is and what is in it.
///
/// That it is missing does not make the value wrong. Whoever needs its bytes looks with [`ActionContext::file`],
/// and has it made again with [`ActionContext::remake`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// What the path is relative to.
    pub root: Root,
    /// The path, with forward slashes.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The blake3 of its content.
    pub content: Fingerprint,
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// What an observation sees while it looks.
pub struct ObserveContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: SharedSpec,
    pub(crate) cancel: CancellationToken,
}

/// Somebody is waited for, until this is dropped.
pub struct Waiting {
    shared: Arc<Shared>,
    name: String,
    holder: String,
    began: SystemTime,
}

impl Waiting {
    pub(crate) fn begin(shared: &Arc<Shared>, spec: &SharedSpec, holder: String) -> Self {
        let event = || Event::WillWait { spec: SpecName(NameInner::Spec(spec.clone())), holder: holder.clone() };
        shared.emit(event);
        Self { shared: shared.clone(), name: spec.to_string(), began: shared.now(), holder }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let took = self.shared.now().duration_since(self.began).unwrap_or_default();
        if took.as_millis() == 0 {
            // Nobody held it until it was over.
            return;
        }
        let (name, holder) = (std::mem::take(&mut self.name), std::mem::take(&mut self.holder));
        self.shared.waits().push(Waited { name, holder, began: self.began, took });
    }
}

/// Tells how far work is. Cheap to clone and not bound to the context, so that callbacks of libraries can hold it.
#[derive(Clone)]
pub struct Reporter {
    shared: Arc<Shared>,
    spec: SharedSpec,
}

impl Reporter {
    fn name(&self) -> SpecName {
        SpecName(NameInner::Spec(self.spec.clone()))
    }

    /// Reports how far the work is.
    pub fn progress(&self, progress: Progress) {
        self.shared.emit(|| Event::Progress { spec: self.name(), progress });
    }

    /// Reports who is waited for. How long it was is known if the guard is held until it is over.
    pub fn waiting_for(&self, holder: impl fmt::Display) -> Waiting {
        Waiting::begin(&self.shared, &self.spec, holder.to_string())
    }

    /// Passes on a line that a program wrote.
    pub fn output_line(&self, line: impl Into<String>) {
        self.shared.emit(|| Event::OutputLine { spec: self.name(), line: line.into() });
    }
}

/// What an action or effect sees while it works.
pub struct ActionContext {
    base: ObserveContext,
    pub(crate) notes: Mutex<Notes>,
    holds: Hold,
    gave_up: bool,
}

/// What is kept as long as work goes on, see [`ActionContext::hold`]. There may be several; what is kept goes with the last.
#[derive(Clone, Default)]
pub struct Hold(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

/// An action that has to run again.
#[derive(Clone)]
pub(crate) struct Remake {
    pub(crate) spec: SharedSpec,
    /// Because somebody wants it.
    pub(crate) forced: bool,
}

/// What an action told the engine.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) reads: Vec<SharedSpec>,
    pub(crate) observe_again: Vec<SharedSpec>,
    pub(crate) remake: Vec<Remake>,
    pub(crate) interned: Vec<(Fingerprint, Vec<u8>)>,
    pub(crate) begin_again: bool,
}

impl ObserveContext {
    /// A resource that the builder was given.
    pub fn resource<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.shared.resources.get()
    }

    /// Where the roots are.
    pub fn roots(&self) -> &Roots {
        &self.shared.roots
    }

    /// Set when nobody needs the result any more. Blocking work must look at it; futures are simply dropped.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Runs blocking code, such as file access, on a thread that may block.
    ///
    /// # Panics
    ///
    /// Passes a panic of `work` on, which fails this spec and nothing else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the thread; `work` must look at [`ObserveContext::cancelled`] if it is
    /// long, and must not leave anything half-done that could be trusted.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.shared.blocking(work).await
    }

    /// Runs a computation on the processor pool.
    ///
    /// # Panics
    ///
    /// As for [`ObserveContext::blocking`].
    ///
    /// # Cancel safety
    ///
    /// As for [`ObserveContext::blocking`].
    pub async fn cpu<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.shared.cpu(work).await
    }

    /// What tells how far the work is.
    pub fn reporter(&self) -> Reporter {
        Reporter { shared: self.shared.clone(), spec: self.spec.clone() }
    }
}

impl std::ops::Deref for ActionContext {
    type Target = ObserveContext;

    fn deref(&self) -> &ObserveContext {
        &self.base
    }
}

impl ActionContext {
    pub(crate) fn new(base: ObserveContext, gave_up: bool) -> Self {
        Self { base, notes: Mutex::default(), holds: Hold::default(), gave_up }
    }

    /// Has the action begin again if it went on though another process is at the same work, because that one was stopped: for
    /// an action that has waited since for something that the other one had. Begun again, it waits for the other to end, and
    /// finds what that has recorded.
    ///
    /// Whether the action is to end now, with whatever failure: nobody sees it.
    pub fn begin_again(&self) -> bool {
        if self.gave_up {
            self.note(|notes| notes.begin_again = true);
        }
        self.gave_up
    }

    /// Keeps something, such as a lock, until all of this work has ended: also what goes on in threads when nobody waits for it
    /// any more. Those of [`ActionContext::blocking`] and [`ActionContext::cpu`] count; who has others gives them a
    /// [`Hold`].
    pub fn hold(&self, guard: impl Send + 'static) {
        self.holds.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(guard));
    }

    /// What keeps all that this work holds.
    pub fn held(&self) -> Hold {
        self.holds.clone()
    }

    /// As [`ObserveContext::blocking`]. What this work holds is kept until `work` has ended.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.base.blocking(self.keeping(work)).await
    }

    /// As [`ObserveContext::cpu`]. What this work holds is kept until `work` has ended.
    pub async fn cpu<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.base.cpu(self.keeping(work)).await
    }

    /// Work that keeps what this work holds until it has ended.
    fn keeping<T>(&self, work: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() -> T + Send + 'static {
        let held = self.held();
        move || {
            let _held = held;
            work()
        }
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        // A panic between lock and unlock leaves the notes whole: each note is one push.
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn into_notes(self) -> Notes {
        self.notes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the engine that the result depends on what `observation` sees.
    ///
    /// The result is reused only while the observation gives the same value. If it changed while the action ran,
    /// the result serves those who wait for it and is not recorded.
    pub fn report_read<O: Observation>(&self, observation: &O) {
        let read = Typed::<ObservationKind<O>>::share(observation);
        self.note(|notes| notes.reads.push(read));
    }

    /// Tells the engine that what `observation` saw is not what is there: it is made again, and whoever asked for
    /// this action decides anew what it needs.
    ///
    /// Whatever the action returns afterwards is dropped, unless the world does not hold still: the third time in
    /// a row an error that it returns is taken for its result.
    pub fn observe_again<O: Observation>(&self, observation: &O) {
        let again = Typed::<ObservationKind<O>>::share(observation);
        self.note(|notes| notes.observe_again.push(again));
    }

    /// Tells the engine that a file which the result of `action` names is gone: the action runs again, then this
    /// one. Whatever this one returns is dropped, with the same exception as for
    /// [`ActionContext::observe_again`].
    pub fn remake<A: Action>(&self, action: &A) {
        let spec = Typed::<ActionKind<A>>::share(action);
        self.note(|notes| notes.remake.push(Remake { spec, forced: false }));
    }

    /// The same, because somebody wants it and not because anything is gone.
    pub fn remake_by_force<A: Action>(&self, action: &A) {
        let spec = Typed::<ActionKind<A>>::share(action);
        self.note(|notes| notes.remake.push(Remake { spec, forced: true }));
    }

    /// Takes a lock between processes, waiting for whoever holds it, who is named in an event.
    ///
    /// `None` means to go on without: there is no store to share, locks do not work here, or the holder has been
    /// stopped or silent for ten seconds. So what it protects must be right without it, only wasteful.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no lock behind.
    pub async fn lock(&self, name: &str) -> Option<Held> {
        crate::lock::acquire(&self.shared, self.shared.locks.as_ref()?, &self.spec, name).await
    }

    /// Where a file is, if it is there with the size that it had.
    ///
    /// The content is not read: whoever reads it checks it.
    pub async fn file(&self, file: &FileRef) -> Option<PathBuf> {
        let path = self.roots().resolve(&file.root, &file.path)?;
        let size = file.size;
        self.blocking(move || {
            let metadata = std::fs::metadata(&path).ok()?;
            (metadata.is_file() && metadata.len() == size).then_some(path)
        })
        .await
    }

    /// Gives a name to a value that is too large to stand in the result. It is kept in the store with the result.
    ///
    /// # Errors
    ///
    /// The message of the encoder, if the value has no encoding.
    pub fn intern<T: Intern>(&self, value: T) -> Result<Interned<T>, String> {
        let (interned, bytes) = Interned::encoded(value).map_err(|failure| format!("{failure:?}"))?;
        let fingerprint = interned.fingerprint();
        self.note(|notes| notes.interned.push((fingerprint, bytes)));
        Ok(interned)
    }

    /// The value that was interned under a name; `None` if it is not at hand and not in the store.
    pub async fn value<T: Intern>(&self, interned: &Interned<T>) -> Option<Arc<T>> {
        if let Some(value) = interned.at_hand() {
            return Some(value);
        }
        if let Some(bytes) = self.shared.at_hand.get(interned.fingerprint()) {
            return interned.fill(&bytes);
        }
        let store = self.shared.store.clone()?;
        let interned = interned.clone();
        self.blocking(move || interned.fill(&store.snapshot().value(interned.fingerprint())?)).await
    }
}
