//! Answers on their way to clients: bounded in sum, for a client that reads slowly has its answer kept meanwhile.
//!
//! ```text
//! answer ─▶ JSON ─┬─ small ────────────────────────────▶ body ─▶ client
//!                 └─ large ─▶ its part of the room ─────▶   │
//!                             (waits a moment, or 503)      └─ the part is free once the last byte has left
//! ```

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::ApiError;

/// The longest answer that is small, in bytes: as many as there may be connections are no more than the large ones.
const SMALL_BYTES: usize = 64 << 10;

/// What large answers may take together, in KiB.
const ALL_LARGE_KIB: usize = 256 << 10;

/// How many large answers may wait for their part: each is in memory meanwhile.
const MOST_WAITING: usize = 8;

/// How long one waits: clients that read take theirs in less.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of an answer is given to its connection at once, in bytes: what is there waits outside of this.
const PART_BYTES: usize = 64 << 10;

/// Memory for answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    large: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// A part of the memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _large: Option<OwnedSemaphorePermit>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        Self {
            large: Arc::new(Semaphore::new(ALL_LARGE_KIB)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }

    /// The room for an answer of so many bytes, to be kept as long as they are.
    pub(crate) async fn room_for(&self, bytes: usize) -> Result<Room, ApiError> {
        if bytes <= SMALL_BYTES {
            return Ok(Room { _large: None });
        }
        let kib = u32::try_from(bytes.div_ceil(1 << 10).min(ALL_LARGE_KIB)).unwrap_or(u32::MAX);
        let _waiting = self.waiting.try_acquire().map_err(|_| ApiError::AnswersBusy)?;
        match timeout(PATIENCE, Arc::clone(&self.large).acquire_many_owned(kib)).await {
            Ok(Ok(large)) => Ok(Room { _large: Some(large) }),
            _ => Err(ApiError::AnswersBusy),
        }
    }

    /// How much there is left for large ones, in KiB.
    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.large.available_permits()
    }

    /// An answer as JSON, whose room is kept until it has left.
    pub(crate) async fn json(&self, answer: impl Serialize) -> Result<Response, ApiError> {
        let text = serde_json::to_vec(&answer).map_err(|error| ApiError::Internal(error.to_string()))?;
        // Twice in memory no longer than needed, and no more of it than is counted.
        drop(answer);
        let text = text.into_boxed_slice();
        let room = self.room_for(text.len()).await?;
        let mut response = Response::new(Body::new(Leaving(Bytes::from_owner(Kept { text, _room: room }))));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// An answer with its room: whoever has a part of it keeps both.
struct Kept {
    text: Box<[u8]>,
    _room: Room,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// What is still to leave of an answer.
struct Leaving(Bytes);

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(PART_BYTES);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.0.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_comes_as_it_is_and_keeps_its_room_until_its_last_byte_is_gone() {
        let answers = Answers::new();
        let text = "é\u{0}".repeat(100_000);
        let response = answers.json(&text).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let json = serde_json::to_vec(&text).unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(json.len() as u64));
        let taken = json.len().div_ceil(1 << 10);
        assert_eq!(answers.free_kib(), ALL_LARGE_KIB - taken);
        let mut body = response.into_body();
        let mut received = Vec::new();
        let mut last = Bytes::new();
        while let Some(frame) = body.frame().await {
            last = frame.unwrap().into_data().unwrap();
            assert!(last.len() <= PART_BYTES);
            received.extend_from_slice(&last);
        }
        assert!(received == json);
        drop(body);
        assert_eq!(answers.free_kib(), ALL_LARGE_KIB - taken, "a connection still has a part of it");
        drop(last);
        assert_eq!(answers.free_kib(), ALL_LARGE_KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_takes_have_a_bound_together() {
        let answers = Answers::new();
        let text = "x".repeat(32 << 20);
        let mut kept = Vec::new();
        while answers.free_kib() > text.len() >> 10 {
            kept.push(answers.json(&text).await.unwrap());
        }
        assert_eq!(kept.len(), 7);
        assert!(matches!(answers.json(&text).await, Err(ApiError::AnswersBusy)), "nobody has taken any");
        assert!(answers.json("small").await.is_ok(), "large ones leave small ones their room");
        let (waited, ()) = tokio::join!(answers.json(&text), async {
            tokio::time::sleep(PATIENCE / 2).await;
            kept.pop();
        });
        assert!(waited.is_ok(), "one was taken in time");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let answers = Answers::new();
        let all = answers.room_for(ALL_LARGE_KIB << 10).await.unwrap();
        let mut waiting: Vec<_> =
            (0..MOST_WAITING).map(|_| Box::pin(answers.room_for(SMALL_BYTES + 1))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(
            futures_util::poll!(Box::pin(answers.room_for(SMALL_BYTES + 1))),
            Poll::Ready(Err(ApiError::AnswersBusy))
        ));
        drop(all);
        for one in waiting {
            assert!(one.await.is_ok());
        }
    }
}
