//! The host's side of the conversation with a guest agent.
//!
//! The guest may be in a program's hands: every length is checked before anything is allocated, every wait has a
//! deadline, and whatever is not the answer that was asked for ends the conversation.

use std::{
    future::Future,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use protocol::{
    Bytes, GENERATION,
    frame::{self, FrameError, HEADER_BYTES},
    limits::ENTROPY_BYTES,
    message::{Execution, GuestMessage, HostMessage, Prepare, Run},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout_at,
};

/// The longest answer that holds no output, in bytes: a word, or why something failed.
const SHORT_ANSWER_BYTES: usize = 64 << 10;

/// What is kept of the output of all executions of a request together, in bytes: an answer is in memory as a whole.
const MAX_OUTPUT_OF_ALL_BYTES: usize = 32 << 20;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest did not answer in time.
    #[error("the guest did not answer {doing} in time")]
    TimedOut {
        /// What it was to answer.
        doing: &'static str,
    },
    /// The channel failed, or what came was no message.
    #[error("cannot speak to the guest agent ({doing})")]
    Frame {
        /// What was being said.
        doing: &'static str,
        /// What was wrong.
        #[source]
        source: FrameError,
    },
    /// It said something else than what was asked for.
    #[error("the guest agent answered {doing} with something else")]
    Unexpected {
        /// What it was to answer.
        doing: &'static str,
    },
    /// It speaks another generation of the protocol.
    #[error("the guest agent speaks protocol generation {theirs}, this release {GENERATION}")]
    Generation {
        /// The agent's.
        theirs: u32,
    },
    /// It could not do what was asked.
    #[error("the guest agent failed: {reason}")]
    Failed {
        /// Why, in its words.
        reason: String,
    },
    /// This host has no random numbers to give.
    #[error("cannot read random numbers: {0}")]
    Entropy(getrandom::Error),
}

/// A conversation with a guest agent.
pub struct GuestClient(UnixStream);

impl GuestClient {
    /// Opens the conversation, as soon as the agent listens.
    pub async fn greet(stream: UnixStream, patience: Duration) -> Result<Self, GuestError> {
        let mut client = Self(stream);
        let doing = "hello";
        match client.ask(doing, &HostMessage::Hello { generation: GENERATION }, patience).await? {
            GuestMessage::Hello { generation: GENERATION, job_memory_bytes: _ } => Ok(client),
            GuestMessage::Hello { generation: theirs, .. } => Err(GuestError::Generation { theirs }),
            _ => Err(GuestError::Unexpected { doing }),
        }
    }

    /// Has the agent start an initialised interpreter and warm up. True where such an interpreter waits now.
    pub async fn prepare(&mut self, prepare: Prepare, patience: Duration) -> Result<bool, GuestError> {
        match self.ask("prepare", &HostMessage::Prepare(prepare), patience).await? {
            GuestMessage::Prepared { initialised } => Ok(initialised),
            _ => Err(GuestError::Unexpected { doing: "prepare" }),
        }
    }

    /// Makes this clone differ from every other. Without its `Ok` nothing may run in this microVM.
    pub async fn reseed(&mut self, patience: Duration) -> Result<(), GuestError> {
        let mut entropy = [0; ENTROPY_BYTES];
        getrandom::fill(&mut entropy).map_err(GuestError::Entropy)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let realtime_unix_nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let message = HostMessage::Reseed { entropy: Bytes(entropy.to_vec()), realtime_unix_nanos };
        match self.ask("reseed", &message, patience).await? {
            GuestMessage::Reseeded => Ok(()),
            _ => Err(GuestError::Unexpected { doing: "reseed" }),
        }
    }

