//! Who runs jobs: some at a time, each through the pool as any other request.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use engine::{
    Outcome, Request,
    pool::{Admission, Pool, PoolError, Refusal, Tenant},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    job::{Millis, now},
    ledger::{self, Claimed, End},
    service::Shared,
    store::Store,
};
use crate::{
    error::ApiError,
    keeper::NoAnswer,
    metrics::{Metrics, Recorded, Traces},
    trace::TraceId,
};

/// The largest answer that is kept, in bytes.
const MAX_RESULT_BYTES: usize = 64 << 20;

/// Before a job is tried again that the pool had no room for; longer each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause before one is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Before the file is asked again after it could not be.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// How many attempts to note an end fail for each that is logged: the disk that is full may be that of the log.
const FAULTS_FOR_EACH_LOGGED: u32 = 60;

/// How often it is looked for jobs that have expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How many are removed at once: others have their turn between.
const SWEPT_AT_ONCE: u32 = 200;

/// Runs jobs.
pub(super) struct Runners {
    pub(super) store: Store,
    pub(super) pool: Pool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Option<Arc<dyn Traces>>,
    pub(super) shared: Arc<Shared>,
}

/// What an attempt came to.
enum Attempted {
    Ended(End),
    /// There was no room, or the service stops: to be tried again.
    Refused,
    /// It was cut off, for the service ends.
    Interrupted,
    /// Its job was cancelled.
    Cancelled,
}

impl Runners {
    /// Until it is stopped. Those that run then run on.
    pub(super) async fn run(self, at_once: usize) {
        let this = Arc::new(self);
        let room = Arc::new(Semaphore::new(at_once));
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&room).acquire_owned() => permit,
                () = this.shared.stop.cancelled() => return,
            };
            let (Ok(permit), Some(claimed)) = (permit, this.next().await) else { return };
            let runner = Arc::clone(&this);
            let running = async move {
                runner.attend(claimed).await;
                drop(permit);
            };
            this.shared.runners.spawn(running);
        }
    }

    /// Waits for a job whose turn it is; nothing once it is stopped.
    async fn next(&self) -> Option<Claimed> {
        let stop = &self.shared.stop;
        loop {
            let notified = self.shared.turn.notified();
            if stop.is_cancelled() {
                return None;
            }
            // Taken by a commit that came too late, it would run nowhere.
            let found = self.store.ask_patiently(|connection| {
                let claimed = ledger::claim(connection, now())?;
                let next = if claimed.is_some() { None } else { ledger::next_turn(connection)? };
                Ok((claimed, next))
            });
            // Not cut off by a stop: it would be in the file that it runs.
            let pause = match found.await {
                Ok((Some(claimed), _)) => return Some(claimed),
                Ok((None, next)) => next.map(until),
                Err(error) => {
                    tracing::error!(error = engine::chain(&error), "cannot look for jobs");
                    Some(PAUSE_AFTER_FAULT)
                }
            };
            let pause = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = notified => {}
                () = pause => {}
                () = stop.cancelled() => return None,
            }
        }
    }

    async fn attend(&self, claimed: Claimed) {
        let span = tracing::error_span!(
            "job",
            job = claimed.id,
            trace_id = claimed.trace_id,
            language = tracing::field::Empty,
            outcome = tracing::field::Empty,
            queue_micros = tracing::field::Empty,
            run_micros = tracing::field::Empty
        );
        let cancel = CancellationToken::new();
        let guard = Listed::begin(&self.shared, &claimed.id, &cancel);
        self.shared.changed(&claimed.id);
        let attempted = self.attempt(&claimed, &cancel).instrument(span.clone()).await;
        drop(guard);
        self.settle(&claimed, attempted).instrument(span).await;
        self.shared.changed(&claimed.id);
        self.shared.due.notify_one();
        // Where it waits again, nobody knew until when.
        self.shared.turn.notify_one();
    }

    async fn attempt(&self, claimed: &Claimed, cancel: &CancellationToken) -> Attempted {
        // Whoever cancelled it before it was listed has not found it there.
        let (id, attempt) = (claimed.id.clone(), claimed.attempt);
        let is_present = self.store.ask(move |connection| ledger::is_present(connection, (&id, attempt)));
        if matches!(is_present.await, Ok(false)) {
            return Attempted::Cancelled;
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Attempted::Cancelled,
            () = self.shared.cut.cancelled() => Attempted::Interrupted,
            attempted = self.serve(claimed) => attempted,
        }
    }

    async fn serve(&self, claimed: &Claimed) -> Attempted {
        let trace_id = TraceId(claimed.trace_id.clone());
        let mut recorded = Recorded::begin(&self.metrics, self.traces.as_deref(), &trace_id, None);
        let answered = self.answer(claimed, &mut recorded).await;
        recorded.end(answered.as_ref());
        match answered {
            Ok(outcome) => Attempted::Ended(end(&outcome)),
            Err(ApiError::Pool(PoolError::Refused(
                Refusal::Busy { .. } | Refusal::TimedOut | Refusal::Stopping,
            ))) => Attempted::Refused,
            Err(error) => {
                tracing::info!(error = engine::chain(&error), "a job has failed");
                Attempted::Ended(End::Failed(error.page(&claimed.trace_id)))
            }
        }
    }

    async fn answer(&self, claimed: &Claimed, recorded: &mut Recorded<'_>) -> Result<Outcome, ApiError> {
        // A later release may have other languages or bounds.
        let request = Request::from_json(&claimed.request, self.pool.engine().languages())?;
        recorded.is_of(&request.language.name);
        let admission = Admission {
            tenant: Tenant(Arc::from(claimed.tenant.as_str())),
            machine: claimed.machine,
            trace_id: claimed.trace_id.clone(),
        };
        recorded.queued();
        self.pool.run(&request, admission).await.map_err(ApiError::Pool)
    }

    /// Notes what an attempt came to, for as long as that takes: it is not to be lost for a disk that is full now.
    async fn settle(&self, claimed: &Claimed, attempted: Attempted) {
        let attempted = Arc::new(attempted);
        for fault in 0_u32.. {
            match self.note(claimed, &attempted).await {
                Ok(Some(state)) => return self.metrics.job_ended(state),
                Ok(None) => return,
                Err(error) if fault % FAULTS_FOR_EACH_LOGGED == 0 => {
                    let hint = error.hint();
                    let error = engine::chain(&error);
                    tracing::error!(error, hint, "cannot note what has become of a job: it is tried again");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE_AFTER_FAULT) => {}
                // It is found running at the next start, and treated as what it is then.
                () = self.shared.cut.cancelled() => return,
            }
        }
    }

    /// With what it has ended, where it has.
    async fn note(
        &self,
        claimed: &Claimed,
        attempted: &Arc<Attempted>,
    ) -> Result<Option<&'static str>, NoAnswer> {
        let (id, attempt, refusals) = (claimed.id.clone(), claimed.attempt, claimed.refusals);
        let interruption = self.shared.interruption;
        let (noted, attempted) = (Arc::clone(attempted), Arc::clone(attempted));
        let is_present = self.store.ask(move |connection| {
            let (this, now) = ((id.as_str(), attempt), now());
            match &*noted {
                Attempted::Ended(end) => ledger::finish(connection, this, end, now),
                Attempted::Refused => ledger::requeue(connection, this, now + pause(refusals)),
                Attempted::Interrupted => ledger::interrupt(connection, this, interruption, now),
                Attempted::Cancelled => Ok(true),
            }
        });
        let is_present = is_present.await?;
        Ok(match &*attempted {
            Attempted::Ended(End::Done(_)) if is_present => Some("done"),
            Attempted::Ended(End::Failed(_)) if is_present => Some("failed"),
            _ => None,
        })
    }
}

