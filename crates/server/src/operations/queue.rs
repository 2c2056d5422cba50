//! The operations of a service: one is performed at a time, some wait, those that have ended are remembered for a while.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::pool::Pool;
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    administration::{Administration, AdministrationError, Task},
    operation::{Operation, OperationState, OperationSummary},
};

/// How many may wait.
pub(super) const MAX_QUEUED: usize = 16;

/// How many that have ended are remembered.
pub(super) const MAX_ENDED: usize = 100;

/// How many lists are made at the same time: each is a process.
const MAX_LISTS: usize = 4;

/// The operations of a service. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Operations {
    shared: Arc<Shared>,
}

/// Why an operation is not even queued.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmitError {
    /// Too many wait.
    #[error("E008: server busy: {MAX_QUEUED} operations wait already")]
    Full,
    /// The service is being stopped.
    #[error("E008: server busy: it is being stopped")]
    Stopping,
}

struct Shared {
    administration: Arc<dyn Administration>,
    pool: Pool,
    stop: CancellationToken,
    tasks: TaskTracker,
    lists: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// Oldest first.
    entries: VecDeque<Arc<Entry>>,
    /// Whether somebody performs what is queued.
    working: bool,
}

struct Entry {
    task: Task,
    operation: watch::Sender<Operation>,
    cancel: CancellationToken,
}

impl Entry {
    fn state(&self) -> OperationState {
        self.operation.borrow().summary.state
    }
}

impl Operations {
    /// None yet. Once one has changed snapshots, this pool is told.
    pub(crate) fn new(administration: Arc<dyn Administration>, pool: Pool) -> Self {
        let shared = Shared {
            administration,
            pool,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lists: Semaphore::new(MAX_LISTS),
            state: Mutex::new(State { entries: VecDeque::new(), working: false }),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who lists, once it is this list's turn.
    pub(crate) async fn lister(&self) -> (&dyn Administration, Option<SemaphorePermit<'_>>) {
        // It is never closed.
        let turn = self.shared.lists.acquire().await.ok();
        (&*self.shared.administration, turn)
    }

    /// Queues a task, to be performed after all that wait.
    pub(crate) fn submit(&self, task: Task, trace_id: &str) -> Result<Operation, SubmitError> {
        let operation = Operation::queued(&task, trace_id);
        let mut state = self.shared.lock();
        if self.shared.stop.is_cancelled() {
            return Err(SubmitError::Stopping);
        }
        let queued = state.entries.iter().filter(|entry| entry.state() == OperationState::Queued);
        if queued.count() >= MAX_QUEUED {
            return Err(SubmitError::Full);
        }
        state.entries.push_back(Arc::new(Entry {
            task,
            operation: watch::Sender::new(operation.clone()),
            cancel: self.shared.stop.child_token(),
        }));
        if !state.working {
            state.working = true;
            self.shared.tasks.spawn(work(Arc::clone(&self.shared)));
        }
        Ok(operation)
    }

    /// All that are known, newest first.
    pub(crate) fn list(&self) -> Vec<OperationSummary> {
        let state = self.shared.lock();
        state.entries.iter().rev().map(|entry| entry.operation.borrow().summary.clone()).collect()
    }

    /// The one with this id, as it is now.
    pub(crate) fn get(&self, id: &str) -> Option<Operation> {
        Some(self.find(id)?.operation.borrow().clone())
    }

    /// The same, once it has changed or `patience` is over. One that has ended changes no more.
    pub(crate) async fn wait(&self, id: &str, patience: Duration) -> Option<Operation> {
        let entry = self.find(id)?;
        let mut changes = entry.operation.subscribe();
        if !entry.operation.borrow().has_ended() {
            tokio::select! {
                // What comes first is all the same: the operation is shown as it is.
                _ = changes.changed() => {}
                () = tokio::time::sleep(patience) => {}
                () = self.shared.stop.cancelled() => {}
            }
        }
        let operation = entry.operation.borrow().clone();
        Some(operation)
    }

    /// Cancels one: at once where it waits, soon where it is being performed.
    pub(crate) fn cancel(&self, id: &str) -> Option<Operation> {
        let entry = self.find(id)?;
        let _state = self.shared.lock();
        entry.cancel.cancel();
        if entry.state() == OperationState::Queued {
            entry.operation.send_modify(|operation| operation.end(Err(AdministrationError::Cancelled)));
        }
        let operation = entry.operation.borrow().clone();
        Some(operation)
    }

    /// Cancels all, takes no more, and waits until none is performed.
    pub(crate) async fn stop(&self) {
        {
            // Whoever submits one now has seen it, or is seen.
            let _state = self.shared.lock();
            self.shared.stop.cancel();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn find(&self, id: &str) -> Option<Arc<Entry>> {
        let state = self.shared.lock();
        state.entries.iter().find(|entry| entry.operation.borrow().summary.id == id).cloned()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next to be performed, which is running from now on.
    fn next(&self) -> Option<Arc<Entry>> {
        let mut state = self.lock();
        let ended = state.entries.iter().filter(|entry| entry.operation.borrow().has_ended()).count();
        let mut too_many = ended.saturating_sub(MAX_ENDED);
        state.entries.retain(|entry| {
            let forgotten = too_many > 0 && entry.operation.borrow().has_ended();
            too_many -= usize::from(forgotten);
            !forgotten
        });
        let next = state.entries.iter().find(|entry| entry.state() == OperationState::Queued).cloned();
        match &next {
            Some(entry) => entry.operation.send_modify(Operation::start),
            None => state.working = false,
        }
        next
    }

    async fn perform(&self, entry: &Entry) -> Result<Option<serde_json::Value>, AdministrationError> {
        if entry.cancel.is_cancelled() {
            return Err(AdministrationError::Cancelled);
        }
        let trace_id = entry.operation.borrow().summary.trace_id.clone();
        let step = |step: String| entry.operation.send_modify(|operation| operation.step(&step));
        let performed = self.administration.perform(&entry.task, &trace_id, &step, &entry.cancel);
        // A fault of ours ends one operation, not all that follow.
        AssertUnwindSafe(performed).catch_unwind().await.unwrap_or_else(|_| {
            Err(AdministrationError::Failed(format!("internal error (trace id {trace_id})")))
        })
    }
}

/// Performs what is queued, one after the other, until nothing is.
async fn work(shared: Arc<Shared>) {
    while let Some(entry) = shared.next() {
        let outcome = shared.perform(&entry).await;
        let (kind, target) = (entry.task.kind(), entry.task.language());
        let trace_id = entry.operation.borrow().summary.trace_id.clone();
        match &outcome {
            Ok(_) => tracing::info!(trace_id, kind, %target, "an operation is done"),
            Err(error) => tracing::warn!(trace_id, kind, %target, %error, "an operation is not done"),
        }
        let changes_snapshots = outcome.is_ok() && entry.task.changes_snapshots();
        entry.operation.send_modify(|operation| operation.end(outcome));
        if changes_snapshots {
            shared.pool.look_for_snapshots();
        }
    }
}
