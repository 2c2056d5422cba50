//! A client of QEMU's machine protocol (QMP), over a socket that QEMU was born with.
//!
//! One command at a time. Lines of JSON both ways: a greeting, then for each command events and one answer, which has the
//! command's number.
//!
//! QEMU may be in a guest's hands: what it says is bounded in each line, in all lines of an answer, in what is kept, and in
//! time.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::backend::{ControlError, printable};

/// The longest line that QEMU may send, in bytes. Its greeting has some 200, and what answers us no more.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// How many lines may come while one thing is waited for. A migration tells of five states; a guest can cause some events a
/// second, and a microVM that waits for its request is not listened to meanwhile.
const MAX_LINES: usize = 10_000;

/// The same in bytes.
const MAX_LINES_BYTES: usize = 4 << 20;

/// How long QEMU may take to answer, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many events are kept for later, as they came. The commands that we use cause few.
const MAX_EVENTS: usize = 64;

/// A connection to QEMU.
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    /// Lines: JSON that was made for it would take many times their lengths.
    events: VecDeque<Vec<u8>>,
    /// The number of the last command.
    last: u64,
    patience: Duration,
}

/// Whatever QEMU says.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(rename = "return")]
    done: Option<IgnoredAny>,
    error: Option<Fault>,
    event: Option<IgnoredAny>,
    /// The number of the command that is answered.
    id: Option<u64>,
}

/// Why QEMU refuses a command.
#[derive(Deserialize)]
struct Fault {
    desc: Option<String>,
}

/// What happened.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    data: Value,
}

/// What QEMU may still say before it has said what is waited for.
struct Room {
    lines: usize,
    bytes: usize,
}

impl Room {
    fn full() -> Self {
        Self { lines: MAX_LINES, bytes: MAX_LINES_BYTES }
    }

    fn count(&mut self, command: &'static str, line: &[u8]) -> Result<(), ControlError> {
        let lines = self.lines.checked_sub(1);
        let (Some(lines), Some(bytes)) = (lines, self.bytes.checked_sub(line.len())) else {
            return Err(ControlError::TooMuch { command });
        };
        (self.lines, self.bytes) = (lines, bytes);
        Ok(())
    }
}

impl Qmp {
    /// Greets QEMU.
    pub(super) async fn negotiate(stream: UnixStream) -> Result<Self, ControlError> {
        Self::negotiate_within(stream, PATIENCE).await
    }

    async fn negotiate_within(stream: UnixStream, patience: Duration) -> Result<Self, ControlError> {
        let stream = BufReader::new(stream);
        let mut qmp = Self { stream, events: VecDeque::new(), last: 0, patience };
        let command = "the greeting";
        let greeting = within(patience, command, qmp.line(command, &mut Room::full())).await?;
        if parsed::<Message>(command, &greeting)?.greeting.is_none() {
            return Err(ControlError::Unexpected { command });
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Has QEMU carry out `command`.
    pub(super) async fn execute(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<(), ControlError> {
        let line = self.command(command, &arguments);
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        let failed = |source| ControlError::Io { command, source };
        within(self.patience, command, async { sent.await.map_err(failed) }).await?;
        self.answer(command).await
    }

    /// Gives QEMU a descriptor under `name`.
    pub(super) async fn pass(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), ControlError> {
        let command = "getfd";
        let line = self.command(command, &json!({ "fdname": name }));
        let descriptors = [descriptor];
        let stream = self.stream.get_mut();
        let sent = stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(&*stream, &[IoSlice::new(line.as_bytes())], &mut ancillary, flags)?)
        });
        let failed = |source| ControlError::Io { command, source };
        let sent = within(self.patience, command, async { sent.await.map_err(failed) }).await?;
        if sent != line.len() {
            // It is a short line on an idle socket.
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        self.answer(command).await
    }

    /// Waits for an event for which `wanted` has something to say.
    pub(super) async fn event<T>(
        &mut self,
        command: &'static str,
        patience: Duration,
        wanted: impl Fn(&str, &Value) -> Option<T>,
    ) -> Result<T, ControlError> {
        let found = async {
            let mut left = Room::full();
            loop {
                while let Some(line) = self.events.pop_front() {
                    let Event { event, data } = parsed(command, &line)?;
                    if let Some(found) = wanted(&event, &data) {
                        return Ok(found);
                    }
                }
                let line = self.line(command, &mut left).await?;
                self.keep_event(command, line)?;
            }
        };
        timeout(patience, found).await.map_err(|_| ControlError::TimedOut { command, after: patience })?
    }

    /// A command as a line, with the next number.
    fn command(&mut self, command: &'static str, arguments: &Value) -> String {
        self.last += 1;
        json!({ "execute": command, "arguments": arguments, "id": self.last }).to_string() + "\n"
    }

    async fn answer(&mut self, command: &'static str) -> Result<(), ControlError> {
        within(self.patience, command, async {
            let mut left = Room::full();
            loop {
                let line = self.line(command, &mut left).await?;
                let Message { done, error, id, .. } = parsed(command, &line)?;
                match (done, error) {
                    (None, None) => self.keep_event(command, line)?,
                    // What it could not read has no number that it could repeat.
                    (None, Some(fault)) if id.is_none_or(|id| id == self.last) => {
                        let reason = fault.desc.as_deref().unwrap_or("it gave no reason");
                        return Err(ControlError::Refused { command, reason: printable(reason) });
                    }
                    (Some(IgnoredAny), None) if id == Some(self.last) => return Ok(()),
                    // The answer to what was not asked now, or two in one.
                    _ => return Err(ControlError::Unexpected { command }),
                }
            }
        })
        .await
    }

    fn keep_event(&mut self, command: &'static str, line: Vec<u8>) -> Result<(), ControlError> {
        if parsed::<Message>(command, &line)?.event.is_none() {
            return Err(ControlError::Unexpected { command });
        }
        self.events.push_back(line);
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
        Ok(())
    }

    async fn line(&mut self, command: &'static str, left: &mut Room) -> Result<Vec<u8>, ControlError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await;
        read.map_err(|source| ControlError::Io { command, source })?;
        left.count(command, &line)?;
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if line.len() as u64 == MAX_LINE_BYTES => Err(ControlError::TooMuch { command }),
            _ => Err(ControlError::Closed { command }),
        }
    }
}

fn parsed<'a, T: Deserialize<'a>>(command: &'static str, line: &'a [u8]) -> Result<T, ControlError> {
    serde_json::from_slice(line).map_err(|error| ControlError::Io { command, source: error.into() })
}

async fn within<T>(
    patience: Duration,
    command: &'static str,
    doing: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    timeout(patience, doing).await.map_err(|_| ControlError::TimedOut { command, after: patience })?
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
