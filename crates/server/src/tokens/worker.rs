//! The thread that owns the service's connection to the database.
//!
//! ```text
//! questions ──▶ batch ─┬─▶ authentications: answered from memory, which is read anew when a token was changed
//!                      └─▶ refunds, admissions: one transaction for all of them ─▶ committed ─▶ answered
//! ```
//!
//! Batches are those of [`crate::keeper`].

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    authority::{AdmitError, Allowance, AuthError, Caller},
    grant::Grant,
    ledger,
    quota::{Moment, QuotaExceeded},
    register::{StoredToken, TokenState, stored_tokens},
    text::{PresentedToken, SecretHash, TokenId},
};
use crate::{
    database::empty_log,
    keeper::{NoAnswer, next_batch},
    tokens::SCHEMA,
};

/// Who is it?
pub(super) struct Authentication {
    pub(super) presented: PresentedToken,
    pub(super) reply: oneshot::Sender<Result<Caller, AuthError>>,
}

/// May it be let in?
pub(super) struct Admission {
    pub(super) token: TokenId,
    pub(super) executions: u32,
    pub(super) reply: oneshot::Sender<Result<Allowance, AdmitError>>,
}

/// It was not run.
pub(super) struct Refund {
    pub(super) token: TokenId,
    pub(super) day: i64,
    pub(super) executions: u32,
    pub(super) reply: oneshot::Sender<Result<(), NoAnswer>>,
}

/// What the worker is asked.
pub(super) enum Message {
    Authenticate(Authentication),
    Admit(Admission),
    Refund(Refund),
}

/// One of the requests of a token that run now. Dropped also by an answer that nobody is waiting for any more.
#[derive(Debug)]
pub(super) struct Running(Arc<AtomicU32>);

