//! The guest: the agent's side of the conversation, and the state that it depends on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use protocol::{
    GENERATION,
    frame::FrameError,
    message::{Captured, Execution, GuestMessage, HostMessage, Outcome, Process, Run, Usage},
};
use rustix::process::Signal;
use tokio::{net::UnixStream, sync::watch};

use super::{
    backend::{FakeSettings, pause},
    control::{FakeControl, Step},
    conversation::Conversation,
    script::{self, Misbehaviour},
};
use crate::backend::Exit;

/// What a job may use of a memory that is not there, in bytes.
const JOB_MEMORY_BYTES: u64 = 400 << 20;

/// No length of a frame, whichever byte it begins with.
const GARBAGE: [u8; 64] = [0xff; 64];

/// The guest of one microVM.
pub(super) struct Guest {
    conversation: Conversation,
    control: Arc<FakeControl>,
    crashes: watch::Receiver<()>,
    settings: FakeSettings,
    identity: u64,
    /// Whether an initialised interpreter waits. Shared with whoever saves it.
    initialised: Arc<AtomicBool>,
    reseeded: bool,
    rehearsed: bool,
    has_run: bool,
}

impl Guest {
    pub(super) fn new(
        stream: UnixStream,
        control: Arc<FakeControl>,
        settings: FakeSettings,
        initialised: Arc<AtomicBool>,
    ) -> Self {
        Self {
            conversation: Conversation::over(stream),
            crashes: control.crashes(),
            identity: control.new_identity(),
            control,
            settings,
            initialised,
            reseeded: false,
            rehearsed: false,
            has_run: false,
        }
    }

    /// Serves the host until the host hangs up or the VMM ends.
    pub(super) async fn live(mut self) -> Exit {
        let mut crashes = self.crashes.clone();
        tokio::select! {
            exit = self.converse() => exit,
            _ = crashes.changed() => CRASH,
        }
    }

    async fn converse(&mut self) -> Exit {
        loop {
            // Upon what it cannot read, as upon the end, the agent ends, and with it the guest.
            let Ok(message) = self.conversation.receive().await else { return Exit::GuestShutdown };
            let answered = match message {
                HostMessage::Hello { generation: _ } => {
                    let job_memory_bytes = JOB_MEMORY_BYTES;
                    let timer_permille = if self.control.fails(Step::Timer) { 0 } else { 1000 };
                    let generation = GENERATION;
                    self.send(&[GuestMessage::Hello { generation, job_memory_bytes, timer_permille }]).await
                }
                HostMessage::Prepare(prepare) => {
                    let initialised = prepare.runtime.interpreter.is_some();
                    self.initialised.store(initialised, SeqCst);
                    self.send(&[GuestMessage::Prepared { initialised }]).await
                }
                HostMessage::Reseed { .. } if self.control.fails(Step::Reseed) => {
                    self.send(&[failed("it was told to fail")]).await
                }
                HostMessage::Reseed { .. } => {
                    self.reseeded = true;
                    self.send(&[GuestMessage::Reseeded]).await
                }
                HostMessage::Run(_) if !self.reseeded => {
                    self.send(&[failed("it was not reseeded before a run")]).await
                }
                HostMessage::Run(run) if run.process == Process::Rehearsal => self.rehearse(&run).await,
                HostMessage::Run(run) => match self.run(&run).await {
                    Ok(answered) => answered,
                    Err(exit) => return exit,
                },
                // What they were for has ended meanwhile.
                HostMessage::Input { .. } | HostMessage::Signal { .. } => Ok(()),
            };
            if answered.is_err() {
                return Exit::GuestShutdown;
            }
        }
    }

    /// Answers as if the program had been run: it is the host's own, and not of the language that is understood here.
    async fn rehearse(&mut self, run: &Run) -> Result<(), FrameError> {
        self.control.count_rehearsal();
        pause(self.settings.rehearsal_delay).await;
        self.rehearsed = true;
        let mut answers = Vec::new();
        for index in 0..run.stdins.len() {
            let (stdout, stderr) = (Captured::default(), Captured::default());
            let outcome = Outcome::Exited { code: 0 };
            answers.push(GuestMessage::Execution(Execution {
                index: number(index),
                outcome,
                stdout,
                stderr,
                duration_micros: 1,
                usage: None,
            }));
        }
        answers.push(GuestMessage::Finished);
        self.send(&answers).await
    }

    /// Runs a program. The error is how the VMM ends because of it.
    async fn run(&mut self, run: &Run) -> Result<Result<(), FrameError>, Exit> {
        let is_first = !std::mem::replace(&mut self.has_run, true);
        self.control.count_run(is_first);
        if is_first && !self.rehearsed {
            pause(self.settings.first_run_delay).await;
        }
        let process = self.process(run);
        let mut answers = Vec::new();
        for (index, stdin) in run.stdins.iter().enumerate() {
            let world = script::World {
                run,
                index: number(index),
                stdin: &stdin.0,
                identity: self.identity,
                process,
            };
            let since = Instant::now();
            match script::run(&world, &mut self.conversation).await {
                Ok(ran) => {
                    answers.extend(ran.files.into_iter().map(GuestMessage::File));
                    let duration_micros = micros(since.elapsed());
                    let usage = Usage { cpu_micros: duration_micros, peak_memory_bytes: 1 << 20 };
                    answers.push(GuestMessage::Execution(Execution {
                        index: number(index),
                        outcome: ran.outcome,
                        stdout: ran.stdout,
                        stderr: ran.stderr,
                        duration_micros,
                        usage: run.options.usage.then_some(usage),
                    }));
                }
                Err(Misbehaviour::Crash) => return Err(CRASH),
                Err(Misbehaviour::Shutdown) => return Err(Exit::GuestShutdown),
                Err(Misbehaviour::Garbage) => {
                    return Ok(self.conversation.write(&GARBAGE).await);
                }
                Err(Misbehaviour::Silence) => std::future::pending().await,
                Err(Misbehaviour::Say(bytes)) => return Ok(self.conversation.write(&bytes).await),
                Err(Misbehaviour::Channel(error)) => return Ok(Err(error)),
                Err(Misbehaviour::Fail(reason)) => return Ok(self.send(&[failed(&reason)]).await),
            }
            // Each answer when it is there, but the last one together with the end.
            if index + 1 < run.stdins.len()
                && let Err(error) = self.send(&std::mem::take(&mut answers)).await
            {
                return Ok(Err(error));
            }
        }
        answers.push(GuestMessage::Finished);
        Ok(self.send(&answers).await)
    }

    /// Which process runs a program, by the rules of the real agent: a run of one stdin uses the initialised interpreter
    /// up, several fork it, and arguments need a fresh process.
    fn process(&self, run: &Run) -> &'static str {
        let wants_initialised = run.process == Process::Initialised && run.args.is_empty();
        if !wants_initialised || !self.initialised.load(SeqCst) {
            "fresh"
        } else if run.stdins.len() == 1 {
            self.initialised.store(false, SeqCst);
            "initialised"
        } else {
            "fork"
        }
    }

    async fn send(&mut self, messages: &[GuestMessage]) -> Result<(), FrameError> {
        self.conversation.send(messages).await
    }
}

/// How a VMM ends that crashes.
const CRASH: Exit = Exit::Crashed { signal: Signal::SEGV.as_raw() };

fn failed(reason: &str) -> GuestMessage {
    GuestMessage::Failed { reason: reason.to_owned() }
}

/// A position, which the protocol bounds.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
