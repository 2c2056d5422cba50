//! A running program's three standard streams, from the agent's side.

use std::{borrow::Cow, os::fd::OwnedFd};

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

/// How much input may wait for a program to read it before no more is taken from the host, in bytes.
const MOST_WAITING_BYTES: usize = 1 << 20;

/// The program's ends of its streams.
pub(crate) struct JobEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Feeds a program's stdin, never blocking.
pub(crate) struct Feed<'a> {
    pipe: Option<OwnedFd>,
    input: Cow<'a, [u8]>,
    written: usize,
    /// Whether more may come after the input.
    open: bool,
}

/// Keeps the first bytes of an output stream and counts the others, never blocking.
pub(crate) struct Capture {
    pipe: Option<OwnedFd>,
    limit: usize,
    kept: Vec<u8>,
    dropped: u64,
}

/// All three, while a program runs.
pub(crate) struct Streams<'a> {
    pub(crate) feed: Feed<'a>,
    /// Of stdout and stderr.
    pub(crate) captures: [Capture; 2],
}

/// Our ends of a program's streams, non-blocking.
pub(crate) struct OurEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl OurEnds {
    /// What feeds `input` to the program, and then what [`Feed::more`] is given where it is left `open`, and what keeps up
    /// to `limit` bytes of each output stream.
    pub(crate) fn attach(self, input: &[u8], open: bool, limit: usize) -> Streams<'_> {
        let capture = |pipe| Capture { pipe: Some(pipe), limit, kept: Vec::new(), dropped: 0 };
        let pipe = (open || !input.is_empty()).then_some(self.stdin);
        let feed = Feed { pipe, input: input.into(), written: 0, open };
        Streams { feed, captures: [capture(self.stdout), capture(self.stderr)] }
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
        self.pipe.as_ref().filter(|_| self.written < self.input.len())
    }

    /// Whether more input could be taken now.
    pub(crate) fn has_room(&self) -> bool {
        self.input.len() - self.written < MOST_WAITING_BYTES
    }

    /// Takes what follows, and whether that is the end. Nobody is told where the program reads no more.
    pub(crate) fn more(&mut self, bytes: &[u8], end: bool) -> Result<(), Fault> {
        if self.open {
            let mut input = self.input[self.written..].to_vec();
            input.extend_from_slice(bytes);
            self.input = input.into();
            self.written = 0;
            self.open = !end;
        }
        self.pump()
    }

    /// Writes as much as the pipe takes; closes it at the end, or when nobody reads it any more.
    pub(crate) fn pump(&mut self) -> Result<(), Fault> {
        while let Some(pipe) = &self.pipe {
            if self.written == self.input.len() {
                if !self.open {
                    self.pipe = None;
                }
                return Ok(());
            }
            match write(pipe, &self.input[self.written..]) {
                Ok(written) => self.written += written,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => {
                    self.pipe = None;
                    self.open = false;
                }
                Err(error) => return Err(error).doing("write to a job's stdin"),
            }
        }
        // Nobody reads it: as if it had been.
        self.written = self.input.len();
        Ok(())
    }
}

impl Capture {
    /// The pipe, until its end was read.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Reads what is there, at most one buffer of it, so that one stream cannot keep the others waiting. How much there
    /// was in the buffer; nothing where there was nothing to read.
    pub(crate) fn pump(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Fault> {
        let Some(pipe) = &self.pipe else { return Ok(None) };
        match read(pipe, &mut *buffer) {
            Ok(0) => {
                self.pipe = None;
                Ok(None)
            }
            Ok(length) => {
                let kept = length.min(self.limit - self.kept.len());
                self.kept.extend_from_slice(&buffer[..kept]);
                self.dropped += (length - kept) as u64;
                Ok(Some(length))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => Ok(Some(0)),
            Err(error) => Err(error).doing("read a job's output"),
        }
    }

    /// What was kept and what was not.
    pub(crate) fn finish(self) -> Captured {
        Captured { bytes: self.kept.into(), dropped: self.dropped }
    }
}
