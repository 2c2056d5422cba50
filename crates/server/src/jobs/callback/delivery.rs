//! Which callbacks are sent when: some at a time, those of one caller not before those of all others, and again later
//! where that may help.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::sender::{Message, Sender};
use crate::{
    jobs::{
        job::{Millis, now},
        ledger::{self, CallbackOutcome, DueCallback, Viewer},
        store::Store,
    },
    keeper::NoAnswer,
    metrics::Metrics,
};

/// How many are sent at the same time.
const AT_ONCE: usize = 16;

/// And of one caller.
const OF_EACH: u32 = 4;

/// Before the second attempt; before each other twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause.
pub(in crate::jobs) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Before the database is asked again after it could not be.
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);

/// Sends what is due.
pub(in crate::jobs) struct Deliveries {
    pub(in crate::jobs) store: Store,
    pub(in crate::jobs) sender: Sender,
    pub(in crate::jobs) attempts: u32,
    pub(in crate::jobs) metrics: Arc<Metrics>,
    /// Something may be due earlier than was thought.
    pub(in crate::jobs) due: Arc<Notify>,
    pub(in crate::jobs) stop: CancellationToken,
}

impl Deliveries {
    /// Until it is stopped. What is being sent then comes to its end, which is noted, so that nobody is told twice.
    pub(in crate::jobs) async fn run(self) {
        let stop = self.stop.clone();
        let mut sending = JoinSet::new();
        tokio::select! {
            () = Arc::new(self).keep_sending(&mut sending) => {}
            () = stop.cancelled() => {}
        }
        // Each attempt has a deadline of its own.
        while sending.join_next().await.is_some() {}
    }

    async fn keep_sending(self: Arc<Self>, sending: &mut JoinSet<()>) {
        let this = self;
        let under_way = Arc::new(Mutex::new(HashSet::new()));
        loop {
            let notified = this.due.notified();
            let next = match this.look(&under_way).await {
                Ok((due, next)) => {
                    for callback in due {
                        let guard = UnderWay::begin(&under_way, &callback.id);
                        let this = Arc::clone(&this);
                        sending.spawn(async move {
                            this.deliver(&callback).await;
                            drop(guard);
                        });
                    }
                    next
                }
                Err(error) => {
                    tracing::error!(error = engine::chain(&error), "cannot look for callbacks");
                    Some(now() + millis(PAUSE_AFTER_FAULT))
                }
            };
            let pause = async {
                match next {
                    Some(due) => {
                        let pause = u64::try_from(due.saturating_sub(now())).unwrap_or(0);
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = notified => {}
                () = pause => {}
                Some(_) = sending.join_next() => {}
            }
        }
    }

    /// What is to be sent now, and when something else is due.
    async fn look(
        &self,
        under_way: &Mutex<HashSet<String>>,
    ) -> Result<(Vec<DueCallback>, Option<Millis>), NoAnswer> {
        // As it is before the file is looked at: whatever ends meanwhile is noted there, but maybe only after that look.
        let before = under_way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = self.store.ask(|connection| {
            let now = now();
            Ok((ledger::due_callbacks(connection, OF_EACH, now)?, ledger::next_callback(connection, now)?))
        });
        let (mut due, next) = found.await?;
        due.retain(|callback| !before.contains(&callback.id));
        let under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner).len();
        due.truncate(AT_ONCE.saturating_sub(under_way));
        Ok((due, next))
    }

    async fn deliver(&self, callback: &DueCallback) {
        let Some(outcome) = self.attempt(callback).await else { return };
        let name = match &outcome {
            CallbackOutcome::Delivered => "delivered",
            CallbackOutcome::Again { .. } => "failed",
            CallbackOutcome::GivenUp { .. } => "given_up",
        };
        self.metrics.callback(name);
        // Until it is noted it would be sent again.
        let mut is_noted = self.note(callback, &outcome).await;
        while !is_noted && !self.stop.is_cancelled() {
            tokio::time::sleep(PAUSE_AFTER_FAULT).await;
            is_noted = self.note(callback, &outcome).await;
        }
    }

    async fn note(&self, callback: &DueCallback, outcome: &CallbackOutcome) -> bool {
        let (id, outcome) = (callback.id.clone(), outcome.clone());
        let noted =
            self.store.ask(move |connection| ledger::settle_callback(connection, &id, &outcome, now()));
        let noted = noted.await;
        if let Err(error) = &noted {
            tracing::error!(error = engine::chain(error), "cannot note what has become of a callback");
        }
        noted.is_ok()
    }

    /// Nothing where its job was removed meanwhile, or cannot be read now.
    async fn attempt(&self, callback: &DueCallback) -> Option<CallbackOutcome> {
        let id = callback.id.clone();
        let job =
            self.store.ask(move |connection| ledger::job(connection, &Viewer::Administrator, &id)).await;
        let mut job = match job {
            Ok(job) => job?,
            Err(error) => {
                tracing::error!(error = engine::chain(&error), "cannot read a job that is to be told of");
                tokio::time::sleep(PAUSE_AFTER_FAULT).await;
                return None;
            }
        };
        // So that all attempts say the same.
        job.summary.callback = None;
        let body = serde_json::to_vec(&job).ok()?;
        let message_id = format!("msg_{}", callback.id);
        let message = Message { id: &message_id, timestamp: now() / 1000, body };
        Some(match self.sender.send(&callback.url, message).await {
            Ok(()) => CallbackOutcome::Delivered,
            Err(error) => {
                let text = error.to_string();
                tracing::info!(job = callback.id, error = text, "a callback was not taken");
                let attempts = callback.attempts.saturating_add(1);
                if error.is_final() || attempts >= self.attempts {
                    CallbackOutcome::GivenUp { error: text }
                } else {
                    CallbackOutcome::Again { error: text, due: now() + millis(pause(attempts)) }
                }
            }
        })
    }
}

/// One that is being sent.
struct UnderWay {
    all: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl UnderWay {
    fn begin(all: &Arc<Mutex<HashSet<String>>>, id: &str) -> Self {
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        Self { all: Arc::clone(all), id: id.to_owned() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// How long to wait after so many attempts: twice as long each time, and up to a quarter more or less, so that those that
/// failed together do not all come again together.
fn pause(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(LONGEST_PAUSE);
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    doubled.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_not_all_the_same() {
        for (attempts, middle) in [(1, 2.0), (2, 4.0), (5, 32.0), (30, 3600.0), (u32::MAX, 3600.0)] {
            for _ in 0..50 {
                let seconds = pause(attempts).as_secs_f64();
                assert!((0.74 * middle..=1.26 * middle).contains(&seconds), "{attempts}: {seconds}");
            }
        }
        assert!((0..50).map(|_| pause(3)).any(|other| other != pause(3)));
    }
}
