//! Piston's WebSocket: one program on one connection, with its output as it is written and input as it comes.
//!
//! ```text
//! client                     service
//! init            ──────────▶          within a second
//!                 ◀──────────  runtime, stage
//! data, signal    ──────────▶
//!                 ◀──────────  data
//!                 ◀──────────  exit, and the end (4999)
//! ```

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::ws::{CloseFrame, Message, WebSocket},
};
use bytes::Bytes;
use engine::{
    Answer, Outcome, Utf8,
    answer::signal_number,
    live::{Event, Input, Live, Stream},
};
use serde::de::{IgnoredAny, MapAccess};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use super::{
    Runtime,
    answer::Stage,
    request::{Understood, understand},
};
use crate::{
    caller::Envelope,
    compatible::loose::{Fields, Loose, Object},
    error::ApiError,
    routes::answer,
    service::Shared,
    settings::PistonLimits,
    trace::TraceId,
};

/// How long a client may take to say what it wants.
const INIT_PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may take to take what is sent to it, and to say good-bye.
const SEND_PATIENCE: Duration = Duration::from_secs(60);
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// The longest message, in bytes: a program with its files.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Why a connection ends, as the API numbers it.
#[derive(Clone, Copy)]
enum Closing {
    AlreadyInitialized,
    InitializationTimeout,
    NotifiedError,
    NotYetInitialized,
    OnlyStdin,
    InvalidSignal,
    Completed,
}

impl Closing {
    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::AlreadyInitialized => (4000, "Already Initialized"),
            Self::InitializationTimeout => (4001, "Initialization Timeout"),
            Self::NotifiedError => (4002, "Notified Error"),
            Self::NotYetInitialized => (4003, "Not yet initialized"),
            Self::OnlyStdin => (4004, "Can only write to stdin"),
            Self::InvalidSignal => (4005, "Invalid signal"),
            Self::Completed => (4999, "Job Completed"),
        };
        CloseFrame { code, reason: reason.into() }
    }
}

/// How the client came, and what it may have.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) trace_id: TraceId,
    pub(crate) envelope: Envelope,
    pub(crate) limits: PistonLimits,
}

/// The client has gone.
struct Gone;

/// Whatever ends the conversation.
enum End {
    Gone,
    Closing(Closing),
    /// Told before it is closed.
    Error(String),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Session {
    /// Converses until the end of one of the two.
    pub(crate) async fn converse(self, mut socket: WebSocket) {
        let cut = self.shared.cut.clone();
        let conversation = async {
            let closing = match self.run(&mut socket).await {
                End::Gone => return,
                End::Closing(closing) => closing,
                End::Error(message) => {
                    let told = json!({ "type": "error", "message": message });
                    if send(&mut socket, &told).await.is_err() {
                        return;
                    }
                    Closing::NotifiedError
                }
            };
            close(&mut socket, closing).await;
        };
        tokio::select! {
            () = conversation => {}
            // Dropping it ends its microVM.
            () = cut.cancelled() => {}
        }
    }

    async fn run(&self, socket: &mut WebSocket) -> End {
        let deadline = Instant::now() + INIT_PATIENCE;
        let init = loop {
            let message = match timeout_at(deadline, received(socket)).await {
                Err(_) => return End::Closing(Closing::InitializationTimeout),
                Ok(Err(end)) => return end,
                Ok(Ok(message)) => message,
            };
            match message.kind.text() {
                Some("init") => break message.bytes,
                Some("data" | "signal") => return End::Closing(Closing::NotYetInitialized),
                _ => {}
            }
        };
        let usual = self.shared.policy().usual_machine;
        let runtimes = match self.shared.versions.runtimes(&self.shared.pool, usual).await {
            Ok(runtimes) => runtimes,
            Err(error) => return End::Error(error.plain(&self.trace_id)),
        };
        let policy = self.shared.policy();
        let (request, runtime) = match understand(&init, &runtimes, &self.limits, &policy) {
            Ok(Understood { request, runtime }) => (request, runtime),
            Err(error) => return End::Error(ApiError::Request(error).plain(&self.trace_id)),
        };
        let (mut live, events, input) = Live::interactive();
        let (shared, trace_id, envelope) =
            (Arc::clone(&self.shared), self.trace_id.clone(), self.envelope.clone());
        let running = async move {
            // The body was read; it counts among those that are in memory.
            let understood = move |_: &[u8], _: &Shared| Ok(request);
            answer(&shared, &trace_id, &envelope, Body::from(init), understood, Some(&mut live)).await
        };
        // By itself, so that its deadlines hold whoever reads.
        let running = AbortOnDropHandle::new(tokio::spawn(running.instrument(Span::current())));
        let program = Program { events, input, running, text: [Utf8::default(), Utf8::default()] };
        match program.attend(socket, &runtime).await {
            Ok(outcome) => match outcome {
                Ok(Outcome { answer: Answer::One(mut execution), .. }) => {
                    // However much it was, all of it was sent.
                    execution.dropped = None;
                    let Stage { code, signal, .. } = Stage::new(&execution, String::new());
                    let exit = json!({ "type": "exit", "stage": "run", "code": code, "signal": signal });
                    match send(socket, &exit).await {
                        Ok(()) => End::Closing(Closing::Completed),
                        Err(gone) => gone.into(),
                    }
                }
                Ok(_) => End::Error("an answer without an execution".to_owned()),
                Err(error) => End::Error(error.failure(&self.trace_id).error),
            },
            Err(end) => end,
        }
    }
}

/// A program that runs, or is to.
struct Program {
    events: mpsc::Receiver<Event>,
    input: mpsc::Sender<Input>,
    running: AbortOnDropHandle<Result<Outcome, ApiError>>,
    text: [Utf8; 2],
}

impl Program {
    /// Passes on what either says until the program's end.
    async fn attend(
        mut self,
        socket: &mut WebSocket,
        runtime: &Runtime,
    ) -> Result<Result<Outcome, ApiError>, End> {
        // What the program has no room for yet; until then the client is not listened to.
        let mut waiting: Option<Input> = None;
        let input = self.input.clone();
        let outcome = loop {
            // In turn, or a client could not stop a program that writes all the time.
            tokio::select! {
                Some(event) = self.events.recv() => self.tell(socket, event, runtime).await?,
                outcome = &mut self.running => {
                    break outcome.unwrap_or_else(|fault| Err(ApiError::Internal(fault.to_string())));
                }
                permit = input.reserve(), if waiting.is_some() => {
                    if let (Ok(permit), Some(input)) = (permit, waiting.take()) {
                        permit.send(input);
                    }
                }
                message = received(socket), if waiting.is_none() => waiting = said(message?)?,
            }
        };
        while let Ok(event) = self.events.try_recv() {
            self.tell(socket, event, runtime).await?;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.text[place(stream)].finish();
            send_text(socket, stream, rest).await?;
        }
        Ok(outcome)
    }

