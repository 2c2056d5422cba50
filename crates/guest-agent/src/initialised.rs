//! The initialised interpreter: a process that has done everything that starting it takes, and waits for a job.
//!
//! ```text
//! starting ──ready──▶ waiting ──run──▶ it is the job now (once)
//!                      │   ▲
//!                      └─fork/exited   a child of it is the job (batches, warm-up)
//! ```
//!
//! The waiting end is `hooks/usercustomize.py`. It runs as root with the capabilities to become another user and no
//! others, so that a job, which is that other user, can neither signal nor trace it.

use std::{
    fs,
    io::{IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use protocol::message::{Interpreter, Runtime};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};

use crate::{
    cgroup::Group,
    credentials,
    fault::{Doing, Fault},
    fresh,
    output::JobEnds,
    sys,
};

const PYTHON_HOOK: &str = include_str!("hooks/usercustomize.py");

/// The descriptor on which the hook finds its socket: beyond those that the agent has open, and low enough
/// not to make the process's descriptor table larger than it is anyway (64).
const CONTROL_FD: i32 = 63;

/// How long the interpreter may take to answer. Under emulation on a loaded host a start takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A waiting interpreter.
pub(crate) struct Initialised {
    process: Pid,
    control: OwnedFd,
    /// Our ends of the pipes with which it was started: it must never see them closed.
    _streams: Vec<OwnedFd>,
}

impl Initialised {
    /// Starts `interpreter` with an empty `directory` as its working directory, as a process of `group`.
    pub(crate) fn start(
        interpreter: Interpreter,
        runtime: &Runtime,
        directory: &str,
        group: &Group<'_>,
    ) -> Result<Self, Fault> {
        let Interpreter::Python = interpreter;
        let hook = Hook::install(runtime)?;
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("make the interpreter's socket")?;
        // Pipes, as a job has them: CPython looks at what kind of files its streams are only once.
        let (stdin, stdin_ours) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let (stdout_ours, stdout) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let (stderr_ours, stderr) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;

        let mut command = fresh::command(runtime)?;
        command.current_dir(directory);
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
        let mut entrance = group.entrance()?;
        sys::before_exec(&mut command, move || {
            let control = fcntl_dupfd_cloexec(&theirs, CONTROL_FD)?;
            fcntl_setfd(&control, FdFlags::empty())?;
            if control.into_raw_fd() != CONTROL_FD {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            entrance.write_all(b"0")?;
            credentials::become_job_to_be()
        });
        let process = fresh::started(&mut command)?;
        // With it goes our copy of the interpreter's end: without that its death would not be seen.
        drop(command);
        let waiting = Self { process, control, _streams: vec![stdin_ours, stdout_ours, stderr_ours] };
        waiting.expect("ready")?;
        drop(hook);
        Ok(waiting)
    }

    /// Reseeds what the interpreter has loaded.
    pub(crate) fn reseed(&self) -> Result<(), Fault> {
        self.send(b"seed", &[])?;
        self.expect("seeded")
    }

    /// Makes the interpreter itself the job, in `group`. Its process is waited for as any child.
    pub(crate) fn run(
        self,
        directory: &str,
        args: &[String],
        streams: &JobEnds,
        group: &Group<'_>,
    ) -> Result<Pid, Fault> {
        group.add(self.process)?;
        let descriptors = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        self.send(&message("run", directory, args), &descriptors)?;
        Ok(self.process)
    }

    /// Makes a child of the interpreter the job, in `group`. Its end comes through [`Self::exited`].
    pub(crate) fn fork(
        &self,
        directory: &str,
        args: &[String],
        streams: &JobEnds,
        waiting: &Group<'_>,
        group: &Group<'_>,
    ) -> Result<(), Fault> {
        let (gate, ours) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
        let descriptors =
            [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd(), gate.as_fd()];
        self.send(&message("fork", directory, args), &descriptors)?;
        self.expect("forked")?;
        // Besides the interpreter there is its new child alone, stopped at the gate: no job's code has run.
        let mut children = waiting.processes()?.into_iter().filter(|process| *process != self.process);
        let (Some(child), None) = (children.next(), children.next()) else {
            return Err(Fault::new("the interpreter has not forked exactly once"));
        };
        group.add(child)?;
        rustix::io::write(&ours, b"!").doing("let the job start")?;
        Ok(())
    }

    /// The socket that becomes readable when a forked job has ended.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The wait status of the forked job that has ended.
    pub(crate) fn exited(&self) -> Result<i32, Fault> {
        let answer = self.receive(PATIENCE)?;
        answer
            .strip_prefix("exited\0")
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| Fault::new(format!("the interpreter said {answer:?} instead of a job's end")))
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Fault::new("more descriptors than a message holds"));
        }
        sendmsg(&self.control, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)
            .doing("speak to the initialised interpreter")?;
        Ok(())
    }

    fn expect(&self, wanted: &str) -> Result<(), Fault> {
        match self.receive(PATIENCE)? {
            answer if answer == wanted => Ok(()),
            answer => Err(Fault::new(format!("the interpreter said {answer:?} instead of {wanted:?}"))),
        }
    }

    fn receive(&self, patience: Duration) -> Result<String, Fault> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match poll(&mut [PollFd::new(&self.control, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(Fault::new("the initialised interpreter does not answer")),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).doing("wait for the initialised interpreter"),
            }
        }
        let mut answer = [0; 256];
        let received = recvmsg(
            &self.control,
            &mut [IoSliceMut::new(&mut answer)],
            &mut RecvAncillaryBuffer::default(),
            RecvFlags::empty(),
        )
        .doing("hear the initialised interpreter")?;
        if received.bytes == 0 {
            return Err(Fault::new("the initialised interpreter has ended"));
        }
        Ok(String::from_utf8_lossy(&answer[..received.bytes]).into_owned())
    }
}

fn message(command: &str, directory: &str, args: &[String]) -> Vec<u8> {
    let mut message = format!("{command}\0{directory}").into_bytes();
    for arg in args {
        message.push(0);
        message.extend_from_slice(arg.as_bytes());
    }
    message
}

/// The hook's file, in the overlay while the interpreter starts and removed when dropped.
struct Hook(PathBuf);

impl Hook {
    fn install(runtime: &Runtime) -> Result<Self, Fault> {
        // `usercustomize` and not `sitecustomize`: images have the latter.
        let question = "import sys, os; print([p for p in sys.path if os.path.isdir(p)][0])";
        let answer = fresh::ask(runtime, &["-S", "-c", question])?;
        let library = Path::new(answer.trim_end());
        if !library.is_absolute() {
            return Err(Fault::new(format!("the interpreter has no library: {answer:?}")));
        }
        let text = PYTHON_HOOK
            .replace("CONTROL_FD", &CONTROL_FD.to_string())
            .replace("JOB_USER", &credentials::JOB_USER.to_string());
        let hook = Self(library.join("usercustomize.py"));
        fs::write(&hook.0, text).doing(format!("write {}", hook.0.display()))?;
        Ok(hook)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // It lies in memory and holds nothing secret; without it a program's `import usercustomize` fails, as it
        // should, and with it that program alone would hang.
        let _ = fs::remove_file(&self.0);
        if let Some(library) = self.0.parent() {
            remove_bytecode(library);
        }
    }
}

/// CPython has compiled the hook beside itself.
fn remove_bytecode(library: &Path) {
    let Ok(entries) = fs::read_dir(library.join("__pycache__")) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("usercustomize.") {
            let _ = fs::remove_file(entry.path());
        }
    }
}
