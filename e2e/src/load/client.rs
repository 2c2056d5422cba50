//! One HTTP/1.1 connection to the service, kept alive.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

use super::events::Events;

/// What is said, and asked for where no stream is.
const JSON: &str = "application/json";

/// How long an answer may take. Longer than any that is right: what takes as long is lost.
const PATIENCE: Duration = Duration::from_secs(300);

/// The service as a caller knows it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it knows the caller by, where it asks for that.
    pub token: Option<String>,
}

/// One connection. Dropping it closes it.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
    target: Target,
}

/// What came back, and when.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Whether it says when to come back.
    pub has_retry_after: bool,
    /// The body.
    pub body: Bytes,
    /// From sending the request to having the whole body.
    pub time: Duration,
}

impl Connection {
    /// Connects.
    pub async fn open(target: &Target) -> Result<Self> {
        let connected = async {
            let stream = TcpStream::connect(target.address).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(handshake(TokioIo::new(stream)).await?)
        };
        let (sender, driver) = timeout(PATIENCE, connected)
            .await
            .context("no connection in time")?
            .with_context(|| format!("connect to {}", target.address))?;
        Ok(Self { sender, driver: tokio::spawn(driver), target: target.clone() })
    }

    /// Gets `path`.
    pub async fn get(&mut self, path: &str) -> Result<Reply> {
        let request = self.request(Method::GET, path, Bytes::new(), JSON)?;
        self.send(path, request).await
    }

    /// Posts `body` to `path`, and gives the answer as it comes. The connection can be used again when it is read.
    pub async fn stream(&mut self, path: &str, body: &Value) -> Result<Events> {
        let request = self.request(Method::POST, path, body.to_string().into(), "text/event-stream")?;
        let answered = async {
            self.sender.ready().await?;
            Events::of(self.sender.send_request(request).await?).await
        };
        timeout(PATIENCE, answered)
            .await
            .context("no answer in time")?
            .with_context(|| format!("ask for {path}"))
    }

    /// Posts `body` to `path`.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<Reply> {
        let request = self.request(Method::POST, path, body.to_string().into(), JSON)?;
        self.send(path, request).await
    }

    /// Posts `body` to `path` so that it is taken once, however often it is posted under this key.
    pub async fn post_once(&mut self, path: &str, body: &Value, key: &str) -> Result<Reply> {
        let mut request = self.request(Method::POST, path, body.to_string().into(), JSON)?;
        request.headers_mut().insert("idempotency-key", key.parse().context("a key that is no header")?);
        self.send(path, request).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes, accept: &str) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.address.to_string())
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, JSON);
        if let Some(token) = &self.target.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Full::new(body)).context("make a request")
    }

    async fn send(&mut self, path: &str, request: Request<Full<Bytes>>) -> Result<Reply> {
        let answered = async {
            self.sender.ready().await?;
            let since = Instant::now();
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let has_retry_after = response.headers().contains_key(RETRY_AFTER);
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok(Reply { status, has_retry_after, body, time: since.elapsed() })
        };
        let answered = timeout(PATIENCE, answered).await.context("no answer in time")?;
        answered.with_context(|| format!("ask for {path}"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
