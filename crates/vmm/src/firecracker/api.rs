//! A client of Firecracker's API: HTTP over its socket, one request at a time, over one connection.
//!
//! Firecracker may be in a guest's hands: what it says is bounded in each answer, heads and what may come before them
//! included, and in time.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{Builder, SendRequest},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, ReadBuf, join},
    net::{UnixStream, unix::OwnedReadHalf},
    task::JoinHandle,
    time::timeout,
};

use super::requests::Call;
use crate::backend::{ControlError, printable};

/// How long Firecracker may take to answer, on a busy host. Saving memory to a disk is the longest of its answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest body of an answer, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// All that may come in answer to one request, in bytes: informational answers without an end would be read otherwise, and
/// passed over.
const MAX_ANSWER_BYTES: usize = 128 << 10;

/// What is read at once, in bytes: an answer's head has to fit. The least that hyper takes.
const BUFFER_BYTES: usize = 8 << 10;

/// A connection to Firecracker.
pub(super) struct Api {
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
    /// How many bytes the answer may still have.
    room: Arc<AtomicUsize>,
    patience: Duration,
}

/// The reading half of a stream, which fails once more was read from it than there is room for.
struct Bounded {
    stream: OwnedReadHalf,
    room: Arc<AtomicUsize>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let left = self.room.load(Ordering::Relaxed).saturating_sub(buffer.filled().len() - before);
        self.room.store(left, Ordering::Relaxed);
        Poll::Ready(if left == 0 { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(()) })
    }
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
        let room = Arc::new(AtomicUsize::new(MAX_ANSWER_BYTES));
        let (reading, writing) = stream.into_split();
        let stream = TokioIo::new(join(Bounded { stream: reading, room: Arc::clone(&room) }, writing));
        let (requests, connection) =
            Builder::new().max_buf_size(BUFFER_BYTES).handshake(stream).await.map_err(failed)?;
        // Its end is told by the next request.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, connection, room, patience: PATIENCE })
    }

    /// Has Firecracker do what `call` says.
    pub(super) async fn call<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        let (command, after) = (C::NAME, self.patience);
        match timeout(after, self.answered(call)).await {
            Ok(Err(ControlError::Io { .. })) if self.room.load(Ordering::Relaxed) == 0 => {
                Err(ControlError::TooMuch { command })
            }
            Ok(done) => done,
            Err(_) => Err(ControlError::TimedOut { command, after }),
        }
    }

    async fn answered<C: Call>(&mut self, call: &C) -> Result<(), ControlError> {
        let request = request(C::METHOD, &call.path(), call).map_err(|error| io_error(C::NAME, error))?;
        // The connection may still be busy with the end of the last answer.
        self.requests.ready().await.map_err(|error| io_error(C::NAME, error))?;
        self.room.store(MAX_ANSWER_BYTES, Ordering::Relaxed);
        let answer = self.requests.send_request(request).await.map_err(|error| io_error(C::NAME, error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES)
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
        Err(ControlError::Refused { command: C::NAME, reason: printable(&reason) })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn request(method: Method, path: &str, body: &impl Serialize) -> Result<Request<Full<Bytes>>, io::Error> {
    let body = serde_json::to_vec(body)?;
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)
}

fn io_error(
    command: &'static str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ControlError {
    ControlError::Io { command, source: io::Error::other(error) }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
