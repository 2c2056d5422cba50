//! The thread that owns the connection to a file of the service, and those who ask it.
//!
//! A batch is whatever is waiting: alone, a question waits for nobody, and under load many share the price of a commit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::database::{self, OpenError, Schema};

/// Questions that wait for the thread. More than any service answers within the deadline would be answered too late.
const WAITING: usize = 1024;

/// The most questions that share a transaction: some milliseconds' worth.
const MAX_BATCH: usize = 256;

/// Why there is no answer. What was asked for may have been done all the same where that has come too late.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The file cannot be read or written.
    #[error("cannot use {what} in {}", .path.display())]
    Database {
        /// What is kept there.
        what: &'static str,
        /// What has to be done where it is lost.
        loss: &'static str,
        /// The file.
        path: Arc<Path>,
        /// Why not.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Too many are asking.
    #[error("no answer within {} s", .0.as_secs())]
    Overloaded(Duration),
    /// The thread has ended, which it does only by a fault of the program.
    #[error("the thread that answers has ended")]
    Ended,
}

impl NoAnswer {
    /// What `SQLite` says of the file at `path`.
    pub(crate) fn failed(schema: &Schema, path: &Arc<Path>, source: rusqlite::Error) -> Self {
        let (what, loss) = (schema.what, schema.loss);
        Self::Database { what, loss, path: Arc::clone(path), source: Arc::new(source) }
    }

    /// Why, for clients, who may be told when to come again: not which file, nor what is in it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Database { source, .. } if database::is_full(source) => ": its disk is full",
            Self::Overloaded(_) => ": it does not answer in time",
            _ => "",
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { loss, path, source, .. } => database::hint(path, loss, source),
            Self::Overloaded(_) => Some("see whether its disk is slow, or too many are asking".to_owned()),
            Self::Ended => Some("restart the service".to_owned()),
        }
    }
}

/// Asks the thread, which ends when this is dropped: nobody can ask any more.
pub(crate) struct Keeper<Q> {
    /// How long a question waits for its answer: for the batch at work, and for its own.
    deadline: Duration,
    /// Absent only while it is dropped.
    questions: Option<mpsc::Sender<Q>>,
    thread: Option<JoinHandle<()>>,
}

impl<Q: Send + 'static> Keeper<Q> {
    /// Starts the thread for the file at `path`, with what `prepare` makes of its questions.
    pub(crate) fn start<R: FnOnce() + Send + 'static>(
        name: &str,
        schema: &Schema,
        path: &Path,
        deadline: Duration,
        prepare: impl FnOnce(mpsc::Receiver<Q>) -> Result<R, OpenError>,
    ) -> Result<Self, OpenError> {
        let (questions, inbox) = mpsc::channel(WAITING);
        let run = prepare(inbox)?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(|source| OpenError::Thread {
            what: schema.what,
            path: PathBuf::from(path),
            source,
        })?;
        Ok(Self { deadline, questions: Some(questions), thread: Some(thread) })
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Q) -> Result<T, NoAnswer> {
        let answered = tokio::time::timeout(self.deadline, self.ask_patiently(question)).await;
        answered.unwrap_or(Err(NoAnswer::Overloaded(self.deadline)))
    }

    /// Asks, and waits for the answer for as long as that takes. A question whose answer nobody waits for any more may have been
    /// done all the same.
    pub(crate) async fn ask_patiently<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Q,
    ) -> Result<T, NoAnswer> {
        let questions = self.questions.as_ref().ok_or(NoAnswer::Ended)?;
        let (reply, answer) = oneshot::channel();
        questions.send(question(reply)).await.map_err(|_| NoAnswer::Ended)?;
        answer.await.map_err(|_| NoAnswer::Ended)
    }
}

impl<Q> std::fmt::Debug for Keeper<Q> {
    /// Of its thread alone: questions hold tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl<Q> Drop for Keeper<Q> {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing left but to close the file. Had it panicked, nobody would be left to be told.
            let _ = thread.join();
        }
    }
}

/// The next questions, once there is one; nothing when nobody can ask any more.
pub(crate) fn next_batch<Q>(inbox: &mut mpsc::Receiver<Q>) -> Option<Vec<Q>> {
    let mut batch = vec![inbox.blocking_recv()?];
    while batch.len() < MAX_BATCH
        && let Ok(next) = inbox.try_recv()
    {
        batch.push(next);
    }
    Some(batch)
}