impl Running {
    /// Only the worker adds, so what it has read can but become less.
    fn begin(count: &Arc<AtomicU32>, limit: Option<u32>) -> Result<Self, QuotaExceeded> {
        match limit {
            Some(limit) if count.load(Ordering::Acquire) >= limit => {
                Err(QuotaExceeded::Concurrency { limit })
            }
            _ => {
                count.fetch_add(1, Ordering::AcqRel);
                Ok(Self(Arc::clone(count)))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells the time.
pub(super) type Clock = Box<dyn Fn() -> Moment + Send>;

/// The thread's state.
pub(super) struct Worker {
    connection: Connection,
    path: Arc<Path>,
    clock: Clock,
    tokens: KnownTokens,
    inbox: mpsc::Receiver<Message>,
}

type Verdict = Result<Allowance, AdmitError>;

impl Worker {
    pub(super) fn new(
        connection: Connection,
        path: &Path,
        clock: Clock,
        inbox: mpsc::Receiver<Message>,
    ) -> rusqlite::Result<Self> {
        let mut tokens = KnownTokens::default();
        tokens.refresh(&connection)?;
        Ok(Self { connection, path: path.into(), clock, tokens, inbox })
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self) {
        while let Some(batch) = next_batch(&mut self.inbox) {
            self.serve(batch);
        }
    }

    fn serve(&mut self, batch: Vec<Message>) {
        let (mut authentications, mut admissions, mut refunds) = (Vec::new(), Vec::new(), Vec::new());
        for message in batch {
            match message {
                Message::Authenticate(authentication) => authentications.push(authentication),
                // Whoever has gone away needs no room.
                Message::Admit(admission) if admission.reply.is_closed() => {}
                Message::Admit(admission) => admissions.push(admission),
                Message::Refund(refund) => refunds.push(refund),
            }
        }
        let refreshed = self.tokens.refresh(&self.connection).map_err(|error| self.failed(error));
        let now = (self.clock)();
        for Authentication { presented, reply } in authentications {
            let answer = self.tokens.authenticate(&presented, now, refreshed.as_ref().err());
            // Here and below: of somebody who has gone away nothing has to be undone but what is dropped anyway.
            let _ = reply.send(answer);
        }
        if admissions.is_empty() && refunds.is_empty() {
            return;
        }
        match refreshed {
            Ok(()) => self.settle(admissions, refunds),
            Err(error) => refuse(admissions, refunds, &error),
        }
    }

    fn settle(&mut self, admissions: Vec<Admission>, refunds: Vec<Refund>) {
        let recorded = self.record(&admissions, &refunds).or_else(|error| {
            if empty_log(&self.connection, &error) { self.record(&admissions, &refunds) } else { Err(error) }
        });
        match recorded {
            Ok(verdicts) => {
                for (admission, verdict) in admissions.into_iter().zip(verdicts) {
                    let _ = admission.reply.send(verdict);
                }
                for refund in refunds {
                    let _ = refund.reply.send(Ok(()));
                }
            }
            Err(error) => {
                let error = self.failed(error);
                let now = (self.clock)();
                // What needs no counting is not refused because something cannot be counted.
                let (counted, uncounted): (Vec<_>, Vec<_>) =
                    admissions.into_iter().partition(|admission| self.tokens.is_counted(&admission.token));
                for admission in uncounted {
                    let verdict = self.tokens.begin(&admission.token, now);
                    let verdict = verdict.map(|(running, _)| Allowance { running, day: now.day() });
                    let _ = admission.reply.send(verdict);
                }
                refuse(counted, refunds, &error);
            }
        }
    }

    /// Counts them all, and has that on disk before it returns.
    fn record(&mut self, admissions: &[Admission], refunds: &[Refund]) -> rusqlite::Result<Vec<Verdict>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Again, for a token may have been revoked before this transaction began. From here on none can be.
        self.tokens.refresh(&transaction)?;
        let now = (self.clock)();
        for Refund { token, day, executions, .. } in refunds {
            ledger::give_back(&transaction, token, *day, *executions)?;
        }
        let mut verdicts = Vec::with_capacity(admissions.len());
        for Admission { token, executions, .. } in admissions {
            verdicts.push(match self.tokens.begin(token, now) {
                Ok((running, grant)) => ledger::charge(&transaction, token, grant, *executions, now)?
                    .map(|day| Allowance { running, day })
                    .map_err(AdmitError::Quota),
                Err(error) => Err(error),
            });
        }
        transaction.commit()?;
        Ok(verdicts)
    }

    fn failed(&self, error: rusqlite::Error) -> NoAnswer {
        NoAnswer::failed(&SCHEMA, &self.path, error)
    }
}

fn refuse(admissions: Vec<Admission>, refunds: Vec<Refund>, error: &NoAnswer) {
    for admission in admissions {
        let _ = admission.reply.send(Err(AdmitError::Unavailable(error.clone())));
    }
    for refund in refunds {
        let _ = refund.reply.send(Err(error.clone()));
    }
}

/// All tokens, as they were when they last changed.
#[derive(Default)]
struct KnownTokens {
    /// Another when another connection has committed something.
    data_version: Option<i64>,
    /// Another when that concerned a token.
    changes: Option<i64>,
    tokens: HashMap<TokenId, Known>,
}

struct Known {
    stored: StoredToken,
    grant: Arc<Grant>,
    running: Arc<AtomicU32>,
}

impl KnownTokens {
    /// Reads them anew if one was changed, which is found out without reading any.
    fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let number =
            |query| connection.prepare_cached(query)?.query_row([], |row| row.get::<_, i64>(0)).map(Some);
        let data_version = number("PRAGMA data_version")?;
        if self.data_version == data_version {
            return Ok(());
        }
        // In this order: what is changed in between is read again the next time.
        let changes = number("SELECT number FROM token_changes")?;
        if self.changes != changes {
            let stored = stored_tokens(connection)?;
            self.replace(stored);
            self.changes = changes;
        }
        self.data_version = data_version;
        Ok(())
    }

    fn replace(&mut self, stored: Vec<StoredToken>) {
        let mut before = std::mem::take(&mut self.tokens);
        self.tokens = stored
            .into_iter()
            .map(|stored| {
                let running = before.remove(&stored.id).map(|known| known.running).unwrap_or_default();
                let grant = Arc::new(stored.grant.clone());
                (stored.id.clone(), Known { stored, grant, running })
            })
            .collect();
    }

    /// Who has this token. An `outage` is why the tokens could not be read anew.
    ///
    /// An unknown id costs as much as a wrong secret, and both get the same answer.
    fn authenticate(
        &self,
        presented: &PresentedToken,
        now: Moment,
        outage: Option<&NoAnswer>,
    ) -> Result<Caller, AuthError> {
        let known = self.tokens.get(&presented.id);
        let secret = known.map_or(&SecretHash::OF_NOBODY, |known| &known.stored.secret);
        let is_equal = bool::from(secret.equals(&presented.hash));
        match known {
            Some(known) if is_equal && known.stored.state(now) == TokenState::Active => {
                Ok(Caller::new(presented.id.clone(), Arc::clone(&known.grant)))
            }
            // It may be a new one.
            _ => Err(outage.map_or(AuthError::Invalid, |outage| AuthError::Unavailable(outage.clone()))),
        }
    }

    /// Begins a request of a token, if it is valid and there is room.
    fn begin(&self, token: &TokenId, now: Moment) -> Result<(Running, &Grant), AdmitError> {
        let known = self.tokens.get(token).ok_or(AdmitError::Invalid)?;
        if known.stored.state(now) != TokenState::Active {
            return Err(AdmitError::Invalid);
        }
        let running = Running::begin(&known.running, known.grant.concurrency)?;
        Ok((running, &known.grant))
    }

    fn is_counted(&self, token: &TokenId) -> bool {
        self.tokens.get(token).is_none_or(|known| known.grant.is_counted())
    }
}
