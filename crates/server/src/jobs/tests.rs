//! Jobs through the routes, over microVMs that are tasks.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use engine::pool::PoolLimits;
use serde_json::{Value, json};

use super::JobSettings;
use crate::{
    fake::{Answer, Lab},
    tokens::{Authority, Grant, Register},
};

const JOBS: &str = "/api/v1/jobs";
const PATIENCE: Duration = Duration::from_secs(20);

async fn lab(change: impl FnOnce(&mut JobSettings)) -> Lab {
    Lab::over(tempfile::tempdir().unwrap(), None, PoolLimits::default(), change).await
}

fn program(text: &str) -> Value {
    json!({ "request": { "language": "python", "code": text, "timeout": 60 } })
}

/// One that runs until it is ended.
fn endless() -> Value {
    program("sleep 59000")
}

async fn submit(lab: &Lab, body: &Value) -> String {
    let answer = lab.ask("POST", JOBS, &body.to_string()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.headers["location"], format!("{JOBS}/{id}"));
    id
}

async fn show(lab: &Lab, id: &str) -> Answer {
    lab.ask("GET", &format!("{JOBS}/{id}"), "").await
}

async fn delete(lab: &Lab, id: &str) -> Answer {
    lab.ask("DELETE", &format!("{JOBS}/{id}"), "").await
}

/// Follows a job until `condition`.
async fn follow(lab: &Lab, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    let mut wait = 0;
    loop {
        let job = lab.ask("GET", &format!("{JOBS}/{id}?wait={wait}"), "").await.json();
        if condition(&job) {
            return job;
        }
        assert!(since.elapsed() < PATIENCE, "{job}");
        wait = 1;
    }
}

async fn until(lab: &Lab, id: &str, state: &str) -> Value {
    follow(lab, id, |job| job["state"] == state).await
}

#[tokio::test]
async fn a_job_is_accepted_run_and_keeps_its_result() {
    let lab = lab(|_| {}).await;
    let id = submit(&lab, &program("print('hello')")).await;
    let job = until(&lab, &id, "done").await;
    assert_eq!(job["result"]["stdout"], "hello\n");
    assert_eq!(job["result"]["trace_id"], job["trace_id"]);
    assert_eq!(
        (&job["attempts"], &job["language"], &job["executions"]),
        (&json!(1), &json!("python"), &json!(1))
    );
    assert!(job["position"].is_null() && job["callback"].is_null() && job["error"].is_null());
    for time in ["created", "started", "finished", "expires"] {
        assert!(job[time].as_str().unwrap().ends_with('Z'), "{time}: {job}");
    }
    let listed = lab.ask("GET", JOBS, "").await.json();
    assert_eq!(listed["jobs"][0]["id"], id);
    assert!(listed["jobs"][0].get("result").is_none() && listed["next"].is_null(), "{listed}");
    let batch = json!({ "request": { "language": "python", "code": "stdin", "stdin": ["a", "b"] } });
    let id = submit(&lab, &batch).await;
    let job = until(&lab, &id, "done").await;
    assert_eq!(job["result"].as_array().unwrap().len(), 2, "{job}");
}

