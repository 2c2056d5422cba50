//! One microVM that serves one request: from its start to its end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use protocol::{
    Bytes,
    limits::DEFAULT_OUTPUT_BYTES,
    message::{self, Execution, Limits, Process, Run},
};
use serde::Serialize;
use vmm::{ControlError, MicroVm};

use crate::{
    LanguageSpec,
    answer::{Answer, ExecutionAnswer},
    error::{Fate, RunError},
    files::Files,
    guest_client::{GuestClient, GuestError, Report, TIMERS_OF_A_BOOT, Timers},
    in_use::InUse,
    live::{Event, Live},
    request::{Request, Stdin},
    slots::Slot,
};

/// How long a guest may take from its boot to its agent's first word. Under emulation on a busy host.
pub(crate) const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a guest agent may take to answer what it answers at once.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// How long the end of a VMM may take to be told, once its guest has hung up.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How often a job is rehearsed: what the first leaves untranslated of an emulated guest's code, the others do.
const REHEARSALS: u32 = 3;

/// How long a guest agent may take to prepare a language: several runs of the warm-up program.
pub(crate) const PREPARE_PATIENCE: Duration = Duration::from_secs(300);

/// How long each part of a request took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Phases {
    /// Waiting for a slot.
    pub queue: Duration,
    /// Checking the snapshot and starting the VMM, until it can be given its snapshot; for a boot, until the guest
    /// executes. Nothing where a VMM was waiting.
    pub process: Duration,
    /// Until the snapshot's state was loaded; until the guest executed, where the VMM does both in one step.
    pub load: Duration,
    /// From there until the guest executed, where that is a step of its own.
    pub resume: Option<Duration>,
    /// Until there was a connection to the guest agent.
    pub connect: Duration,
    /// Until the guest agent has answered, and has reseeded.
    pub handshake: Duration,
    /// From sending the job to having the answer.
    pub run: Duration,
    /// Ending the VMM.
    pub end: Duration,
}

impl Phases {
    /// From the beginning of the start until the microVM was ready for its job.
    pub fn start(&self) -> Duration {
        self.process + self.load + self.resume.unwrap_or_default() + self.connect + self.handshake
    }
}

/// An answer, and how it came about.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// How long each part took.
    pub phases: Phases,
    /// Whether the microVM was restored from a snapshot.
    pub restored: bool,
}

/// How a request is run.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The id under which host and guest speak of it.
    pub trace_id: &'a str,
    /// Which process runs the program.
    pub process: Process,
}

impl<'a> Job<'a> {
    /// As requests are run, unless somebody measures.
    pub fn of(trace_id: &'a str) -> Self {
        Self { trace_id, process: Process::Initialised }
    }
}

/// When a guest got its time, by both clocks of the host.
#[derive(Clone, Copy, Debug)]
struct Seeded {
    wall: SystemTime,
    steady: Instant,
}

impl Seeded {
    /// How far the wall clock may be from where it should be.
    const TOLERANCE: Duration = Duration::from_millis(500);

    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// Whether the host's wall clock was set since, or the host has slept.
    fn has_jumped(self) -> bool {
        let expected = self.wall + self.steady.elapsed();
        let apart = expected.duration_since(SystemTime::now()).unwrap_or_else(|error| error.duration());
        apart > Self::TOLERANCE
    }
}

/// What a microVM holds: given back when the session is dropped, after the microVM.
pub(crate) struct Held {
    /// Its room on the host.
    pub(crate) _slot: Slot,
    /// The snapshot that it was restored from.
    pub(crate) in_use: Option<InUse>,
}

/// A microVM that is ready for its one request. Dropping it ends it.
pub struct Session {
    vm: Box<dyn MicroVm>,
    client: GuestClient,
    held: Held,
    /// What the image adds to the environment of its programs.
    environment: BTreeMap<String, String>,
    pub(crate) restored: bool,
    pub(crate) phases: Phases,
    seeded: Seeded,
}

