//! Callers that send all there is, each one after the other, chosen by a seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::load::{
    client::{Connection, Reply, Target},
    programs,
};

/// Before the next request of a caller who was refused.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a client stays that is to go away in the middle.
const STAY: Duration = Duration::from_millis(300);

/// Programs that take all they can get, each ended by its time limit or by what it runs into.
const ABUSIVE: [&str; 5] = [
    "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "while True: print('x' * 100000)",
    "n = 0\nwhile True:\n    n += 1\n    open(f'file-{n}', 'wb').write(b'x' * 65536)",
    "import os, signal\nfor n in range(1, 64):\n    try: signal.signal(n, signal.SIG_IGN)\n    except Exception: pass\n\
     os.setsid() if os.fork() == 0 else None\nwhile True: pass",
];

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program that says who it is.
    Run,
    /// Several executions.
    Batch,
    /// Output as it comes.
    Stream,
    /// A job, whose end is reported.
    Job,
    /// A program that fails.
    Failing,
    /// A program that is ended by its time limit.
    Endless,
    /// A client that goes away in the middle.
    Disconnecting,
    /// A program that takes all it can get.
    Abusive,
}

/// How often each is sent, in so many of all.
const SHARES: [(Kind, u64); 8] = [
    (Kind::Run, 40),
    (Kind::Batch, 8),
    (Kind::Stream, 12),
    (Kind::Job, 20),
    (Kind::Failing, 8),
    (Kind::Endless, 2),
    (Kind::Disconnecting, 6),
    (Kind::Abusive, 4),
];

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// How many of each were answered as they should be.
    pub answered: BTreeMap<Kind, u64>,
    /// How many were refused for there was no room.
    pub refused: u64,
    /// What each job prints that was accepted, by its id.
    pub jobs: BTreeMap<String, String>,
    /// Answers that were none, or others than they should be.
    pub wrong: Vec<String>,
}

/// Callers at work.
pub struct Callers {
    done: Arc<Mutex<Done>>,
    tasks: JoinSet<()>,
}

/// Numbers that look random, and are the same for the same seed (splitmix64, which is public domain mathematics).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn kind(&mut self) -> Kind {
        let mut number = self.below(SHARES.iter().map(|(_, share)| share).sum());
        for (kind, share) in SHARES {
            match number.checked_sub(share) {
                Some(rest) => number = rest,
                None => return kind,
            }
        }
        Kind::Run
    }
}

impl Callers {
    /// Begins with so many, who go on until then. Ends of jobs are reported to `report_to`.
    pub fn begin(target: &Target, count: u64, until: Instant, report_to: &str, seed: u64) -> Self {
        let done = Arc::<Mutex<Done>>::default();
        let mut tasks = JoinSet::new();
        for caller in 0..count {
            let (target, report_to, done) = (target.clone(), report_to.to_owned(), Arc::clone(&done));
            let mut dice = Dice::of(seed.wrapping_add(caller << 32));
            tasks.spawn(async move {
                while Instant::now() < until {
                    let kind = dice.kind();
                    let answered = send(kind, &target, &report_to, &mut dice).await;
                    let is_refused = matches!(answered, Ok(Answered::Refused));
                    note(&done, kind, answered);
                    if is_refused {
                        sleep(PAUSE).await;
                    }
                }
            });
        }
        Self { done, tasks }
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        self.done.lock().expect("nobody panics with it").clone()
    }

    /// Waits until they have ended.
    pub async fn end(mut self) -> Result<Done> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a caller has panicked")?;
        }
        Ok(self.done())
    }
}

/// What has become of a request that was answered as it should be.
enum Answered {
    Well,
    Refused,
    Accepted { id: String, stdout: String },
}

fn note(done: &Mutex<Done>, kind: Kind, answered: Result<Answered>) {
    let mut done = done.lock().expect("nobody panics with it");
    match answered {
        Ok(Answered::Refused) => done.refused += 1,
        Ok(answered) => {
            if let Answered::Accepted { id, stdout } = answered {
                done.jobs.insert(id, stdout);
            }
            *done.answered.entry(kind).or_default() += 1;
        }
        Err(error) => done.wrong.push(format!("{kind:?}: {error:#}")),
    }
}

