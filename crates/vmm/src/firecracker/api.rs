//! A client of Firecracker's API: HTTP over its socket, one request at a time, over one connection.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use super::requests::Call;
use crate::backend::ControlError;

/// How long Firecracker may take to answer, on a busy host. Saving memory to a disk is the longest of its answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A connection to Firecracker.
pub(super) struct Api {
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// What Firecracker says of a request that it refuses.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    /// Speaks to Firecracker over `stream`.
    pub(super) async fn over(stream: UnixStream) -> Result<Self, ControlError> {
        let failed = |error: hyper::Error| io_error("connect", error);
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
        // Its end is told by the next request.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    /// Has Firecracker do what `call` says.
    pub(super) async fn call<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        match timeout(PATIENCE, self.answered(call)).await {
            Ok(done) => done,
            Err(_) => Err(ControlError::TimedOut { command: C::NAME, after: PATIENCE }),
        }
    }

    async fn answered<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        let request = request(C::METHOD, &call.path(), call).map_err(|error| io_error(C::NAME, error))?;
        let answer = self.requests.send_request(request).await.map_err(|error| io_error(C::NAME, error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| io_error(C::NAME, error))?
            .to_bytes();
        if status == StatusCode::NO_CONTENT || status == StatusCode::OK {
            return Ok(());
        }
        let reason = match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => fault.fault_message,
            Err(_) => format!("{status}: {}", String::from_utf8_lossy(&body)),
        };
        Err(ControlError::Refused { command: C::NAME, reason })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn request(
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<Request<Full<Bytes>>, std::io::Error> {
    let body = serde_json::to_vec(body)?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(std::io::Error::other)
}

fn io_error(
    command: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ControlError {
    ControlError::Io { command, source: std::io::Error::other(error) }
}
