//! Callers that send jobs, and who kills the service meanwhile.

use std::{
    net::SocketAddr,
    ops::Range,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    receiver::Receiver,
    verdict::{Accepted, Facts},
};
use crate::{
    build_directory,
    load::{
        client::{Connection, Target},
        report::{Row, Section},
    },
    service::Service,
    soak::load::Dice,
};

/// How long the process of a service may take to be gone once it was killed.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Where jobs are.
const JOBS: &str = "/api/v1/jobs";

/// Before a job is sent again that could not be taken.
const PAUSE: Duration = Duration::from_millis(20);

/// How much is tried.
#[derive(Clone, Debug)]
pub struct Extent {
    /// How many jobs are sent.
    pub jobs: usize,
    /// By how many callers at the same time.
    pub callers: usize,
    /// How often the service is killed while there is load.
    pub kills: u32,
    /// After how long a life, at random.
    pub life: Range<Duration>,
    /// The program of a job, which is to write its number and a newline.
    pub program: fn(usize) -> String,
    /// How long all of it may take.
    pub patience: Duration,
    /// What chooses the moments.
    pub seed: u64,
}

/// What else is done and looked at, besides jobs.
pub trait Beside: Sync {
    /// Sends other requests, to whichever service there is, until it is dropped.
    fn load(&self, _address: watch::Receiver<Option<SocketAddr>>) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Looks at what a service has left that was killed.
    fn dead(&self) -> Result<()> {
        Ok(())
    }

    /// Looks at one that has just begun, after so many kills.
    fn born(&self, _address: SocketAddr, _kills: u32) -> Result<()> {
        Ok(())
    }
}

/// Nothing.
impl Beside for () {}

/// A seed: that of `E2E_SEED`, to have it as it was, or another each time.
pub fn seed() -> u64 {
    let given = std::env::var("E2E_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()));
    eprintln!("moments by E2E_SEED={seed}");
    seed
}

impl Extent {
    /// The bar: a thousand jobs, in microVMs that are tasks, and lives so short that each ends in the middle of much.
    pub fn over_fakes() -> Self {
        Self {
            jobs: 1000,
            callers: 8,
            kills: 20,
            life: Duration::from_millis(50)..Duration::from_millis(500),
            program: |number| format!("sleep 40\nprint {number}"),
            patience: Duration::from_secs(240),
            seed: seed(),
        }
    }
}

/// Starts a service over microVMs that are tasks, and keeps what it has in `directory`.
pub fn fake_service(directory: &Path) -> Command {
    let mut command = Command::new(build_directory().join("fake-service"));
    command.arg("--data-dir").arg(directory);
    command
}

/// What was found.
#[derive(Debug)]
pub struct Survived {
    /// All that was seen.
    pub facts: Facts,
    /// How much has come to the receiver that is no report.
    pub unreadable: u32,
    /// From the first job sent until the last one was reported.
    pub took: Duration,
}

/// Sends jobs to the service that `command` starts, always on the same data, and kills it as often as it is to be, until all
/// are reported; and once more then.
pub async fn survive(
    extent: &Extent,
    beside: &impl Beside,
    command: impl Fn() -> Command,
) -> Result<Survived> {
    let all = run(extent, beside, command);
    let survived = timeout(extent.patience, all).await.context("not all jobs were reported in time");
    survived.and_then(|survived| survived).with_context(|| format!("E2E_SEED={}", extent.seed))
}

async fn run(extent: &Extent, beside: &impl Beside, command: impl Fn() -> Command) -> Result<Survived> {
    let receiver = Receiver::start().await?;
    let (url, address, kills) = (receiver.url(), watch::Sender::new(None), watch::Sender::new(0));
    let mut lives = Lives { command, beside, receiver: &receiver, address: &address, kills: &kills };
    let mut dice = Dice::of(extent.seed);
    let mut service = lives.begin().await?;
    let since = Instant::now();
    let callers = callers(extent, &url, &address, &kills);
    let work = async {
        let accepted = callers.await?;
        let mut count = receiver.count();
        while receiver.jobs() < extent.jobs {
            count.changed().await.context("nobody counts")?;
        }
        anyhow::Ok(accepted)
    };
    let load = beside.load(address.subscribe());
    tokio::pin!(work, load);
    let mut done = None;
    // All kills, also where the last jobs were quicker than the last of them: there is other load.
    while done.is_none() || lives.count() < extent.kills {
        // Chosen anew only with a new life.
        let moment = sleep(random(&mut dice, &extent.life));
        tokio::pin!(moment);
        tokio::select! {
            accepted = &mut work, if done.is_none() => done = Some((accepted?, since.elapsed())),
            () = &mut load => bail!("the other load has ended"),
            () = moment, if lives.count() < extent.kills => service = lives.kill(service).await?,
        }
    }
    let (accepted, took) = done.context("the loop ends with it")?;
    let address = service.address();
    while list(address).await?.iter().any(|job| job["callback"]["state"] != "delivered") {
        sleep(PAUSE).await;
    }
    // What was noted stays, and is not told again.
    let service = lives.kill(service).await?;
    let mut shown = Vec::new();
    for job in list(service.address()).await? {
        let path = format!("{JOBS}/{}", job["id"].as_str().context("a job without an id")?);
        shown.push(get(service.address(), &path).await?);
    }
    let facts = Facts { accepted, reports: receiver.reports(), shown, kills: lives.count() };
    Ok(Survived { facts, unreadable: receiver.unreadable(), took })
}

/// A service that lives again and again.
struct Lives<'a, C, B> {
    command: C,
    beside: &'a B,
    receiver: &'a Receiver,
    /// Where it listens; nothing while it is dead.
    address: &'a watch::Sender<Option<SocketAddr>>,
    /// How often it was killed.
    kills: &'a watch::Sender<u32>,
}

