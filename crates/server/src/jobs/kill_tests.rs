//! A service that is killed at any moment, with a thousand jobs before it: none is lost, and none is told of twice.
//!
//! The service is this test's program once more, so that it can be killed; its microVMs are tasks.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::HeaderMap};
use engine::{
    fake,
    pool::{Pool, PoolLimits},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vmm::fake::{Fake, FakeSettings};

use super::{JobSettings, Jobs};
use crate::{Connections, Listening, Metrics, Policy, Service, Settings};

const JOBS: usize = 1000;
const KILLS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(240);

/// Where a service says where it listens, in its directory.
const ADDRESS: &str = "address";

/// Serves in the directory that it is started in, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it never ends: the test below starts it and kills it"]
async fn a_service_that_is_to_be_killed() {
    let directory = Path::new(".");
    let data = fake::prepare(directory, &[]).await.unwrap();
    let mut settings = JobSettings::new(data.jobs_database());
    settings.running = 4;
    settings.reruns = 1000;
    settings.callback_networks = vec!["127.0.0.0/8".parse().unwrap()];
    settings.callback_attempts = 1000;
    let engine = Arc::new(fake::engine(data, Fake::new(FakeSettings::default()), 64));
    let metrics = Arc::new(Metrics::new());
    let pool = Pool::start(engine, PoolLimits::default(), Arc::clone(&metrics) as Arc<_>);
    let jobs = Jobs::start(settings, pool.clone(), &metrics, None).await.unwrap();
    let service = Service::new(Settings {
        pool,
        authority: None,
        policy: Policy::default(),
        metrics,
        traces: None,
        connections: Connections::default(),
        jobs: Some(jobs),
        administration: None,
        compatible: crate::Compatible::default(),
        page: false,
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let listening = Listening::over(listener, Connections::default());
    fs::write("new", listening.address().unwrap().to_string()).unwrap();
    fs::rename("new", ADDRESS).unwrap();
    listening.serve(service.router(), CancellationToken::new(), CancellationToken::new()).await;
}

/// A service that is killed with this.
struct Victim(Child);

impl Victim {
    fn start(directory: &Path) -> Self {
        let _ = fs::remove_file(directory.join(ADDRESS));
        let program = std::env::current_exe().unwrap();
        let test = "jobs::kill_tests::a_service_that_is_to_be_killed";
        let mut command = Command::new(program);
        command.args([test, "--exact", "--ignored", "--nocapture"]).current_dir(directory);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What was told of each job, under the id of its message.
type Told = Arc<Mutex<HashMap<String, Vec<Value>>>>;

async fn receiver() -> (String, Told) {
    let told = Told::default();
    let kept = Arc::clone(&told);
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        kept.lock().unwrap().entry(id).or_default().push(serde_json::from_slice(&body).unwrap());
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, told)
}

/// Asks the service of the moment, until one answers.
struct Client {
    client: reqwest::Client,
    directory: std::path::PathBuf,
}

impl Client {
    async fn ask(&self, path: &str, posted: Option<(&str, &Value)>) -> Value {
        loop {
            if let Some(answer) = self.try_once(path, posted).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Nothing where there is no service, or none any more.
    async fn try_once(&self, path: &str, posted: Option<(&str, &Value)>) -> Option<Value> {
        let address = fs::read_to_string(self.directory.join(ADDRESS)).ok()?;
        let url = format!("http://{address}{path}");
        let request = match posted {
            None => self.client.get(url),
            Some((key, body)) => self.client.post(url).header("idempotency-key", key).body(body.to_string()),
        };
        let response = request.timeout(Duration::from_secs(20)).send().await.ok()?;
        let is_success = response.status().is_success();
        let text = response.text().await.ok()?;
        assert!(is_success, "{text}");
        serde_json::from_str(&text).ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_jobs_survive_any_kill_with_none_lost_and_none_told_of_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (url, told) = receiver().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let client = Arc::new(Client { client, directory: directory.path().to_owned() });
    let since = Instant::now();
    let mut victim = Victim::start(directory.path());
    let submitting = tokio::spawn({
        let (client, url) = (Arc::clone(&client), url.clone());
        async move {
            let mut ids = BTreeMap::new();
            for number in 0..JOBS {
                let request = json!({ "language": "python", "code": format!("sleep 10\nprint('{number}')") });
                let body = json!({ "request": request, "callback_url": url });
                let job = client.ask("/api/v1/jobs", Some((&format!("key-{number}"), &body))).await;
                ids.insert(number, job["id"].as_str().unwrap().to_owned());
            }
            ids
        }
    });
    // Any moment: while jobs are accepted, run, and told of.
    for _ in 0..KILLS {
        let address = directory.path().join(ADDRESS);
        while !address.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let moment = u64::from(getrandom::u32().unwrap() % 700);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(victim);
        victim = Victim::start(directory.path());
    }
    let ids = tokio::time::timeout(PATIENCE, submitting).await.expect("all are accepted").unwrap();
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), JOBS, "each has an id of its own");
    let told_of = || told.lock().unwrap().len();
    let all_told = async {
        while told_of() < JOBS {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_told).await.unwrap_or_else(|_| panic!("told of {}", told_of()));
    let settled = async {
        loop {
            let list = client.ask("/api/v1/jobs?limit=1000", None).await;
            let jobs = list["jobs"].as_array().unwrap().clone();
            if jobs.iter().all(|job| job["callback"]["state"] == "delivered") {
                return jobs;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let jobs = tokio::time::timeout(PATIENCE, settled).await.expect("what was told is noted");
    assert_eq!(jobs.len(), JOBS, "none is lost, and there are no others");
    let told = told.lock().unwrap();
    for (number, id) in &ids {
        let messages = &told[&format!("msg_{id}")];
        assert_eq!(messages[0]["id"], *id);
        assert_eq!(messages[0]["state"], "done", "{}", messages[0]);
        assert_eq!(messages[0]["result"]["stdout"], format!("{number}\n"));
        // Sent again only where the service died before it knew that it was taken, and then as the same message.
        assert!(messages.iter().all(|message| message == &messages[0]), "{messages:?}");
    }
    let repeated: usize = told.values().map(|messages| messages.len() - 1).sum();
    let begun: u64 = jobs.iter().filter_map(|job| job["attempts"].as_u64()).sum();
    eprintln!(
        "{JOBS} jobs, killed {KILLS} times: all told of after {:.1} s; {begun} runs begun, {repeated} messages sent again",
        since.elapsed().as_secs_f64()
    );
}
