//! What jobs are given.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    addresses::Network,
    callback::{Lookup, SigningSecret, SystemLookup},
};
use crate::database::OpenError;
use crate::keeper::NoAnswer;

/// How jobs are kept and run.
#[derive(Clone)]
pub struct JobSettings {
    /// The file that they are kept in.
    pub path: PathBuf,
    /// How many run at the same time; at least one.
    pub running: usize,
    /// How many may wait; one caller alone has half of them.
    pub most_queued: u64,
    /// How many are kept, ended ones among them; one caller alone has half of them.
    pub most_kept: u64,
    /// What their requests and results may take together, in bytes; one caller alone has half of it.
    pub most_bytes: u64,
    /// How long one that has ended is kept where its request does not say.
    pub usual_lifetime: Duration,
    /// And at most.
    pub longest_lifetime: Duration,
    /// How often one that was interrupted is run again.
    pub reruns: u32,
    /// How often a callback is tried.
    pub callback_attempts: u32,
    /// How long each attempt may take.
    pub callback_timeout: Duration,
    /// Where callbacks may go besides public addresses.
    pub callback_networks: Vec<Network>,
    /// With what callbacks are signed; where there is none, with a secret that is kept in the file.
    pub callback_secret: Option<SigningSecret>,
    /// Who finds the addresses of callbacks.
    pub lookup: Arc<dyn Lookup>,
}

impl JobSettings {
    /// Those that hold where nobody says others.
    pub fn new(path: PathBuf) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            path,
            running: 2,
            most_queued: 10_000,
            most_kept: 100_000,
            most_bytes: 1 << 30,
            usual_lifetime: DAY,
            longest_lifetime: 30 * DAY,
            reruns: 5,
            callback_attempts: 12,
            callback_timeout: Duration::from_secs(10),
            callback_networks: Vec::new(),
            callback_secret: None,
            lookup: Arc::new(SystemLookup),
        }
    }
}

impl fmt::Debug for JobSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSettings")
            .field("path", &self.path)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// Why there are no jobs.
#[derive(Debug, thiserror::Error)]
pub enum StartJobsError {
    /// Their file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("cannot begin with the jobs that there are")]
    Store(#[from] NoAnswer),
    /// Callbacks cannot be sent.
    #[error("cannot make a client for callbacks")]
    Client(#[source] reqwest::Error),
}

impl StartJobsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Client(_) => None,
        }
    }
}
