//! The service's side: who is asking, and may another request of theirs be let in.
//!
//! Every question goes through a bounded channel to the [worker](super::worker), and has a deadline. Whatever cannot be
//! found out or counted is refused.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;
use store::Language;
use tokio::sync::{mpsc, oneshot};

use super::{
    grant::{Grant, NotAllowed},
    quota::{Moment, QuotaExceeded},
    text::{PresentedToken, TokenId},
    worker::{Admission, Authentication, Message, Refund, Running, Worker},
};
use crate::{
    database::{self, Durability, OpenError},
    tokens::SCHEMA,
};

/// Questions that wait for the worker. More than any service answers within the deadline would be answered too late.
const WAITING: usize = 1024;

/// How long the worker waits for commands that are writing. Each of them takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a question waits for its answer: for the batch at work, and for its own.
const DEADLINE: Duration = Duration::from_secs(5);

/// Judges requests. Clones are the same one; the file is closed when the last is dropped, with all its [permits](Permit).
#[derive(Clone, Debug)]
pub struct Authority {
    connected: Arc<Connected>,
}

/// The worker's thread, which ends when nobody can ask any more.
#[derive(Debug)]
struct Connected {
    /// Absent only while it is dropped.
    questions: Option<mpsc::Sender<Message>>,
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

/// Somebody with a valid token.
#[derive(Clone, Debug)]
pub struct Caller {
    id: TokenId,
    grant: Arc<Grant>,
}

impl Caller {
    pub(super) fn new(id: TokenId, grant: Arc<Grant>) -> Self {
        Self { id, grant }
    }

    /// The public part of the token: for logs.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// What the token allows.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether a program may run so: [`Grant::allows`].
    pub fn allows(&self, language: &Language, memory_mib: u32, timeout: Duration) -> Result<(), NotAllowed> {
        self.grant.allows(language, memory_mib, timeout)
    }

    /// Whether images and snapshots may be made and exchanged: [`Grant::allows_administration`].
    pub fn allows_administration(&self) -> Result<(), NotAllowed> {
        self.grant.allows_administration()
    }
}

/// Why it is not known who is asking.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no token.
    #[error("E004: access_token missing")]
    Missing,
    /// There is one that was never made, is revoked, or has expired: nobody is told which.
    #[error("E003: invalid access_token")]
    Invalid,
    /// It cannot be found out.
    #[error("the access token cannot be checked")]
    Unavailable(#[source] AuthorityError),
}

/// Why a request is not let in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdmitError {
    /// A quota is used up.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The token was revoked, or has expired, since it was checked.
    #[error("E003: invalid access_token")]
    Invalid,
    /// It cannot be counted.
    #[error("the request cannot be counted")]
    Unavailable(#[source] AuthorityError),
}

/// Why there is no answer. The request is refused: nothing is let in that is not counted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be read or written.
    #[error("cannot use the tokens in {}", .path.display())]
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
    /// The worker has ended, which it does only by a fault of the program.
    #[error("the thread that answers has ended")]
    Ended,
}

impl AuthorityError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { path, source } => database::hint(path, SCHEMA.loss, source),
            Self::Overloaded => None,
            Self::Ended => Some("restart the service".to_owned()),
        }
    }
}

impl Authority {
    /// Opens the file with the tokens, and makes it where there is none. Blocks for as long as that takes.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = database::open(path, &SCHEMA, Durability::Recent, PATIENCE)?;
        Self::start(connection, path, Moment::now)
    }

    /// Over a connection, with a clock.
    pub(super) fn start(
        connection: Connection,
        path: &Path,
        clock: impl Fn() -> Moment + Send + 'static,
    ) -> Result<Self, OpenError> {
        let failed = |source| SCHEMA.failed(path, source);
        let (questions, inbox) = mpsc::channel(WAITING);
        let worker = Worker::new(connection, path, Box::new(clock), inbox).map_err(failed)?;
        let thread = std::thread::Builder::new()
            .name("tokens".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| OpenError::Thread { what: SCHEMA.what, path: PathBuf::from(path), source })?;
        let connected = Connected { questions: Some(questions), thread: Some(thread) };
        Ok(Self { connected: Arc::new(connected) })
    }

    /// Finds out who is asking, by the token that a request came with. Counts nothing.
    ///
    /// A token that was made or revoked by a command is known as such at once. Where the file cannot be read, the tokens
    /// known so far are.
    pub async fn authenticate(&self, presented: Option<&str>) -> Result<Caller, AuthError> {
        let presented = presented.filter(|text| !text.is_empty()).ok_or(AuthError::Missing)?;
        let presented = PresentedToken::parse(presented).ok_or(AuthError::Invalid)?;
        self.ask(|reply| Message::Authenticate(Authentication { presented, reply }))
            .await
            .map_err(AuthError::Unavailable)?
    }

    /// Lets a request in, and counts it and its `executions` before saying so: all or nothing. One without executions is
    /// counted for rate and concurrency alone.
    pub async fn admit(&self, caller: &Caller, executions: u32) -> Result<Permit, AdmitError> {
        let token = caller.id.clone();
        let Allowance { running, day } = self
            .ask(|reply| Message::Admit(Admission { token, executions, reply }))
            .await
            .map_err(AdmitError::Unavailable)??;
        Ok(Permit { _running: running, token: caller.id.clone(), executions, day, authority: self.clone() })
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, AuthorityError> {
        let questions = self.connected.questions.as_ref().ok_or(AuthorityError::Ended)?;
        let (reply, answer) = oneshot::channel();
        let answered = async {
            questions.send(question(reply)).await.map_err(|_| AuthorityError::Ended)?;
            answer.await.map_err(|_| AuthorityError::Ended)
        };
        tokio::time::timeout(DEADLINE, answered).await.unwrap_or(Err(AuthorityError::Overloaded))
    }
}

/// What the worker answers to an admission.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) running: Running,
    /// The day that the executions are counted on.
    pub(super) day: i64,
}

/// A request that was let in. Dropped when it is over, which makes room for the next.
#[derive(Debug)]
#[must_use = "a request that is let in is over when its permit is dropped"]
pub struct Permit {
    _running: Running,
    token: TokenId,
    executions: u32,
    day: i64,
    authority: Authority,
}

impl Permit {
    /// Takes back the executions that were counted, of a request that was never run. It still counts for the rate.
    pub async fn refund(self) -> Result<(), AuthorityError> {
        if self.executions == 0 {
            return Ok(());
        }
        let (token, day, executions) = (self.token.clone(), self.day, self.executions);
        self.authority.ask(|reply| Message::Refund(Refund { token, day, executions, reply })).await?
    }
}
