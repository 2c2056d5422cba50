//! The agent: a script, performed whatever it hears.

use std::time::Duration;

use protocol::{frame, message::GuestMessage};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
};

/// What an agent does next.
pub(crate) enum Act {
    /// Says this.
    Say(Vec<u8>),
    /// Says this, a byte at a time, with a pause before each.
    Trickle(Vec<u8>, Duration),
    /// Makes this when it is its turn, and says it.
    Make(Box<dyn FnOnce() -> Vec<u8> + Send>),
    /// Says this again and again, until the host has gone.
    Forever(Vec<u8>),
    /// Hangs up.
    Close,
}

/// The host's end of a channel to an agent that does this, and then hears and says nothing until the host has gone.
pub(crate) fn agent(acts: Vec<Act>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(perform(theirs, acts));
    ours
}

/// A message as a frame.
pub(crate) fn frame(message: &GuestMessage) -> Vec<u8> {
    frame::encode(message).unwrap()
}

async fn perform(stream: UnixStream, acts: Vec<Act>) {
    let (mut from, mut to) = stream.into_split();
    // Hears whatever the host says, and does nothing about it: whose writes never end does not get to its answers.
    let hearing = tokio::spawn(async move {
        let mut heard = vec![0; 1 << 16];
        while matches!(from.read(&mut heard).await, Ok(1..)) {}
    });
    for act in acts {
        // An error is that the host has gone.
        let done = match act {
            Act::Say(bytes) => to.write_all(&bytes).await,
            Act::Make(make) => to.write_all(&make()).await,
            Act::Trickle(bytes, pause) => trickle(&mut to, &bytes, pause).await,
            Act::Forever(bytes) => forever(&mut to, &bytes).await,
            Act::Close => {
                hearing.abort();
                return;
            }
        };
        if done.is_err() {
            return;
        }
    }
    let _ = hearing.await;
}

async fn trickle(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        tokio::time::sleep(pause).await;
        to.write_all(&[*byte]).await?;
    }
    Ok(())
}

async fn forever(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    let many = bytes.repeat(((64 << 10) / bytes.len()).max(1));
    loop {
        to.write_all(&many).await?;
    }
}
