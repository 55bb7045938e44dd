//! The engine without threads: a test decides which piece of work ends next.

use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::channel::oneshot;

use crate::action::Action;
use crate::database::Builder;
use crate::dry::DryReport;
use crate::failure::Failure;
use crate::graph::Graph;
use crate::kind::{ActionKind, KindOf, QueryKind, Typed};
use crate::node::NodeIndex;
use crate::persist::Persist;
use crate::planner::{Delivered, Message, Planner, Refreshed, RequestId, Want};
use crate::query::Query;
use crate::run::{Counts, RunRecord};
use crate::runtime::{Spawn, Task};
use crate::sync::{Mutex, MutexGuard, block_on};

/// The planner, driven by hand. Work that was started waits until the test lets it end.
pub struct Stepper {
    planner: Planner,
    tasks: Tasks,
    next: u64,
}

type Tasks = Arc<Mutex<Vec<Task>>>;

struct Queue(Tasks);

impl Spawn for Queue {
    fn spawn(&mut self, task: Task) {
        lock(&self.0).push(task);
    }

    fn abort(&mut self, node: NodeIndex, attempt: u64) {
        lock(&self.0).retain(|task| task.node != node || task.attempt != attempt);
    }

    fn wait(&mut self) {}
}

fn lock(tasks: &Tasks) -> MutexGuard<'_, Vec<Task>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request to a [`Stepper`].
pub struct Asked<T, E> {
    id: RequestId,
    answer: oneshot::Receiver<Delivered>,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T: Send + Sync + 'static, E> Asked<T, E> {
    /// The answer, if it is there.
    pub fn answer(&mut self) -> Option<Result<Arc<T>, Failure<E>>> {
        match self.answer.try_recv() {
            Ok(Some(Delivered::Value { value, .. })) => Some(Ok(value?.downcast::<T>().ok()?)),
            Ok(Some(Delivered::Failed(failure))) => Some(Err(Failure::from_inner(failure))),
            Ok(None) | Err(_) => None,
        }
    }
}

impl Stepper {
    /// An engine as `builder` says, without threads and without a runtime.
    pub fn new(builder: Builder) -> Self {
        let tasks = Tasks::default();
        let config = builder.config(None, Box::new(Queue(tasks.clone())));
        Self { planner: Planner::new(config), tasks, next: 0 }
    }

    fn send(&mut self, message: Message) {
        self.planner.handle(message);
        self.planner.advance();
    }

    /// Asks for a query.
    pub fn ask<Q: Query>(&mut self, query: &Q) -> Asked<Q::Output, Q::Error> {
        self.ask_kind::<QueryKind<Q>, _>(query)
    }

    /// Asks for an action.
    pub fn ask_act<A: Action>(&mut self, action: &A) -> Asked<A::Output, A::Error> {
        self.ask_kind::<ActionKind<A>, _>(action)
    }