impl Session {
    /// Greets the agent in `vm` and reseeds the guest: fail closed, so there is no session without.
    pub(crate) async fn open(
        mut vm: Box<dyn MicroVm>,
        held: Held,
        environment: BTreeMap<String, String>,
        restored: bool,
        mut phases: Phases,
    ) -> Result<Self, RunError> {
        let (patience, timers) =
            if restored { (ANSWER_PATIENCE, None) } else { (BOOT_PATIENCE, Some(TIMERS_OF_A_BOOT)) };
        match handshake(vm.as_mut(), patience, timers, &mut phases).await {
            Ok(client) => Ok(Self { vm, client, held, environment, restored, phases, seeded: Seeded::now() }),
            Err(error) => {
                let error = with_fate(vm.as_mut(), error).await;
                vm.kill().await;
                Err(error)
            }
        }
    }

    /// The VMM's process on the host, for measurements.
    pub fn process_id(&self) -> u32 {
        self.vm.process_id()
    }

    /// How long each part has taken so far.
    pub fn phases(&self) -> Phases {
        self.phases
    }

    /// Rehearses jobs of `language` in this microVM, so that the request finds its way translated.
    pub async fn warm_up(&mut self, language: &LanguageSpec) -> Result<(), RunError> {
        for _ in 0..REHEARSALS {
            self.rehearse(language).await?;
        }
        Ok(())
    }

    /// Rehearses one.
    pub async fn rehearse(&mut self, language: &LanguageSpec) -> Result<(), RunError> {
        let Some(rehearsal) = language.rehearsal(&self.environment) else { return Ok(()) };
        let done = self.client.run(rehearsal, ANSWER_PATIENCE).await;
        let executions = self.explained(done).await?;
        match executions.first().filter(|e| e.outcome != message::Outcome::Exited { code: 0 }) {
            Some(execution) => {
                let reason = format!("the rehearsal ended as {:?}", execution.outcome);
                self.explained(Err(GuestError::Failed { reason })).await
            }
            None => Ok(()),
        }
    }

    /// Whether the guest is still there, has said nothing unasked, and is what was saved.
    pub fn is_sound(&mut self) -> bool {
        self.client.is_quiet() && !self.held.in_use.as_ref().is_some_and(InUse::is_changed)
    }

    /// Waits until it is not.
    pub async fn unsound(&mut self) {
        self.client.not_quiet().await;
    }

    /// Runs the request, once for each of its stdins.
    pub async fn run(&mut self, request: &Request, job: &Job<'_>) -> Result<Vec<Execution>, RunError> {
        self.run_bytes(request, request.stdins(), job).await
    }

    /// Runs the request, and tells of it where somebody watches.
    pub(crate) async fn serve(
        &mut self,
        request: &Request,
        job: &Job<'_>,
        live: Option<&mut Live>,
    ) -> Result<Report, RunError> {
        if let Some(live) = &live {
            live.tell(Event::Handed).await;
        }
        self.report(request, request.stdins(), job, live).await
    }

    /// Runs the request once for each of `stdins`, which need not be text, instead of its own.
    pub async fn run_bytes(
        &mut self,
        request: &Request,
        stdins: Vec<Bytes>,
        job: &Job<'_>,
    ) -> Result<Vec<Execution>, RunError> {
        self.report(request, stdins, job, None).await.map(|report| report.executions)
    }

