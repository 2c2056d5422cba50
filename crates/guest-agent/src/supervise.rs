//! From the start of a program to its last byte of output.

use std::{
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::ExitStatus,
    time::{Duration, Instant},
};

use protocol::{
    limits::MAX_CHUNK_BYTES,
    message::{Execution, Outcome, Stream},
};
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    process::{Pid, PidfdFlags, WaitOptions, pidfd_open, pidfd_send_signal, wait as wait_for_child},
};

use crate::{
    cgroup::Group,
    exits::{self, Exits},
    fault::{Doing, Fault},
    live::{Live, Said},
    output::{Capture, Feed, Streams},
    wait,
};

/// How often orphans are reaped while a job runs: the kernel has no event to wait for that tells of them.
const REAP_INTERVAL: Duration = Duration::from_millis(250);

/// How long killed processes may take to be gone, and their pipes to be read to the end. A process that is
/// killed frees its memory first, which takes its time under emulation.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// How many messages of the host are heard before everything else has its turn: a client may send without an end.
const MOST_HEARD: u32 = 16;

/// How much is read of a stream at once.
pub(crate) const BUFFER_BYTES: usize = MAX_CHUNK_BYTES;

/// The streams that are captured, in their order.
const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// See signal(7).
const SIGKILL: u8 = 9;

/// When the program started and when it has to be over.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    deadline: Instant,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start(timeout: Duration) -> Self {
        let start = Instant::now();
        Self { start, deadline: start + timeout }
    }
}

/// What may be left of a job whose outcome is known.
#[must_use]
pub(crate) enum Remains {
    Nothing,
    /// Its one process, on its way out.
    Exiting(OwnedFd),
    /// Any number of processes, all of them killed.
    Killed,
}

impl Remains {
    /// Waits until nothing is left in the job's group.
    pub(crate) fn wait(self, group: &Group<'_>) -> Result<(), Fault> {
        match self {
            // The last of them may have died since somebody looked.
            Self::Nothing => {}
            Self::Exiting(pidfd) => {
                let gone =
                    wait::ready(&mut [PollFd::new(&pidfd, PollFlags::IN)], Instant::now() + KILL_PATIENCE);
                if !gone.doing("wait for a job to be gone")? {
                    return Err(Fault::new("a job that has exited is not gone"));
                }
            }
            Self::Killed => group.wait_until_empty(KILL_PATIENCE)?,
        }
        reap(None).map(drop)
    }
}

/// Feeds the program, reads what it writes through `buffer`, and ends it when its time is up. When it returns, no
/// process of `group` is left but for the remains, of which there is more where nobody comes after it: hundreds of processes
/// take their time to die, and the answer need not wait for that.
#[expect(clippy::too_many_arguments, reason = "what a supervisor has to have in its hands")]
pub(crate) fn to_the_end(
    program: Pid,
    clock: Clock,
    group: &Group<'_>,
    exits: Option<&Exits>,
    streams: Streams<'_>,
    mut live: Option<Live<'_>>,
    last: bool,
    buffer: &mut [u8],
) -> Result<(Execution, Remains), Fault> {
    let Streams { mut feed, mut captures } = streams;
    let pidfd = pidfd_open(program, PidfdFlags::empty()).doing("watch the program")?;
    let mut status = None;
    let mut exiting = false;
    let mut timed_out = false;
    while status.is_none() {
        let now = Instant::now();
        if now >= clock.deadline {
            timed_out = true;
            group.kill()?;
            break;
        }
        let until = clock.deadline.min(now + REAP_INTERVAL);
        wait_for_events(&pidfd, exits, &feed, &captures, live.as_ref(), until)?;
        feed.pump()?;
        if let Some(live) = &mut live {
            converse(live, &mut feed, &pidfd)?;
        }
        for (capture, stream) in captures.iter_mut().zip(STREAMS) {
            pump(capture, stream, live.as_mut(), buffer)?;
        }
        status = reap(Some(program))?;
        if status.is_none()
            && wait::ready(&mut [PollFd::new(&pidfd, PollFlags::IN)], now).doing("watch the program")?
        {
            // It has ended, and is kept from us by whoever traces it: one of its own, whose time is over as well.
            group.kill()?;
            status = reap(Some(program))?;
        }
        if status.is_none() && exits.map_or(Ok(false), Exits::any)? {
            status = exiting_alone(program, group)?;
            exiting = status.is_some();
        }
    }
    // A program whose time is over is counted that far, and not the death of the hundreds that it may have started.
    let duration = clock.start.elapsed();
    // What the program left running ends with it: a batch's next execution must not meet it.
    let remains = if exiting {
        Remains::Exiting(pidfd)
    } else if status.is_some() && group.is_empty()? {
        Remains::Nothing
    } else {
        group.kill()?;
        if last {
            Remains::Killed
        } else {
            Remains::Killed.wait(group)?;
            Remains::Nothing
        }
    };
    // Nobody is left who could write, for who is killed runs no more: what there will be is there. The end of a stream may
    // never come, for a pipe can be kept open without a process, by a socket that holds itself.
    for (capture, stream) in captures.iter_mut().zip(STREAMS) {
        loop {
            if let Some(live) = &mut live {
                live.drain()?;
            }
            if !pump(capture, stream, live.as_mut(), buffer)? {
                break;
            }
        }
    }
    drop((feed, live));

    let outcome = match status {
        _ if timed_out => Outcome::TimedOut,
        // The kernel ends all processes of a group that is out of memory, and all in this way.
        Some(Outcome::Killed { signal: SIGKILL }) if group.out_of_memory()? => Outcome::OutOfMemory,
        Some(status) => status,
        None => return Err(Fault::new("a program ended without a status")),
    };
    let [stdout, stderr] = captures.map(Capture::finish);
    let duration_micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let execution = Execution { index: 0, outcome, stdout, stderr, duration_micros, usage: None };
    Ok((execution, remains))
}

