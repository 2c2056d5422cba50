//! What the routes ask of jobs.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use engine::pool::Pool;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;
use vmm::spec::MachineSpec;

use super::{
    callback::{Deliveries, Sender, SenderError, SigningSecret},
    job::{IfInterrupted, Job, JobPage, now},
    ledger::{self, Acceptance, Bounds, Cancelled, Counts, Filter, Full, Interruption, Key, NewJob, Viewer},
    runners::{Runners, sweep},
    settings::{JobSettings, StartJobsError},
    store::{Store, connect},
};
use crate::{
    database::OpenError,
    keeper::NoAnswer,
    metrics::{Metrics, Traces},
};

/// Jobs. They begin to run at once, and end when this is dropped.
pub struct Jobs {
    store: Store,
    settings: JobSettings,
    sender: Sender,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the tasks share.
pub(super) struct Shared {
    /// There may be something to run.
    pub(super) turn: Notify,
    /// There may be something to be told.
    pub(super) due: Arc<Notify>,
    pub(super) interruption: Interruption,
    /// Nothing more is begun.
    pub(super) stop: CancellationToken,
    /// What runs is interrupted.
    pub(super) cut: CancellationToken,
    pub(super) runners: TaskTracker,
    /// What sends callbacks.
    deliveries: TaskTracker,
    /// Those that run.
    pub(super) running: Mutex<HashMap<String, CancellationToken>>,
    changes: Mutex<HashMap<String, watch::Sender<()>>>,
}

impl Shared {
    /// Tells those who wait for a change of a job.
    pub(super) fn changed(&self, id: &str) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = changes.get(id) {
            changed.send_replace(());
        }
    }

    fn watch(&self, id: &str) -> watch::Receiver<()> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.entry(id.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// One waits no more.
    fn unwatch(&self, id: &str, watched: watch::Receiver<()>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        drop(watched);
        if changes.get(id).is_some_and(|changed| changed.receiver_count() == 0) {
            changes.remove(id);
        }
    }
}

/// Somebody who waits for a change of a job, until he goes away.
struct Waiting<'a> {
    shared: &'a Shared,
    id: &'a str,
    /// Absent only while it is dropped.
    watched: Option<watch::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            self.shared.unwatch(self.id, watched);
        }
    }
}

/// A job that is asked for.
pub(crate) struct Asked {
    pub(crate) owner: String,
    pub(crate) tenant: String,
    pub(crate) trace_id: String,
    pub(crate) language: String,
    pub(crate) machine: MachineSpec,
    pub(crate) executions: u32,
    /// As JSON.
    pub(crate) request: Vec<u8>,
    pub(crate) if_interrupted: IfInterrupted,
    /// How long it is kept once it has ended.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) callback_url: Option<String>,
    pub(crate) key: Option<Key>,
}

/// A job that was asked for.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) job: Job,
    /// Whether it was there before, under the same key.
    pub(crate) was_known: bool,
}

/// What `DELETE` has done.
#[derive(Debug)]
pub(crate) enum Removed {
    /// It was cancelled.
    Cancelled(Box<Job>),
    /// It had ended, and is forgotten.
    Forgotten,
}

/// Why a job was not taken, or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// There are too many of the caller's.
    #[error("E002: API quota exceeded: {0}")]
    CallerFull(Full),
    /// There are too many of everybody's.
    #[error("E008: server busy: {0}")]
    Full(Full),
    /// Its key was used before, with another body.
    #[error("E007: invalid request: Idempotency-Key: another request had it")]
    OtherBody,
    /// The file cannot be used.
    #[error("E010: internal error: the jobs' database cannot be used{}", .0.reason())]
    Store(#[from] NoAnswer),
}