impl<C: Fn() -> Command, B: Beside> Lives<'_, C, B> {
    fn count(&self) -> u32 {
        *self.kills.borrow()
    }

    async fn begin(&self) -> Result<Service> {
        let mut command = (self.command)();
        let started = spawn_blocking(move || Service::start_command(&mut command)).await;
        let service = started.context("start the service")??;
        block_in_place(|| self.beside.born(service.address(), self.count()))?;
        self.address.send_replace(Some(service.address()));
        Ok(service)
    }

    /// Kills it in the middle of whatever it does, and begins another life.
    async fn kill(&mut self, service: Service) -> Result<Service> {
        service.signal(Signal::KILL);
        self.address.send_replace(None);
        let ended = spawn_blocking(move || service.end_within(END_PATIENCE)).await;
        let ended = ended.context("wait for the end")??;
        ensure!(ended.code == 137, "it had ended before it was killed: {ended:?}");
        self.receiver.next_life().await?;
        block_in_place(|| self.beside.dead())?;
        self.kills.send_modify(|kills| *kills += 1);
        self.begin().await
    }
}

/// Sends all jobs, each until it is accepted.
async fn callers(
    extent: &Extent,
    url: &str,
    address: &watch::Sender<Option<SocketAddr>>,
    kills: &watch::Sender<u32>,
) -> Result<Vec<Accepted>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..extent.callers {
        let (next, url, extent, mut address, mut kills) =
            (Arc::clone(&next), url.to_owned(), extent.clone(), address.subscribe(), kills.subscribe());
        callers.spawn(async move {
            let mut accepted = Vec::new();
            loop {
                let number = next.fetch_add(1, SeqCst);
                if number >= extent.jobs {
                    return anyhow::Ok(accepted);
                }
                // Some in each life, so that there is work until the last kill.
                let earliest = u64::from(extent.kills) * number as u64 / extent.jobs as u64;
                kills.wait_for(|kills| u64::from(*kills) >= earliest).await.context("nobody kills")?;
                accepted.extend(send(number, &extent, &url, &mut address).await?);
            }
        });
    }
    let mut accepted = Vec::new();
    while let Some(sent) = callers.join_next().await {
        accepted.extend(sent.context("a caller has panicked")??);
    }
    Ok(accepted)
}

