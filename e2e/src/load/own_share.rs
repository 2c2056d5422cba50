//! What is ours of a request: measured on a service whose microVMs cost next to nothing, those of [`vmm::fake`].

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{
    client::{Connection, Target},
    programs::{self, HELLO, HELLO_STDOUT},
    report::{Row, Section, Times, millis},
};

const MEDIAN_BAR: Duration = Duration::from_micros(500);

/// Requests in a second.
const RATE_BAR: f64 = 4000.0;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Requests one at a time.
    pub single: u32,
    /// Callers at the same time.
    pub callers: usize,
    /// How long those call.
    pub time: Duration,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct OwnShare {
    /// Requests one at a time.
    pub single: Times,
    /// Requests of many callers.
    pub many: Times,
    /// How long those called.
    pub time: Duration,
    /// Answers to something else, or none.
    pub wrong: Vec<String>,
}

/// Measures the service at `target`, whose microVMs understand [`vmm::fake::script`].
pub async fn measure(target: &Target, extent: Extent) -> Result<OwnShare> {
    let mut measured = OwnShare::default();
    let mut connection = Connection::open(target).await?;
    let request = programs::request(HELLO);
    for _ in 0..extent.single {
        let reply = connection.post(programs::PATH, &request).await?;
        measured.single.add(reply.time);
        if programs::stdout(&reply).as_deref() != Ok(HELLO_STDOUT) {
            measured.wrong.push(format!("{reply:?} to Hello World"));
        }
    }
    let since = Instant::now();
    let mut calling = JoinSet::new();
    for _ in 0..extent.callers {
        let target = target.clone();
        calling.spawn(async move { call(&target, since + extent.time).await });
    }
    let mut seen = HashSet::new();
    while let Some(called) = calling.join_next().await {
        let Called { times, identities, wrong } = called.context("a caller")??;
        measured.many.add_all(&times);
        measured.wrong.extend(wrong);
        let again = identities.into_iter().filter(|identity| !seen.insert(identity.clone()));
        measured.wrong.extend(again.map(|identity| format!("microVM {identity} served two requests")));
    }
    measured.time = since.elapsed();
    Ok(measured)
}

/// What one caller has seen.
#[derive(Default)]
struct Called {
    times: Times,
    /// The microVMs that have answered.
    identities: Vec<String>,
    wrong: Vec<String>,
}

async fn call(target: &Target, until: Instant) -> Result<Called> {
    let mut called = Called::default();
    let mut connection = Connection::open(target).await?;
    while Instant::now() < until {
        let nonce = programs::nonce();
        let request = programs::request(&format!("print {nonce}\nidentity"));
        let reply = connection.post(programs::PATH, &request).await?;
        called.times.add(reply.time);
        match programs::stdout(&reply) {
            Ok(stdout) => match stdout.strip_prefix(&format!("{nonce}\n")) {
                Some(identity) => called.identities.push(identity.trim_end().to_owned()),
                None => called.wrong.push(format!("{stdout:?} came to {nonce}")),
            },
            Err(wrong) => called.wrong.push(wrong),
        }
    }
    Ok(called)
}

impl OwnShare {
    /// Requests in a second, of many callers.
    #[expect(clippy::cast_precision_loss, reason = "a rate to be read by people")]
    pub fn rate(&self) -> f64 {
        self.many.count() as f64 / self.time.as_secs_f64()
    }

    /// The figures.
    pub fn section(self) -> Section {
        let rate = self.rate();
        let rows = vec![
            Row::at_most("own share of a request: median", self.single.median(), MEDIAN_BAR),
            Row::told("own share of a request: p99", millis(self.single.quantile(0.99))),
            Row::judged(
                "requests over microVMs that cost nothing",
                format!("{rate:.0}/s"),
                format!("≥ {RATE_BAR}/s"),
                rate >= RATE_BAR,
            ),
            Row::told("time to the answer then: p99", millis(self.many.quantile(0.99))),
        ];
        Section { rows, wrong: self.wrong }
    }
}
