//! The thread that owns the connection to the file with jobs.
//!
//! ```text
//! questions ──▶ batch ──▶ one transaction for all of them ──▶ on disk ──▶ answered
//!                            └─ fails ──▶ one for each, so that none suffers for another
//! ```
//!
//! A batch is whatever is waiting: under load many share the price of a commit, which here is one of the disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::schema::SCHEMA;
use crate::database::{self, Durability, OpenError, empty_log};

/// Questions that wait for the thread.
const WAITING: usize = 1024;

/// The most of them that share a transaction.
const MAX_BATCH: usize = 256;

/// How long to wait for commands that have the file open. Each of them takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a question waits for its answer: for the batch at work, and for its own, on a disk that is slow.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why there is no answer. What was asked for may have been done all the same where that has come too late.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("cannot use the jobs in {}", .path.display())]
    Database {
        /// The file.
        path: Arc<Path>,
        /// Why not.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Too many are asking.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Overloaded,
    /// The thread has ended, which it does only by a fault of the program.
    #[error("the thread that answers has ended")]
    Ended,
}

impl StoreError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { path, source } => database::hint(path, SCHEMA.loss, source),
            Self::Overloaded => None,
            Self::Ended => Some("restart the service".to_owned()),
        }
    }
}

/// Asks the thread. Clones ask the same one; the file is closed when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Store {
    connected: Arc<Connected>,
}

#[derive(Debug)]
struct Connected {
    /// Absent only while it is dropped.
    questions: Option<mpsc::Sender<Box<dyn Question>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing left but to close the file. Had it panicked, nobody would be left to be told.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the file, and makes it where there is none. Blocks for as long as that takes.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = connect(path)?;
        let (questions, inbox) = mpsc::channel(WAITING);
        let keeper = Keeper { connection, path: path.into(), inbox };
        let thread = std::thread::Builder::new().name("jobs".to_owned()).spawn(move || keeper.run());
        let thread = thread.map_err(|source| OpenError::Thread {
            what: SCHEMA.what,
            path: PathBuf::from(path),
            source,
        })?;
        let connected = Connected { questions: Some(questions), thread: Some(thread) };
        Ok(Self { connected: Arc::new(connected) })
    }

    /// Has `work` done as a part of a transaction, and gives what it has found once that is on disk. It may be done again
    /// where the transaction has failed, and is not done where nobody waits for it any more.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let questions = self.connected.questions.as_ref().ok_or(StoreError::Ended)?;
        let (reply, answer) = oneshot::channel();
        let asked = Asked { work, found: None, reply };
        let answered = async {
            questions.send(Box::new(asked)).await.map_err(|_| StoreError::Ended)?;
            answer.await.map_err(|_| StoreError::Ended)?
        };
        tokio::time::timeout(DEADLINE, answered).await.unwrap_or(Err(StoreError::Overloaded))
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
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Asked<F, T> {
    work: F,
    found: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&Connection) -> rusqlite::Result<T> + Send> Question for Asked<F, T> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn perform(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.found = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { found, reply, .. } = *self;
        let answer = committed.and_then(|()| found.ok_or(StoreError::Ended));
        // Whoever has gone away meanwhile finds it in the file.
        let _ = reply.send(answer);
    }
}

struct Keeper {
    connection: Connection,
    path: Arc<Path>,
    inbox: mpsc::Receiver<Box<dyn Question>>,
}

impl Keeper {
    /// Until nobody can ask any more.
    fn run(mut self) {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Ok(next) = self.inbox.try_recv()
            {
                batch.push(next);
            }
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
            question.answer(done.map_err(|source| StoreError::Database {
                path: Arc::clone(&self.path),
                source: Arc::new(source),
            }));
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
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for question in batch {
            question.perform(&transaction)?;
        }
        transaction.commit()
    }
}