#[tokio::test]
async fn a_request_that_cannot_be_run_is_refused_as_run_refuses_it() {
    let lab = lab(|_| {}).await;
    for request in [
        json!({ "language": "cobol", "code": "" }),
        json!({ "language": "python" }),
        json!({ "language": "python", "code": "", "timeout": 301 }),
        json!({ "language": "python", "code": "", "memory_mb": 8192 }),
    ] {
        let run = lab.ask("POST", "/api/v1/run", &request.to_string()).await;
        let job = lab.ask("POST", JOBS, &json!({ "request": request }).to_string()).await;
        assert_eq!((job.status, job.error()), (run.status, run.error()), "{request}");
    }
    let request = json!({ "language": "python", "code": "" });
    for (body, said) in [
        (json!({}), "request"),
        (json!({ "request": request, "other": 1 }), "other"),
        (json!({ "request": request, "if_interrupted": "pray" }), "if_interrupted"),
        (json!({ "request": request, "expires_after": 0 }), "expires_after"),
        (json!({ "request": request, "expires_after": 1_000_000_000 }), "expires_after"),
        (json!({ "request": request, "callback_url": "ftp://example.org/" }), "callback_url"),
        (json!({ "request": request, "callback_url": "http://127.0.0.1/" }), "callback_url"),
        (json!({ "request": request, "callback_url": "http://0x7f.1/" }), "callback_url"),
        (json!({ "request": request, "callback_url": "http://[::ffff:10.0.0.1]/" }), "callback_url"),
        (json!({ "request": request, "callback_url": "https://user@example.org/" }), "callback_url"),
        (json!({ "request": request, "callback_url": "nowhere" }), "callback_url"),
    ] {
        let answer = lab.ask("POST", JOBS, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {answer:?}");
        assert!(
            answer.error().starts_with("E007: invalid request: ") && answer.error().contains(said),
            "{answer:?}"
        );
    }
    assert_eq!(lab.ask("GET", JOBS, "").await.json()["jobs"], json!([]));
}

#[tokio::test]
async fn jobs_wait_in_order_and_say_where() {
    let lab = lab(|settings| settings.running = 1).await;
    let first = submit(&lab, &endless()).await;
    until(&lab, &first, "running").await;
    let (second, third) = (submit(&lab, &program("print 2")).await, submit(&lab, &program("print 3")).await);
    assert_eq!(show(&lab, &second).await.json()["position"], 1);
    assert_eq!(show(&lab, &third).await.json()["position"], 2);
    let cancelled = delete(&lab, &second).await;
    assert_eq!((cancelled.status, cancelled.json()["state"].clone()), (StatusCode::OK, json!("cancelled")));
    assert_eq!(show(&lab, &third).await.json()["position"], 1);
    assert_eq!(delete(&lab, &first).await.json()["state"], "cancelled");
    until(&lab, &third, "done").await;
    assert!(lab.control.wait_until(PATIENCE, |counts| counts.alive <= 8).await.is_ok());
    for id in [&first, &second, &third] {
        assert_eq!(delete(&lab, id).await.status, StatusCode::NO_CONTENT);
        assert_eq!(show(&lab, id).await.error(), "E012: not found: no such job");
    }
}

#[tokio::test]
async fn the_microvm_of_a_job_that_is_cancelled_is_ended() {
    let limits = PoolLimits { minimum: 0, maximum: 0, ..PoolLimits::default() };
    let lab = Lab::over(tempfile::tempdir().unwrap(), None, limits, |_| {}).await;
    let id = submit(&lab, &endless()).await;
    lab.control.wait_until(PATIENCE, |counts| counts.alive == 1 && counts.runs == 1).await.unwrap();
    assert_eq!(delete(&lab, &id).await.status, StatusCode::OK);
    lab.control.wait_until(PATIENCE, |counts| counts.alive == 0).await.unwrap();
    assert_eq!(show(&lab, &id).await.json()["state"], "cancelled");
}

#[tokio::test]
async fn a_key_gets_one_job_however_often_and_at_once_it_is_asked_for() {
    let lab = lab(|_| {}).await;
    let ask = |key: &'static str, body: String| {
        let lab = &lab;
        async move { lab.ask_with("POST", JOBS, &body, &[("host", "localhost"), ("idempotency-key", key)]).await }
    };
    let body = program("print 1").to_string();
    let answers = futures_util::future::join_all((0..32).map(|_| ask("a", body.clone()))).await;
    let ids: HashSet<String> = answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    assert_eq!((ids.len(), accepted), (1, 1));
    assert!(answers.iter().all(|answer| [200, 202].contains(&answer.status.as_u16())));
    let other = ask("a", program("print 2").to_string()).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{other:?}");
    assert_eq!(other.error(), "E007: invalid request: Idempotency-Key: another request had it");
    assert_eq!(ask("b", body.clone()).await.status, StatusCode::ACCEPTED);
    assert_eq!(ask("", body.clone()).await.status, StatusCode::BAD_REQUEST);
    // It goes with its job.
    let id = answers[0].json()["id"].as_str().unwrap().to_owned();
    until(&lab, &id, "done").await;
    assert_eq!(delete(&lab, &id).await.status, StatusCode::NO_CONTENT);
    assert_eq!(ask("a", body).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn jobs_are_their_owners_and_administrators_alone() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("service.sqlite3");
    let mut register = Register::open(&database).unwrap();
    let mut token = |name: &str, administers| {
        let grant = Grant { admin: administers, ..Grant::unlimited(name.parse().unwrap()) };
        register.create(&grant).unwrap().text.reveal()
    };
    let (alice, bob, root) = (token("alice", false), token("bob", false), token("root", true));
    let authority = Authority::open(&database).unwrap();
    let lab = Lab::over(directory, Some(authority), PoolLimits::default(), |_| {}).await;
    let ask = |method: &'static str, path: String, body: String, token: String| {
        let lab = &lab;
        async move {
            lab.ask_with(method, &path, &body, &[("x-access-token", &token), ("idempotency-key", "k")]).await
        }
    };
    let body = program("print 1").to_string();
    let created = ask("POST", JOBS.into(), body.clone(), alice.clone()).await;
    assert_eq!(created.status, StatusCode::ACCEPTED, "{created:?}");
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let path = format!("{JOBS}/{id}");
    for (method, status) in [("GET", StatusCode::NOT_FOUND), ("DELETE", StatusCode::NOT_FOUND)] {
        assert_eq!(ask(method, path.clone(), String::new(), bob.clone()).await.status, status, "{method}");
    }
    let list = |token: &String| ask("GET", JOBS.into(), String::new(), token.clone());
    assert_eq!(list(&bob).await.json()["jobs"], json!([]));
    assert_eq!(list(&alice).await.json()["jobs"][0]["id"], id);
    assert_eq!(list(&root).await.json()["jobs"][0]["id"], id);
    // A key is its caller's, too.
    assert_eq!(ask("POST", JOBS.into(), body.clone(), bob).await.status, StatusCode::ACCEPTED);
    assert_eq!(ask("POST", JOBS.into(), body, alice).await.json()["id"], id);
    assert_eq!(ask("GET", path.clone(), String::new(), root).await.status, StatusCode::OK);
    assert_eq!(lab.ask("GET", &path, "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_list_is_filtered_and_has_pages() {
    let lab = lab(|settings| settings.running = 1).await;
    let running = submit(&lab, &endless()).await;
    until(&lab, &running, "running").await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(submit(&lab, &program("print 1")).await);
    }
    queued.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = lab.ask("GET", &format!("{JOBS}?state=queued&limit=2{cursor}"), "").await.json();
        seen.extend(
            page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, queued);
    let ids = |page: Value| page["jobs"].as_array().unwrap().len();
    assert_eq!(ids(lab.ask("GET", &format!("{JOBS}?state=running"), "").await.json()), 1);
    assert_eq!(
        ids(lab.ask("GET", &format!("{JOBS}?created_after=2020-01-01T00:00:00Z"), "").await.json()),
        6
    );
    assert_eq!(
        ids(lab.ask("GET", &format!("{JOBS}?created_before=2020-01-01T00:00:00Z"), "").await.json()),
        0
    );
    for wrong in ["state=lost", "limit=0", "limit=1001", "cursor=-1", "created_after=yesterday", "sort=up"] {
        let answer = lab.ask("GET", &format!("{JOBS}?{wrong}"), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn more_than_may_wait_are_refused_and_say_when_to_come_again() {
    let lab = lab(|settings| {
        settings.running = 1;
        settings.most_queued = 4;
    })
    .await;
    let running = submit(&lab, &endless()).await;
    until(&lab, &running, "running").await;
    // One caller alone has half of it.
    for _ in 0..2 {
        submit(&lab, &program("print 1")).await;
    }
    let refused = lab.ask("POST", JOBS, &program("print 1").to_string()).await;
    assert_eq!(
        (refused.status, refused.headers["retry-after"].as_bytes()),
        (StatusCode::TOO_MANY_REQUESTS, &b"1"[..])
    );
    assert_eq!(refused.error(), "E002: API quota exceeded: 2 queued jobs");
}

#[tokio::test]
async fn results_expire() {
    let lab = lab(|_| {}).await;
    let mut body = program("print 1");
    body["expires_after"] = json!(1);
    let id = submit(&lab, &body).await;
    until(&lab, &id, "done").await;
    let gone = async {
        while show(&lab, &id).await.status != StatusCode::NOT_FOUND {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it expires");
}

#[tokio::test]
async fn what_cannot_be_run_has_failed_and_what_there_is_no_room_for_waits() {
    // While one runs, others are soon refused by the pool.
    let patience = Duration::from_secs(1);
    let limits = PoolLimits { running: 1, patience, ..PoolLimits::default() };
    let lab = Lab::over(tempfile::tempdir().unwrap(), None, limits, |settings| settings.running = 4).await;
    let first = submit(&lab, &endless()).await;
    lab.control.wait_until(PATIENCE, |counts| counts.runs == 1).await.unwrap();
    let second = submit(&lab, &program("print 2")).await;
    follow(&lab, &second, |job| job["attempts"].as_u64() > Some(1)).await;
    delete(&lab, &first).await;
    assert_eq!(until(&lab, &second, "done").await["result"]["stdout"], "2\n");
    let crashed = submit(&lab, &program("crash")).await;
    let job = until(&lab, &crashed, "failed").await;
    assert!(job["error"].as_str().unwrap().starts_with("E010: internal error"), "{job}");
    assert!(job.get("result").is_none() && job["finished"].is_string(), "{job}");
}

#[tokio::test]
async fn jobs_go_on_after_a_restart_and_those_that_ran_as_they_chose() {
    let lab = lab(|settings| settings.running = 2).await;
    let rerun = submit(&lab, &program("sleep 300")).await;
    let mut body = endless();
    body["if_interrupted"] = json!("fail");
    let fail = submit(&lab, &body).await;
    for id in [&rerun, &fail] {
        until(&lab, id, "running").await;
    }
    let waits = submit(&lab, &program("print('later')")).await;
    let done = json!({ "id": waits, "state": "queued" });
    assert_eq!(show(&lab, &waits).await.json()["state"], done["state"]);
    // Ended as a service is that was told to: what runs is interrupted.
    lab.service.end_jobs().await;
    assert_eq!(show(&lab, &rerun).await.json()["state"], "queued");
    let job = show(&lab, &fail).await.json();
    assert_eq!(
        (job["state"].clone(), job["error"].clone()),
        (json!("failed"), json!("E010: internal error: interrupted"))
    );
    let lab = Lab::over(lab.into_directory(), None, PoolLimits::default(), |_| {}).await;
    assert_eq!(until(&lab, &rerun, "done").await["attempts"], 2);
    assert_eq!(until(&lab, &waits, "done").await["result"]["stdout"], "later\n");
    assert_eq!(show(&lab, &fail).await.json(), job);
}

#[tokio::test]
async fn a_job_that_is_interrupted_too_often_has_failed() {
    let mut lab = lab(|settings| settings.reruns = 1).await;
    let id = submit(&lab, &endless()).await;
    for _ in 0..2 {
        until(&lab, &id, "running").await;
        lab.service.end_jobs().await;
        lab = Lab::over(lab.into_directory(), None, PoolLimits::default(), |settings| settings.reruns = 1)
            .await;
    }
    let job = show(&lab, &id).await.json();
    assert_eq!(
        (job["state"].as_str(), job["error"].as_str()),
        (Some("failed"), Some("E010: internal error: interrupted too often"))
    );
}

#[tokio::test]
async fn a_change_is_told_to_whoever_waits_for_it() {
    let lab = lab(|settings| settings.running = 1).await;
    let id = submit(&lab, &endless()).await;
    until(&lab, &id, "running").await;
    let path = format!("{JOBS}/{id}?wait=20");
    let (changed, _) = tokio::join!(lab.ask("GET", &path, ""), async {
        tokio::task::yield_now().await;
        delete(&lab, &id).await
    });
    assert_eq!(changed.json()["state"], "cancelled");
    assert_eq!(lab.ask("GET", &format!("{JOBS}/{id}?wait=61"), "").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metrics_count_jobs() {
    let lab = lab(|settings| settings.running = 1).await;
    let id = submit(&lab, &program("print 1")).await;
    until(&lab, &id, "done").await;
    let running = submit(&lab, &endless()).await;
    until(&lab, &running, "running").await;
    submit(&lab, &program("print 1")).await;
    let text = lab.ask("GET", "/metrics", "").await.text;
    for line in [
        "llm_firecracker_jobs_queued 1",
        "llm_firecracker_jobs_running 1",
        "llm_firecracker_jobs_kept 3",
        "llm_firecracker_jobs_finished_total{state=\"done\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

/// What a receiver was sent: the id of the message, and its body.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A receiver that does not take the first message.
async fn forgetful_receiver() -> (String, Received) {
    let received = Received::default();
    let kept = Arc::clone(&received);
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        let mut kept = kept.lock().unwrap();
        kept.push((id, serde_json::from_slice(&body).unwrap()));
        if kept.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

#[tokio::test]
async fn the_end_of_a_job_is_told_until_it_is_taken_and_then_no_more() {
    let (url, received) = forgetful_receiver().await;
    let lab = lab(|settings| settings.callback_networks = vec!["127.0.0.1".parse().unwrap()]).await;
    let mut body = program("print('told')");
    body["callback_url"] = json!(url);
    let id = submit(&lab, &body).await;
    let job = follow(&lab, &id, |job| job["callback"]["state"] == "delivered").await;
    assert_eq!((&job["callback"]["attempts"], &job["callback"]["url"]), (&json!(2), &json!(url)));
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0], received[1], "the same message");
    assert_eq!(
        (received[0].0.as_str(), &received[0].1["result"]["stdout"]),
        (format!("msg_{id}").as_str(), &json!("told\n"))
    );
    assert!(received[0].1.get("callback").is_none());
}

#[tokio::test]
async fn a_callback_that_leads_to_a_forbidden_address_is_given_up_without_saying_which() {
    let lab = lab(|_| {}).await;
    let mut body = program("print 1");
    body["callback_url"] = json!("http://localhost:9/");
    let id = submit(&lab, &body).await;
    let job = follow(&lab, &id, |job| job["callback"]["state"] == "given_up").await;
    let error = job["callback"]["error"].as_str().unwrap();
    assert!(error.starts_with("localhost is no public address") && !error.contains("127."), "{error}");
    assert_eq!(job["callback"]["attempts"], 1);
}

#[tokio::test]
async fn without_tokens_web_pages_of_others_leave_see_and_forget_no_job() {
    let lab = Lab::new().await;
    let body = json!({ "request": { "language": "python", "code": "print a" } }).to_string();
    let json = ("content-type", "application/json");
    for headers in [
        vec![("host", "localhost"), json, ("origin", "http://evil.example")],
        vec![("host", "evil.example:8080"), json],
        vec![("host", "localhost"), ("content-type", "text/plain"), ("sec-fetch-site", "cross-site")],
    ] {
        for (method, path) in [
            ("POST", "/api/v1/jobs"),
            ("GET", "/api/v1/jobs"),
            ("GET", "/api/v1/jobs/x"),
            ("DELETE", "/api/v1/jobs/x"),
        ] {
            let answer = lab.ask_with(method, path, &body, &headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} {headers:?}: {answer:?}");
        }
    }
    let answer = lab
        .ask_with("POST", "/api/v1/jobs", &body, &[("host", "127.0.0.1:8080"), ("content-type", "x")])
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "whatever media type curl says: {answer:?}");
}