    async fn report(
        &mut self,
        request: &Request,
        stdins: Vec<Bytes>,
        job: &Job<'_>,
        live: Option<&mut Live>,
    ) -> Result<Report, RunError> {
        if self.seeded.has_jumped() {
            // One that has waited has the time of before.
            let reseeded = self.client.reseed(ANSWER_PATIENCE).await;
            self.explained(reseeded).await?;
        }
        let since = Instant::now();
        let mut runtime = request.language.runtime(&self.environment);
        let mut process = job.process;
        if let Some(main_file) = &request.main_file {
            // The initialised interpreter waits for the language's own.
            process = Process::Fresh;
            for word in runtime.command.iter_mut().filter(|word| **word == request.language.main_file) {
                word.clone_from(main_file);
            }
        }
        let run = Run {
            trace_id: job.trace_id.to_owned(),
            runtime,
            process,
            files: request.files.clone(),
            args: request.args.clone(),
            stdins,
            limits: Limits {
                timeout_millis: u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX),
                output_bytes: DEFAULT_OUTPUT_BYTES as u64,
            },
            options: message::Options {
                usage: request.usage,
                fetch: request.fetch.clone(),
                ..message::Options::default()
            },
        };
        let report = self.client.watched(run, ANSWER_PATIENCE, live).await;
        self.phases.run = since.elapsed();
        self.explained(report).await
    }

    /// Ends the microVM, and waits until nothing of it is left.
    pub async fn end(mut self) -> Phases {
        // Asking takes a moment: only where somebody wants to know.
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(metrics) = self.vm.metrics().await
        {
            // Escaped: a VMM that a guest has taken over writes what it likes.
            tracing::debug!(?metrics, "what the VMM reports of itself");
        }
        let since = Instant::now();
        self.vm.kill().await;
        self.phases.end = since.elapsed();
        self.phases
    }

    async fn explained<T>(&mut self, result: Result<T, GuestError>) -> Result<T, RunError> {
        // Also of what looks like an answer: nobody knows what has given it.
        if let Some(in_use) = self.held.in_use.as_ref().filter(|in_use| in_use.is_changed()) {
            let (path, remedy) = (in_use.path.clone(), in_use.remedy.clone());
            let fate = match result.map_err(guest_error) {
                Ok(_) => Fate::default(),
                Err(error) => with_fate(self.vm.as_mut(), error).await.into_fate(),
            };
            return Err(RunError::SnapshotChanged { path, remedy, fate });
        }
        match result {
            Ok(value) => Ok(value),
            Err(source) => Err(with_fate(self.vm.as_mut(), guest_error(source)).await),
        }
    }
}

/// The error, with what has become of a microVM that did not do its part.
pub(crate) async fn with_fate(vm: &mut dyn MicroVm, mut error: RunError) -> RunError {
    let (may_have_ended, fate) = match &mut error {
        RunError::Guest { source, fate } => (matches!(source, GuestError::Frame { .. }), fate),
        RunError::Control { source, fate } => {
            (matches!(source, ControlError::Closed { .. } | ControlError::Io { .. }), fate)
        }
        _ => return error,
    };
    if may_have_ended {
        // The channel closes a moment before the end of the VMM is told, or without one.
        fate.exit = tokio::time::timeout(END_PATIENCE, vm.wait()).await.ok();
    }
    fate.last_words = vm.last_words();
    error
}

/// The guest agent's error, of a microVM of which no more is known yet.
pub(crate) fn guest_error(source: GuestError) -> RunError {
    RunError::Guest { source, fate: Fate::default() }
}

/// The same of the VMM.
pub(crate) fn control_error(source: ControlError) -> RunError {
    RunError::Control { source, fate: Fate::default() }
}

/// Greets, looks at the timer where one is required, and reseeds.
async fn handshake(
    vm: &mut dyn MicroVm,
    patience: Duration,
    timers: Option<Timers>,
    phases: &mut Phases,
) -> Result<GuestClient, RunError> {
    let since = Instant::now();
    let stream = vm.connect(patience).await.map_err(control_error)?;
    phases.connect = since.elapsed();
    let since = Instant::now();
    let mut client = GuestClient::greet(stream, patience).await.map_err(guest_error)?;
    timers.map_or(Ok(()), |timers| client.require(&timers)).map_err(guest_error)?;
    client.reseed(ANSWER_PATIENCE).await.map_err(guest_error)?;
    phases.handshake = since.elapsed();
    Ok(client)
}

/// The page's answer to a request of which this is the report. What was `streamed` did not lose what it does not repeat.
pub(crate) fn answer(request: &Request, report: Report, trace_id: &str, streamed: bool) -> Answer {
    let Report { executions, files } = report;
    let mut files = files.into_iter().peekable();
    let mut answered = |execution: Execution, stdin: Option<String>| {
        let index = execution.index;
        let its = std::iter::from_fn(|| files.next_if(|file| file.index == index));
        let files = (!request.fetch.is_empty()).then(|| Files::of(its));
        ExecutionAnswer::new(execution, stdin, files, trace_id, streamed)
    };
    let mut executions = executions.into_iter();
    match &request.stdin {
        Stdin::One(_) => match executions.next() {
            Some(execution) => Answer::One(answered(execution, None)),
            None => Answer::Batch(Vec::new()),
        },
        Stdin::Batch(stdins) => {
            let all = executions.zip(stdins);
            Answer::Batch(all.map(|(execution, stdin)| answered(execution, Some(stdin.clone()))).collect())
        }
    }
}
