//! A deadline for the head of each request, from its first byte on.
//!
//! ```text
//! silent ──first byte──▶ head, with a deadline ──head is whole──▶ request ──answered──▶ silent
//! ```
//!
//! hyper has one deadline for the head and for the silence before it, which has to be as long as a client may idle between two
//! requests: a client that sends a byte now and then would have all of it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream on which heads have a deadline.
pub(crate) struct HeadDeadline<S> {
    stream: S,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
    said: Arc<Said>,
}

/// What there is to say of a stream.
#[derive(Default)]
struct Said {
    /// A request is there.
    request: AtomicBool,
    /// Something has come.
    anything: AtomicBool,
}

/// Says when a request is there. Clones say it of the same stream.
#[derive(Clone)]
pub(crate) struct InRequest(Arc<Said>);

/// A request that is there until this is dropped.
pub(crate) struct Answering(Arc<Said>);

impl InRequest {
    /// The head is whole.
    pub(crate) fn begin(&self) -> Answering {
        self.0.request.store(true, Ordering::Release);
        Answering(Arc::clone(&self.0))
    }

    /// Whether anything was ever heard on the stream.
    pub(crate) fn has_anything(&self) -> bool {
        self.0.anything.load(Ordering::Acquire)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.request.store(false, Ordering::Release);
    }
}

impl<S> HeadDeadline<S> {
    /// Over a stream, each head of which may take so long.
    pub(crate) fn over(stream: S, patience: Duration) -> (Self, InRequest) {
        let said = Arc::new(Said::default());
        let in_request = InRequest(Arc::clone(&said));
        (Self { stream, patience, deadline: None, said }, in_request)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.request.load(Ordering::Acquire) {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = buffer.filled().len() > before;
        if came {
            self.said.anything.store(true, Ordering::Release);
        }
        let is_first = came && self.deadline.is_none();
        if is_first && !self.said.request.load(Ordering::Acquire) {
            self.deadline = Some(Box::pin(sleep(self.patience)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_head_that_comes_a_byte_at_a_time_is_cut_off() {
        let (mut client, server) = duplex(64);
        let (mut server, _) = HeadDeadline::over(server, PATIENCE);
        let dripping = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(PATIENCE / 10).await;
            }
        });
        let mut read = Vec::new();
        let error = server.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(server);
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn neither_silence_nor_a_request_that_is_there_has_this_deadline() {
        let (mut client, server) = duplex(64);
        let (mut server, request) = HeadDeadline::over(server, PATIENCE);
        let mut byte = [0];
        let silent = tokio::time::timeout(3 * PATIENCE, server.read_exact(&mut byte)).await;
        assert!(silent.is_err(), "it waits");
        client.write_all(b"h").await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        let answering = request.begin();
        let body = tokio::time::timeout(3 * PATIENCE, server.read_exact(&mut byte)).await;
        assert!(body.is_err(), "it waits");
        drop(answering);
        let silent = tokio::time::timeout(3 * PATIENCE, server.read_exact(&mut byte)).await;
        assert!(silent.is_err(), "and waits for the next");
    }
}
