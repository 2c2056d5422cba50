//! Output as it is written: how soon its first byte is there, and what much of it costs the host.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{
    client::{Connection, Target},
    programs,
    report::{Row, Section, Times, megabytes, millis},
    status,
};
use crate::running::Process;

const FIRST_BYTE_BAR: Duration = Duration::from_millis(10);
const MEMORY_BAR: u64 = 20_000_000;

/// How long the pool may take to be full.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tells when it writes, by the guest's clock, which is behind the host's by what setting it took: so what is measured is
/// no less than what passes.
const PRINTS_THEN_SLEEPS: &str = "import time\nprint(time.time_ns(), flush=True)\ntime.sleep(0.5)";

/// Writes so many times 64 KiB, once the pool has put another microVM into the place of this one: a restore takes memory,
/// too.
const FLOOD: &str = "\
import sys, time
time.sleep(10)
for _ in range(COUNT): sys.stdout.buffer.write(b'x' * 65536)
";

/// How much is read before memory is looked at: by then whatever takes part in a stream has its buffers.
const SETTLED_BYTES: usize = 8 << 20;

/// What was measured.
#[derive(Debug, Default)]
pub struct Streaming {
    /// From a program's writing to its first byte here.
    pub first_byte: Times,
    /// The same by the clock of this host alone: from the first byte to the result, less what the program slept.
    pub result: Times,
    /// How much was streamed, in bytes.
    pub bytes: usize,
    /// In which time.
    pub took: Duration,
    /// By how much the service's memory grew meanwhile, in bytes.
    pub service: u64,
    /// The same of the service and all that it had started.
    pub all: u64,
}

/// Streams the first byte so many times, and then so many bytes at once. The service is `process`.
pub async fn measure(target: &Target, process: &Process, times: u32, bytes: usize) -> Result<Streaming> {
    let mut measured = Streaming::default();
    let mut connection = Connection::open(target).await?;
    let request = programs::request(PRINTS_THEN_SLEEPS);
    for _ in 0..times {
        status::until_full(&mut connection, PATIENCE).await?;
        let mut events = connection.stream(programs::PATH, &request).await?;
        let mut first = None;
        while let Some(event) = events.next().await? {
            match event.name.as_str() {
                "stdout" if first.is_none() => {
                    let written = event.data["text"].as_str().and_then(|text| text.trim().parse().ok());
                    let written = UNIX_EPOCH + Duration::from_nanos(written.context("a time")?);
                    measured.first_byte.add(event.at.duration_since(written).unwrap_or_default());
                    first = Some(event.arrived);
                }
                "result" => {
                    let first = first.context("no output before the result")?;
                    let slept = Duration::from_millis(500);
                    measured.result.add((event.arrived - first).saturating_sub(slept));
                }
                _ => {}
            }
        }
    }
    measured.flood(&mut connection, process, bytes).await?;
    Ok(measured)
}

impl Streaming {
    async fn flood(&mut self, connection: &mut Connection, process: &Process, bytes: usize) -> Result<()> {
        let count = bytes.div_ceil(64 << 10);
        let code = FLOOD.replace("COUNT", &count.to_string());
        let request = json!({ "language": "python", "code": code, "timeout": 300 });
        let mut since = None;
        let mut events = connection.stream(programs::PATH, &request).await?;
        let mut before: Option<(u64, BTreeMap<u32, u64>)> = None;
        let mut looked = 0;
        let mut result = None;
        while let Some(event) = events.next().await? {
            match event.name.as_str() {
                "stdout" => {
                    since = since.or(Some(event.arrived));
                    self.bytes += event.data["text"].as_str().map_or(0, str::len);
                }
                "result" => result = Some(event.data),
                _ => {}
            }
            if self.bytes < SETTLED_BYTES || self.bytes - looked < 1 << 20 {
                continue;
            }
            looked = self.bytes;
            let now = (process.resident_bytes().context("the service has ended")?, own_memory(process));
            let Some(before) = &before else {
                before = Some(now);
                continue;
            };
            self.service = self.service.max(now.0.saturating_sub(before.0));
            // Those that were there before: the pool may start others meanwhile.
            let sum = |of: &BTreeMap<u32, u64>| {
                of.iter().filter(|(id, _)| before.1.contains_key(id)).map(|(_, b)| b).sum::<u64>()
            };
            self.all = self.all.max(sum(&now.1).saturating_sub(sum(&before.1)));
        }
        self.took = since.map(|since: Instant| since.elapsed()).unwrap_or_default();
        let result = result.context("a stream without a result")?;
        ensure!(result["exitCode"] == 0, "the program ended with {result}");
        if self.bytes != count << 16 {
            bail!("{} bytes came of {}", self.bytes, count << 16);
        }
        Ok(())
    }

    /// The figures.
    #[expect(clippy::cast_precision_loss, reason = "sizes to be read by people")]
    pub fn section(&self) -> Section {
        let of = format!("first streamed byte after it was written, {} times", self.first_byte.count());
        let streamed = format!("{} streamed", megabytes(self.bytes as u64));
        let rate = self.bytes as f64 / 1e6 / self.took.as_secs_f64();
        let bar = || format!("≤ {}", megabytes(MEMORY_BAR));
        let rows = vec![
            Row::at_most(format!("{of}: median"), self.first_byte.median(), FIRST_BYTE_BAR),
            Row::told(format!("{of}: p99"), millis(self.first_byte.quantile(0.99))),
            Row::told("from that byte to the result, less the sleep: median", millis(self.result.median())),
            Row::told(format!("{streamed}: rate"), format!("{rate:.1} MB/s")),
            Row::judged(
                format!("{streamed}: growth of the service"),
                megabytes(self.service),
                bar(),
                self.service <= MEMORY_BAR,
            ),
            Row::judged(
                format!("{streamed}: growth of the service and its microVMs"),
                megabytes(self.all),
                bar(),
                self.all <= MEMORY_BAR,
            ),
        ];
        Section { rows, wrong: Vec::new() }
    }
}

/// The memory of their own of the service and of what it has started, by process.
fn own_memory(process: &Process) -> BTreeMap<u32, u64> {
    let all = std::iter::once(process.clone()).chain(process.descendants());
    all.filter_map(|process| Some((process.id, process.anonymous_bytes()?))).collect()
}
