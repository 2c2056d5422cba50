//! What a host asks an agent for, and what a right answer is.

use std::{collections::BTreeMap, time::Duration};

use engine::{
    guest_client::{GuestClient, GuestError, Report},
    live::{Input, Live},
};
use protocol::{
    Bytes, GENERATION,
    message::{
        Captured, Content, Execution, Fetched, GuestMessage, Limits, Omitted, Options, Outcome, Output,
        Prepare, Process, Run, Runtime, Stream, Usage, WarmUp,
    },
};
use tokio::{net::UnixStream, time::Instant};

use crate::agent::frame;

/// How long an agent may take for what it answers at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a program may run.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// What a host asks for, in a conversation that went well so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Greet,
    Reseed,
    Prepare,
    One,
    Batch,
    Stream,
    Interactive,
    Fetch,
}

impl Phase {
    pub(crate) const ALL: [Self; 8] = [
        Self::Greet,
        Self::Reseed,
        Self::Prepare,
        Self::One,
        Self::Batch,
        Self::Stream,
        Self::Interactive,
        Self::Fetch,
    ];

    /// What a right answer consists of.
    pub(crate) fn answers(self) -> Vec<GuestMessage> {
        match self {
            Self::Greet => vec![hello()],
            Self::Reseed => vec![GuestMessage::Reseeded],
            Self::Prepare => vec![GuestMessage::Prepared { initialised: true }],
            Self::One => vec![execution(0, "a"), GuestMessage::Finished],
            Self::Batch => vec![execution(0, "a"), execution(1, "b"), GuestMessage::Finished],
            Self::Stream => {
                vec![
                    output(0, "a"),
                    execution(0, ""),
                    output(1, "b"),
                    execution(1, ""),
                    GuestMessage::Finished,
                ]
            }
            Self::Interactive => vec![output(0, "a"), execution(0, ""), GuestMessage::Finished],
            Self::Fetch => vec![
                file(0, "a", "1"),
                omitted(0, "b"),
                execution(0, ""),
                file(1, "a", "2"),
                omitted(1, "."),
                with_usage(execution(1, "")),
                GuestMessage::Finished,
            ]
            .into_iter()
            .map(with_usage)
            .collect(),
        }
    }

    /// The same as frames.
    pub(crate) fn frames(self) -> Vec<Vec<u8>> {
        self.answers().iter().map(frame).collect()
    }

    /// How long the host may take at most.
    pub(crate) fn longest(self) -> Duration {
        let executions = match self {
            Self::Greet | Self::Reseed | Self::Prepare => 0,
            Self::One | Self::Interactive => 1,
            Self::Batch | Self::Stream | Self::Fetch => 2,
        };
        PATIENCE + (TIMEOUT + Duration::from_secs(2)) * executions
    }

    fn run(self) -> Run {
        let stdins = match self {
            Self::Batch | Self::Stream | Self::Fetch => 2,
            _ => 1,
        };
        let fetch = if self == Self::Fetch { vec!["*".to_owned()] } else { vec![] };
        Run {
            trace_id: "t".to_owned(),
            runtime: runtime(),
            process: Process::Fresh,
            files: vec![],
            args: vec![],
            stdins: vec![Bytes::default(); stdins],
            limits: Limits { timeout_millis: u64::try_from(TIMEOUT.as_millis()).unwrap(), output_bytes: 4 },
            options: Options { usage: self == Self::Fetch, fetch, ..Options::default() },
        }
    }

    /// Asks. Whatever comes of it comes in time, by a clock that stands still meanwhile.
    pub(crate) async fn ask(self, stream: UnixStream) -> Result<Report, GuestError> {
        let begun = Instant::now();
        // Far beyond any deadline: what does not end is told, by name.
        let asked = tokio::time::timeout(Duration::from_secs(86_400), self.converse(stream)).await;
        let asked = asked.unwrap_or_else(|_| panic!("{self:?} hangs"));
        let (took, longest) = (begun.elapsed(), self.longest());
        assert!(took <= longest + Duration::from_millis(10), "{self:?} took {took:?} of {longest:?}");
        asked
    }

    async fn converse(self, stream: UnixStream) -> Result<Report, GuestError> {
        let mut client = GuestClient::greet(stream, PATIENCE).await?;
        match self {
            Self::Greet => Ok(Report::default()),
            Self::Reseed => client.reseed(PATIENCE).await.map(|()| Report::default()),
            Self::Prepare => {
                let prepare = Prepare { runtime: runtime(), warm_up: WarmUp { files: vec![], runs: 1 } };
                client.prepare(prepare, PATIENCE).await.map(|_| Report::default())
            }
            Self::One | Self::Batch | Self::Fetch => client.watched(self.run(), PATIENCE, None).await,
            Self::Stream => {
                let (mut live, mut events) = Live::watched();
                let watching = tokio::spawn(async move { while events.recv().await.is_some() {} });
                let report = client.watched(self.run(), PATIENCE, Some(&mut live)).await;
                watching.abort();
                report
            }
            Self::Interactive => {
                let (mut live, mut events, input) = Live::interactive();
                let watching = tokio::spawn(async move { while events.recv().await.is_some() {} });
                for said in [Input::Bytes(b"x".to_vec()), Input::Signal(15), Input::End] {
                    input.send(said).await.unwrap();
                }
                let report = client.watched(self.run(), PATIENCE, Some(&mut live)).await;
                watching.abort();
                report
            }
        }
    }

    /// What comes before this in a conversation.
    pub(crate) fn before(self) -> Vec<u8> {
        if self == Self::Greet { vec![] } else { frame(&hello()) }
    }
}

pub(crate) fn hello() -> GuestMessage {
    GuestMessage::Hello { generation: GENERATION, job_memory_bytes: 1, timer_permille: 1000 }
}

pub(crate) fn execution(index: u32, stdout: &str) -> GuestMessage {
    GuestMessage::Execution(Execution {
        index,
        outcome: Outcome::Exited { code: 0 },
        stdout: Captured { bytes: stdout.into(), dropped: 0 },
        stderr: Captured::default(),
        duration_micros: 1,
        usage: None,
    })
}

pub(crate) fn with_usage(message: GuestMessage) -> GuestMessage {
    match message {
        GuestMessage::Execution(execution) => {
            let usage = Some(Usage { cpu_micros: 1, peak_memory_bytes: 1 });
            GuestMessage::Execution(Execution { usage, ..execution })
        }
        message => message,
    }
}

pub(crate) fn output(index: u32, text: &str) -> GuestMessage {
    GuestMessage::Output(Output { index, stream: Stream::Stdout, bytes: text.into() })
}

pub(crate) fn file(index: u32, name: &str, text: &str) -> GuestMessage {
    let (name, size) = (name.to_owned(), text.len() as u64);
    GuestMessage::File(Fetched { index, name, size, content: Content::Bytes(text.into()) })
}

pub(crate) fn omitted(index: u32, name: &str) -> GuestMessage {
    let content = Content::Omitted(Omitted::TooMany);
    GuestMessage::File(Fetched { index, name: name.to_owned(), size: 1, content })
}

fn runtime() -> Runtime {
    Runtime { command: vec![], environment: BTreeMap::new(), interpreter: None }
}
