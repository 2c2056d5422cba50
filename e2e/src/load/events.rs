//! An answer that comes as server-sent events, read as they come.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::{StatusCode, body::Incoming};
use serde_json::Value;
use tokio::time::timeout;

/// How long the next part of an answer may take. Longer than there may be between two heartbeats.
const PATIENCE: Duration = Duration::from_secs(120);

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it is called.
    pub name: String,
    /// What it says.
    pub data: Value,
    /// When it was there as a whole.
    pub arrived: Instant,
    /// The same by the clock.
    pub at: SystemTime,
}

/// The events of one answer.
pub struct Events {
    body: Incoming,
    text: Vec<u8>,
    heartbeats: usize,
}

impl Events {
    /// Of an answer, which must be a stream.
    pub async fn of(response: hyper::Response<Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let body = body.collect().await.context("read what is no stream")?.to_bytes();
            bail!("{}: {}", head.status, String::from_utf8_lossy(&body));
        }
        let media_type = head.headers.get(hyper::header::CONTENT_TYPE);
        ensure!(media_type.is_some_and(|kind| kind == "text/event-stream"), "no stream: {head:?}");
        Ok(Self { body, text: Vec::new(), heartbeats: 0 })
    }

    /// How many comments there were.
    pub fn heartbeats(&self) -> usize {
        self.heartbeats
    }

    /// The next event; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8(event).context("events are text")?;
                if event.starts_with(':') {
                    self.heartbeats += 1;
                    continue;
                }
                return parse(event.trim_end()).map(Some);
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.context("nothing came")?;
            let Some(frame) = frame else {
                ensure!(self.text.is_empty(), "the stream ends within an event");
                return Ok(None);
            };
            if let Ok(data) = frame.context("read the stream")?.into_data() {
                self.text.extend_from_slice(&data);
            }
        }
    }

    /// All that are left.
    pub async fn rest(mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

fn parse(event: &str) -> Result<Event> {
    let (name, data) = event.split_once('\n').with_context(|| format!("no event: {event:?}"))?;
    let name = name.strip_prefix("event: ").with_context(|| format!("an event without a name: {event:?}"))?;
    let data = data.strip_prefix("data: ").with_context(|| format!("an event without data: {event:?}"))?;
    let data = serde_json::from_str(data).with_context(|| format!("data that is no JSON: {event:?}"))?;
    Ok(Event { name: name.to_owned(), data, arrived: Instant::now(), at: SystemTime::now() })
}