    fn ask_kind<K: KindOf, E>(&mut self, spec: &K::Spec) -> Asked<K::Output, E> {
        let id = RequestId(self.next);
        self.next += 1;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Ask { id, spec: Typed::<K>::share(spec), want: Want::Value, reply });
        Asked { id, answer, result: PhantomData }
    }

    /// Withdraws a request.
    pub fn cancel<T, E>(&mut self, asked: &Asked<T, E>) {
        self.send(Message::Cancel(asked.id));
    }

    /// How many pieces of work are under way.
    pub fn running(&self) -> usize {
        lock(&self.tasks).len()
    }

    /// Does the work at this place, in the order of starting, and lets it end. The planner is told, but goes on
    /// only with [`Stepper::advance`].
    ///
    /// # Panics
    ///
    /// Panics if there is no such work.
    pub fn finish(&mut self, place: usize) {
        let Task { node, attempt, work, .. } = lock(&self.tasks).remove(place);
        let ended = block_on(work);
        self.planner.handle(Message::Finished { node, attempt, ended });
    }

    /// Drives the work at this place until it has had to wait so many times, and no further; whether it ended before.
    ///
    /// # Panics
    ///
    /// Panics if there is no such work.
    pub fn drive(&mut self, place: usize, waits: usize) -> bool {
        let mut task = lock(&self.tasks).remove(place);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..waits {
            if let Poll::Ready(ended) = task.work.as_mut().poll(&mut context) {
                self.planner.handle(Message::Finished { node: task.node, attempt: task.attempt, ended });
                return true;
            }
        }
        lock(&self.tasks).insert(place, task);
        false
    }

    /// Lets the planner go on with what has ended.
    pub fn advance(&mut self) {
        self.planner.advance();
    }

    /// Lets all work end, in the order of starting, until nothing is under way.
    pub fn settle(&mut self) {
        self.advance();
        while self.running() > 0 {
            self.finish(0);
            self.advance();
        }
    }

    /// Asks, lets everything end, and gives the answer.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer although nothing is under way.
    pub fn get<Q: Query>(&mut self, query: &Q) -> Result<Arc<Q::Output>, Failure<Q::Error>> {
        let mut asked = self.ask(query);
        self.settle();
        asked.answer().expect("nothing is under way, so the answer must be there")
    }

    /// Begins a new session; the looks that this takes are among the work under way until they are let end.
    pub fn start_refresh(&mut self) -> oneshot::Receiver<Refreshed> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Refresh(reply));
        answer
    }

    /// Begins a new session and lets everything end.
    ///
    /// # Panics
    ///
    /// Panics if the refresh does not end with the work it started.
    pub fn refresh(&mut self) -> Refreshed {
        let mut answer = self.start_refresh();
        self.settle();
        answer.try_recv().ok().flatten().expect("nothing is under way, so the refresh must have ended")
    }

    /// Asks what would happen if this were asked; what must be observed for it is among the work under way until it
    /// is let end.
    pub fn start_dry<Q: Query>(&mut self, query: &Q) -> oneshot::Receiver<DryReport> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Dry { spec: Typed::<QueryKind<Q>>::share(query), reply });
        answer
    }

    /// What would happen if this were asked; everything that must be observed for it is.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer although nothing is under way.
    pub fn dry<Q: Query>(&mut self, query: &Q) -> DryReport {
        let mut answer = self.start_dry(query);
        self.settle();
        answer.try_recv().ok().flatten().expect("nothing is under way, so the answer must be there")
    }

    /// What was done in this session.
    ///
    /// # Panics
    ///
    /// Never: the planner answers at once.
    pub fn counts(&mut self) -> Counts {
        let (reply, mut answer) = oneshot::channel();
        self.send(Message::Report(reply));
        answer.try_recv().ok().flatten().expect("the planner answers at once")
    }

    /// How many bytes wait to be written to the store.
    pub fn waiting_to_be_written(&self) -> usize {
        self.planner.table().persist.borrow().as_ref().map_or(0, Persist::waiting)
    }

    /// Waits until what earlier sessions recorded is in the store.
    pub fn wait_until_written(&mut self) {
        let written = self.planner.table().persist.borrow().as_ref().and_then(Persist::all_written);
        // The writer answers or dies; both end the wait.
        let _ = written.map(block_on);
    }

    /// The graph as it is.
    ///
    /// # Panics
    ///
    /// Never: the planner answers at once.
    pub fn graph(&mut self) -> Graph {
        let (reply, mut answer) = oneshot::channel();
        self.send(Message::Snapshot(reply));
        answer.try_recv().ok().flatten().expect("the planner answers at once")
    }

    /// Ends the session and writes everything down. To end like a killed process, drop the stepper instead.
    ///
    /// # Panics
    ///
    /// Never: the planner answers at once.
    pub fn close(mut self) -> RunRecord {
        let (reply, mut answer) = oneshot::channel();
        self.send(Message::Close(reply));
        answer.try_recv().ok().flatten().expect("the planner answers at once")
    }

    /// How many nodes the graph has.
    pub fn nodes(&self) -> usize {
        self.planner.table().len()
    }
}
