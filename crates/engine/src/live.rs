//! A program that runs, seen from outside: what it writes comes as it is written, and what it reads may come later.

pub use protocol::message::{Output, Stream};
use protocol::{Bytes, limits::MAX_CHUNK_BYTES, message::HostMessage};
use tokio::sync::mpsc;

/// How many parts of output may wait for whoever reads them: at most 256 KiB. Beyond it the program waits.
const MOST_WAITING: usize = 4;

/// What a program that runs is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// More of its stdin.
    Bytes(Vec<u8>),
    /// The end of its stdin.
    End,
    /// A signal, by its number on Linux, from 1 to 31.
    Signal(u8),
}

/// What happens to a request that is watched, in this order.
#[derive(Debug)]
pub enum Event {
    /// A microVM has it now.
    Handed,
    /// A part of its output, of 1 to [`MAX_CHUNK_BYTES`] bytes.
    Output(Output),
}

/// The program's side: whoever runs a request has it.
#[derive(Debug)]
pub struct Live {
    events: mpsc::Sender<Event>,
    pub(crate) input: Option<mpsc::Receiver<Input>>,
}

impl Live {
    /// Watches a request: its events come out of the receiver. Who does not receive them has the program wait.
    pub fn watched() -> (Self, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(MOST_WAITING);
        (Self { events, input: None }, received)
    }

    /// The same of a request with one stdin, which goes on with what is sent.
    pub fn interactive() -> (Self, mpsc::Receiver<Event>, mpsc::Sender<Input>) {
        let (input, received) = mpsc::channel(MOST_WAITING);
        let (live, events) = Self::watched();
        (Self { input: Some(received), ..live }, events, input)
    }

    /// Where it is told of events.
    pub(crate) fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    /// Tells of an event. Waits while nobody takes it.
    pub(crate) async fn tell(&self, event: Event) {
        // Whoever has gone takes the request away as well.
        let _ = self.events.send(event).await;
    }
}

impl Input {
    /// As the guest agent takes it, in parts where it is long.
    pub(crate) fn messages(self) -> Vec<HostMessage> {
        match self {
            Self::Bytes(bytes) => bytes
                .chunks(MAX_CHUNK_BYTES)
                .map(|part| HostMessage::Input { bytes: Bytes(part.to_vec()), end: false })
                .collect(),
            Self::End => vec![HostMessage::Input { bytes: Bytes::default(), end: true }],
            Self::Signal(signal) => vec![HostMessage::Signal { signal }],
        }
    }
}
