//! Hello World from a full pool, one at a time, in turns with a cold start of the host's own Python.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::spawn_blocking;

use super::{
    client::{Connection, Target},
    programs::{self, HELLO, HELLO_STDOUT},
    report::{Row, Section, Times, median, millis},
    status,
};

const MEDIAN_BAR: Duration = Duration::from_millis(25);
const P99_BAR: Duration = Duration::from_millis(60);

/// How much longer than the native start the service may take.
const RATIO_BAR: f64 = 1.5;

/// How long the pool may take to be full. A measurement of the burst says how long it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Debug, Default)]
pub struct OneAtATime {
    /// From sending a request to having its answer.
    pub service: Times,
    /// From starting the host's Python to its end.
    pub native: Times,
    /// How much longer the service took, for each pair.
    pub ratios: Vec<f64>,
    /// Answers that were not Hello World.
    pub wrong: Vec<String>,
}

/// Measures `pairs` pairs.
pub async fn measure(target: &Target, pairs: u32) -> Result<OneAtATime> {
    let mut measured = OneAtATime::default();
    let directory = tempfile::tempdir().context("make a directory for the program")?;
    fs::write(directory.path().join("main.py"), HELLO).context("write the program")?;
    let mut connection = Connection::open(target).await?;
    let request = programs::request(HELLO);
    for _ in 0..pairs {
        status::until_full(&mut connection, PATIENCE).await?;
        let reply = connection.post(programs::PATH, &request).await?;
        if programs::stdout(&reply).as_deref() != Ok(HELLO_STDOUT) {
            measured.wrong.push(format!("{reply:?} to Hello World"));
        }
        // What the service starts in its place must not share the processors with Python.
        status::until_full(&mut connection, PATIENCE).await?;
        let path = directory.path().to_owned();
        let native = spawn_blocking(move || native(&path)).await.context("run Python")??;
        measured.service.add(reply.time);
        measured.native.add(native);
        measured.ratios.push(reply.time.as_secs_f64() / native.as_secs_f64());
    }
    Ok(measured)
}

/// How long the host's own Python takes.
fn native(directory: &std::path::Path) -> Result<Duration> {
    // Debian's, as in the guest: what stands first in PATH may be a script that looks for a Python.
    let usual = std::path::Path::new("/usr/bin/python3");
    let mut command = Command::new(if usual.is_file() { usual } else { std::path::Path::new("python3") });
    command.arg("main.py").current_dir(directory).stdin(Stdio::null());
    let since = Instant::now();
    let output = command.output().context("run python3, which this is compared with")?;
    let time = since.elapsed();
    ensure!(output.status.success() && output.stdout == HELLO_STDOUT.as_bytes(), "python3: {output:?}");
    Ok(time)
}

impl OneAtATime {
    /// The figures.
    pub fn section(self) -> Section {
        let Self { service, native, ratios, wrong } = self;
        let ratio = service.median().as_secs_f64() / native.median().as_secs_f64();
        let bar = || format!("≤ {RATIO_BAR}");
        let pairwise = median(ratios);
        let of = format!("Hello World from a full pool, {} times", service.count());
        let rows = vec![
            Row::at_most(format!("{of}: median"), service.median(), MEDIAN_BAR),
            Row::at_most(format!("{of}: p99"), service.quantile(0.99), P99_BAR),
            Row::told("native cold start in turns with it: median", millis(native.median())),
            Row::told("native cold start in turns with it: p99", millis(native.quantile(0.99))),
            Row::judged("ratio of the medians", format!("{ratio:.2}"), bar(), ratio <= RATIO_BAR),
            Row::judged("median of the ratios", format!("{pairwise:.2}"), bar(), pairwise <= RATIO_BAR),
        ];
        Section { rows, wrong }
    }
}
