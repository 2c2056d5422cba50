//! Jobs survive the service, on real microVMs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use axum::{Router, body::Bytes, http::HeaderMap};
use e2e::{TestHost, eventually, service::Service};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(240);
const JOBS: usize = 40;
const KILLS: usize = 3;

/// What was told, under the ids of the messages.
type Told = Arc<Mutex<HashMap<String, Vec<Value>>>>;

/// Takes callbacks, as long as the test lasts.
fn receiver() -> (String, Told) {
    let told = Told::default();
    let kept = Arc::clone(&told);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            kept.lock().unwrap().entry(id).or_default().push(serde_json::from_slice(&body).unwrap());
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await
        })
    });
    (url, told)
}

fn start(host: &TestHost) -> Service {
    let set = ["--set", "jobs.callback_networks=127.0.0.0/8", "--set", "jobs.reruns=100"];
    Service::start(host, &set).unwrap()
}

#[test]
fn jobs_survive_kills_of_the_service_with_none_lost_and_none_told_of_twice() {
    let host = TestHost::prepared().copy();
    let (url, told) = receiver();
    let mut service = start(&host);
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let code = format!("import time\ntime.sleep(0.2)\nprint({number})");
        let body = json!({ "request": { "language": "python", "code": code }, "callback_url": url });
        let response = service.post("/api/v1/jobs", &body);
        assert_eq!(response.status, 202, "{response:?}");
        ids.push(response.json()["id"].as_str().unwrap().to_owned());
    }
    for kill in 1..=KILLS {
        // Some have ended, and others run or wait.
        let enough = kill * JOBS / (KILLS + 2);
        eventually("some are told of", PATIENCE, || told.lock().unwrap().len() >= enough).unwrap();
        service.signal(Signal::KILL);
        drop(service);
        service = start(&host);
    }
    eventually("all are told of", PATIENCE, || told.lock().unwrap().len() >= JOBS).unwrap();
    let list = || service.get("/api/v1/jobs?limit=1000").json()["jobs"].as_array().unwrap().clone();
    let delivered = |jobs: &[Value]| jobs.iter().all(|job| job["callback"]["state"] == "delivered");
    eventually("that is noted", PATIENCE, || delivered(&list())).unwrap();
    assert_eq!(list().len(), JOBS);
    let told = told.lock().unwrap();
    for (number, id) in ids.iter().enumerate() {
        let messages = &told[&format!("msg_{id}")];
        assert_eq!(messages[0]["result"]["stdout"], format!("{number}\n"), "{}", messages[0]);
        assert!(messages.iter().all(|message| message == &messages[0]), "{messages:?}");
    }
    assert_eq!(service.stop().unwrap().code, 0);
}
