//! The host's part in a program that runs: its output goes out as it is written, and input comes in.
//!
//! ```text
//! pipe of the program ──▶ one chunk ──▶ channel ──▶ host ──▶ whoever reads
//! ```
//!
//! There is never more than one chunk here. While the channel does not take it no pipe is read, so that a slow reader
//! slows the program down and nothing in between grows.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use protocol::{
    Bytes, frame,
    message::{GuestMessage, HostMessage, Options, Output, Stream},
};
use rustix::{
    event::{PollFd, PollFlags},
    process::Signal,
};

use crate::{
    channel::Channel,
    fault::{Doing, Fault},
    wait,
};

/// How long the host may take for the rest of a dead program's output. It ends the microVM long before.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What the host says to a program that runs.
pub(crate) enum Said {
    /// More of its stdin, and whether that is the end.
    Input(Vec<u8>, bool),
    /// It is to get this signal.
    Signal(Signal),
}

/// A streamed execution's way to the host and back.
pub(crate) struct Live<'a> {
    channel: &'a mut Channel,
    index: u32,
    interactive: bool,
    /// The frame that is being sent, from `sent` on.
    frame: Vec<u8>,
    sent: usize,
}

impl<'a> Live<'a> {
    /// Of execution `index`, where `options` ask for it.
    pub(crate) fn of(channel: &'a mut Channel, index: u32, options: &Options) -> Result<Option<Self>, Fault> {
        if !options.stream {
            return Ok(None);
        }
        channel.set_nonblocking(true)?;
        let interactive = options.interactive;
        Ok(Some(Self { channel, index, interactive, frame: Vec::new(), sent: 0 }))
    }

    /// Whether a chunk could be taken now.
    pub(crate) fn is_free(&self) -> bool {
        self.sent == self.frame.len()
    }

    /// What is to be waited for: room for what is being sent, and the host's word where it may be heard.
    pub(crate) fn events(&self, may_hear: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::OUT, !self.is_free());
        flags.set(PollFlags::IN, may_hear && self.interactive);
        self.channel.descriptor().filter(|_| !flags.is_empty()).map(|descriptor| (descriptor, flags))
    }

    /// Sends what was written to a stream. Only when it [is free](Self::is_free).
    pub(crate) fn send(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Fault> {
        let output = Output { index: self.index, stream, bytes: Bytes(bytes.to_vec()) };
        self.frame = frame::encode(&GuestMessage::Output(output)).doing("encode output")?;
        self.sent = 0;
        self.flush()
    }

    /// Sends as much of what is left as the channel takes.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        while !self.is_free() {
            match self.channel.write_some(&self.frame[self.sent..])? {
                0 => return Ok(()),
                written => self.sent += written,
            }
        }
        Ok(())
    }

    /// Sends all that is left, waiting for the host.
    pub(crate) fn drain(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.flush()?;
            let Some((descriptor, flags)) = self.events(false) else { return Ok(()) };
            let ready = wait::ready(&mut [PollFd::from_borrowed_fd(descriptor, flags)], deadline);
            if !ready.doing("wait for the host")? {
                return Err(Fault::new("the host does not take a program's output"));
            }
        }
    }

    /// What the host says, where it says something now.
    pub(crate) fn hear(&mut self) -> Result<Option<Said>, Fault> {
        let Some(descriptor) = self.channel.descriptor().filter(|_| self.interactive) else {
            return Ok(None);
        };
        let heard = wait::ready(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Instant::now());
        if !heard.doing("listen to the host")? {
            return Ok(None);
        }
        // A message that has begun comes to its end: the host is trusted, and sends frames as a whole.
        self.channel.set_nonblocking(false)?;
        let message = self.channel.receive_here()?;
        self.channel.set_nonblocking(true)?;
        match message {
            Some(HostMessage::Input { bytes, end }) => Ok(Some(Said::Input(bytes.0, end))),
            Some(HostMessage::Signal { signal }) => {
                Ok(Signal::from_named_raw(i32::from(signal)).map(Said::Signal))
            }
            Some(_) => Err(Fault::new("the host asked for something else while a program runs")),
            // It has hung up: nothing more will be said.
            None => {
                self.interactive = false;
                Ok(None)
            }
        }
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        // Where this fails the next answer does, and says so.
        let _ = self.channel.set_nonblocking(false);
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};

    use super::*;

    fn streamed(interactive: bool) -> Options {
        Options { stream: true, interactive, ..Options::default() }
    }

    /// Reads one message.
    fn read(host: &mut UnixStream) -> GuestMessage {
        host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        frame::read(host).unwrap()
    }

    #[test]
    fn a_host_that_does_not_read_leaves_one_chunk_waiting_and_gets_it_later() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(OwnedFd::from(guest));
        let chunk = vec![b'x'; 60_000];
        let mut sent = 0;
        {
            let mut live = Live::of(&mut channel, 0, &streamed(false)).unwrap().unwrap();
            while live.is_free() {
                live.send(Stream::Stdout, &chunk).unwrap();
                sent += 1;
                assert!(sent < 1000, "a socket without an end");
            }
            let (_, flags) = live.events(true).unwrap();
            assert_eq!(flags, PollFlags::OUT);
            let reader = std::thread::spawn(move || {
                for _ in 0..sent {
                    let GuestMessage::Output(output) = read(&mut host) else { panic!("no output") };
                    assert_eq!(output.bytes.0, chunk);
                }
                host
            });
            live.drain().unwrap();
            assert!(live.is_free() && live.events(true).is_none());
            host = reader.join().unwrap();
        }
        // What follows waits again where it has to.
        channel.send(&GuestMessage::Finished).unwrap();
        assert_eq!(read(&mut host), GuestMessage::Finished);
    }

    #[test]
    fn input_and_signals_are_heard_when_they_are_there_and_nothing_else_is_taken() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(OwnedFd::from(guest));
        let mut live = Live::of(&mut channel, 0, &streamed(true)).unwrap().unwrap();
        assert!(live.hear().unwrap().is_none());
        frame::write(&mut host, &HostMessage::Input { bytes: "a".into(), end: true }).unwrap();
        assert!(matches!(live.hear().unwrap(), Some(Said::Input(bytes, true)) if bytes == b"a"));
        frame::write(&mut host, &HostMessage::Signal { signal: 15 }).unwrap();
        assert!(matches!(live.hear().unwrap(), Some(Said::Signal(Signal::TERM))));
        frame::write(&mut host, &HostMessage::Hello { generation: 1 }).unwrap();
        assert!(live.hear().is_err());
        drop(host);
        assert!(live.hear().unwrap().is_none());
        assert!(live.events(true).is_none(), "nobody is listened to any more");
    }

    #[test]
    fn nothing_is_streamed_that_nobody_asked_for() {
        let (_host, guest) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(OwnedFd::from(guest));
        assert!(Live::of(&mut channel, 0, &Options::default()).unwrap().is_none());
    }
}
