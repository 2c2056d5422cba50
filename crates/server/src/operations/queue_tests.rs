//! Operations wait their turn, end, are cancelled and forgotten, over a service that nobody's images are at stake in.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use vmm::spec::MachineSpec;

use super::{
    Task,
    queue::{MAX_ENDED, MAX_QUEUED},
};
use crate::fake::{FAILS_MIB, Lab, PANICS_MIB};

const SNAPSHOTS: &str = "/api/v1/snapshots";

fn of(memory_mib: u32) -> Value {
    json!({ "language": "python", "memory_mb": memory_mib })
}

fn running(operation: &Value) -> bool {
    operation["state"] == "running" && operation["progress"].is_string()
}

#[tokio::test]
async fn an_operation_is_followed_from_its_beginning_to_its_end() {
    let lab = Lab::new().await;
    let id = lab.submit(SNAPSHOTS, &of(512)).await;
    let operation = lab.follow(&id, running).await;
    assert_eq!((&operation["kind"], &operation["target"]), (&json!("snapshots.create"), &json!("python")));
    assert_eq!((&operation["progress"], &operation["steps"]), (&json!("begun"), &json!(["begun"])));
    assert!(operation["started"].is_string() && operation["finished"].is_null(), "{operation}");
    lab.performer.may_end.add_permits(1);
    let operation = lab.end_of(&id).await;
    assert_eq!((&operation["state"], &operation["result"]), (&json!("succeeded"), &json!({ "bytes": 7 })));
    assert!(operation.get("error").is_none(), "{operation}");
    let listed = lab.ask("GET", "/api/v1/operations", "").await.json();
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!(id), &json!("succeeded")));
    assert!(listed[0].get("steps").is_none(), "{listed}");
}