/// Hears the host, a few messages at a time, and sends on what could not be sent before.
fn converse(live: &mut Live<'_>, feed: &mut Feed<'_>, program: &OwnedFd) -> Result<(), Fault> {
    live.flush()?;
    for _ in 0..MOST_HEARD {
        if !feed.has_room() {
            break;
        }
        match live.hear()? {
            None => break,
            Some(Said::Input(bytes, end)) => feed.more(&bytes, end)?,
            Some(Said::Signal(signal)) => match pidfd_send_signal(program, signal) {
                // One that has ended needs no signal.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error).doing("send a program a signal"),
            },
        }
    }
    Ok(())
}

/// Reads from one stream what is there, at most one buffer of it, and sends it where it is sent at once. False where
/// nothing was read.
fn pump(
    capture: &mut Capture,
    stream: Stream,
    live: Option<&mut Live<'_>>,
    buffer: &mut [u8],
) -> Result<bool, Fault> {
    let Some(live) = live else { return Ok(capture.pump(buffer)?.is_some()) };
    if !live.is_free() {
        return Ok(false);
    }
    match capture.pump(buffer)? {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(length) => live.send(stream, &buffer[..length]).map(|()| true),
    }
}

/// How `program` ends, where it is on its way out and the only process of its group.
fn exiting_alone(program: Pid, group: &Group<'_>) -> Result<Option<Outcome>, Fault> {
    let Some(status) = exits::status_of_exiting(program)? else { return Ok(None) };
    let alone = group.processes()?.iter().all(|process| *process == program);
    Ok(alone.then(|| outcome(ExitStatus::from_raw(status))))
}

/// Waits until something can be read or written, or the program has ended.
fn wait_for_events(
    pidfd: &OwnedFd,
    exits: Option<&Exits>,
    feed: &Feed<'_>,
    captures: &[Capture; 2],
    live: Option<&Live<'_>>,
    until: Instant,
) -> Result<(), Fault> {
    let mut descriptors = vec![PollFd::new(pidfd, PollFlags::IN)];
    descriptors.extend(exits.map(|exits| PollFd::new(exits, PollFlags::IN)));
    descriptors.extend(feed.pipe().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    if let Some((descriptor, flags)) = live.and_then(|live| live.events(feed.has_room())) {
        descriptors.push(PollFd::from_borrowed_fd(descriptor, flags));
    }
    if live.is_none_or(Live::is_free) {
        descriptors.extend(captures.iter().filter_map(|c| Some(PollFd::new(c.pipe()?, PollFlags::IN))));
    }
    wait::ready(&mut descriptors, until).doing("wait for a program").map(drop)
}

/// Reaps whoever has ended, orphans of jobs too, and returns the outcome of `process` if it was among them.
fn reap(process: Option<Pid>) -> Result<Option<Outcome>, Fault> {
    let mut found = None;
    loop {
        match wait_for_child(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                // A program that has its parent trace it only stops, and there is nobody who would let it go on.
                let is_over = status.exited() || status.signaled();
                if is_over && Some(pid) == process {
                    found = Some(outcome(ExitStatus::from_raw(status.as_raw())));
                }
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(found),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing("reap processes"),
        }
    }
}

/// What a wait status says.
fn outcome(status: ExitStatus) -> Outcome {
    // A number that does not fit cannot come from Linux.
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited { code: number(code) },
        (None, signal) => Outcome::Killed { signal: number(signal.unwrap_or_default()) },
    }
}
