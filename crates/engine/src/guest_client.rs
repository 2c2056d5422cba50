//! The host's side of the conversation with a guest agent.
//!
//! The guest may be in a program's hands: every length is checked before anything is allocated, every wait has a
//! deadline, and whatever is not the answer that was asked for ends the conversation.

use std::{
    future::Future,
    ops::RangeInclusive,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use protocol::{
    Bytes, GENERATION,
    frame::{self, FrameError, HEADER_BYTES},
    limits::ENTROPY_BYTES,
    message::{Execution, Fetched, GuestMessage, HostMessage, Prepare, Run},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
    time::{Instant, timeout_at},
};
use vmm::printable;

use crate::{
    expected::{DOING, Expected, SHORT_ANSWER_BYTES},
    live::{Input, Live},
};

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
    /// Its kernel has measured its timer badly while it booted, as happens where the host is busy.
    #[error(
        "this host was so busy that the guest's kernel could not measure its timer ({permille} thousandths of what is right)"
    )]
    Timer {
        /// See [`GuestMessage::Hello`].
        permille: u32,
    },
    /// It could not do what was asked.
    #[error("the guest agent failed: {reason}")]
    Failed {
        /// Why, in its words.
        reason: String,
    },
    /// Whoever watches the program did not take its output in time.
    #[error("its output was not taken in time")]
    NotTaken,
    /// This host has no random numbers to give.
    #[error("cannot read random numbers: {0}")]
    Entropy(getrandom::Error),
}

/// Which timers of a guest will do: see [`GuestMessage::Hello`].
pub(crate) type Timers = RangeInclusive<u32>;

/// Those of one that is booted for a request: they may come early, which costs a little, or a fourth of each wait too late.
pub(crate) const TIMERS_OF_A_BOOT: Timers = 500..=1250;

/// Those of one that is saved, for its clones have the same.
pub(crate) const TIMERS_OF_A_SNAPSHOT: Timers = 950..=1050;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Its executions, in the order of their stdins.
    pub executions: Vec<Execution>,
    /// The files that they left and the run fetches, in the same order.
    pub files: Vec<Fetched>,
}

/// A conversation with a guest agent.
pub struct GuestClient {
    stream: UnixStream,
    /// See [`GuestMessage::Hello`].
    timer_permille: u32,
}

impl GuestClient {
    /// Opens the conversation, as soon as the agent listens.
    pub async fn greet(stream: UnixStream, patience: Duration) -> Result<Self, GuestError> {
        let mut client = Self { stream, timer_permille: 0 };
        let doing = "hello";
        match client.ask(doing, &HostMessage::Hello { generation: GENERATION }, patience).await? {
            GuestMessage::Hello { generation: GENERATION, timer_permille, .. } => {
                Ok(Self { timer_permille, ..client })
            }
            GuestMessage::Hello { generation: theirs, .. } => Err(GuestError::Generation { theirs }),
            _ => Err(GuestError::Unexpected { doing }),
        }
    }

