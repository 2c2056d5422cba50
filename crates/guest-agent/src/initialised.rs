//! The initialised interpreter: a process that has done everything that starting it takes, and waits for a job.
//!
//! ```text
//! starting ──ready──▶ waiting ──run──▶ it is the job now (once), with the streams that it was started with
//!                      │   ▲
//!                      └─fork/taken    a grandchild of it is the job (batches, warm-up), with streams of its own
//! ```
//!
//! The waiting end is `hooks/usercustomize.py`. It runs as root with the capabilities to become another user and no
//! others, so that a job, which is that other user, can neither signal nor trace it. The grandchild's parent has
//! ended before it starts: so it is the runner's to wait for, as every job is.

use std::{
    fs,
    io::{IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use protocol::message::{Interpreter, Runtime};
use rustix::{
    event::{PollFd, PollFlags},
    fs::{AtFlags, CWD, Timestamps, stat, utimensat},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::Pid,
};

use crate::{
    cgroup::Group,
    credentials,
    fault::{Doing, Fault},
    fresh,
    output::{self, JobEnds, OurEnds},
    own_pages, root, sys, wait,
};

const PYTHON_HOOK: &str = include_str!("hooks/usercustomize.py");
const INSTALL_PYTHON_HOOK: &str = include_str!("hooks/install.py");

/// The descriptor on which the hook finds its socket: beyond those that the agent has open, and low enough
/// not to make the process's descriptor table larger than it is anyway (64).
const CONTROL_FD: i32 = 63;

/// How long the interpreter may take to answer. Under emulation on a loaded host a start takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A waiting interpreter.
pub(crate) struct Initialised {
    process: Pid,
    control: OwnedFd,
    /// Our ends of the streams that it was started with.
    streams: OurEnds,
    /// Whether it has loaded anything that has to be reseeded.
    seeded: bool,
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
        root::unprotect()?;
        let hook = Hook::install(runtime)?;
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .doing("make the interpreter's socket")?;
        let (ends, streams) = output::pipes()?;
        let mut command = fresh::command(runtime)?;
        command.current_dir(directory);
        command
            .stdin(Stdio::from(ends.stdin))
            .stdout(Stdio::from(ends.stdout))
            .stderr(Stdio::from(ends.stderr));
        let mut entrance = group.entrance()?;
        sys::before_exec(&mut command, move || {
            let control = fcntl_dupfd_cloexec(&theirs, CONTROL_FD)?;
            fcntl_setfd(&control, FdFlags::empty())?;
            if control.into_raw_fd() != CONTROL_FD {
                return Err(std::io::Error::from(Errno::BUSY));
            }
            entrance.write_all(b"0")?;
            credentials::become_job_to_be()
        });
        let process = fresh::started(&mut command)?;
        // With it goes our copy of the interpreter's end: without that its death would not be seen.
        drop(command);
        let mut waiting = Self { process, control, streams, seeded: false };
        waiting.seeded = match waiting.receive()?.as_str() {
            "ready" => false,
            "ready seeded" => true,
            other => return Err(Fault::new(format!("the interpreter said {other:?} when it started"))),
        };
        hook.remove()?;
        root::protect()?;
        Ok(waiting)
    }

    /// Reseeds what the interpreter has loaded, which as a rule is nothing that has a seed.
    pub(crate) fn reseed(&self) -> Result<(), Fault> {
        if !self.seeded {
            return Ok(());
        }
        self.send(b"seed", &[])?;
        self.expect("seeded")
    }

    /// Whether it has ended, which it never does by itself: what the kernel has to free and cannot charge to a job, it may
    /// take from here.
    pub(crate) fn has_ended(&self) -> Result<bool, Fault> {
        let mut control = [PollFd::new(&self.control, PollFlags::empty())];
        wait::ready(&mut control, Instant::now()).doing("look at the initialised interpreter")?;
        Ok(control[0].revents().contains(PollFlags::HUP))
    }

    /// Takes the pages back that it shares with forks of it, so that a job does not have to.
    pub(crate) fn take_pages_back(&self) -> Result<(), Fault> {
        own_pages::take_back(self.process)
    }

    /// Makes the interpreter itself the job. Returns its process, and our ends of its streams.
    pub(crate) fn run(self, directory: &str) -> Result<(Pid, OurEnds), Fault> {
        credentials::make_killable(self.process)
            .doing("give the interpreter up to the out-of-memory killer")?;
        self.send(format!("run\0{directory}").as_bytes(), &[])?;
        Ok((self.process, self.streams))
    }

    /// Makes a grandchild of the interpreter the job, in `group`, with `streams`. Returns its process.
    pub(crate) fn fork(
        &self,
        directory: &str,
        streams: &JobEnds,
        waiting: &Group<'_>,
        group: &Group<'_>,
    ) -> Result<Pid, Fault> {
        self.send(b"fork", &[])?;
        self.expect("forked")?;
        // Besides the interpreter there is the new process alone, waiting for its message: no job's code has run.
        let mut others = waiting.processes()?.into_iter().filter(|process| *process != self.process);
        let (Some(process), None) = (others.next(), others.next()) else {
            return Err(Fault::new("the interpreter has not forked exactly once"));
        };
        group.add(process)?;
        credentials::make_killable(process).doing("give a fork up to the out-of-memory killer")?;
        let descriptors = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        self.send(format!("\0{directory}").as_bytes(), &descriptors)?;
        self.expect("taken")?;
        Ok(process)
    }

    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Fault::new("more descriptors than a message holds"));
        }
        sendmsg(&self.control, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)
            .doing("speak to the initialised interpreter")?;
        Ok(())
    }

    fn expect(&self, wanted: &str) -> Result<(), Fault> {
        match self.receive()? {
            answer if answer == wanted => Ok(()),
            answer => Err(Fault::new(format!("the interpreter said {answer:?} instead of {wanted:?}"))),
        }
    }

    fn receive(&self) -> Result<String, Fault> {
        let answered =
            wait::ready(&mut [PollFd::new(&self.control, PollFlags::IN)], Instant::now() + PATIENCE);
        if !answered.doing("wait for the initialised interpreter")? {
            return Err(Fault::new("the initialised interpreter does not answer"));
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

/// The hook's file, in the overlay while the interpreter starts.
struct Hook {
    path: PathBuf,
    /// The time stamps of its directory, as they were before.
    library: Timestamps,
}

impl Hook {
    fn install(runtime: &Runtime) -> Result<Self, Fault> {
        // `usercustomize` and not `sitecustomize`: images have the latter.
        let text = PYTHON_HOOK
            .replace("CONTROL", &CONTROL_FD.to_string())
            .replace("JOB_USER", &credentials::JOB_USER.to_string());
        let answer = fresh::ask(runtime, &["-S", "-c", INSTALL_PYTHON_HOOK, &text])?;
        let path = PathBuf::from(answer.trim_end());
        if !path.is_absolute() {
            return Err(Fault::new(format!("the interpreter did not install its hook: {answer:?}")));
        }
        let library = path.parent().ok_or_else(|| Fault::new("a hook without a directory"))?;
        let is = stat(library).doing("look at the interpreter's library")?;
        let library = Timestamps {
            last_access: rustix::time::Timespec {
                tv_sec: is.st_atime,
                tv_nsec: is.st_atime_nsec.cast_signed(),
            },
            last_modification: rustix::time::Timespec {
                tv_sec: is.st_mtime,
                tv_nsec: is.st_mtime_nsec.cast_signed(),
            },
        };
        Ok(Self { path, library })
    }

    fn remove(&self) -> Result<(), Fault> {
        fs::remove_file(&self.path).doing(format!("remove {}", self.path.display()))?;
        let library = self.path.parent().ok_or_else(|| Fault::new("a hook without a directory"))?;
        utimensat(CWD, library, &self.library, AtFlags::empty()).doing("restore a time stamp")
    }
}