    /// Whether the channel is open and the agent has said nothing that it was not asked.
    pub fn is_quiet(&mut self) -> bool {
        let closed_or_said = self.0.try_read(&mut [0]);
        closed_or_said.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits until that is not so any more.
    pub async fn not_quiet(&mut self) {
        while self.0.readable().await.is_ok() && self.is_quiet() {}
    }

    /// Runs a program. Each execution may take its time limit and `patience`.
    pub async fn run(&mut self, run: Run, patience: Duration) -> Result<Vec<Execution>, GuestError> {
        let doing = "run";
        let (count, limits) = (run.stdins.len(), run.limits);
        let each = Duration::from_millis(limits.timeout_millis) + patience;
        let longest = longest_report(limits);
        let mut executions: Vec<Execution> = Vec::with_capacity(count);
        let mut room = MAX_OUTPUT_OF_ALL_BYTES;
        let mut deadline = Instant::now() + each;
        self.send(doing, &HostMessage::Run(run), deadline).await?;
        loop {
            match self.receive(doing, deadline, longest).await? {
                GuestMessage::Execution(mut execution)
                    if plausible(&execution, executions.len(), count, limits) =>
                {
                    for stream in [&mut execution.stdout, &mut execution.stderr] {
                        room -= keep_at_most(stream, room);
                    }
                    executions.push(execution);
                    deadline = Instant::now() + each;
                }
                GuestMessage::Finished if executions.len() == count => return Ok(executions),
                GuestMessage::Failed { reason } => return Err(failed(&reason)),
                _ => return Err(GuestError::Unexpected { doing }),
            }
        }
    }

    async fn ask(
        &mut self,
        doing: &'static str,
        message: &HostMessage,
        patience: Duration,
    ) -> Result<GuestMessage, GuestError> {
        let deadline = Instant::now() + patience;
        self.send(doing, message, deadline).await?;
        match self.receive(doing, deadline, SHORT_ANSWER_BYTES).await? {
            GuestMessage::Failed { reason } => Err(failed(&reason)),
            answer => Ok(answer),
        }
    }

    async fn send(
        &mut self,
        doing: &'static str,
        message: &HostMessage,
        deadline: Instant,
    ) -> Result<(), GuestError> {
        let frame = frame::encode(message).map_err(|source| GuestError::Frame { doing, source })?;
        let written = async { self.0.write_all(&frame).await.map_err(FrameError::Io) };
        within(doing, deadline, written).await
    }

    /// Receives a message of at most so many bytes: JSON that is made for it takes many times its length once it is
    /// understood.
    async fn receive(
        &mut self,
        doing: &'static str,
        deadline: Instant,
        longest: usize,
    ) -> Result<GuestMessage, GuestError> {
        let read = async {
            let mut header = [0; HEADER_BYTES];
            self.0.read_exact(&mut header).await.map_err(FrameError::Io)?;
            let length = frame::body_length(header)?;
            if length > longest {
                return Err(FrameError::Length(length as u64));
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.map_err(FrameError::Io)?;
            frame::decode(&body)
        };
        within(doing, deadline, read).await
    }
}

async fn within<T>(
    doing: &'static str,
    deadline: Instant,
    work: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, GuestError> {
    match timeout_at(deadline.into(), work).await {
        Ok(done) => done.map_err(|source| GuestError::Frame { doing, source }),
        Err(_) => Err(GuestError::TimedOut { doing }),
    }
}

/// The agent's reason as it may be shown: bounded, and without what a terminal would act on.
fn failed(reason: &str) -> GuestError {
    const LONGEST: usize = 2_000;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    GuestError::Failed { reason: reason.chars().take(LONGEST).map(plain).collect() }
}

/// The longest report of an execution within these limits, in bytes: two streams as base64, and what is around them.
fn longest_report(limits: protocol::message::Limits) -> usize {
    let kept = usize::try_from(limits.output_bytes).unwrap_or(usize::MAX);
    kept.saturating_mul(2).div_ceil(3).saturating_mul(4).saturating_add(SHORT_ANSWER_BYTES)
}

/// Drops what is beyond `room`. How much is kept.
fn keep_at_most(stream: &mut protocol::message::Captured, room: usize) -> usize {
    let excess = stream.bytes.0.len().saturating_sub(room);
    stream.bytes.0.truncate(room);
    stream.dropped += excess as u64;
    stream.bytes.0.len()
}

/// Whether a report can be the next one: an agent in a program's hands shall not get the host to keep more than
/// was asked for.
fn plausible(execution: &Execution, seen: usize, count: usize, limits: protocol::message::Limits) -> bool {
    let kept = |captured: &protocol::message::Captured| {
        let bytes = captured.bytes.0.len() as u64;
        bytes <= limits.output_bytes && (captured.dropped == 0 || bytes == limits.output_bytes)
    };
    seen < count && execution.index as usize == seen && kept(&execution.stdout) && kept(&execution.stderr)
}

#[cfg(test)]
mod tests {
    use protocol::message::{Captured, Limits, Outcome, Process, Runtime};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A client whose agent says `answers`, whatever it is asked.
    fn agent(answers: Vec<Vec<u8>>) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                theirs.write_all(&answer).await.unwrap();
            }
            // Stays open until the client is done.
            let mut rest = Vec::new();
            let _ = theirs.read_to_end(&mut rest).await;
        });
        ours
    }

    fn frame(message: &GuestMessage) -> Vec<u8> {
        frame::encode(message).unwrap()
    }

    fn hello() -> Vec<u8> {
        frame(&GuestMessage::Hello { generation: GENERATION, job_memory_bytes: 1 })
    }

    fn run() -> Run {
        Run {
            trace_id: "t".to_owned(),
            runtime: Runtime {
                command: vec![],
                environment: std::collections::BTreeMap::new(),
                interpreter: None,
            },
            process: Process::Fresh,
            files: vec![],
            args: vec![],
            stdins: vec![Bytes::default()],
            limits: Limits { timeout_millis: 10, output_bytes: 4 },
        }
    }

    fn execution(index: u32, stdout: &str) -> GuestMessage {
        GuestMessage::Execution(Execution {
            index,
            outcome: Outcome::Exited { code: 0 },
            stdout: Captured { bytes: stdout.into(), dropped: 0 },
            stderr: Captured::default(),
            duration_micros: 1,
        })
    }

    #[tokio::test]
    async fn an_agent_of_another_generation_is_refused() {
        let other = frame(&GuestMessage::Hello { generation: GENERATION + 1, job_memory_bytes: 1 });
        let error = GuestClient::greet(agent(vec![other]), PATIENCE).await.err().unwrap();
        assert!(matches!(error, GuestError::Generation { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_never_answers_does_not_hang_the_host() {
        let error = GuestClient::greet(agent(vec![]), Duration::from_millis(20)).await.err().unwrap();
        assert!(matches!(error, GuestError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_lies_about_lengths_or_speaks_garbage_is_refused() {
        for garbage in [vec![0xff; 64], vec![0; 64], b"\0\0\0\x02{}".to_vec(), b"\0\0\0\x10tooshort".to_vec()]
        {
            let result = GuestClient::greet(agent(vec![garbage]), Duration::from_millis(50)).await;
            assert!(result.is_err());
        }
    }

    #[tokio::test]
    async fn only_the_reports_that_were_asked_for_are_taken() {
        let finished = frame(&GuestMessage::Finished);
        let good = vec![hello(), frame(&execution(0, "ab")), finished.clone()];
        let mut client = GuestClient::greet(agent(good), PATIENCE).await.unwrap();
        assert_eq!(client.run(run(), PATIENCE).await.unwrap().len(), 1);
        for wrong in [
            vec![finished.clone()],
            vec![frame(&execution(1, "")), finished.clone()],
            vec![frame(&execution(0, "")), frame(&execution(1, "")), finished.clone()],
            vec![frame(&execution(0, "too long")), finished.clone()],
            vec![frame(&GuestMessage::Reseeded)],
        ] {
            let answers = [vec![hello()], wrong].concat();
            let mut client = GuestClient::greet(agent(answers), PATIENCE).await.unwrap();
            assert!(matches!(client.run(run(), PATIENCE).await, Err(GuestError::Unexpected { .. })));
        }
    }

    #[tokio::test]
    async fn all_outputs_of_a_request_have_a_bound_together() {
        let limits = Limits { timeout_millis: 1000, output_bytes: 8 << 20 };
        let count = 6;
        let output = "x".repeat(8 << 20);
        let mut answers = vec![hello()];
        answers.extend((0..count).map(|index| frame(&execution(index, &output))));
        answers.push(frame(&GuestMessage::Finished));
        let mut client = GuestClient::greet(agent(answers), PATIENCE).await.unwrap();
        let stdins = vec![Bytes::default(); count as usize];
        let executions = client.run(Run { stdins, limits, ..run() }, PATIENCE).await.unwrap();
        let kept: usize = executions.iter().map(|execution| execution.stdout.bytes.0.len()).sum();
        assert_eq!(kept, MAX_OUTPUT_OF_ALL_BYTES);
        assert_eq!(executions[5].stdout.dropped, 8 << 20);
    }

    #[tokio::test]
    async fn a_report_longer_than_any_is_refused_unread() {
        let mut long = vec![hello()];
        long.push((100_000_u32).to_be_bytes().to_vec());
        let mut client = GuestClient::greet(agent(long), PATIENCE).await.unwrap();
        let error = client.run(run(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, GuestError::Frame { source: FrameError::Length(100_000), .. }), "{error}");
    }

    #[tokio::test]
    async fn nothing_runs_without_the_confirmation_of_a_reseed() {
        let failed = frame(&GuestMessage::Failed { reason: "no".to_owned() });
        let mut client = GuestClient::greet(agent(vec![hello(), failed]), PATIENCE).await.unwrap();
        assert!(client.reseed(PATIENCE).await.is_err());
    }
}
