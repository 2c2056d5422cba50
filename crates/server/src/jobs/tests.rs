//! Jobs through the routes, over microVMs that are tasks.

use std::time::Duration;

use axum::http::StatusCode;
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
    json!({ "request": { "language": "python", "code": text } })
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

/// Follows a job until `condition`.
async fn follow(lab: &Lab, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let following = async {
        let mut wait = 0;
        loop {
            let job = lab.ask("GET", &format!("{JOBS}/{id}?wait={wait}"), "").await.json();
            if condition(&job) {
                return job;
            }
            wait = 1;
        }
    };
    tokio::time::timeout(PATIENCE, following).await.expect("the condition")
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
