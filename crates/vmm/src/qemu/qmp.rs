//! A client of QEMU's machine protocol (QMP), over a socket that QEMU was born with.
//!
//! One command at a time. Lines of JSON both ways: a greeting, then for each command events and one answer.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::backend::{ControlError, printable};

/// The longest line that QEMU may send, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How long QEMU may take to answer, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many events are kept for later. The commands that we use cause few.
const MAX_EVENTS: usize = 64;

/// A connection to QEMU.
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Greets QEMU.
    pub(super) async fn negotiate(stream: UnixStream) -> Result<Self, ControlError> {
        let mut qmp = Self { stream: BufReader::new(stream), events: VecDeque::new() };
        let greeting = within("the greeting", qmp.line("the greeting")).await?;
        if greeting.get("QMP").is_none() {
            return Err(refused("the greeting", &greeting));
        }
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Has QEMU carry out `command` and returns its answer.
    pub(super) async fn execute(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, ControlError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        within(command, async { sent.await.map_err(|source| ControlError::Io { command, source }) }).await?;
        self.answer(command).await
    }

    /// Gives QEMU a descriptor under `name`.
    pub(super) async fn pass(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), ControlError> {
        let command = "getfd";
        let line = json!({ "execute": command, "arguments": { "fdname": name } }).to_string() + "\n";
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
        let sent = within(command, async { sent.await.map_err(failed) }).await?;
        if sent != line.len() {
            // It is a short line on an idle socket.
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        self.answer(command).await.map(drop)
    }

    /// Waits for an event for which `wanted` has something to say.
    pub(super) async fn event<T>(
        &mut self,
        command: &'static str,
        patience: Duration,
        wanted: impl Fn(&str, &Value) -> Option<T>,
    ) -> Result<T, ControlError> {
        let found = async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    let name = event["event"].as_str().unwrap_or_default();
                    if let Some(found) = wanted(name, &event["data"]) {
                        return Ok(found);
                    }
                }
                let message = self.line(command).await?;
                self.keep_event(message);
            }
        };
        timeout(patience, found).await.map_err(|_| ControlError::TimedOut { command, after: patience })?
    }

    async fn answer(&mut self, command: &'static str) -> Result<Value, ControlError> {
        within(command, async {
            loop {
                let mut message = self.line(command).await?;
                if let Some(answer) = message.get_mut("return") {
                    return Ok(answer.take());
                }
                if message.get("error").is_some() {
                    return Err(refused(command, &message));
                }
                self.keep_event(message);
            }
        })
        .await
    }

    fn keep_event(&mut self, message: Value) {
        if message.get("event").is_some() {
            self.events.push_back(message);
            if self.events.len() > MAX_EVENTS {
                self.events.pop_front();
            }
        }
    }

    async fn line(&mut self, command: &'static str) -> Result<Value, ControlError> {
        let failed = |source| ControlError::Io { command, source };
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await.map_err(failed)?;
        if line.is_empty() {
            return Err(ControlError::Closed { command });
        }
        serde_json::from_slice(&line).map_err(|error| failed(error.into()))
    }
}

async fn within<T>(
    command: &'static str,
    doing: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    timeout(PATIENCE, doing).await.map_err(|_| ControlError::TimedOut { command, after: PATIENCE })?
}

fn refused(command: &'static str, answer: &Value) -> ControlError {
    let reason = answer["error"]["desc"].as_str().unwrap_or("it gave no reason");
    ControlError::Refused { command, reason: printable(reason) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A QEMU that says `lines`, each after a line of the client but for the first.
    fn speaking(lines: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let mut theirs = BufReader::new(theirs);
            for (number, line) in lines.iter().enumerate() {
                if number > 0 && theirs.read_line(&mut String::new()).await.unwrap() == 0 {
                    return;
                }
                theirs.get_mut().write_all(line.as_bytes()).await.unwrap();
            }
        });
        ours
    }

    const GREETING: &str = "{\"QMP\":{}}\n";

    #[tokio::test]
    async fn events_before_an_answer_are_kept_for_later() {
        let lines = [GREETING, "{\"return\":{}}\n", "{\"event\":\"STOP\",\"data\":{}}\n{\"return\":7}\n"];
        let mut qmp = Qmp::negotiate(speaking(Box::leak(Box::new(lines)))).await.unwrap();
        assert_eq!(qmp.execute("stop", json!({})).await.unwrap(), json!(7));
        qmp.event("stop", PATIENCE, |name, _| (name == "STOP").then_some(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_names_the_reason_and_an_end_names_the_command() {
        let refusal = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"}}\n";
        let lines = [GREETING, "{\"return\":{}}\n", refusal];
        let mut qmp = Qmp::negotiate(speaking(Box::leak(Box::new(lines)))).await.unwrap();
        let error = qmp.execute("stop", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "the VMM refused stop: no such thing");
        let error = qmp.execute("cont", json!({})).await.unwrap_err();
        assert!(
            matches!(error, ControlError::Closed { command: "cont" } | ControlError::Io { .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        assert!(Qmp::negotiate(speaking(&["no json\n"])).await.is_err());
        assert!(Qmp::negotiate(speaking(&["{\"other\":1}\n"])).await.is_err());
    }
}
