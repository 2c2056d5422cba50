//! The guest's end of the channel: whole messages in and out.

use protocol::{
    frame::{self, FrameError, HEADER_BYTES},
    message::{GuestMessage, HostMessage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// How much of a message is read at once. Most are shorter.
const READ_BYTES: usize = 8 << 10;

/// A conversation with the host.
pub(super) struct Conversation {
    stream: UnixStream,
    /// What was read and is not understood yet.
    buffer: Vec<u8>,
}

impl Conversation {
    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next message. Nothing is lost where this is given up.
    pub(super) async fn receive(&mut self) -> Result<HostMessage, FrameError> {
        let mut needed = HEADER_BYTES;
        loop {
            if let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() {
                needed = HEADER_BYTES + frame::body_length(*header)?;
                if self.buffer.len() >= needed {
                    let message = frame::decode(&self.buffer[HEADER_BYTES..needed]);
                    self.buffer.drain(..needed);
                    return message;
                }
            }
            self.buffer.reserve(READ_BYTES.max(needed - self.buffer.len()));
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) => {}
                Err(source) => return Err(FrameError::Io(source)),
            }
        }
    }

    /// Sends messages in one write.
    pub(super) async fn send(&mut self, messages: &[GuestMessage]) -> Result<(), FrameError> {
        let mut frames = Vec::new();
        for message in messages {
            frames.extend(frame::encode(message)?);
        }
        self.write(&frames).await
    }

    /// Writes what need not be a message.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.stream.write_all(bytes).await.map_err(FrameError::Io)
    }
}