/// Sends a job until it is accepted, and some of them once more then: what each answer has said.
async fn send(
    number: usize,
    extent: &Extent,
    url: &str,
    address: &mut watch::Receiver<Option<SocketAddr>>,
) -> Result<Vec<Accepted>> {
    let fails = number % 5 == 4;
    let body = json!({
        "request": { "language": "python", "code": (extent.program)(number), "timeout": 60 },
        "callback_url": url,
        "if_interrupted": if fails { "fail" } else { "rerun" },
    });
    let times = if number.is_multiple_of(10) { 2 } else { 1 };
    let mut accepted = Vec::new();
    while accepted.len() < times {
        let address =
            address.wait_for(Option::is_some).await.context("there is no service any more")?.to_owned();
        let Some(address) = address else { continue };
        // Whoever gets no answer does not know whether it was accepted, and sends it again under the same key.
        let Ok(reply) = post(address, &body, &format!("job-{number}")).await else {
            sleep(PAUSE).await;
            continue;
        };
        match reply.0 {
            StatusCode::ACCEPTED | StatusCode::OK => {
                let id = reply.1["id"].as_str().context("a job without an id")?.to_owned();
                accepted.push(Accepted { id, stdout: format!("{number}\n"), fails });
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => sleep(PAUSE).await,
            status => bail!("job {number} was answered with {status}: {}", reply.1),
        }
    }
    Ok(accepted)
}

async fn post(address: SocketAddr, body: &Value, key: &str) -> Result<(StatusCode, Value)> {
    let mut connection = Connection::open(&Target { address, token: None }).await?;
    let reply = connection.post_once(JOBS, body, key).await?;
    Ok((reply.status, serde_json::from_slice(&reply.body).context("an answer that is no JSON")?))
}

async fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let reply = Connection::open(&Target { address, token: None }).await?.get(path).await?;
    ensure!(reply.status == StatusCode::OK, "{path} was answered with {}: {:?}", reply.status, reply.body);
    serde_json::from_slice(&reply.body).context("an answer that is no JSON")
}

/// All jobs, without their results.
async fn list(address: SocketAddr) -> Result<Vec<Value>> {
    let mut jobs = Vec::new();
    let mut path = format!("{JOBS}?limit=1000");
    loop {
        let mut page = get(address, &path).await?;
        jobs.append(page["jobs"].as_array_mut().context("a page without jobs")?);
        let Some(next) = page["next"].as_str() else { return Ok(jobs) };
        path = format!("{JOBS}?limit=1000&cursor={next}");
    }
}

/// Somewhere in `range`.
fn random(dice: &mut Dice, range: &Range<Duration>) -> Duration {
    let part = dice.below(1000);
    range.start + range.end.saturating_sub(range.start) * u32::try_from(part).unwrap_or_default() / 1000
}

impl Survived {
    /// All that is wrong.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.facts.wrong();
        if self.unreadable > 0 {
            wrong.push(format!("{} reports could not be read", self.unreadable));
        }
        wrong
    }

    /// The figures.
    pub fn section(&self) -> Section {
        let facts = &self.facts;
        let wrong = self.wrong();
        let figure = format!("{} jobs, the service killed {} times", facts.jobs(), facts.kills);
        let count = |count: usize| count.to_string();
        let rows = vec![
            Row::judged(
                format!("{figure}: lost, doubled or reported twice"),
                count(wrong.len()),
                "0",
                wrong.is_empty(),
            ),
            Row::told(
                format!("{figure}: until all were reported"),
                format!("{:.1} s", self.took.as_secs_f64()),
            ),
            Row::told(format!("{figure}: run again"), count(facts.rerun())),
            Row::told(format!("{figure}: failed, as they chose"), count(facts.interrupted())),
            Row::told(format!("{figure}: reports sent again after a kill"), count(facts.repeated())),
        ];
        Section { rows, wrong }
    }
}
