//! The host process's side of a jail.

use std::{
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::UnixStream,
    process::{Child, ChildStderr, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{
    cgroup,
    spec::{JailSpec, Report},
};
use crate::backend::{ControlError, Exit, LastWords};

/// How much is kept of what a VMM prints.
const OUTPUT_BYTES: usize = 8 << 10;

/// What a read counts for at least.
const LEAST_BYTES_OF_A_READ: usize = 1 << 10;

/// How much a VMM may print in a second, before it has to wait for the next. A boot prints some 10 kB.
const OUTPUT_BYTES_A_SECOND: usize = 1 << 20;

/// How long a jail may take to be built on a busy host.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long a VMM that has failed may take to say why.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);

/// The longest report of a supervisor, in bytes.
const MAX_REPORT_BYTES: u64 = 64 << 10;

/// How to start a supervisor: a program that passes its stdin to [`super::supervise`].
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why a VMM could not be started in a jail.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The supervisor could not be started.
    #[error("cannot start {}", .program.display())]
    Supervisor {
        /// Its program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The supervisor was started and could not be spoken to.
    #[error("cannot reach the supervisor of the VMM")]
    Control(#[source] io::Error),
    /// The supervisor ended without a word, or said something else.
    #[error("the supervisor of the VMM ended before the VMM was started")]
    Silent,
    /// The jail was not ready in time.
    #[error("the VMM's jail was not ready within {} s", START_PATIENCE.as_secs())]
    TimedOut,
    /// A step of building the jail failed.
    #[error("cannot {step}")]
    Jail {
        /// The step.
        step: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A VMM in its jail. Dropping it ends both.
pub struct Jailed {
    /// The microVM's name, and its cgroup's.
    name: String,
    process: u32,
    /// Whether that is the keeper of the VMM.
    kept: bool,
    supervisor: Child,
    /// Closing it tells the supervisor to end.
    control: Option<BufReader<UnixStream>>,
    output: Output,
    exit: Option<Exit>,
}

/// What a VMM prints, as it comes.
struct Output {
    tail: Arc<Mutex<Vec<u8>>>,
    /// How many bytes there were, for those who wait for more.
    bytes: watch::Receiver<u64>,
    reader: Option<JoinHandle<()>>,
}

impl Jailed {
    /// Starts the VMM that `spec` describes. It gets `descriptors` under the numbers from
    /// [`super::FIRST_DESCRIPTOR`] on.
    pub async fn launch(
        supervisor: &Supervisor,
        spec: &JailSpec,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Self, LaunchError> {
        let (ours, theirs) = BlockingStream::pair().map_err(LaunchError::Control)?;
        let mut child = Command::new(&supervisor.program)
            .args(&supervisor.args)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LaunchError::Supervisor { program: supervisor.program.clone(), source })?;
        let output = Output::of(child.stderr.take());
        send(&ours, spec, &descriptors).map_err(LaunchError::Control)?;
        drop(descriptors);
        ours.set_nonblocking(true).map_err(LaunchError::Control)?;
        let control = UnixStream::from_std(ours).map_err(LaunchError::Control)?;
        let mut jailed = Self {
            name: spec.name.clone(),
            process: 0,
            kept: spec.launcher.is_some(),
            supervisor: child,
            control: Some(BufReader::new(control)),
            output,
            exit: None,
        };
        match timeout(START_PATIENCE, jailed.report()).await {
            Ok(Some(Report::Started { process })) => {
                jailed.process = process;
                Ok(jailed)
            }
            Ok(Some(Report::Failed { step, reason, errno })) => {
                let source = errno.map_or_else(|| io::Error::other(reason), io::Error::from_raw_os_error);
                Err(LaunchError::Jail { step, source })
            }
            Ok(_) => {
                // If it was killed it has left its cgroup.
                jailed.kill().await;
                Err(LaunchError::Silent)
            }
            Err(_) => Err(LaunchError::TimedOut),
        }
    }

    /// The VMM's process on the host.
    pub fn process_id(&self) -> u32 {
        let kept = self.kept.then(|| child_of(self.process)).flatten();
        kept.unwrap_or(self.process)
    }

    /// Waits for the VMM to end by itself.
    pub async fn wait(&mut self) -> Exit {
        let exit = match self.exit.clone() {
            Some(exit) => exit,
            None => match self.report().await {
                Some(Report::Exited { code: 0 }) => Exit::GuestShutdown,
                Some(Report::Exited { code }) => Exit::Failed { code },
                Some(Report::Signalled { signal }) => Exit::by_signal(signal),
                _ => Exit::Lost,
            },
        };
        // It is told once. Whoever waits may give up meanwhile, and wait again.
        self.exit = Some(exit.clone());
        // All that it printed is to be there: the supervisor ends now, and with it the last who could print.
        self.output.end().await;
        exit
    }

    /// Ends the VMM, and waits until it and its jail are gone.
    pub async fn kill(&mut self) {
        self.control = None;
        // It kills the VMM, removes its cgroup, and ends. If it was killed itself, so was the VMM, by the kernel.
        // There is no answer to a failed wait but to go on: the process is not ours any more then.
        let ended = self.supervisor.wait().await;
        if !ended.is_ok_and(|status| status.success()) {
            self.remove_cgroup().await;
        }
    }

    /// Removes the cgroup of a VMM whose supervisor was killed, once the kernel has killed the VMM for that.
    async fn remove_cgroup(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let deadline = Instant::now() + PATIENCE;
        while !cgroup::remove_left(&self.name) && Instant::now() < deadline {
            // Nobody tells of the end of somebody else's child's child.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The end of what the VMM printed, its guest's console included.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.tail.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Changes whenever the VMM has printed something.
    pub(crate) fn printed(&self) -> watch::Receiver<u64> {
        self.output.bytes.clone()
    }

    /// Ends a VMM that has failed with `error`. What it printed, or how it ended where it had no words.
    pub(crate) async fn into_last_words(mut self, error: &ControlError) -> LastWords {
        let ended = match error {
            // It has said why, and goes on.
            ControlError::Refused { .. } => None,
            // It may still be about to print why.
            _ => timeout(LAST_WORDS_PATIENCE, self.wait()).await.ok(),
        };
        self.kill().await;
        self.output.end().await;
        let output = self.output();
        match ended {
            Some(exit) if output.trim().is_empty() => LastWords(exit.to_string()),
            _ => LastWords(output),
        }
    }

    async fn report(&mut self) -> Option<Report> {
        let control = self.control.as_mut()?;
        let mut line = Vec::new();
        control.take(MAX_REPORT_BYTES).read_until(b'\n', &mut line).await.ok()?;
        serde_json::from_slice(&line).ok()
    }
}

/// The one child of a process (`proc_tid_children(5)`).
fn child_of(process: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

fn send(control: &BlockingStream, spec: &JailSpec, descriptors: &[OwnedFd]) -> io::Result<()> {
    let body = serde_json::to_vec(spec)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
    let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The supervisor reads the header first, whole or in parts, and the descriptors with its first byte.
    let sent = sendmsg(control, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let mut control = control;
    control.write_all(&length[sent..])?;
    control.write_all(&body)
}

impl Output {
    fn of(pipe: Option<ChildStderr>) -> Self {
        let tail = Arc::default();
        let (sender, bytes) = watch::channel(0);
        let reader = pipe.map(|pipe| tokio::spawn(keep_tail(pipe, Arc::clone(&tail), sender)));
        Self { tail, bytes, reader }
    }

    /// Waits for the last of it, once nobody is left to print.
    async fn end(&mut self) {
        if let Some(reader) = &mut self.reader {
            // It ends with the pipe. What does not come within that time is no word of the VMM's.
            let _ = timeout(LAST_WORDS_PATIENCE, reader).await;
            self.reader = None;
        }
    }
}

/// Keeps the last bytes of what the VMM prints, and never lets it wait.
async fn keep_tail(mut pipe: ChildStderr, tail: Arc<Mutex<Vec<u8>>>, bytes: watch::Sender<u64>) {
    let mut buffer = [0; 4096];
    let (mut second, mut read) = (Instant::now(), 0);
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        // One that prints without end waits in its pipe, instead of keeping this process busy.
        // Each read costs something, however little there was.
        read += length.max(LEAST_BYTES_OF_A_READ);
        if read > OUTPUT_BYTES_A_SECOND {
            tokio::time::sleep_until((second + Duration::from_secs(1)).into()).await;
            (second, read) = (Instant::now(), 0);
        }
        {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend_from_slice(&buffer[..length]);
            let excess = tail.len().saturating_sub(OUTPUT_BYTES);
            tail.drain(..excess);
        }
        bytes.send_modify(|bytes| *bytes += length as u64);
    }
}
