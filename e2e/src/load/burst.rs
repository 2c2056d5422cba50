//! Many requests at the same moment, each on a connection of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hyper::StatusCode;
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    client::{Connection, Reply, Target},
    programs,
    report::{Row, Section, Times, millis},
    status,
};

/// How long a refusal may take: it waits for nothing.
const REFUSAL_BAR: Duration = Duration::from_secs(1);

/// How long the pool may take to be full again.
const FULL_BAR: Duration = Duration::from_secs(30);

/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was measured.
#[derive(Debug, Default)]
pub struct Burst {
    /// Those that were answered.
    pub answered: Times,
    /// Those that were refused with 503.
    pub refused: Times,
    /// Refusals that do not say when to come back.
    pub without_retry_after: u64,
    /// What was neither: a lost connection, another status.
    pub failed: Vec<String>,
    /// Answers to something else.
    pub wrong: Vec<String>,
    /// From the last answer until the pool was full again; nothing where it was not in time.
    pub full_after: Option<Duration>,
}

/// Sends `count` requests at once.
pub async fn measure(target: &Target, count: usize) -> Result<Burst> {
    let mut watch = Connection::open(target).await?;
    status::until_full(&mut watch, PATIENCE).await?;
    let barrier = Arc::new(Barrier::new(count));
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let mut connection = Connection::open(target).await?;
        let barrier = Arc::clone(&barrier);
        callers.spawn(async move {
            let nonce = programs::nonce();
            let request = programs::request(&programs::witness(&nonce));
            barrier.wait().await;
            let reply = connection.post(programs::PATH, &request).await;
            (nonce, reply)
        });
    }
    let mut burst = Burst::default();
    while let Some(called) = callers.join_next().await {
        let (nonce, reply) = called.context("a caller")?;
        burst.take(&nonce, reply);
    }
    let since = Instant::now();
    burst.full_after = status::until_full(&mut watch, PATIENCE).await.ok().map(|_| since.elapsed());
    Ok(burst)
}

impl Burst {
    fn take(&mut self, nonce: &str, reply: Result<Reply>) {
        match reply {
            Err(error) => self.failed.push(format!("{nonce}: {error:#}")),
            Ok(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => {
                self.without_retry_after += u64::from(!reply.has_retry_after);
                self.refused.add(reply.time);
            }
            Ok(reply) if reply.status == StatusCode::OK => {
                self.answered.add(reply.time);
                self.wrong.extend(programs::witnessed(&reply, nonce).err());
            }
            Ok(reply) => self.failed.push(format!("{nonce}: {reply:?}")),
        }
    }

    /// The figures.
    pub fn section(self) -> Section {
        let Self { answered, refused, without_retry_after, failed, wrong, full_after } = self;
        let all = answered.count() + refused.count() + failed.len() as u64;
        let (of_answered, of_refused) = (answered.count(), refused.count());
        let slowest = refused.quantile(1.0);
        let times = |times: &Times| match times.count() {
            0 => "none".to_owned(),
            _ => format!(
                "median {}, p99 {}, slowest {}",
                millis(times.median()),
                millis(times.quantile(0.99)),
                millis(times.quantile(1.0))
            ),
        };
        let counts = format!("{of_answered} answered, {of_refused} refused, {} neither", failed.len());
        let full = full_after.map_or_else(|| format!("not within {}", millis(PATIENCE)), millis);
        let rows = vec![
            Row::judged(format!("{all} requests at once"), counts, "none is neither", failed.is_empty()),
            Row::told("those that were answered", times(&answered)),
            Row::judged(
                "those that were refused",
                times(&refused),
                format!("≤ {}", millis(REFUSAL_BAR)),
                slowest <= REFUSAL_BAR,
            ),
            Row::judged(
                "refusals without Retry-After",
                without_retry_after.to_string(),
                "0",
                without_retry_after == 0,
            ),
            Row::judged(
                "pool full again after the last answer",
                full,
                format!("≤ {}", millis(FULL_BAR)),
                full_after.is_some_and(|time| time <= FULL_BAR),
            ),
        ];
        for failure in failed.iter().take(5) {
            eprintln!("neither answered nor refused: {failure}");
        }
        Section { rows, wrong }
    }
}
