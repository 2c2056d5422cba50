//! What the host sees of a guest: a vsock, and a guest agent behind it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use protocol::{
    Bytes, GENERATION, VSOCK_PORT, VSOCK_READY_PORT, frame,
    message::{Captured, Execution, GuestMessage, HostMessage, Outcome, Run},
};

/// The programs whose output is known: what proves a snapshot, and a Hello World.
const PROGRAMS: [(&str, &str); 2] =
    [("print('proof', 6 * 7)", "proof 42\n"), ("print('Hello, World!')", "Hello, World!\n")];

/// Whether the guest's processors run. A guest answers while they do.
#[derive(Clone)]
pub(crate) struct Processors(Arc<(Mutex<bool>, Condvar)>);

impl Default for Processors {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(true), Condvar::new())))
    }
}

impl Processors {
    pub(crate) fn set_running(&self, running: bool) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
        self.0.1.notify_all();
    }

    fn wait_until_running(&self) {
        let running = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(running, |running| !*running).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Tells the host that the agent listens, as an agent does that was booted.
pub(crate) fn announce(socket: &str) -> Result<()> {
    UnixStream::connect(format!("{socket}_{VSOCK_READY_PORT}"))
        .map(drop)
        .context("tell that the agent listens")
}

/// Serves a connection of the host's. A message that is none ends the machine, as the agent's end does.
pub(crate) fn serve(stream: UnixStream, processors: &Processors) {
    match converse(stream, processors) {
        Ok(()) => {}
        Err(error) => {
            println!("stand-in: the guest shuts down: {error:#}");
            std::process::exit(0);
        }
    }
}

fn converse(stream: UnixStream, processors: &Processors) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).context("read what to connect to")?;
    processors.wait_until_running();
    if line.strip_suffix('\n') != Some(&format!("CONNECT {VSOCK_PORT}")) {
        // Nobody listens there.
        return Ok(());
    }
    stream.get_mut().write_all(b"OK 1073741824\n").context("answer a connection")?;
    loop {
        let message = match frame::read::<HostMessage>(&mut stream) {
            Ok(message) => message,
            // The agent waits for another connection then.
            Err(frame::FrameError::Closed | frame::FrameError::Io(_)) => return Ok(()),
            Err(error) => bail!(error),
        };
        processors.wait_until_running();
        for answer in answers(message) {
            if frame::write(stream.get_mut(), &answer).is_err() {
                return Ok(());
            }
        }
    }
}

fn answers(message: HostMessage) -> Vec<GuestMessage> {
    match message {
        HostMessage::Hello { .. } => {
            vec![GuestMessage::Hello {
                generation: GENERATION,
                job_memory_bytes: 64 << 20,
                timer_permille: 1000,
            }]
        }
        HostMessage::Prepare(_) => vec![GuestMessage::Prepared { initialised: false }],
        HostMessage::Reseed { .. } => vec![GuestMessage::Reseeded],
        HostMessage::Run(run) => executed(&run),
        HostMessage::Input { .. } | HostMessage::Signal { .. } => Vec::new(),
    }
}

fn executed(run: &Run) -> Vec<GuestMessage> {
    let program = run.files.first().map(|file| file.content.0.as_slice()).unwrap_or_default();
    let known = PROGRAMS.iter().find(|(source, _)| program.trim_ascii_end() == source.as_bytes());
    let Some((_, output)) = known else {
        return vec![GuestMessage::Failed { reason: "a stand-in cannot run programs".to_owned() }];
    };
    let mut answers = Vec::new();
    for index in (0..).take(run.stdins.len()) {
        answers.push(GuestMessage::Execution(Execution {
            index,
            outcome: Outcome::Exited { code: 0 },
            stdout: Captured { bytes: Bytes(output.as_bytes().to_vec()), dropped: 0 },
            stderr: Captured::default(),
            duration_micros: 1,
            usage: None,
        }));
    }
    answers.push(GuestMessage::Finished);
    answers
}
