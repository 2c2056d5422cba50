//! The measurements, tried on a server that speaks like the service and fails as a test wants it to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    burst,
    client::{Connection, Target},
    idle,
    in_process::InProcess,
    one_at_a_time, own_share, programs, status, sustained,
};
use crate::running::Process;

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Right,
    /// Every tenth answer is that to the request before.
    MixesUp,
    /// Every tenth request finds what another has written.
    LeavesFiles,
    /// Every tenth request is run by another process.
    ServesTwice,
    /// It has room for this many requests, and refuses the others.
    RoomFor(u64),
    /// It forgets to say when to come back.
    RefusesAll,
    /// Its pool never is full.
    NeverFull,
    /// Every tenth request fails.
    Fails,
}

struct Service {
    behaviour: Behaviour,
    requests: AtomicU64,
    last: std::sync::Mutex<String>,
}

/// A server that runs until it is dropped.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let service = Service { behaviour, requests: AtomicU64::new(0), last: std::sync::Mutex::default() };
        let router = Router::new()
            .route("/health", get(|| async { "ok" }))
            .route("/api/v1/status", get(status))
            .route(programs::PATH, post(execute))
            .with_state(Arc::new(service));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, task }
    }

    fn target(&self) -> Target {
        Target { address: self.address, token: Some("secret".to_owned()) }
    }
}

async fn status(State(service): State<Arc<Service>>) -> Json<Value> {
    let idle = if service.behaviour == Behaviour::NeverFull { 3 } else { 4 };
    let pool = json!({
        "language": "python", "memory_mib": 512, "vcpus": 1,
        "idle": idle, "target": 4, "starting": 0, "rehearsing": 0, "running": 0
    });
    Json(json!({ "pools": [pool], "queue": { "length": 0 }, "microvms": 4, "memory_mib": 2048 }))
}

async fn execute(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer secret");
    let number = service.requests.fetch_add(1, SeqCst);
    let is_tenth = number % 10 == 9;
    let code = request["files"][0]["content"].as_str().unwrap();
    match service.behaviour {
        Behaviour::RoomFor(room) if number >= room => {
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        }
        Behaviour::RefusesAll => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Behaviour::Fails if is_tenth => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => {}
    }
    let stdout = match nonce(code) {
        None if code == programs::HELLO => programs::HELLO_STDOUT.to_owned(),
        None => {
            let nonce = code.strip_prefix("print ").and_then(|code| code.strip_suffix("\nidentity"));
            let microvm = if service.behaviour == Behaviour::ServesTwice { number / 2 } else { number };
            format!("{}\n{microvm}\n", nonce.unwrap())
        }
        Some(nonce) => {
            let last = std::mem::replace(&mut *service.last.lock().unwrap(), nonce.to_owned());
            let nonce = if service.behaviour == Behaviour::MixesUp && is_tenth { &last } else { nonce };
            let is_left = service.behaviour == Behaviour::LeavesFiles && is_tenth;
            let seen = if is_left { "['witness-1']" } else { "[]" };
            let process = 70 + u64::from(service.behaviour == Behaviour::ServesTwice && is_tenth);
            format!("{nonce}\n{seen}\n{process}\n")
        }
    };
    Json(json!({ "status": "success", "stdout": stdout, "stderr": null, "exception": null, "exitCode": 0 }))
        .into_response()
}

/// What a witness calls itself.
fn nonce(code: &str) -> Option<&str> {
    code.split_once("nonce = '")?.1.split_once('\'').map(|(nonce, _)| nonce)
}

fn this_process() -> Process {
    Process::find(std::process::id()).unwrap()
}