#[tokio::test]
async fn one_is_performed_at_a_time_in_order_whatever_becomes_of_those_before() {
    let lab = Lab::new().await;
    let mut ids = Vec::new();
    let sizes = [512, FAILS_MIB, PANICS_MIB, 256];
    for size in sizes {
        ids.push(lab.submit(SNAPSHOTS, &of(size)).await);
    }
    lab.performer.may_end.add_permits(ids.len());
    let mut ended = Vec::new();
    for id in &ids {
        ended.push(lab.end_of(id).await);
    }
    let states: Vec<_> = ended.iter().map(|operation| operation["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["succeeded", "failed", "failed", "succeeded"]);
    assert_eq!(ended[1]["error"], "E010: there is no room today");
    let trace_id = ended[2]["trace_id"].as_str().unwrap();
    assert_eq!(ended[2]["error"], format!("E010: internal error (trace id {trace_id})"));
    let begun = lab.performer.begun.lock().unwrap();
    let in_order = sizes.map(|memory_mib| Task::CreateSnapshot {
        language: "python".parse().unwrap(),
        machine: MachineSpec { memory_mib, vcpus: 1 },
    });
    assert_eq!(*begun, in_order);
    assert_eq!(lab.performer.at_once.lock().unwrap().1, 1);
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_what_runs_soon() {
    let lab = Lab::new().await;
    let (first, second) = (lab.submit(SNAPSHOTS, &of(512)).await, lab.submit(SNAPSHOTS, &of(256)).await);
    lab.follow(&first, running).await;
    let answer = lab.ask("DELETE", &format!("/api/v1/operations/{second}"), "").await;
    assert_eq!((answer.status, &answer.json()["state"]), (StatusCode::OK, &json!("cancelled")));
    let answer = lab.ask("DELETE", &format!("/api/v1/operations/{first}"), "").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    assert_eq!(lab.end_of(&first).await["state"], "cancelled");
    let third = lab.submit(SNAPSHOTS, &of(512)).await;
    lab.performer.may_end.add_permits(1);
    assert_eq!(lab.end_of(&third).await["state"], "succeeded");
    assert_eq!(lab.performer.begun.lock().unwrap().len(), 2, "the second never began");
    let again = lab.ask("DELETE", &format!("/api/v1/operations/{third}"), "").await;
    assert_eq!((again.status, &again.json()["state"]), (StatusCode::OK, &json!("succeeded")));
    let unknown = lab.ask("DELETE", "/api/v1/operations/unknown", "").await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (StatusCode::NOT_FOUND, "E012: not found: no such operation")
    );
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let lab = Lab::new().await;
    let first = lab.submit(SNAPSHOTS, &of(512)).await;
    lab.follow(&first, running).await;
    for _ in 0..MAX_QUEUED {
        lab.submit(SNAPSHOTS, &of(512)).await;
    }
    let refused = lab.ask("POST", SNAPSHOTS, r#"{"language": "python"}"#).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.error().starts_with("E008: server busy: 16 operations wait"), "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    lab.performer.may_end.add_permits(1);
    lab.end_of(&first).await;
    let last = lab.submit(SNAPSHOTS, &of(512)).await;
    lab.performer.may_end.add_permits(MAX_QUEUED + 1);
    assert_eq!(lab.end_of(&last).await["state"], "succeeded");
}

#[tokio::test]
async fn the_oldest_that_have_ended_are_forgotten() {
    let lab = Lab::new().await;
    let mut ids = Vec::new();
    for _ in 0..MAX_ENDED + 3 {
        lab.performer.may_end.add_permits(1);
        let id = lab.submit(SNAPSHOTS, &of(512)).await;
        lab.end_of(&id).await;
        ids.push(id);
    }
    let newest_first: Vec<_> = ids.iter().rev().collect();
    let listed = lab.ask("GET", "/api/v1/operations", "").await.json();
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|operation| &operation["id"]).collect();
    // The last may have ended after the others were counted.
    assert!((MAX_ENDED..=MAX_ENDED + 1).contains(&listed.len()), "{}", listed.len());
    assert!(listed.iter().zip(newest_first).all(|(listed, id)| *listed == id), "{listed:?}");
    assert_eq!(
        lab.ask("GET", &format!("/api/v1/operations/{}", ids[0]), "").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_stop_cancels_all_and_answers_whoever_waits() {
    let lab = Lab::new().await;
    let (first, second) = (lab.submit(SNAPSHOTS, &of(512)).await, lab.submit(SNAPSHOTS, &of(256)).await);
    lab.follow(&first, running).await;
    let path = format!("/api/v1/operations/{second}?wait=60");
    let stopping = async { tokio::join!(lab.service.stop_operations(), lab.ask("GET", &path, "")).1 };
    let answer = tokio::time::timeout(Duration::from_secs(20), stopping).await.expect("soon");
    assert_eq!(answer.status, StatusCode::OK);
    for id in [first, second] {
        assert_eq!(lab.end_of(&id).await["state"], "cancelled");
    }
    assert_eq!(lab.performer.begun.lock().unwrap().len(), 1, "the second never began");
    let refused = lab.ask("POST", SNAPSHOTS, r#"{"language": "python"}"#).await;
    assert_eq!(refused.error(), "E008: server busy: it is being stopped");
}

#[tokio::test]
async fn whoever_waits_is_answered_when_something_changes() {
    let lab = Lab::new().await;
    let id = lab.submit(SNAPSHOTS, &of(512)).await;
    lab.follow(&id, running).await;
    let path = format!("/api/v1/operations/{id}?wait=60");
    let ending = async { lab.performer.may_end.add_permits(1) };
    let waiting = async { tokio::join!(lab.ask("GET", &path, ""), ending).0 };
    let answer =
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("before its time is over");
    assert_eq!(answer.json()["state"], "succeeded");
    for wait in ["61", "-1", "x", "", "1&wait=2"] {
        let answer = lab.ask("GET", &format!("/api/v1/operations/{id}?wait={wait}"), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wait}: {answer:?}");
        assert!(answer.error().starts_with("E007: invalid request: "), "{answer:?}");
    }
}

#[tokio::test]
async fn requests_become_the_tasks_that_they_say() {
    let lab = Lab::new().await;
    lab.performer.may_end.add_permits(10);
    let bucket = || "llm-firecracker".parse().unwrap();
    let (python, digest) = (|| "python".parse().unwrap(), "a".repeat(64));
    let download = json!({ "digest": digest, "force": true });
    let requests = [
        ("/api/v1/rootfs", json!({ "language": "py", "size_mib": 200 })),
        ("/api/v1/rootfs/python3/upload", json!({ "bucket": "llm-firecracker" })),
        ("/api/v1/rootfs/python/download", download),
        ("/api/v1/snapshots", json!({ "language": "python", "memory_mb": 256.0, "vcpus": null })),
        ("/api/v1/snapshots/python/upload", json!({})),
    ];
    for (path, body) in &requests {
        let id = lab.submit(path, body).await;
        lab.end_of(&id).await;
    }
    // An empty body says nothing, where all of it may be left out.
    let answer = lab.ask("POST", "/api/v1/snapshots/python/download", " \n").await;
    lab.end_of(answer.json()["id"].as_str().unwrap()).await;
    let sizes = super::SnapshotSizes::default();
    let expected = [
        Task::CreateImage { language: python(), origin: super::ImageOrigin::Packages, size_mib: Some(200) },
        Task::UploadImage { language: python(), bucket: Some(bucket()), again: false },
        Task::DownloadImage { language: python(), bucket: None, digest: digest.parse().ok(), force: true },
        Task::CreateSnapshot { language: python(), machine: MachineSpec { memory_mib: 256, vcpus: 1 } },
        Task::UploadSnapshots { language: python(), sizes, bucket: None, again: false, skip_stale: false },
        Task::DownloadSnapshots { language: python(), sizes, bucket: None, force: false },
    ];
    assert_eq!(*lab.performer.begun.lock().unwrap(), expected);
}
