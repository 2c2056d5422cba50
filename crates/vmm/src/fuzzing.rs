//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.

use tokio::net::UnixStream;

use crate::{ControlError, firecracker, qemu};

/// Restores a microVM with a QEMU at the other end of the stream.
pub async fn qemu(stream: UnixStream) -> Result<(), ControlError> {
    qemu::fuzz_restore(stream).await
}

/// Has a Firecracker at the other end of the stream do three things: how many it did, and why no more.
pub async fn firecracker(stream: UnixStream) -> (usize, Option<ControlError>) {
    firecracker::fuzz_restore(stream).await
}
