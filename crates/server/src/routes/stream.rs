//! Answers as server-sent events: output as it is written, the result at the end.
//!
//! ```text
//! started ──▶ stdout, stderr … ──▶ result
//!        └──────────────────────▶ error
//! ```
//!
//! Nothing is gathered on the way: while the client does not read, the program waits. A client that goes away drops the
//! stream, and with it the request.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, header::ACCEPT},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use engine::{
    Outcome, Request, RequestError, Utf8,
    live::{Event as Happened, Live},
};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use super::run::answer;
use crate::{
    answers::Room, caller::Envelope, error::ApiError, metrics::micros, service::Shared, trace::TraceId,
};

/// How long a request may wait before its answer begins, so that what is refused at once is so with a status of its own.
const HEAD_PATIENCE: Duration = Duration::from_secs(1);

/// How often a stream without events says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Tells proxies that keep answers back not to.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The media type of streams.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// Whether the client wants its answer as a stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_refused = |part: &str| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        parts.next().is_some_and(|media| media.eq_ignore_ascii_case(MEDIA_TYPE)) && !parts.any(is_refused)
    })
}

/// Answers a request with a stream, whose last event is what `render` makes of the outcome.
pub(super) async fn respond(
    shared: Arc<Shared>,
    trace_id: TraceId,
    (envelope, body): (Envelope, Body),
    understand: fn(&[u8], &Shared) -> Result<Request, RequestError>,
    render: fn(Outcome) -> Result<String, ApiError>,
) -> Response {
    let (mut live, events) = Live::watched();
    let id = trace_id.clone();
    let answered = async move {
        let text = render(answer(&shared, &id, &envelope, body, understand, Some(&mut live)).await?)?;
        let room = shared.answers.room_for(text.len()).await?;
        Ok(Rendered { text, room })
    };
    let mut running = Running {
        events,
        // By itself, so that its deadlines hold whoever reads: a client that does not is no reason to keep a microVM.
        answered: Some(AbortOnDropHandle::new(tokio::spawn(answered.instrument(Span::current())))),
        ended: None,
        room: None,
        to_tell: VecDeque::new(),
        decoded: Decoded::default(),
        trace_id,
        since: Instant::now(),
    };
    // Refused at once, or not at once.
    if tokio::time::timeout(HEAD_PATIENCE, running.advance()).await.is_ok()
        && let Some(Err(error)) = running.ended.take_if(|ended| ended.is_err() && running.to_tell.is_empty())
    {
        return error.respond(&running.trace_id);
    }
    let stream = Sse::new(running.into_events());
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    let mut response = stream.keep_alive(heartbeat).into_response();
    response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The last event of a stream, and its part of the memory for answers.
struct Rendered {
    text: String,
    room: Room,
}

/// A request whose answer is on its way.
struct Running {
    events: mpsc::Receiver<Happened>,
    answered: Option<AbortOnDropHandle<Result<Rendered, ApiError>>>,
    ended: Option<Result<Rendered, ApiError>>,
    /// Of the result that is on its way: given back when its connection asks for what follows it.
    room: Option<Room>,
    to_tell: VecDeque<Event>,
    decoded: Decoded,
    trace_id: TraceId,
    since: Instant,
}

#[derive(Serialize)]
struct Started<'a> {
    trace_id: &'a str,
    queue_micros: u64,
}

#[derive(Serialize)]
struct Chunk<'a> {
    index: u32,
    text: &'a str,
}

impl Running {
    /// Goes on until there is something to tell, or the end is known.
    async fn advance(&mut self) {
        while self.to_tell.is_empty() && self.ended.is_none() {
            let Some(answered) = &mut self.answered else { return };
            tokio::select! {
                // What was written comes before the end.
                biased;
                Some(event) = self.events.recv() => self.happened(event),
                ended = answered => {
                    self.answered = None;
                    while let Ok(event) = self.events.try_recv() {
                        self.happened(event);
                    }
                    self.tell_written(None);
                    self.ended = Some(ended.unwrap_or_else(|fault| Err(ApiError::Internal(fault.to_string()))));
                }
            }
        }
    }

