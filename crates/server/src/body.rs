//! Bodies of requests: bounded each, in sum, and in time.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// The longest body, in bytes: what the parts of a request may have, escaped to some degree.
pub(crate) const MAX_BODY_BYTES: usize = 32 << 20;

/// What the bodies of all requests may take together, in KiB.
const ALL_BODIES_KIB: usize = 256 << 10;

/// Memory for bodies.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
}

/// A body, and its part of the memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(ALL_BODIES_KIB)) }
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
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY_BYTES {
                return Err(ApiError::BodyTooLong(MAX_BODY_BYTES));
            }
            bytes.extend_from_slice(&data);
            // Counted as it comes: a length that is only announced takes nothing.
            let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = bytes.len().div_ceil(1 << 10).saturating_sub(held);
            if more > 0 {
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                let more = Arc::clone(&self.room).try_acquire_many_owned(more);
                let more = more.map_err(|_| ApiError::BodiesBusy)?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
        }
        Ok(Received { bytes: bytes.freeze(), _room: room })
    }
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
        for _ in 0..(ALL_BODIES_KIB << 10) / MAX_BODY_BYTES {
            received.push(bodies.receive(Body::from(vec![0; MAX_BODY_BYTES]), PATIENCE).await.unwrap());
        }
        assert!(matches!(bodies.receive(Body::from("x"), PATIENCE).await, Err(ApiError::BodiesBusy)));
        received.pop();
        assert!(bodies.receive(Body::from("x"), PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let error = Bodies::new().receive(Body::from_stream(endless), Duration::from_millis(20)).await;
        assert!(matches!(error, Err(ApiError::BodyTimedOut(_))));
    }
}
