//! Reaching the guest agent over Firecracker's vsock.
//!
//! The device ends in a unix socket on the host: who connects to it says `CONNECT <port>`, and gets `OK <port>` and the
//! guest's bytes from there on, or the end where nobody listens in the guest (`docs/vsock.md` of Firecracker).

use std::{
    io,
    time::{Duration, Instant},
};

use protocol::VSOCK_PORT;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::run_directory::RunDirectory;

/// The guest's address: the lowest that a guest can have. No two guests share a device, so all have the same.
pub(super) const GUEST_CID: u32 = 3;

/// How long one attempt may take. After a restore a request can be lost without an answer (firecracker issue 5688), so
/// a long wait is many attempts.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The longest answer: `OK`, a port and a line's end.
const MAX_ANSWER_BYTES: usize = 32;

/// Connects to the agent, which must listen already.
pub(super) async fn connect(run: &RunDirectory, socket: &str, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(ATTEMPT.min(left), attempt(run, socket)).await {
            Ok(done) => return done,
            Err(_) if Instant::now() < deadline => {}
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

async fn attempt(run: &RunDirectory, socket: &str) -> io::Result<UnixStream> {
    let mut stream = run.connect(socket).await?;
    stream.write_all(format!("CONNECT {VSOCK_PORT}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line is the agent's.
    while answer.last() != Some(&b'\n') {
        let byte = stream.read_u8().await?;
        answer.push(byte);
        if answer.len() > MAX_ANSWER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if !answer.starts_with(b"OK ") {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("answered {answer:?}")));
    }
    Ok(stream)
}
