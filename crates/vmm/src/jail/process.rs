//! The process that a supervisor starts: born where it belongs, watched and ended without its number being mistaken.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Command, ExitStatus},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid},
};

use crate::sys;

/// A child of this process. Dropping it ends it, and waits for its end.
pub(super) struct Process {
    id: Pid,
    /// Readable when it has ended.
    pidfd: OwnedFd,
    /// Whether its end was waited for.
    is_over: Cell<bool>,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_over.get() {
            // There is nobody to be told: whoever drops it is ending over another error.
            let _ = self.kill().and_then(|()| self.wait());
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Process {
    /// Starts `command`, in this cgroup of version 2 where there is one. To be called in a process with one thread.
    ///
    /// The standard library's own `spawn` does the same, and cannot say where the child is to be born.
    pub(super) fn start(mut command: Command, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        // It closes when the child has become the program, or is the child's way to say why it has not.
        let (failure, failed) = pipe_with(PipeFlags::CLOEXEC)?;
        let forked = match cgroup {
            Some(cgroup) => sys::fork_into(cgroup)?,
            None => sys::fork()?,
        };
        let Some(id) = forked else {
            let error = command.exec().raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
            // If nobody reads it there is nobody to be told.
            let _ = File::from(failed).write_all(&error.to_ne_bytes());
            sys::exit_at_once(1)
        };
        drop(failed);
        // With it go our copies of what the child alone is to have.
        drop(command);
        let process = Self { id, pidfd: pidfd_open(id, PidfdFlags::empty())?, is_over: Cell::new(false) };
        let mut error = [0; 4];
        match File::from(failure).read_exact(&mut error) {
            Ok(()) => {
                process.wait()?;
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(error)))
            }
            Err(_) => Ok(process),
        }
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.id.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it, unless it has ended.
    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end. To be called once.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            match waitpid(Some(self.id), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    self.is_over.set(true);
                    return Ok(ExitStatus::from_raw(status.as_raw()));
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
