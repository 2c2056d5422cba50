//! The service under a mixed load for long: prints what it has each minute, and in the end whether all of it is flat.
//!
//! It starts the product's own service on a copy of a data directory with a snapshot. Exit status 1 where something has grown, an
//! answer was wrong, or a job was lost or reported twice.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use e2e::{
    TestHost,
    load::{
        client::{Connection, Target},
        service::Service,
        status,
    },
    soak::{Callers, Done, Place, Sample, judge, verdict::REST_PATIENCE},
    survival::Receiver,
};
use tokio::time::{interval, sleep};

/// How often is looked.
const LOOK: Duration = Duration::from_secs(5);

/// How often is told.
const TELL: Duration = Duration::from_secs(60);

/// How long the pool may take to be full.
const PATIENCE: Duration = Duration::from_secs(300);

/// Before it is looked again whether what is waited for is there.
const PAUSE: Duration = Duration::from_millis(200);

/// Has the service work for long.
#[derive(Parser)]
struct Options {
    /// For how many seconds.
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// How many callers there are.
    #[arg(long, default_value_t = 6)]
    callers: u64,
    /// What chooses the requests; the time, if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// A data directory with a snapshot, of which a copy is used; one that is made in the build directory, if absent.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    e2e::exit_code(run(&Options::parse()))
}

fn run(options: &Options) -> Result<bool> {
    let host = options.data_dir.as_deref().map_or_else(TestHost::prepared, TestHost::at).copy();
    // Jobs are forgotten soon, so that there are as many in the end as after a minute.
    let settings = [
        "jobs.expires_after=60",
        "jobs.callback_networks=127.0.0.0/8",
        "log.level=\"error\"",
        "pool.minimum=2",
        "pool.maximum=2",
    ];
    let settings: Vec<String> =
        settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let service = Service::start(&host, &settings)?;
    let place = Place { process: service.process(), data: host.data().to_owned() };
    let target = Target { address: service.address(), token: None };
    let runtime = tokio::runtime::Runtime::new().context("start")?;
    let is_flat = runtime.block_on(soak(options, &target, &place))?;
    service.stop()?;
    Ok(is_flat)
}

async fn soak(options: &Options, target: &Target, place: &Place) -> Result<bool> {
    let seed =
        options.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()));
    let time = Duration::from_secs(options.seconds);
    println!("{} callers for {} s, seed {seed}", options.callers, options.seconds);
    let receiver = Receiver::start().await?;
    let since = Instant::now();
    let before = at_rest(target, place, since, None).await?;
    println!("{before}   at rest");
    let callers = Callers::begin(target, options.callers, since + time, &receiver.url(), seed);
    let mut samples: Vec<Sample> = Vec::new();
    let (mut ticks, mut told) = (interval(LOOK), since);
    while since.elapsed() < time {
        ticks.tick().await;
        let sample = place.sample(since.elapsed())?;
        samples.push(sample);
        if told.elapsed() >= TELL {
            told += TELL;
            println!("{sample}   {}", summary(&callers.done()));
        }
    }
    let done = callers.end().await?;
    let mut wrong = done.wrong.clone();
    wrong.extend(wrong_reports(&done, &receiver).await);
    let after = at_rest(target, place, since, Some((&samples, &before))).await?;
    println!("{after}   at rest\n\n{}", summary(&done));
    println!("each: {:?}", done.answered);
    let mut is_flat = true;
    for finding in judge(&samples, &before, &after) {
        println!("{:<5}{}", if finding.is_flat { "ok" } else { "FAIL" }, finding.text);
        is_flat &= finding.is_flat;
    }
    for wrong in wrong.iter().take(20) {
        println!("wrong: {wrong}");
    }
    println!(
        "{:<5}{} wrong answers, lost jobs and false reports",
        if wrong.is_empty() { "ok" } else { "FAIL" },
        wrong.len()
    );
    Ok(is_flat && wrong.is_empty())
}

fn summary(done: &Done) -> String {
    let answered: u64 = done.answered.values().sum();
    let (jobs, wrong) = (done.jobs.len(), done.wrong.len());
    format!("answered {answered}, of them {jobs} jobs; refused {}, wrong {wrong}", done.refused)
}

/// What there is once nothing runs and the pool is full; where it is to be judged, once that is flat or the patience is over.
async fn at_rest(
    target: &Target,
    place: &Place,
    since: Instant,
    judged: Option<(&[Sample], &Sample)>,
) -> Result<Sample> {
    // Closed each time: it would be one more descriptor.
    status::until_full(&mut Connection::open(target).await?, PATIENCE).await?;
    let begun = Instant::now();
    loop {
        let sample = place.sample(since.elapsed())?;
        let is_at_rest = match judged {
            None => begun.elapsed() > Duration::from_secs(12),
            Some((samples, before)) => judge(samples, before, &sample).iter().all(|finding| finding.is_flat),
        };
        if is_at_rest || begun.elapsed() > REST_PATIENCE {
            return Ok(sample);
        }
        sleep(PAUSE).await;
    }
}

/// What is wrong with the reports of jobs: each that was accepted has one, with its own answer.
async fn wrong_reports(done: &Done, receiver: &Receiver) -> Vec<String> {
    let begun = Instant::now();
    while receiver.jobs() < done.jobs.len() && begun.elapsed() < PATIENCE {
        sleep(PAUSE).await;
    }
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for report in receiver.reports() {
        let id = report.job["id"].as_str().unwrap_or_default().to_owned();
        match done.jobs.get(&id) {
            None => wrong.push(format!("{id} was reported, and nobody knows of it")),
            Some(stdout) if report.job["result"]["stdout"] != *stdout => {
                wrong.push(format!("{id} has another's answer: {}", report.job));
            }
            Some(_) => {}
        }
        if !seen.insert(id.clone()) {
            wrong.push(format!("{id} was reported twice"));
        }
    }
    wrong.extend(
        done.jobs.keys().filter(|id| !seen.contains(*id)).map(|id| format!("{id} was never reported")),
    );
    wrong
}
