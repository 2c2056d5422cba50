//! Connections on which nothing happens any more.

use anyhow::{Context as _, Result, ensure};
use hyper::StatusCode;

use super::{
    client::{Connection, Target},
    report::{Row, Section, megabytes},
};
use crate::running::Process;

/// Where the service says that it is well.
const PATH: &str = "/health";

/// What a thousand of them may take, in bytes.
const BAR: u64 = 30_000_000;

/// What was measured.
#[derive(Debug)]
pub struct Idle {
    /// How many connections.
    pub count: usize,
    /// The memory of the service before them, in bytes.
    pub before: u64,
    /// And with them.
    pub with: u64,
}

/// Opens `count` connections to the service, which is `process`, and asks one question on each.
pub async fn measure(target: &Target, process: &Process, count: usize) -> Result<Idle> {
    let before = process.resident_bytes().context("the service has ended")?;
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let mut connection = Connection::open(target).await?;
        let reply = connection.get(PATH).await.with_context(|| format!("connection {number}"))?;
        ensure!(reply.status == StatusCode::OK, "{PATH}: {reply:?}");
        connections.push(connection);
    }
    let with = process.resident_bytes().context("the service has ended")?;
    Ok(Idle { count, before, with })
}

impl Idle {
    /// The figures.
    pub fn section(&self) -> Section {
        let more = self.with.saturating_sub(self.before);
        let per_thousand = more / (self.count as u64).max(1) * 1000;
        let value = format!("{} ({} before)", megabytes(more), megabytes(self.before));
        let figure = format!("memory of {} idle connections", self.count);
        let bar = format!("≤ {} for 1,000", megabytes(BAR));
        Section { rows: vec![Row::judged(figure, value, bar, per_thousand <= BAR)], wrong: Vec::new() }
    }
}
