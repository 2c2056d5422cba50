//! Firecracker's API called by hand, by the script `lab/by-hand.py`: the shortest sequence of calls that restores a clone of
//! the same snapshot and has it say hello. In turns with ours, in the same run.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use e2e::{TestHost, program};
use engine::Phases;
use protocol::{
    Bytes, GENERATION, frame,
    limits::ENTROPY_BYTES,
    message::{HostMessage, Limits, Options, Process, Run},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    backend::{Backend, HELLO, MACHINE, python, request, runtime},
    cost::answered,
};

const SCRIPT: &str = include_str!("../../../lab/by-hand.py");

/// Times of both, in turns.
#[derive(Default)]
pub(crate) struct Compared {
    /// By hand, in a Firecracker that was waiting.
    pub(crate) hand_waiting: Vec<Phases>,
    /// Ours, the same.
    pub(crate) ours_waiting: Vec<Phases>,
    /// By hand, from starting a Firecracker without any jail.
    pub(crate) hand_started: Vec<Duration>,
    /// Ours, from starting one in its jail.
    pub(crate) ours_started: Vec<Duration>,
    /// By hand, loaded and resumed in two calls.
    pub(crate) hand_split: Vec<Phases>,
    /// The script as a whole process, and `host --snapshot`.
    pub(crate) hand_command: Vec<Duration>,
    pub(crate) ours_command: Vec<Duration>,
}

/// What the script tells of one sample, in seconds.
#[derive(Deserialize)]
struct Told {
    load: f64,
    resume: f64,
    connect: f64,
    handshake: f64,
    run: f64,
    stdout: String,
}

impl From<Told> for Phases {
    fn from(told: Told) -> Self {
        let [load, resume, connect, handshake, run] =
            [told.load, told.resume, told.connect, told.handshake, told.run].map(Duration::from_secs_f64);
        Self { load, resume: Some(resume), connect, handshake, run, ..Self::default() }
    }
}

/// Compares, where the backend is Firecracker and this host has a guest for it.
pub(crate) fn compared(backend: &Backend, runs: u32) -> Result<Option<Compared>> {
    let Some(firecracker) = backend.firecracker().filter(|path| !path.to_string_lossy().contains("stand-in"))
    else {
        return Ok(None);
    };
    let mut script = Script::start(firecracker, backend.data())?;
    let (runtime, engine) = (runtime()?, backend.engine()?);
    let mut compared = Compared::default();
    for round in 0..=runs {
        let waiting = script.sample("waiting")?;
        let mut ours_waiting = runtime.block_on(async {
            let standby = engine.stand_by(&python().name, MACHINE).await?;
            answered(standby.restore().await?).await
        })?;
        // What stands by was started before.
        ours_waiting.process = Duration::ZERO;
        let started = script.sample("started")?;
        let ours_started = runtime.block_on(async {
            let started = Instant::now();
            let session = engine.open(&python().name, MACHINE, engine::Start::Snapshot).await?;
            let phases = answered(session).await?;
            anyhow::Ok(started.elapsed().saturating_sub(phases.end))
        })?;
        let split = script.sample("split")?;
        let hand_command = timed(&mut script_command(firecracker, backend.data(), &["once"]))?;
        let ours_command = timed(&mut ours(firecracker, backend.data()))?;
        if round == 0 {
            // Files come into the page cache.
            continue;
        }
        compared.hand_waiting.push(waiting);
        compared.ours_waiting.push(ours_waiting);
        compared.hand_started.push(started.start() + started.run);
        compared.ours_started.push(ours_started);
        compared.hand_split.push(split);
        compared.hand_command.push(hand_command);
        compared.ours_command.push(ours_command);
    }
    Ok(Some(compared))
}

fn ours(firecracker: &Path, data: &Path) -> Command {
    let firecracker = firecracker.to_string_lossy();
    let host = TestHost::at(data).with_options(&["--vmm", "firecracker", "--firecracker-bin", &firecracker]);
    assert!(program().is_file(), "the product's program lies beside this one");
    host.command(&["host", "--snapshot", "--lang", "python", "--code", HELLO.0])
}

fn timed(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let output = command.output().context("run a command")?;
    let took = started.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

fn script_command(firecracker: &Path, data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    // Without `site`, as somebody would who wants it quick.
    command.args(["-S", "-E", "-c", SCRIPT]).arg(firecracker);
    command.arg(data.join("snapshots/python/512m-1c")).arg(data.join("images/rootfs-python.ext4"));
    command.arg(json!(conversation()).to_string()).args(arguments);
    command
}

/// What is said to the guest agent: frames in base64, each with how many frames answer it.
fn conversation() -> Vec<(String, u32)> {
    let hello = HostMessage::Hello { generation: GENERATION };
    let reseed = HostMessage::Reseed {
        entropy: Bytes(vec![7; ENTROPY_BYTES]),
        realtime_unix_nanos: 1_800_000_000_000_000_000,
    };
    let request = request();
    let run = HostMessage::Run(Run {
        trace_id: "by-hand".to_owned(),
        runtime: request.language.runtime(&std::collections::BTreeMap::new()),
        process: Process::Initialised,
        files: request.files.clone(),
        args: Vec::new(),
        stdins: request.stdins(),
        limits: Limits { timeout_millis: 60_000, output_bytes: 1 << 20 },
        options: Options::default(),
    });
    [(hello, 1), (reseed, 1), (run, 2)]
        .map(|(message, answers)| {
            (BASE64_STANDARD.encode(frame::encode(&message).expect("it fits a frame")), answers)
        })
        .to_vec()
}

/// The script, which takes a sample for each line that it is told.
struct Script {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Script {
    fn start(firecracker: &Path, data: &Path) -> Result<Self> {
        let mut process = script_command(firecracker, data, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the script")?;
        let stdin = process.stdin.take().context("it was asked for")?;
        let stdout = BufReader::new(process.stdout.take().context("it was asked for")?);
        Ok(Self { process, stdin, stdout })
    }

    fn sample(&mut self, kind: &str) -> Result<Phases> {
        writeln!(self.stdin, "{kind}").context("tell the script")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("read what the script tells")?;
        let told: Told = serde_json::from_str(&line).with_context(|| format!("the script said {line:?}"))?;
        ensure!(told.stdout == HELLO.1, "the guest said {:?}", told.stdout);
        Ok(told.into())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended by now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