    fn happened(&mut self, event: Happened) {
        match event {
            Happened::Handed => {
                let queue_micros = micros(self.since.elapsed());
                let started = json(&Started { trace_id: &self.trace_id.0, queue_micros });
                self.to_tell.push_back(Event::default().event("started").data(started));
            }
            Happened::Output(output) => {
                self.tell_written(Some(output.index));
                let which = match output.stream {
                    engine::live::Stream::Stdout => 0,
                    engine::live::Stream::Stderr => 1,
                };
                let text = self.decoded.streams[which].push(&output.bytes.0);
                self.tell_text(which, &text);
            }
        }
    }

    /// Tells what remains of the execution before `next`.
    fn tell_written(&mut self, next: Option<u32>) {
        if next == Some(self.decoded.index) {
            return;
        }
        for which in 0..STREAMS.len() {
            let text = self.decoded.streams[which].finish();
            self.tell_text(which, text);
        }
        self.decoded.index = next.unwrap_or(self.decoded.index);
    }

    fn tell_text(&mut self, which: usize, text: &str) {
        if !text.is_empty() {
            let chunk = json(&Chunk { index: self.decoded.index, text });
            self.to_tell.push_back(Event::default().event(STREAMS[which]).data(chunk));
        }
    }

    fn into_events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut running| async move {
            running.advance().await;
            if let Some(event) = running.to_tell.pop_front() {
                return Some((Ok(event), running));
            }
            let last = match running.ended.take()? {
                Ok(Rendered { text, room }) => {
                    running.room = Some(room);
                    Event::default().event("result").data(text)
                }
                Err(error) => Event::default().event("error").data(json(&error.failure(&running.trace_id))),
            };
            Some((Ok(last), running))
        })
    }
}

/// The names of the streams, as events have them.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Output of one execution on its way from bytes to text.
#[derive(Default)]
struct Decoded {
    index: u32,
    streams: [Utf8; 2],
}