async fn sustained(behaviour: Behaviour) -> sustained::Sustained {
    let server = Server::start(behaviour).await;
    let time = Duration::from_millis(300);
    sustained::measure(&server.target(), &this_process(), 4, time).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_answers_right_reaches_the_bars_of_callers_that_never_rest() {
    let measured = sustained(Behaviour::Right).await;
    assert!(measured.answered.count() > 20 && measured.processes.len() == 1, "{measured:?}");
    assert!(!measured.memory.is_empty() && measured.time >= Duration::from_millis(300));
    let section = measured.section(4);
    assert!(section.wrong.is_empty(), "{section:?}");
    assert!(section.to_string().starts_with("| 4 callers for 0 s | "), "{section}");
    assert!(section.to_string().contains("/s | ≥ 6/s | reached |"), "{section}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_anothers_and_microvms_that_serve_twice_are_told() {
    for (behaviour, told) in [
        (Behaviour::MixesUp, "the answer to"),
        (Behaviour::LeavesFiles, "found what an earlier request had written"),
        (Behaviour::ServesTwice, "microVMs served more than one request"),
    ] {
        let section = sustained(behaviour).await.section(4);
        assert!(section.wrong.iter().any(|wrong| wrong.contains(told)), "{section:?}");
        assert!(section.to_string().contains("| 0 | **missed** |"), "{section}");
    }
    let failing = sustained(Behaviour::Fails).await;
    assert!(!failing.errors.is_empty() && failing.wrong.is_empty(), "{failing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_answered_or_refused() {
    let server = Server::start(Behaviour::RoomFor(30)).await;
    let burst = burst::measure(&server.target(), 100).await.unwrap();
    assert_eq!((burst.answered.count(), burst.refused.count()), (30, 70));
    assert!(burst.failed.is_empty() && burst.wrong.is_empty() && burst.full_after.is_some(), "{burst:?}");
    assert_eq!(burst.without_retry_after, 0);
    assert!(burst.section().to_string().contains("| 30 answered, 70 refused, 0 neither |"));
    let server = Server::start(Behaviour::RefusesAll).await;
    let burst = burst::measure(&server.target(), 10).await.unwrap();
    assert_eq!((burst.refused.count(), burst.without_retry_after), (10, 10));
    let server = Server::start(Behaviour::Fails).await;
    let burst = burst::measure(&server.target(), 20).await.unwrap();
    assert_eq!((burst.answered.count(), burst.failed.len()), (18, 2));
    let section = burst.section();
    assert!(section.rows[0].bar.as_ref().is_some_and(|(_, reached)| !reached), "{section}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_world_is_measured_in_turns_with_the_hosts_python() {
    let server = Server::start(Behaviour::Right).await;
    let measured = one_at_a_time::measure(&server.target(), 5).await.unwrap();
    assert_eq!((measured.service.count(), measured.native.count(), measured.ratios.len()), (5, 5, 5));
    assert!(measured.native.median() > Duration::from_millis(1), "{measured:?}");
    let section = measured.section();
    assert!(section.wrong.is_empty() && section.rows.len() == 6, "{section:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_stay_open_while_memory_is_looked_at() {
    let server = Server::start(Behaviour::Right).await;
    let idle = idle::measure(&server.target(), &this_process(), 50).await.unwrap();
    assert!(idle.with >= idle.before && idle.before > 1_000_000, "{idle:?}");
    let with = idle::Idle { count: 1000, before: 10_000_000, with: 40_000_000 };
    assert!(with.section().to_string().ends_with("reached |\n"));
    let with = idle::Idle { count: 1000, before: 10_000_000, with: 40_001_000 };
    assert!(with.section().to_string().ends_with("**missed** |\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_never_is_full_is_an_error_in_the_end() {
    let server = Server::start(Behaviour::NeverFull).await;
    let mut connection = Connection::open(&server.target()).await.unwrap();
    let error = status::until_full(&mut connection, Duration::from_millis(50)).await.unwrap_err();
    assert!(error.to_string().contains("the pool was not full within 50ms"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_share_is_measured_and_every_microvm_serves_one_request() {
    let extent = own_share::Extent { single: 20, callers: 3, time: Duration::from_millis(100) };
    let server = Server::start(Behaviour::Right).await;
    let measured = own_share::measure(&server.target(), extent).await.unwrap();
    assert_eq!(measured.single.count(), 20);
    assert!(measured.many.count() > 3 && measured.rate() > 0.0, "{measured:?}");
    assert!(measured.wrong.is_empty(), "{measured:?}");
    let server = Server::start(Behaviour::ServesTwice).await;
    let measured = own_share::measure(&server.target(), extent).await.unwrap();
    assert!(measured.wrong.iter().any(|wrong| wrong.contains("served two requests")), "{measured:?}");
}

/// The product's own service, whose words the server of the other tests imitates.
#[test]
fn the_service_itself_is_understood() {
    let service = InProcess::start().unwrap();
    let target = Target { address: service.address(), token: None };
    let extent = own_share::Extent { single: 20, callers: 3, time: Duration::from_millis(200) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let measured = runtime.block_on(async {
        let mut connection = Connection::open(&target).await.unwrap();
        status::until_full(&mut connection, Duration::from_secs(20)).await.unwrap();
        idle::measure(&target, &this_process(), 20).await.unwrap();
        let refused =
            connection.post(programs::PATH, &json!({ "language": "cobol", "code": "" })).await.unwrap();
        assert!(programs::stdout(&refused).unwrap_err().contains("E006"), "{refused:?}");
        let failing = connection.post(programs::PATH, &programs::request("exit 3")).await.unwrap();
        assert!(programs::stdout(&failing).unwrap_err().contains("\"exitCode\":3"), "{failing:?}");
        own_share::measure(&target, extent).await.unwrap()
    });
    assert_eq!(measured.single.count(), 20);
    assert!(measured.wrong.is_empty() && measured.many.count() > 3, "{measured:?}");
    service.stop().unwrap();
}

#[test]
fn memory_that_grows_is_told_from_memory_that_jumps_about() {
    let look = |number: u32| f64::from(number) * 2.0;
    let looks = |bytes: fn(u32) -> f64| (0..150).map(|n| (look(n), 5e7 + bytes(n))).collect();
    let growth = |memory| sustained::Sustained { memory, ..sustained::Sustained::default() }.growth();
    // 20 kB in a second, as of 6 requests that leave 3 kB each.
    assert!(growth(looks(|n| f64::from(n) * 40_000.0)) > 4e6);
    assert!(growth(looks(|n| f64::from(n % 7) * 100_000.0)).abs() < 4e5);
    // Caches that fill at the beginning are no growth.
    assert!(growth(looks(|n| f64::from(n.min(30)) * 1e6)).abs() < 1.0);
}
