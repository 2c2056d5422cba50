//! What the service tells of its pools.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::StatusCode;
use serde::Deserialize;
use tokio::time::sleep;

use super::client::Connection;

/// Where it tells it.
const PATH: &str = "/api/v1/status";

/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(10);

/// The language whose pools are looked at.
const LANGUAGE: &str = "python";

/// What it tells, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// Its pools.
    pub pools: Vec<Pool>,
}

/// One pool.
#[derive(Debug, Deserialize)]
pub struct Pool {
    /// Its language.
    pub language: String,
    /// Those of its microVMs that wait for a request.
    pub idle: u64,
    /// How many are to wait.
    pub target: u64,
    /// Those that are being started.
    pub starting: u64,
    /// Those in which a job is rehearsed.
    pub rehearsing: u64,
    /// Those that serve a request.
    pub running: u64,
}

impl Status {
    /// What the service tells now.
    pub async fn of(connection: &mut Connection) -> Result<Self> {
        let reply = connection.get(PATH).await?;
        let text = String::from_utf8_lossy(&reply.body);
        ensure!(reply.status == StatusCode::OK, "{PATH}: {}: {text}", reply.status);
        serde_json::from_str(&text).with_context(|| format!("{PATH}: {text}"))
    }

    /// Whether every pool of the language has what it is to have, and nothing is under way. Without a pool none is full.
    pub fn is_full(&self) -> bool {
        let mut pools = self.pools.iter().filter(|pool| pool.language == LANGUAGE).peekable();
        let has_all = |pool: &Pool| pool.target > 0 && pool.idle >= pool.target;
        let rests = |pool: &Pool| pool.starting + pool.rehearsing + pool.running == 0;
        pools.peek().is_some() && pools.all(|pool| has_all(pool) && rests(pool))
    }
}

/// Waits until the pools are full, and returns how long that took.
pub async fn until_full(connection: &mut Connection, patience: Duration) -> Result<Duration> {
    let since = Instant::now();
    loop {
        let status = Status::of(connection).await?;
        if status.is_full() {
            return Ok(since.elapsed());
        }
        ensure!(since.elapsed() < patience, "the pool was not full within {patience:?}: {status:?}");
        // Nothing tells of it but the answer to this question.
        sleep(INTERVAL).await;
    }
}
