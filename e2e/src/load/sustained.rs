//! Callers that never rest: rate, errors, and whether the service grows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{task::JoinSet, time::interval};

use super::{
    client::{Connection, Target},
    programs,
    report::{Row, Section, Times, megabytes, millis},
    status,
};
use crate::running::Process;

/// Executions in a second.
const RATE_BAR: f64 = 6.0;

/// How often the memory is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How much the memory may seem to grow in all, in bytes: what an allocator does by itself.
const GROWTH_BAR: f64 = 4e6;

/// How long the pool may take to be full, before and after.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was measured.
#[derive(Debug, Default)]
pub struct Sustained {
    /// How long the callers called.
    pub time: Duration,
    /// Those that were answered.
    pub answered: Times,
    /// Requests that got no answer, or one that says that they did not run.
    pub errors: Vec<String>,
    /// Answers to something else.
    pub wrong: Vec<String>,
    /// How often each process number was seen: there must be one, see [`programs::witness`].
    pub processes: BTreeMap<u64, u64>,
    /// The memory of the service: seconds since the start, and bytes.
    pub memory: Vec<(f64, f64)>,
    /// Processes of the service with a full pool, before and after.
    pub process_counts: (usize, usize),
}

/// Has `callers` callers call for `time`. The service is `process`.
pub async fn measure(
    target: &Target,
    process: &Process,
    callers: usize,
    time: Duration,
) -> Result<Sustained> {
    let mut watch = Connection::open(target).await?;
    status::until_full(&mut watch, PATIENCE).await?;
    let before = process.descendants().len();
    let since = Instant::now();
    let mut calling = JoinSet::new();
    for _ in 0..callers {
        let target = target.clone();
        calling.spawn(async move { call(&target, since + time).await });
    }
    let mut all = Sustained::default();
    let mut ticks = interval(INTERVAL);
    loop {
        tokio::select! {
            called = calling.join_next() => match called {
                Some(called) => all.add(called.context("a caller")?),
                None => break,
            },
            _ = ticks.tick() => {
                let bytes = process.resident_bytes().context("the service has ended")?;
                all.look(since.elapsed(), bytes);
            }
        }
    }
    all.time = since.elapsed();
    // The one of before has been closed, having said nothing for so long.
    let mut watch = Connection::open(target).await?;
    status::until_full(&mut watch, PATIENCE).await?;
    all.process_counts = (before, process.descendants().len());
    Ok(all)
}

/// Calls until then, on one connection as long as that lasts.
async fn call(target: &Target, until: Instant) -> Sustained {
    let mut called = Sustained::default();
    let mut connection = None;
    while Instant::now() < until {
        let nonce = programs::nonce();
        let request = programs::request(&programs::witness(&nonce));
        let asked = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(target).await?,
            };
            let reply = open.post(programs::PATH, &request).await?;
            connection = Some(open);
            anyhow::Ok(reply)
        };
        match asked.await {
            Err(error) => called.errors.push(format!("{nonce}: {error:#}")),
            Ok(reply) if !reply.status.is_success() => called.errors.push(format!("{nonce}: {reply:?}")),
            Ok(reply) => {
                called.answered.add(reply.time);
                match programs::witnessed(&reply, &nonce) {
                    Ok(process) => *called.processes.entry(process).or_default() += 1,
                    Err(wrong) => called.wrong.push(wrong),
                }
            }
        }
    }
    called
}

impl Sustained {
    fn add(&mut self, other: Self) {
        self.answered.add_all(&other.answered);
        self.errors.extend(other.errors);
        self.wrong.extend(other.wrong);
        for (process, count) in other.processes {
            *self.processes.entry(process).or_default() += count;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "for a slope")]
    fn look(&mut self, after: Duration, bytes: u64) {
        self.memory.push((after.as_secs_f64(), bytes as f64));
    }

    /// By how many bytes the memory has grown, going by a line through all looks but those of the first quarter, in which
    /// caches fill.
    pub fn growth(&self) -> f64 {
        let looks = &self.memory[self.memory.len() / 4..];
        let (Some((first, _)), Some((last, _))) = (looks.first(), looks.last()) else { return 0.0 };
        slope(looks) * (last - first)
    }

    /// The figures.
    #[expect(clippy::cast_precision_loss, reason = "a rate to be read by people")]
    pub fn section(mut self, callers: usize) -> Section {
        let rate = self.answered.count() as f64 / self.time.as_secs_f64();
        let growth = self.growth();
        let last = self.memory.last().map_or(0.0, |(_, bytes)| *bytes);
        let of = format!("{callers} callers for {:.0} s", self.time.as_secs_f64());
        let hourly = slope(&self.memory[self.memory.len() / 4..]) * 3600.0;
        let (before, after) = self.process_counts;
        if self.processes.len() > 1 {
            self.wrong.push(format!("microVMs served more than one request: processes {:?}", self.processes));
        }
        for error in self.errors.iter().take(5) {
            eprintln!("error: {error}");
        }
        let errors = self.errors.len();
        let memory = format!("{:+.1} MB of {} ({:+.1} MB/h)", growth / 1e6, mega(last), hourly / 1e6);
        let rows = vec![
            Row::judged(of, format!("{rate:.1}/s"), format!("≥ {RATE_BAR}/s"), rate >= RATE_BAR),
            Row::told("time to the answer: median", millis(self.answered.median())),
            Row::told("time to the answer: p99", millis(self.answered.quantile(0.99))),
            Row::judged("errors", errors.to_string(), "0", errors == 0),
            Row::judged("wrong answers", self.wrong.len().to_string(), "0", self.wrong.is_empty()),
            Row::judged("growth of the service's memory", memory, "≤ 4 MB", growth <= GROWTH_BAR),
            Row::judged(
                "its processes, before and after",
                format!("{before}, {after}"),
                "no more after",
                after <= before,
            ),
        ];
        Section { rows, wrong: self.wrong }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it came from a size")]
fn mega(bytes: f64) -> String {
    megabytes(bytes as u64)
}

/// How steeply a line goes through these points (least squares).
#[expect(clippy::cast_precision_loss, reason = "for a slope")]
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let across: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if across > 0.0 { along / across } else { 0.0 }
}
