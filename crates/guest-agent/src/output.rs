//! A running program's three standard streams, from the agent's side.

use std::os::fd::OwnedFd;

use protocol::message::Captured;
use rustix::{
    fs::{Gid, OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl},
    io::{Errno, read, write},
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    credentials::JOB_USER,
    fault::{Doing, Fault},
};

/// The program's ends of its streams.
pub(crate) struct JobEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Feeds a program's stdin, never blocking.
pub(crate) struct Feed<'a> {
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

/// Keeps the first bytes of an output stream and counts the others, never blocking.
pub(crate) struct Capture {
    pipe: Option<OwnedFd>,
    limit: usize,
    kept: Vec<u8>,
    dropped: u64,
}

/// Our ends of a program's streams, non-blocking.
pub(crate) struct OurEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl OurEnds {
    /// What feeds `input` to the program, and what keeps up to `limit` bytes of each output stream.
    pub(crate) fn attach(self, input: &[u8], limit: usize) -> (Feed<'_>, [Capture; 2]) {
        let capture = |pipe| Capture { pipe: Some(pipe), limit, kept: Vec::new(), dropped: 0 };
        let feed = Feed { pipe: (!input.is_empty()).then_some(self.stdin), rest: input };
        (feed, [capture(self.stdout), capture(self.stderr)])
    }
}

/// Makes a program's streams: pipes, as a caller of `python3 main.py` would give it.
pub(crate) fn pipes() -> Result<(JobEnds, OurEnds), Fault> {
    let (stdin, stdin_ours) = pipe()?;
    let (stdout_ours, stdout) = pipe()?;
    let (stderr_ours, stderr) = pipe()?;
    for ours in [&stdin_ours, &stdout_ours, &stderr_ours] {
        let flags = fcntl_getfl(ours).doing("read a pipe's flags")?;
        fcntl_setfl(ours, flags | OFlags::NONBLOCK).doing("make a pipe non-blocking")?;
    }
    // A program may open its streams once more, by /dev/stdin and its like: so they are the job's own.
    for theirs in [&stdin, &stdout, &stderr] {
        let (user, group) = (Uid::from_raw(JOB_USER), Gid::from_raw(JOB_USER));
        fchown(theirs, Some(user), Some(group)).doing("give a pipe to the job")?;
    }
    let ours = OurEnds { stdin: stdin_ours, stdout: stdout_ours, stderr: stderr_ours };
    Ok((JobEnds { stdin, stdout, stderr }, ours))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Fault> {
    pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")
}

impl Feed<'_> {
    /// The pipe, while there is something to write to it.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Writes as much as the pipe takes; closes it at the end, or when nobody reads it any more.
    pub(crate) fn pump(&mut self) -> Result<(), Fault> {
        while let Some(pipe) = &self.pipe {
            match write(pipe, self.rest) {
                Ok(written) => self.rest = &self.rest[written..],
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => self.rest = &[],
                Err(error) => return Err(error).doing("write to a job's stdin"),
            }
            if self.rest.is_empty() {
                self.pipe = None;
            }
        }
        Ok(())
    }
}

impl Capture {
    /// The pipe, until its end was read.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Reads what is there, at most one buffer of it, so that one stream cannot keep the others waiting. False
    /// where there was nothing.
    pub(crate) fn pump(&mut self, buffer: &mut [u8]) -> Result<bool, Fault> {
        let Some(pipe) = &self.pipe else { return Ok(false) };
        match read(pipe, &mut *buffer) {
            Ok(0) => {
                self.pipe = None;
                Ok(false)
            }
            Ok(length) => {
                let kept = length.min(self.limit - self.kept.len());
                self.kept.extend_from_slice(&buffer[..kept]);
                self.dropped += (length - kept) as u64;
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error).doing("read a job's output"),
        }
    }

    /// What was kept and what was not.
    pub(crate) fn finish(self) -> Captured {
        Captured { bytes: self.kept.into(), dropped: self.dropped }
    }
}