    async fn tell(&mut self, socket: &mut WebSocket, event: Event, runtime: &Runtime) -> Result<(), Gone> {
        match event {
            Event::Handed => {
                let (language, version) = (runtime.language.name.as_str(), runtime.version.to_string());
                let told = json!({ "type": "runtime", "language": language, "version": version });
                send(socket, &told).await?;
                send(socket, &json!({ "type": "stage", "stage": "run" })).await
            }
            Event::Output(output) => {
                let text = self.text[place(output.stream)].push(&output.bytes.0);
                send_text(socket, output.stream, &text).await
            }
        }
    }
}

fn place(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// A message of a client's.
#[derive(Default)]
struct Said {
    kind: Loose,
    stream: Loose,
    data: Loose,
    signal: Loose,
    /// All of it, as it came.
    bytes: Bytes,
}

impl Fields for Said {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = object.next_value()?,
            "stream" => self.stream = object.next_value()?,
            "data" => self.data = object.next_value()?,
            "signal" => self.signal = object.next_value()?,
            _ => {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// What a client says to its program; nothing where the API knows no such message.
fn said(message: Said) -> Result<Option<Input>, End> {
    match message.kind.text() {
        Some("init") => Err(End::Closing(Closing::AlreadyInitialized)),
        Some("data") if message.stream.text() != Some("stdin") => Err(End::Closing(Closing::OnlyStdin)),
        Some("data") => match message.data {
            Loose::Text(data) if data.is_empty() => Ok(None),
            Loose::Text(data) => Ok(Some(Input::Bytes(data.into_bytes()))),
            _ => Err(End::Error("data is required as a string".to_owned())),
        },
        Some("signal") => {
            let signal = message.signal.text().and_then(|name| signal_number(name.strip_prefix("SIG")?));
            signal.map(|signal| Some(Input::Signal(signal))).ok_or(End::Closing(Closing::InvalidSignal))
        }
        _ => Ok(None),
    }
}

/// Reads a message, for `fuzz/`: what of it goes to the program.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_message(bytes: &[u8]) -> Option<Input> {
    let Object(message): Object<Said> = serde_json::from_slice(bytes).ok()?;
    said(message).ok().flatten()
}

/// The next message.
async fn received(socket: &mut WebSocket) -> Result<Said, End> {
    loop {
        let bytes: Bytes = match socket.recv().await {
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Binary(bytes))) => bytes,
            // Pings are answered by themselves.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
        };
        let Object(said): Object<Said> = serde_json::from_slice(&bytes)
            .map_err(|error| End::Error(format!("the message is not JSON: {error}")))?;
        return Ok(Said { bytes, ..said });
    }
}

async fn send_text(socket: &mut WebSocket, stream: Stream, text: &str) -> Result<(), Gone> {
    if text.is_empty() {
        return Ok(());
    }
    let stream = ["stdout", "stderr"][place(stream)];
    send(socket, &json!({ "type": "data", "stream": stream, "data": text })).await
}

async fn send(socket: &mut WebSocket, message: &Value) -> Result<(), Gone> {
    let sent = timeout(SEND_PATIENCE, socket.send(Message::Text(message.to_string().into()))).await;
    sent.map_err(|_| Gone)?.map_err(|_| Gone)
}

/// Says why it ends, and waits a moment for the client to say the same.
async fn close(socket: &mut WebSocket, closing: Closing) {
    let closed = async {
        if socket.send(Message::Close(Some(closing.frame()))).await.is_ok() {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        }
    };
    // One that does not answer is gone.
    let _ = timeout(CLOSE_PATIENCE, closed).await;
}
