//! Connections: accepted within bounds, served with deadlines, and ended gracefully.

use std::{
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tower::ServiceExt as _;

use crate::{
    head_deadline::{Answering, HeadDeadline},
    settings::Connections,
};

/// How long to wait before accepting again when it failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is logged that it fails.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// How long a client's host may be silent before it is asked whether it is still there, and how often it is asked.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a client that has connected may be silent yet when the service ends. Its request may be on its way.
const SILENCE_AT_THE_END: Duration = Duration::from_secs(1);

/// How much of a request's head is waited for, in bytes, and the buffer that a connection keeps. A head that has come as a whole
/// by then is served, though it may be longer by what was read at once.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// A service that listens.
#[derive(Debug)]
pub struct Listening {
    listeners: Vec<TcpListener>,
    connections: Connections,
}

impl Listening {
    /// Over a listener that is bound.
    pub fn over(listener: TcpListener, connections: Connections) -> Self {
        Self::over_all(vec![listener], connections)
    }

    /// Over several, which share the bounds of connections.
    pub fn over_all(listeners: Vec<TcpListener>, connections: Connections) -> Self {
        Self { listeners, connections }
    }

    /// Where the first of them listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listeners.first().ok_or(io::ErrorKind::NotFound)?.local_addr()
    }

    /// Serves until `stop` is cancelled, then accepts nobody any more and lets connections end their request; when `cut`
    /// is cancelled, cuts them off.
    pub async fn serve(self, router: Router, stop: CancellationToken, cut: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.connections.most));
        let tasks = TaskTracker::new();
        let mut complained: Option<Instant> = None;
        for turn in 0_usize.. {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listeners, turn, &places) => accepted,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // It is tried again and again.
                    if complained.is_none_or(|at| at.elapsed() > COMPLAINT_PAUSE) {
                        let hint = "raise the limit of open files, or lower api.max_connections";
                        tracing::warn!(%error, hint, "cannot accept a connection");
                        complained = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (router, connections) = (router.clone(), self.connections.clone());
            let (stop, cut) = (stop.clone(), cut.clone());
            let place = Place { _permit: Arc::new(place), _tracked: tasks.token() };
            tasks.spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = serve_one(stream, peer, router, &connections, stop, place) => {}
                }
            });
        }
        drop(self.listeners);
        tasks.close();
        tasks.wait().await;
    }
}

/// A connection's place among as many as there may be. The service waits for it when it stops.
#[derive(Clone)]
struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    _tracked: TaskTrackerToken,
}

/// What a request has of its connection. A connection that becomes something else, of which nothing is known here any more,
/// has to keep it as long as it lasts: for its place, and for a silence that is no unfinished head.
pub(crate) struct Held {
    _answering: Answering,
    _place: Place,
}

/// The next connection. Where there are several listeners, each has its turn.
async fn accept(
    listeners: &[TcpListener],
    turn: usize,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (later, sooner) = listeners.split_at(turn % listeners.len().max(1));
    let (stream, peer) = poll_fn(|context| {
        let mut ready = sooner.iter().chain(later).map(|listener| listener.poll_accept(context));
        ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await?;
    // Small answers are to leave at once.
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
    rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 3)?;
    // Also where what was sent is not taken.
    rustix::net::sockopt::set_tcp_user_timeout(&stream, 90_000)?;
    Ok((stream, peer, place))
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    connections: &Connections,
    stop: CancellationToken,
    place: Place,
) {
    let (stream, in_request) = HeadDeadline::over(stream, connections.header_timeout);
    let heard = in_request.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let held = Arc::new(Held { _answering: in_request.begin(), _place: place.clone() });
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // For what goes on after the answer's head: a connection that becomes something else.
        request.extensions_mut().insert(Arc::clone(&held));
        let answered = router.clone().oneshot(request);
        async move {
            let answered = answered.await;
            drop(held);
            answered
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Of the silence before a head as well.
        .header_read_timeout(connections.idle_timeout.max(connections.header_timeout))
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let served: Result<(), hyper::Error> = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let silent = async {
                tokio::time::sleep(SILENCE_AT_THE_END).await;
                if heard.has_anything() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                served = connection.as_mut() => served,
                () = silent => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, error = engine::chain(&error), "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::{response::IntoResponse as _, routing::get};
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const HEAD_PATIENCE: Duration = Duration::from_millis(100);

    /// An answer that takes six times as long as a head may.
    async fn slow() -> axum::response::Response {
        let parts = stream::iter(0..6).then(|part| async move {
            tokio::time::sleep(HEAD_PATIENCE).await;
            Ok::<_, std::convert::Infallible>(Bytes::from(format!("part {part}\n")))
        });
        Body::from_stream(parts).into_response()
    }

    #[tokio::test]
    async fn who_sends_the_next_request_during_an_answer_gets_that_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections = Connections { header_timeout: HEAD_PATIENCE, ..Connections::default() };
        let listening = Listening::over(listener, connections);
        let address = listening.address().unwrap();
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let router = Router::new().route("/", get(slow));
        let serving = tokio::spawn(listening.serve(router, stop.clone(), cut));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"part 0\n\r\n") {
            assert_ne!(
                client.read_buf(&mut answer).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        client.write_all(b"GET / HTT").await.unwrap();
        while !answer.ends_with(b"0\r\n\r\n") {
            assert_ne!(
                client.read_buf(&mut answer).await.unwrap(),
                0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        assert!(String::from_utf8(answer).unwrap().contains("part 5"));
        drop(client);
        stop.cancel();
        serving.await.unwrap();
    }
}
