//! The thread that owns the connection to the file with jobs.
//!
//! ```text
//! questions ──▶ batch ──▶ one transaction for all of them ──▶ on disk ──▶ answered
//!                            └─ fails ──▶ one for each, so that none suffers for another
//! ```
//!
//! Batches are those of [`crate::keeper`]; the price of a commit is one of the disk here.
//!
//! Where the wall clock was set since the last transaction, the next one begins with moving the times in the file along, before
//! anything is compared with them.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{clock::WallClock, ledger, schema::SCHEMA};
use crate::{
    database::{self, Durability, OpenError, empty_log},
    keeper::{Keeper, NoAnswer, next_batch},
};

/// How long to wait for commands that have the file open. Each of them takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a question waits for its answer: for the batch at work, and for its own, on a disk that is slow.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks the thread. Clones ask the same one; the file is closed when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Store {
    keeper: Arc<Keeper<Box<dyn Question>>>,
}

impl Store {
    /// Opens the file, and makes it where there is none. Blocks for as long as that takes.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connect(path)?;
        let keeper = Keeper::start("jobs", &SCHEMA, path, DEADLINE, |inbox| {
            let worker = Worker { connection, path: path.into(), inbox, clock: WallClock::now() };
            Ok(move || worker.run())
        })?;
        Ok(Self { keeper: Arc::new(keeper) })
    }

    /// Has `work` done as a part of a transaction, and gives what it has found once that is on disk. It may be done again
    /// where the transaction has failed, and is not done where nobody waits for it any more.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        self.keeper.ask(|reply| Box::new(Asked { work, found: None, reply }) as Box<dyn Question>).await?
    }

    /// The same, for as long as it takes: of what must not be done without somebody who knows that it was, as taking a job is.
    pub(super) async fn ask_patiently<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let question = |reply| Box::new(Asked { work, found: None, reply }) as Box<dyn Question>;
        self.keeper.ask_patiently(question).await?
    }
}

/// A connection to the file, which is made where there is none.
pub(super) fn connect(path: &Path) -> Result<Connection, OpenError> {
    database::open(path, &SCHEMA, Durability::Full, PATIENCE)
}

/// Something that is to be done in a transaction.
trait Question: Send {
    fn is_abandoned(&self) -> bool;
    fn perform(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()>;
    /// What it has found holds if the transaction does.
    fn answer(self: Box<Self>, committed: Result<(), NoAnswer>);
}

struct Asked<F, T> {
    work: F,
    found: Option<T>,
    reply: oneshot::Sender<Result<T, NoAnswer>>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> Question for Asked<F, T> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn perform(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.found = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), NoAnswer>) {
        let Self { found, reply, .. } = *self;
        let answer = committed.and_then(|()| found.ok_or(NoAnswer::Ended));
        // Whoever has gone away meanwhile finds it in the file.
        let _ = reply.send(answer);
    }
}

struct Worker {
    connection: Connection,
    path: Arc<Path>,
    inbox: mpsc::Receiver<Box<dyn Question>>,
    /// As it was at the last transaction that was committed.
    clock: WallClock,
}

impl Worker {
    /// Until nobody can ask any more.
    fn run(mut self) {
        while let Some(mut batch) = next_batch(&mut self.inbox) {
            batch.retain(|question| !question.is_abandoned());
            self.serve(batch);
        }
    }

    fn serve(&mut self, mut batch: Vec<Box<dyn Question>>) {
        if self.perform(&mut batch).is_ok() {
            for question in batch {
                question.answer(Ok(()));
            }
            return;
        }
        for question in batch {
            let mut alone = [question];
            let done = self.perform(&mut alone);
            let [question] = alone;
            question.answer(done.map_err(|source| NoAnswer::failed(&SCHEMA, &self.path, source)));
        }
    }

    fn perform(&mut self, batch: &mut [Box<dyn Question>]) -> rusqlite::Result<()> {
        let done = self.transact(batch);
        match &done {
            Err(error) if empty_log(&self.connection, error) => self.transact(batch),
            _ => done,
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Question>]) -> rusqlite::Result<()> {
        loop {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let clock = WallClock::now();
            if let Some(jump) = self.clock.jump_until(clock) {
                tracing::warn!(seconds = jump / 1000, "the clock was set: the times of jobs are moved along");
                ledger::shift(&transaction, jump)?;
            }
            for question in batch.iter_mut() {
                question.perform(&transaction)?;
            }
            let after = WallClock::now();
            // Set in the middle: some would be done by one time, some by the other.
            if clock.jump_until(after).is_some() {
                continue;
            }
            transaction.commit()?;
            self.clock = after;
            return Ok(());
        }
    }
}
