//! Bodies of requests: bounded each, in sum, and in time.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// The longest body, in bytes: what the parts of a request may have, escaped to some degree.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

/// What the beginnings of all bodies may take together, in KiB: so many that large ones leave small ones their room.
const ALL_BEGINNINGS_KIB: usize = 256 << 10;

/// How much of a body is its beginning, in KiB.
const BEGINNING_KIB: usize = 64;

/// What everything behind the beginnings may take together, in KiB.
const ALL_BODIES_KIB: usize = 256 << 10;

/// Memory for bodies.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    beginnings: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// A body, and its part of the memory.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    /// To be kept as long as what the body said.
    pub(crate) room: Room,
}

/// A part of the memory, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Room {
    beginning: Option<OwnedSemaphorePermit>,
    rest: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self {
            beginnings: Arc::new(Semaphore::new(ALL_BEGINNINGS_KIB)),
            room: Arc::new(Semaphore::new(ALL_BODIES_KIB)),
        }
    }

    /// Reads a body, which may take `patience`.
    pub(crate) async fn receive(&self, body: Body, patience: Duration) -> Result<Received, ApiError> {
        let reading = tokio::time::timeout(patience, self.read(body)).await;
        reading.unwrap_or(Err(ApiError::BodyTimedOut(patience)))
    }

    async fn read(&self, mut body: Body) -> Result<Received, ApiError> {
        // One that says so itself need not be read.
        if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(ApiError::BodyTooLong(MAX_BODY_BYTES));
        }
        let mut room = Room::default();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(ApiError::BodyTooLong(MAX_BODY_BYTES));
            }
            bytes.extend_from_slice(&data);
            // Counted as it comes: a length that is only announced takes nothing.
            let kib = bytes.len().div_ceil(1 << 10);
            take(&self.beginnings, &mut room.beginning, kib.min(BEGINNING_KIB))?;
            take(&self.room, &mut room.rest, kib.saturating_sub(BEGINNING_KIB))?;
        }
        Ok(Received { bytes: bytes.freeze(), room })
    }
}

/// Takes what is missing until so much is held.
fn take(from: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, kib: usize) -> Result<(), ApiError> {
    let more = kib.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    if more == 0 {
        return Ok(());
    }
    let more = Arc::clone(from).try_acquire_many_owned(u32::try_from(more).unwrap_or(u32::MAX));
    let more = more.map_err(|_| ApiError::BodiesBusy)?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused() {
        let bodies = Bodies::new();
        let body = Body::from(vec![0; MAX_BODY_BYTES + 1]);
        assert!(matches!(bodies.receive(body, PATIENCE).await, Err(ApiError::BodyTooLong(_))));
        assert_eq!(bodies.room.available_permits(), ALL_BODIES_KIB);
    }

    #[tokio::test]
    async fn bodies_have_a_bound_together_and_give_their_part_back() {
        let bodies = Bodies::new();
        let mut received = Vec::new();
        let large = || Body::from(vec![0; MAX_BODY_BYTES]);
        while bodies.room.available_permits() >= MAX_BODY_BYTES >> 10 {
            received.push(bodies.receive(large(), PATIENCE).await.unwrap());
        }
        assert!(received.len() >= (ALL_BODIES_KIB << 10) / MAX_BODY_BYTES);
        assert!(matches!(bodies.receive(large(), PATIENCE).await, Err(ApiError::BodiesBusy)));
        let small = bodies.receive(Body::from("x"), PATIENCE).await;
        assert!(small.is_ok(), "large ones leave small ones their room");
        received.pop();
        assert!(bodies.receive(large(), PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let error = Bodies::new().receive(Body::from_stream(endless), Duration::from_millis(20)).await;
        assert!(matches!(error, Err(ApiError::BodyTimedOut(_))));
    }
}
