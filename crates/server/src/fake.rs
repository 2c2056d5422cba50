//! A service for tests: its microVMs are tasks, and images and snapshots are made by nobody.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use engine::{
    fake,
    pool::{Pool, PoolLimits},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use vmm::fake::{Fake, FakeControl, FakeSettings};

use crate::{
    Compatible, Connections, Metrics, Policy, Service, Settings,
    jobs::{JobSettings, Jobs},
    operations::{
        Administration, AdministrationError, BucketName, ImageInfo, RemoteImageInfo, RemoteSnapshotInfo,
        SnapshotInfo, Task,
    },
    tokens::Authority,
};

/// The size of snapshots that cannot be made.
pub(crate) const FAILS_MIB: u32 = 1024;

/// The size of snapshots whose making has a fault of ours.
pub(crate) const PANICS_MIB: u32 = 2048;

/// Performs tasks as a test wants it to.
pub(crate) struct Performer {
    /// A permit for each task that may end.
    pub(crate) may_end: Semaphore,
    /// What has begun, in order.
    pub(crate) begun: Mutex<Vec<Task>>,
    /// How many of them are being performed, and the most that ever were.
    pub(crate) at_once: Mutex<(usize, usize)>,
}

impl Performer {
    pub(crate) fn new() -> Arc<Self> {
        let (begun, at_once) = (Mutex::default(), Mutex::default());
        Arc::new(Self { may_end: Semaphore::new(0), begun, at_once })
    }

    /// By the size of the snapshot that is asked for.
    fn outcome(task: &Task) -> Result<Option<Value>, AdministrationError> {
        match task {
            Task::CreateSnapshot { machine, .. } if machine.memory_mib == FAILS_MIB => {
                Err(AdministrationError::Failed("there is no room today".to_owned()))
            }
            Task::CreateSnapshot { machine, .. } if machine.memory_mib == PANICS_MIB => {
                std::panic::resume_unwind(Box::new("a fault of ours"))
            }
            _ => Ok(Some(json!({ "bytes": 7 }))),
        }
    }
}

#[async_trait]
impl Administration for Performer {
    async fn images(&self, _trace_id: &str) -> Result<Vec<ImageInfo>, AdministrationError> {
        let image = json!({ "language": "python", "size_bytes": 1, "sha256": null, "created": null, "problem": null,
            "source": { "kind": "oci", "image": "python:3.12", "manifest": "a", "layers": ["b"] } });
        Ok(vec![serde_json::from_value(image).unwrap()])
    }

    async fn snapshots(&self, _trace_id: &str) -> Result<Vec<SnapshotInfo>, AdministrationError> {
        Err(AdministrationError::Failed("there are no snapshots today".to_owned()))
    }

    async fn remote_images(
        &self,
        bucket: Option<&BucketName>,
        _trace_id: &str,
    ) -> Result<Vec<RemoteImageInfo>, AdministrationError> {
        match bucket {
            Some(_) => Ok(Vec::new()),
            None => Err(AdministrationError::Invalid("which bucket?".to_owned())),
        }
    }

    async fn remote_snapshots(
        &self,
        _bucket: Option<&BucketName>,
        _trace_id: &str,
    ) -> Result<Vec<RemoteSnapshotInfo>, AdministrationError> {
        Ok(Vec::new())
    }

    async fn perform(
        &self,
        task: &Task,
        _trace_id: &str,
        step: &(dyn Fn(String) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Option<Value>, AdministrationError> {
        self.begun.lock().unwrap().push(task.clone());
        let count = |change: isize| {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 = at_once.0.saturating_add_signed(change);
            at_once.1 = at_once.1.max(at_once.0);
        };
        count(1);
        step("begun".to_owned());
        let ended = tokio::select! {
            permit = self.may_end.acquire() => permit.map(tokio::sync::SemaphorePermit::forget).is_ok(),
            () = cancel.cancelled() => false,
        };
        count(-1);
        if ended { Self::outcome(task) } else { Err(AdministrationError::Cancelled) }
    }
}

/// A service, and the directory that it works in.
pub(crate) struct Lab {
    pub(crate) performer: Arc<Performer>,
    pub(crate) service: Service,
    pub(crate) control: Arc<FakeControl>,
    router: Router,
    directory: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error of a request that was refused.
    pub(crate) fn error(&self) -> String {
        let answer = self.json();
        assert_eq!(answer["status"], "failed", "{self:?}");
        answer["error"].as_str().unwrap().to_owned()
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(authority: Option<Authority>) -> Self {
        Self::over(tempfile::tempdir().unwrap(), authority, PoolLimits::default(), |_| {}).await
    }

    pub(crate) async fn without_page() -> Self {
        Self::made(tempfile::tempdir().unwrap(), None, PoolLimits::default(), |_| {}, false).await
    }

    /// One that goes on in a directory, with jobs as a test wants them.
    pub(crate) async fn over(
        directory: tempfile::TempDir,
        authority: Option<Authority>,
        limits: PoolLimits,
        change: impl FnOnce(&mut JobSettings),
    ) -> Self {
        Self::made(directory, authority, limits, change, true).await
    }

    async fn made(
        directory: tempfile::TempDir,
        authority: Option<Authority>,
        limits: PoolLimits,
        change: impl FnOnce(&mut JobSettings),
        page: bool,
    ) -> Self {
        let data = fake::prepare(directory.path(), &[]).await.unwrap();
        let vmm = Fake::new(FakeSettings::default());
        let control = vmm.control();
        let mut settings = JobSettings::new(data.jobs_database());
        change(&mut settings);
        let engine = Arc::new(fake::engine(data, vmm, 8));
        let metrics = Arc::new(Metrics::new());
        let pool = Pool::start(engine, limits, Arc::clone(&metrics) as Arc<_>);
        let jobs = Jobs::start(settings, pool.clone(), &metrics, None).await.unwrap();
        let performer = Performer::new();
        let service = Service::new(Settings {
            pool,
            authority,
            policy: Policy::default(),
            metrics,
            traces: None,
            connections: Connections::default(),
            jobs: Some(jobs),
            administration: Some(Arc::clone(&performer) as _),
            compatible: Compatible::default(),
            page,
        });
        let router = service.router();
        Self { performer, service, control, router, directory }
    }

    /// Ends it, and leaves what is on disk.
    pub(crate) fn into_directory(self) -> tempfile::TempDir {
        self.directory
    }

    /// Asks as a program on this machine does.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("host", "localhost"), ("content-type", "application/json")];
        self.ask_with(method, path, body, &headers).await
    }

    /// Asks.
    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response =
            self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Asks for something that takes long, and gives its id.
    pub(crate) async fn submit(&self, path: &str, body: &Value) -> String {
        let answer = self.ask("POST", path, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(answer.headers["location"], format!("/api/v1/operations/{id}"));
        id
    }

    /// Follows an operation until `condition`.
    pub(crate) async fn follow(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let following = async {
            let mut wait = 0;
            loop {
                let operation =
                    self.ask("GET", &format!("/api/v1/operations/{id}?wait={wait}"), "").await.json();
                if condition(&operation) {
                    return operation;
                }
                // Not at first: it may have changed for the last time already. A lost change costs a second.
                wait = 1;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), following).await.expect("the condition")
    }

    /// Follows an operation to its end.
    pub(crate) async fn end_of(&self, id: &str) -> Value {
        self.follow(id, |operation| operation["finished"].is_string()).await
    }
}