impl Jobs {
    /// Opens the file, and goes on with what is in it.
    pub async fn start(
        settings: JobSettings,
        pool: Pool,
        metrics: &Arc<Metrics>,
        traces: Option<Arc<dyn Traces>>,
    ) -> Result<Self, StartJobsError> {
        let path = settings.path.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
        let store = opened.map_err(|_| NoAnswer::Ended)??;
        let interruption = Interruption { most: settings.reruns };
        let recovered = store.ask(move |connection| {
            let (was_running, secret) =
                (ledger::recover(connection, interruption, now())?, ledger::secret(connection)?);
            Ok((was_running, ledger::counts(connection)?, secret))
        });
        let (was_running, counts, secret) = recovered.await?;
        if counts.kept > 0 {
            tracing::info!(
                was_running,
                queued = counts.queued,
                kept = counts.kept,
                "goes on with the jobs of before"
            );
        }
        let secret = settings.callback_secret.clone().unwrap_or_else(|| SigningSecret::stored(secret));
        let allowed = settings.callback_networks.clone().into();
        let sender = Sender::new(Arc::clone(&settings.lookup), allowed, secret, settings.callback_timeout);
        let sender = sender.map_err(StartJobsError::Client)?;
        let shared = Arc::new(Shared {
            turn: Notify::new(),
            due: Arc::new(Notify::new()),
            interruption,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            runners: TaskTracker::new(),
            deliveries: TaskTracker::new(),
            running: Mutex::default(),
            changes: Mutex::default(),
        });
        let runners = Runners {
            store: store.clone(),
            pool,
            metrics: Arc::clone(metrics),
            traces,
            shared: Arc::clone(&shared),
        };
        let deliveries = Deliveries {
            store: store.clone(),
            sender: sender.clone(),
            attempts: settings.callback_attempts,
            metrics: Arc::clone(metrics),
            due: Arc::clone(&shared.due),
            stop: shared.cut.clone(),
        };
        let tasks = vec![
            shared.runners.spawn(runners.run(settings.running.max(1))),
            shared.deliveries.spawn(deliveries.run()),
            tokio::spawn(sweep(store.clone(), Arc::clone(&shared))),
        ];
        Ok(Self { store, settings, sender, metrics: Arc::clone(metrics), shared, tasks })
    }

    /// The longest that a job may be kept once it has ended.
    pub(crate) fn longest_lifetime(&self) -> Duration {
        self.settings.longest_lifetime
    }

    /// Whether this can be the URL of a callback.
    pub(crate) fn check_callback(&self, url: &str) -> Result<(), SenderError> {
        self.sender.check(url).map(drop)
    }

    /// The job that was taken under a key, if there is one.
    pub(crate) async fn known(&self, owner: &str, key: &Key) -> Result<Option<Taken>, AskError> {
        let (viewer, owner, key) = (Viewer::Owner(owner.to_owned()), owner.to_owned(), key.clone());
        let found = self.store.ask(move |connection| {
            let Some(known) = ledger::known(connection, &owner, &key)? else { return Ok(None) };
            taken(connection, &viewer, known).map(Some)
        });
        found.await?.transpose()
    }