/// One that runs, among those that can be cancelled.
struct Listed<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl<'a> Listed<'a> {
    fn begin(shared: &'a Shared, id: &'a str, cancel: &CancellationToken) -> Self {
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(id.to_owned(), cancel.clone());
        Self { shared, id }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

fn end(outcome: &Outcome) -> End {
    match serde_json::to_vec(&outcome.answer) {
        Ok(result) if result.len() <= MAX_RESULT_BYTES => End::Done(result),
        Ok(_) => End::Failed(format!(
            "E007: invalid request: its answer is longer than {MAX_RESULT_BYTES} bytes: ask for fewer executions, or less of files"
        )),
        Err(_) => End::Failed("E010: internal error".to_owned()),
    }
}

/// How long one waits that was refused so often before.
fn pause(refusals: u32) -> Millis {
    let pause = FIRST_PAUSE.saturating_mul(1 << refusals.min(16)).min(LONGEST_PAUSE);
    Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX / 2)
}

fn until(moment: Millis) -> Duration {
    // Not at once again where a clock disagrees with itself.
    Duration::from_millis(u64::try_from(moment.saturating_sub(now())).unwrap_or(0).max(1))
}

/// Removes what has expired, until it is stopped.
pub(super) async fn sweep(store: Store, shared: Arc<Shared>) {
    loop {
        match store.ask(|connection| ledger::sweep(connection, SWEPT_AT_ONCE, now())).await {
            Ok(swept) if swept >= SWEPT_AT_ONCE as usize => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = engine::chain(&error), "cannot remove jobs that have expired");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}
