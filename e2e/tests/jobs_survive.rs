//! The service survives `kill -9` at any moment: no job is lost, or reported twice, nothing is left, and the next start is clean.

use std::{
    net::SocketAddr,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    TestHost, eventually,
    load::{
        client::{Connection, Target},
        programs,
    },
    running::unused_cgroups,
    service::{self, Service},
    soak::Place,
    survival::{self, Beside, Extent, Survived, survive},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

/// How long what a killed service leaves may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Before a service is asked again that was not there.
const PAUSE: Duration = Duration::from_millis(20);

/// After so many kills the first program of a service is waited for.
const EACH: u32 = 10;

fn block_on(extent: &Extent, beside: &impl Beside, command: impl Fn() -> Command) -> Survived {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(survive(extent, beside, command)).unwrap()
}

#[test]
fn a_thousand_jobs_survive_a_service_that_is_killed_again_and_again() {
    let extent = Extent::over_fakes();
    let directory = tempfile::tempdir().unwrap();
    let survived = block_on(&extent, &(), || survival::fake_service(directory.path()));
    assert_eq!(survived.wrong(), Vec::<String>::new());
    let facts = &survived.facts;
    // Or nothing was tried.
    assert_eq!((facts.jobs(), facts.kills), (1000, extent.kills + 1));
    assert!(facts.rerun() > 0 && facts.interrupted() > 0, "no kill has met a job that ran");
}

/// Runs and streams beside the jobs, and all that could be left of a service.
struct Everything<'a> {
    host: &'a TestHost,
    wrong: Mutex<Vec<String>>,
    answered: Mutex<u32>,
}

impl Everything<'_> {
    async fn ask(&self, address: SocketAddr, streams: bool) -> Result<()> {
        let mut connection = Connection::open(&Target { address, token: None }).await?;
        let nonce = programs::nonce();
        let request = programs::request(&programs::witness(&nonce));
        if streams {
            let events = connection.stream(programs::PATH, &request).await?.rest().await?;
            let Some(result) = events.iter().find(|event| event.name == "result") else { return Ok(()) };
            ensure!(result.data["status"] == "success", "{result:?}");
        } else {
            let reply = connection.post(programs::PATH, &request).await?;
            if reply.status == 503 {
                return Ok(());
            }
            if let Err(wrong) = programs::witnessed(&reply, &nonce) {
                self.wrong.lock().unwrap().push(wrong);
            }
        }
        *self.answered.lock().unwrap() += 1;
        Ok(())
    }

    async fn keep_asking(&self, mut address: watch::Receiver<Option<SocketAddr>>, streams: bool) {
        loop {
            let Ok(Some(address)) = address.wait_for(Option::is_some).await.map(|address| *address) else {
                return;
            };
            // Cut off by a kill, as a rule.
            if self.ask(address, streams).await.is_err() {
                sleep(PAUSE).await;
            }
        }
    }
}

impl Beside for Everything<'_> {
    async fn load(&self, address: watch::Receiver<Option<SocketAddr>>) {
        tokio::join!(self.keep_asking(address.clone(), false), self.keep_asking(address, true));
    }

    fn dead(&self) -> Result<()> {
        let place = |process| Place { process, data: self.host.data().to_owned() };
        let ourselves = e2e::running::Process::find(std::process::id()).context("this process")?;
        eventually("its processes end", PATIENCE, || {
            self.host.processes().is_ok_and(|left| left.is_empty())
        })?;
        eventually("its cgroups go", PATIENCE, || place(ourselves.clone()).cgroups() == 0)?;
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("list mounts")?;
        let ours = self.host.data().to_string_lossy().into_owned();
        ensure!(!mounts.lines().any(|mount| mount.starts_with("jail ") || mount.contains(&ours)), "{mounts}");
        ensure!(self.host.leftovers()?.is_empty(), "{:?}", self.host.leftovers());
        Ok(())
    }

    fn born(&self, address: SocketAddr, kills: u32) -> Result<()> {
        let target = service::Target { address, token: None };
        ensure!(target.ask("GET", "/health", "")?.status == 200);
        if kills.is_multiple_of(EACH) {
            let first = target.ask(
                "POST",
                programs::PATH,
                &json!({ "language": "python", "code": "print(6 * 7)" }).to_string(),
            )?;
            ensure!(first.status == 200 && first.json()["stdout"] == "42\n", "{first:?}");
        }
        Ok(())
    }
}

#[test]
fn fifty_kills_under_load_lose_no_job_and_leave_nothing() {
    let host = TestHost::prepared().copy();
    let extent = Extent {
        jobs: 75,
        callers: 4,
        kills: 50,
        life: Duration::from_millis(20)..Duration::from_millis(1500),
        program: |number| format!("import time\ntime.sleep(0.1)\nprint({number})"),
        patience: Duration::from_secs(400),
        seed: survival::seed(),
    };
    let since = Instant::now();
    let cgroups = unused_cgroups();
    let everything = Everything { host: &host, wrong: Mutex::default(), answered: Mutex::default() };
    let options = [
        "--set",
        "jobs.running=2",
        "--set",
        "jobs.reruns=100",
        "--set",
        "jobs.callback_networks=127.0.0.0/8",
        "--set",
        "jobs.callback_attempts=30",
    ];
    let survived = block_on(&extent, &everything, || Service::command(&host, &options));
    assert_eq!(survived.wrong(), Vec::<String>::new(), "E2E_SEED={}", extent.seed);
    assert_eq!(*everything.wrong.lock().unwrap(), Vec::<String>::new(), "E2E_SEED={}", extent.seed);
    // The last kill comes when all is done.
    assert_eq!((survived.facts.jobs(), survived.facts.kills), (75, 51));
    let answered = *everything.answered.lock().unwrap();
    assert!(answered > 0, "no run or stream was answered");
    eprintln!(
        "51 kills in {:.0} s: {answered} runs and streams answered, {} jobs run again, {} failed as they chose",
        since.elapsed().as_secs_f64(),
        survived.facts.rerun(),
        survived.facts.interrupted()
    );
    // The last service was killed a moment ago.
    eventually("microVMs of a service that was killed end", PATIENCE, || {
        host.processes().unwrap().is_empty()
    })
    .unwrap();
    let left = || unused_cgroups().into_iter().filter(|group| !cgroups.contains(group)).count();
    eventually("the cgroups go", PATIENCE, || left() == 0).unwrap();
}