    /// Takes a job. When this returns it is on disk.
    pub(crate) async fn take(&self, asked: Asked) -> Result<Taken, AskError> {
        let settings = &self.settings;
        let lifetime = asked.lifetime.unwrap_or(settings.usual_lifetime);
        let bounds =
            Bounds { queued: settings.most_queued, kept: settings.most_kept, bytes: settings.most_bytes };
        let job = NewJob {
            id: Uuid::now_v7().to_string(),
            owner: asked.owner,
            tenant: asked.tenant,
            trace_id: asked.trace_id,
            language: asked.language,
            machine: asked.machine,
            executions: asked.executions,
            request: asked.request,
            if_interrupted: asked.if_interrupted,
            lifetime: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2),
            key: asked.key,
            callback_url: asked.callback_url,
        };
        let taken = self.store.ask(move |connection| {
            let acceptance = ledger::accept(connection, &job, bounds, now())?;
            self::taken(connection, &Viewer::Owner(job.owner.clone()), acceptance)
        });
        let taken = taken.await;
        // Also where there was no answer: it may have been taken all the same, a moment later.
        self.shared.turn.notify_one();
        taken?
    }

    /// A job, now or when its state has changed.
    pub(crate) async fn get(
        &self,
        viewer: &Viewer,
        id: &str,
        wait: Duration,
    ) -> Result<Option<Job>, NoAnswer> {
        let waiting = Waiting { shared: &self.shared, id, watched: Some(self.shared.watch(id)) };
        let found = self.look(viewer, id).await?;
        let (Some(job), false) = (&found, wait.is_zero()) else { return Ok(found) };
        if job.summary.state.is_final() {
            return Ok(found);
        }
        let mut waiting = waiting;
        if let Some(watched) = waiting.watched.as_mut() {
            // It may also be that the service stops: the answer is the same.
            let changed = async {
                tokio::select! { _ = watched.changed() => {}, () = self.shared.stop.cancelled() => {} }
            };
            // Nor is it another when the time is up.
            let _ = tokio::time::timeout(wait, changed).await;
        }
        self.look(viewer, id).await
    }

    async fn look(&self, viewer: &Viewer, id: &str) -> Result<Option<Job>, NoAnswer> {
        let (viewer, id) = (viewer.clone(), id.to_owned());
        self.store.ask(move |connection| ledger::job(connection, &viewer, &id)).await
    }

    /// Those that there are.
    pub(crate) async fn list(&self, viewer: Viewer, filter: Filter) -> Result<JobPage, NoAnswer> {
        self.store.ask(move |connection| ledger::list(connection, &viewer, &filter)).await
    }

    /// Cancels a job, or forgets one that has ended. Nothing where there is none.
    pub(crate) async fn remove(&self, viewer: &Viewer, id: &str) -> Result<Option<Removed>, NoAnswer> {
        let (asked_by, asked_for) = (viewer.clone(), id.to_owned());
        let cancelled = self.store.ask(move |connection| {
            let cancelled = ledger::cancel(connection, &asked_by, &asked_for, now())?;
            Ok((cancelled, ledger::job(connection, &asked_by, &asked_for)?))
        });
        let (cancelled, seen) = cancelled.await?;
        match cancelled {
            Cancelled::Unknown => return Ok(None),
            Cancelled::Removed => return Ok(Some(Removed::Forgotten)),
            Cancelled::Queued | Cancelled::Running => {}
        }
        // What it says when it ends now is of no interest any more.
        if let Some(running) = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            running.cancel();
        }
        self.metrics.job_ended("cancelled");
        self.shared.changed(id);
        self.shared.due.notify_one();
        Ok(seen.map(|job| Removed::Cancelled(Box::new(job))))
    }

    /// How many there are.
    pub(crate) async fn counts(&self) -> Result<Counts, NoAnswer> {
        self.store.ask(ledger::counts).await
    }

    /// Begins no more, and waits until none runs, for so long.
    pub(crate) async fn stop(&self, patience: Duration) {
        self.shared.stop.cancel();
        self.shared.runners.close();
        // Those that still run then are interrupted by [`Self::end`].
        let _ = tokio::time::timeout(patience, self.shared.runners.wait()).await;
    }

    /// Interrupts what runs, and waits until that is noted, and what has become of callbacks that are being sent.
    pub(crate) async fn end(&self) {
        self.shared.stop.cancel();
        self.shared.cut.cancel();
        for tasks in [&self.shared.runners, &self.shared.deliveries] {
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.cut.cancel();
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What a key is known for.
fn taken(
    connection: &rusqlite::Connection,
    viewer: &Viewer,
    acceptance: Acceptance,
) -> rusqlite::Result<Result<Taken, AskError>> {
    Ok(match acceptance {
        Acceptance::Accepted(id) => Ok(Taken { job: present(connection, viewer, &id)?, was_known: false }),
        Acceptance::Known(id) => Ok(Taken { job: present(connection, viewer, &id)?, was_known: true }),
        Acceptance::OtherBody => Err(AskError::OtherBody),
        Acceptance::Refused(full) if full.is_callers() => Err(AskError::CallerFull(full)),
        Acceptance::Refused(full) => Err(AskError::Full(full)),
    })
}

/// A job that is known to be there.
fn present(connection: &rusqlite::Connection, viewer: &Viewer, id: &str) -> rusqlite::Result<Job> {
    ledger::job(connection, viewer, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

impl Key {
    /// The key of a request with this body.
    pub(crate) fn new(text: String, body: &[u8]) -> Self {
        Self { text, body_sha256: Sha256::digest(body).into() }
    }
}

/// The secret with which callbacks are signed where the configuration names none, from the file at `path`, which is made
/// where there is none.
pub fn signing_secret(path: &Path) -> Result<SigningSecret, OpenError> {
    let connection = connect(path)?;
    let secret = ledger::secret(&connection).map_err(|source| super::schema::SCHEMA.failed(path, source))?;
    Ok(SigningSecret::stored(secret))
}