    /// An error unless the guest has one of these timers.
    pub(crate) fn require(&self, timers: &Timers) -> Result<(), GuestError> {
        let permille = self.timer_permille;
        if timers.contains(&permille) { Ok(()) } else { Err(GuestError::Timer { permille }) }
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
        let closed_or_said = self.stream.try_read(&mut [0]);
        closed_or_said.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits until that is not so any more.
    pub async fn not_quiet(&mut self) {
        while self.stream.readable().await.is_ok() && self.is_quiet() {}
    }

    /// Runs a program. Each execution may take its time limit and `patience`.
    pub async fn run(&mut self, run: Run, patience: Duration) -> Result<Vec<Execution>, GuestError> {
        self.watched(run, patience, None).await.map(|report| report.executions)
    }

    /// The same, and tells of what it writes while it runs where somebody watches, who may take as long for that as the
    /// program for its run.
    pub async fn watched(
        &mut self,
        mut run: Run,
        patience: Duration,
        live: Option<&mut Live>,
    ) -> Result<Report, GuestError> {
        run.options.stream = live.is_some();
        let (events, input) = match live {
            Some(live) => (Some(live.events()), live.input.take()),
            None => (None, None),
        };
        run.options.interactive = input.is_some();
        let mut expected = Expected::new(&run, patience, events);
        let (mut reader, mut writer) = self.stream.split();
        if run.options.stream {
            // Its output comes as it is written, and need not come twice.
            run.limits.output_bytes = 0;
        }
        send(&mut writer, DOING, &HostMessage::Run(run), expected.deadline).await?;
        let answered = async {
            loop {
                let message = receive(&mut reader, DOING, expected.deadline, expected.longest).await?;
                if let Some(report) = expected.take(message).await? {
                    return Ok(report);
                }
            }
        };
        tokio::select! {
            biased;
            report = answered => report,
            error = pass_on(&mut writer, input) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        doing: &'static str,
        message: &HostMessage,
        patience: Duration,
    ) -> Result<GuestMessage, GuestError> {
        let deadline = Instant::now() + patience;
        send(&mut self.stream, doing, message, deadline).await?;
        match receive(&mut self.stream, doing, deadline, SHORT_ANSWER_BYTES).await? {
            GuestMessage::Failed { reason } => Err(failed(&reason)),
            answer => Ok(answer),
        }
    }
}

async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    doing: &'static str,
    message: &HostMessage,
    deadline: Instant,
) -> Result<(), GuestError> {
    let frame = frame::encode(message).map_err(|source| GuestError::Frame { doing, source })?;
    let written = async { to.write_all(&frame).await.map_err(FrameError::Io) };
    within(doing, deadline, written).await
}

/// Receives a message of at most so many bytes: JSON that is made for it takes many times its length once it is
/// understood.
async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    doing: &'static str,
    deadline: Instant,
    longest: usize,
) -> Result<GuestMessage, GuestError> {
    let read = async {
        let mut header = [0; HEADER_BYTES];
        from.read_exact(&mut header).await.map_err(FrameError::Io)?;
        let length = frame::body_length(header)?;
        if length > longest {
            return Err(FrameError::Length(length as u64));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await.map_err(FrameError::Io)?;
        frame::decode(&body)
    };
    within(doing, deadline, read).await
}

/// Passes on what an interactive program is given; the error is why that ended. Never ends where there is nothing more.
async fn pass_on(to: &mut (impl AsyncWrite + Unpin), input: Option<mpsc::Receiver<Input>>) -> GuestError {
    if let Some(mut input) = input {
        while let Some(input) = input.recv().await {
            for message in input.messages() {
                // The program's deadline is that of its answer: until then it need not read.
                let written = match frame::encode(&message) {
                    Ok(frame) => to.write_all(&frame).await.map_err(FrameError::Io),
                    Err(error) => Err(error),
                };
                if let Err(source) = written {
                    return GuestError::Frame { doing: DOING, source };
                }
            }
        }
    }
    std::future::pending().await
}

async fn within<T>(
    doing: &'static str,
    deadline: Instant,
    work: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, GuestError> {
    // Asked for first: where there is always something to read, the timer is never waited for.
    if Instant::now() >= deadline {
        return Err(GuestError::TimedOut { doing });
    }
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(|source| GuestError::Frame { doing, source }),
        Err(_) => Err(GuestError::TimedOut { doing }),
    }
}

/// The agent's reason as it may be shown: bounded, and without what a terminal would act on.
pub(crate) fn failed(reason: &str) -> GuestError {
    const MOST_CHARS: usize = 2_000;
    let reason: String = reason.chars().take(MOST_CHARS).collect();
    GuestError::Failed { reason: printable(&reason) }
}

#[cfg(test)]
mod tests {
    use protocol::message::{Captured, Limits, Options, Outcome, Process, Runtime, Usage};

    use super::*;
    use crate::expected::MAX_OUTPUT_OF_ALL_BYTES;

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
        frame(&GuestMessage::Hello { generation: GENERATION, job_memory_bytes: 1, timer_permille: 1000 })
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
            options: Options::default(),
        }
    }

    fn execution(index: u32, stdout: &str) -> GuestMessage {
        GuestMessage::Execution(Execution {
            index,
            outcome: Outcome::Exited { code: 0 },
            stdout: Captured { bytes: stdout.into(), dropped: 0 },
            stderr: Captured::default(),
            duration_micros: 1,
            usage: None,
        })
    }

    #[tokio::test]
    async fn an_agent_of_another_generation_is_refused() {
        let other = frame(&GuestMessage::Hello {
            generation: GENERATION + 1,
            job_memory_bytes: 1,
            timer_permille: 1000,
        });
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
    async fn what_an_execution_used_is_not_taken_unasked() {
        let GuestMessage::Execution(execution) = execution(0, "") else { unreachable!("it is one") };
        let usage = Some(Usage { cpu_micros: 1, peak_memory_bytes: 1 });
        let told = frame(&GuestMessage::Execution(Execution { usage, ..execution }));
        for (asked, is_taken) in [(true, true), (false, false)] {
            let answers = vec![hello(), told.clone(), frame(&GuestMessage::Finished)];
            let mut client = GuestClient::greet(agent(answers), PATIENCE).await.unwrap();
            let options = Options { usage: asked, ..Options::default() };
            assert_eq!(client.run(Run { options, ..run() }, PATIENCE).await.is_ok(), is_taken);
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
