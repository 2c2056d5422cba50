//! The service's side: who is asking, and may another request of theirs be let in.
//!
//! Every question goes through a bounded channel to the [worker](super::worker), and has a deadline. Whatever cannot be
//! found out or counted is refused.

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::Connection;
use store::Language;

use super::{
    grant::{Grant, NotAllowed},
    quota::{Moment, QuotaExceeded},
    text::{PresentedToken, TokenId},
    worker::{Admission, Authentication, Message, Refund, Running, Worker},
};
use crate::{
    database::{self, Durability, OpenError},
    keeper::{Keeper, NoAnswer},
    tokens::SCHEMA,
};

/// How long the worker waits for commands that are writing. Each of them takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a question waits for its answer: for the batch at work, and for its own.
const DEADLINE: Duration = Duration::from_secs(5);

/// Judges requests. Clones are the same one; the file is closed when the last is dropped, with all its [permits](Permit).
#[derive(Clone, Debug)]
pub struct Authority {
    worker: Arc<Keeper<Message>>,
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
    Unavailable(#[source] NoAnswer),
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
    Unavailable(#[source] NoAnswer),
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
        let worker = Keeper::start("tokens", &SCHEMA, path, DEADLINE, |inbox| {
            let worker = Worker::new(connection, path, Box::new(clock), inbox);
            let worker = worker.map_err(|source| SCHEMA.failed(path, source))?;
            Ok(move || worker.run())
        })?;
        Ok(Self { worker: Arc::new(worker) })
    }

    /// Finds out who is asking, by the token that a request came with. Counts nothing.
    ///
    /// A token that was made or revoked by a command is known as such at once. Where the file cannot be read, the tokens
    /// known so far are.
    pub async fn authenticate(&self, presented: Option<&str>) -> Result<Caller, AuthError> {
        let presented = presented.filter(|text| !text.is_empty()).ok_or(AuthError::Missing)?;
        let presented = PresentedToken::parse(presented).ok_or(AuthError::Invalid)?;
        self.worker
            .ask(|reply| Message::Authenticate(Authentication { presented, reply }))
            .await
            .map_err(AuthError::Unavailable)?
    }

    /// Lets a request in, and counts it and its `executions` before saying so: all or nothing. One without executions is
    /// counted for rate and concurrency alone.
    pub async fn admit(&self, caller: &Caller, executions: u32) -> Result<Permit, AdmitError> {
        let token = caller.id.clone();
        let Allowance { running, day } = self
            .worker
            .ask(|reply| Message::Admit(Admission { token, executions, reply }))
            .await
            .map_err(AdmitError::Unavailable)??;
        Ok(Permit { _running: running, token: caller.id.clone(), executions, day, authority: self.clone() })
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
    pub async fn refund(self) -> Result<(), NoAnswer> {
        if self.executions == 0 {
            return Ok(());
        }
        let (token, day, executions) = (self.token.clone(), self.day, self.executions);
        self.authority.worker.ask(|reply| Message::Refund(Refund { token, day, executions, reply })).await?
    }
}