async fn send(kind: Kind, target: &Target, report_to: &str, dice: &mut Dice) -> Result<Answered> {
    let mut connection = Connection::open(target).await?;
    let nonce = programs::nonce();
    match kind {
        Kind::Run => {
            let request = programs::request(&programs::witness(&nonce));
            answered(&connection.post(programs::PATH, &request).await?, |reply| {
                programs::witnessed(reply, &nonce).map(drop).map_err(anyhow::Error::msg)
            })
        }
        Kind::Batch => {
            let request =
                json!({ "language": "python", "code": "print(input()[::-1])", "stdin": ["ab", &nonce] });
            let backwards: String = nonce.chars().rev().collect();
            answered(&connection.post(programs::PATH, &request).await?, |reply| {
                let answer = answer(reply)?;
                let said = [&answer[0]["stdout"], &answer[1]["stdout"]];
                ensure!(said == [&json!("ba\n"), &json!(format!("{backwards}\n"))], "{answer}");
                Ok(())
            })
        }
        Kind::Stream => stream(&mut connection, &nonce).await,
        Kind::Job => {
            let request = json!({ "language": "python", "code": format!("print('{nonce}')") });
            let reply = connection
                .post("/api/v1/jobs", &json!({ "request": request, "callback_url": report_to }))
                .await?;
            if matches!(reply.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
                return Ok(Answered::Refused);
            }
            ensure!(reply.status == StatusCode::ACCEPTED, "{reply:?}");
            let job: Value = serde_json::from_slice(&reply.body).context("a job that is no JSON")?;
            let id = job["id"].as_str().context("a job without an id")?.to_owned();
            Ok(Answered::Accepted { id, stdout: format!("{nonce}\n") })
        }
        Kind::Failing => {
            let request =
                programs::request("import sys\nprint('to stderr', file=sys.stderr)\nraise SystemExit(3)");
            answered(&connection.post(programs::PATH, &request).await?, |reply| {
                let answer = answer(reply)?;
                ensure!(answer["exitCode"] == 3 && answer["stderr"] == "to stderr\n", "{answer}");
                Ok(())
            })
        }
        Kind::Endless | Kind::Abusive => {
            let program = match kind {
                Kind::Endless => "while True: pass",
                _ => ABUSIVE[usize::try_from(dice.below(ABUSIVE.len() as u64))?],
            };
            let request = json!({ "language": "python", "code": program, "timeout": 1 });
            answered(&connection.post(programs::PATH, &request).await?, |reply| {
                let answer = answer(reply)?;
                ensure!(kind == Kind::Abusive || !answer["exception"].is_null(), "{answer}");
                Ok(())
            })
        }
        Kind::Disconnecting => {
            let request = json!({ "language": "python", "code": "while True: pass", "timeout": 60 });
            // Dropped when the time is up, and the connection with it.
            let _ = tokio::time::timeout(STAY, connection.post(programs::PATH, &request)).await;
            Ok(Answered::Well)
        }
    }
}

async fn stream(connection: &mut Connection, nonce: &str) -> Result<Answered> {
    let code =
        format!("import time\nfor n in range(5):\n    print('{nonce}', n, flush=True)\n    time.sleep(0.05)");
    let request = programs::request(&code);
    let events = match connection.stream(programs::PATH, &request).await {
        Ok(events) => events.rest().await?,
        Err(error) if format!("{error:#}").contains("503 ") => return Ok(Answered::Refused),
        Err(error) => return Err(error),
    };
    let said = events.iter().filter(|event| event.name == "stdout").map(|event| event.data.to_string());
    let said: String = said.collect();
    if events.iter().any(|event| event.data["error"].as_str().is_some_and(|error| error.starts_with("E00"))) {
        return Ok(Answered::Refused);
    }
    ensure!(said.contains(&format!("{nonce} 4")), "{events:?}");
    Ok(Answered::Well)
}

fn answer(reply: &Reply) -> Result<Value> {
    serde_json::from_slice(&reply.body).context("an answer that is no JSON")
}

fn answered(reply: &Reply, is_right: impl FnOnce(&Reply) -> Result<()>) -> Result<Answered> {
    match reply.status {
        StatusCode::SERVICE_UNAVAILABLE => Ok(Answered::Refused),
        StatusCode::OK => is_right(reply).map(|()| Answered::Well),
        status => anyhow::bail!("{status}: {}", String::from_utf8_lossy(&reply.body)),
    }
}