/// As one line of JSON.
fn json(value: &impl Serialize) -> String {
    // Of strings and numbers, it cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};
    use futures_util::StreamExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::{Answer, Lab};

    fn events(answer: &Answer) -> Vec<(String, Value)> {
        assert_eq!(answer.headers["content-type"], MEDIA_TYPE, "{answer:?}");
        let events = answer.text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
        let event = |event: &str| {
            let (name, data) = event.split_once('\n').unwrap();
            let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            (name.strip_prefix("event: ").unwrap().to_owned(), data)
        };
        events.map(event).collect()
    }

    async fn streamed(lab: &Lab, path: &str, request: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
        lab.ask_with("POST", path, &request.to_string(), &headers).await
    }

    #[tokio::test]
    async fn output_comes_before_the_result_which_is_that_of_a_request_without_a_stream() {
        let lab = Lab::new().await;
        for path in ["/api/v1/run", "/api/v1/execute"] {
            let program = "print a\nerror b\nsleep 20\nprint c\nfile x.txt hello";
            let request = json!({ "language": "python", "code": program, "fetch": ["x.txt"] });
            let mut plain = lab.ask("POST", path, &request.to_string()).await.json();
            let answer = streamed(&lab, path, &request).await;
            let mut events = events(&answer);
            assert_eq!(events[0].0, "started");
            assert_eq!(events[0].1["trace_id"], answer.headers["x-trace-id"].to_str().unwrap());
            assert!(events[0].1["queue_micros"].is_u64());
            let (name, mut result) = events.pop().unwrap();
            assert_eq!(name, "result");
            let written: Vec<_> =
                events[1..].iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
            let text = |text| json!({ "index": 0, "text": text });
            assert_eq!(written, [("stdout", text("a\n")), ("stderr", text("b\n")), ("stdout", text("c\n"))]);
            for answer in [&mut plain, &mut result] {
                for key in ["trace_id", "executionTime", "exec_time", "load_time"] {
                    answer.as_object_mut().unwrap().remove(key);
                }
            }
            assert_eq!(plain, result);
            assert_eq!(result["files"][0]["content"], "aGVsbG8=");
        }
    }

    #[tokio::test]
    async fn a_batch_says_which_execution_wrote_what() {
        let lab = Lab::new().await;
        let request = json!({ "language": "python", "code": "stdin", "stdin": ["é", "b"] });
        let events = events(&streamed(&lab, "/api/v1/run", &request).await);
        let texts: Vec<_> = events[1..3].iter().map(|(_, data)| data.clone()).collect();
        assert_eq!(texts, [json!({ "index": 0, "text": "é" }), json!({ "index": 1, "text": "b" })]);
        assert!(events[3].1.is_array());
    }

    #[tokio::test]
    async fn more_than_is_kept_is_streamed_and_then_not_an_error() {
        let lab = Lab::new().await;
        let request = json!({ "language": "python", "code": "flood 3000000" });
        let events = events(&streamed(&lab, "/api/v1/run", &request).await);
        let length: usize = events.iter().filter_map(|(_, data)| data["text"].as_str()).map(str::len).sum();
        assert_eq!(length, 3_000_000);
        let result = &events.last().unwrap().1;
        assert_eq!(result["stdout"].as_str().unwrap().len(), 1 << 20);
        assert_eq!(result["dropped"]["stdout"], 3_000_000 - (1 << 20));
        assert!(result["exception"].is_null());
    }

    #[tokio::test]
    async fn a_result_keeps_its_part_of_the_memory_until_what_follows_it_is_asked_for() {
        let answers = crate::answers::Answers::new();
        let room = answers.room_for(1 << 20).await.unwrap();
        let whole = answers.free_kib();
        let (_live, events) = Live::watched();
        let running = Running {
            events,
            answered: None,
            ended: Some(Ok(Rendered { text: "{}".to_owned(), room })),
            room: None,
            to_tell: VecDeque::new(),
            decoded: Decoded::default(),
            trace_id: TraceId("t".to_owned()),
            since: Instant::now(),
        };
        let mut events = Box::pin(running.into_events());
        assert!(events.next().await.is_some());
        assert_eq!(answers.free_kib(), whole, "it may not have left yet");
        assert!(events.next().await.is_none());
        assert_eq!(answers.free_kib(), whole + (1 << 10));
    }

    #[tokio::test]
    async fn what_is_refused_has_a_status_and_what_fails_later_an_event() {
        let lab = Lab::new().await;
        let refused = streamed(&lab, "/api/v1/run", &json!({ "language": "cobol", "code": "" })).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.error(), "E006: unsupported language cobol");
        let batch = json!({ "language": "python", "code": "", "stdin": ["a"] });
        assert_eq!(streamed(&lab, "/api/v1/execute", &batch).await.status, StatusCode::BAD_REQUEST);
        for program in ["print a\ncrash", "print a\ngarbage"] {
            let request = json!({ "language": "python", "code": program });
            let events = events(&streamed(&lab, "/api/v1/run", &request).await);
            let (name, error) = events.last().unwrap();
            assert_eq!(name, "error");
            assert!(error["error"].as_str().unwrap().starts_with("E010"), "{error}");
            assert_eq!(error["status"], "failed");
        }
    }

    #[test]
    fn a_stream_is_given_to_those_who_accept_one() {
        let wanted = |accept: &'static str| {
            is_wanted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(wanted("text/event-stream"));
        assert!(wanted("application/json;q=0.5, Text/Event-Stream; q=1"));
        assert!(!wanted("*/*"));
        assert!(!wanted("application/json"));
        assert!(!wanted("text/event-stream;q=0"));
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
