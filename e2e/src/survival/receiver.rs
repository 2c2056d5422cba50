//! Takes reports over HTTP, as those do who are called back.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::verdict::Report;

/// How long the connections of a process that is dead may be open.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes reports until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    life: AtomicU32,
    /// Connections that are open.
    open: watch::Sender<usize>,
    reports: Mutex<Vec<Report>>,
    /// How many there are.
    count: watch::Sender<usize>,
    /// What was sent and is no report.
    unreadable: AtomicU32,
}

impl Receiver {
    /// Begins, on a port of this machine.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen for reports")?;
        let address = listener.local_addr().context("tell where reports go")?;
        let shared = Arc::new(Shared {
            life: AtomicU32::new(0),
            open: watch::Sender::new(0),
            reports: Mutex::default(),
            count: watch::Sender::new(0),
            unreadable: AtomicU32::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Where reports go.
    pub fn url(&self) -> String {
        format!("http://{}/report", self.address)
    }

    /// The service is dead. What it had sent is taken for what it sent in that life; what comes from now on is of the next.
    pub async fn next_life(&self) -> Result<()> {
        let mut open = self.shared.open.subscribe();
        let closed = timeout(PATIENCE, open.wait_for(|open| *open == 0)).await;
        closed.context("connections of a dead process stay open")?.context("nobody counts")?;
        self.shared.life.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Tells when there are more.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }

    /// What has come.
    pub fn reports(&self) -> Vec<Report> {
        self.shared.reports.lock().expect("nobody panics with it").clone()
    }

    /// Of how many jobs a report has come.
    pub fn jobs(&self) -> usize {
        let reports = self.shared.reports.lock().expect("nobody panics with it");
        reports.iter().filter_map(|report| report.job["id"].as_str()).collect::<BTreeSet<_>>().len()
    }

    /// How much has come that is no report.
    pub fn unreadable(&self) -> u32 {
        self.shared.unreadable.load(SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.open.send_modify(|open| *open += 1);
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(take(request, &shared).await) }
    });
    // A connection that breaks is what this is about.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    shared.open.send_modify(|open| *open -= 1);
}

async fn take(request: Request<Incoming>, shared: &Shared) -> Response<Empty<Bytes>> {
    let message = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.ok();
    let mut response = Response::new(Empty::new());
    // One that was not sent to its end was not taken.
    let Some(body) = body else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let job = serde_json::from_slice::<Value>(&body.to_bytes());
    if let (Some(message), Ok(job)) = (message, job) {
        let mut reports = shared.reports.lock().expect("nobody panics with it");
        reports.push(Report { message, life: shared.life.load(SeqCst), job });
        shared.count.send_replace(reports.len());
    } else {
        shared.unreadable.fetch_add(1, SeqCst);
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}
