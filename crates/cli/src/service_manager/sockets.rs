//! Sockets that the service manager listens on for the service (`sd_listen_fds(3)`).

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, anyhow, ensure};

use crate::failure::Failure;

/// The variable that says how many there are.
const COUNT: &str = "LISTEN_FDS";

/// The variable that says which process they are for: without it they could be for whoever has started this one.
const PROCESS: &str = "LISTEN_PID";

/// The most of them. A unit has one for each address.
const MOST: usize = 64;

/// Sockets that somebody else goes on listening on when the service has ended; perhaps none.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<TcpListener>);

impl Sockets {
    /// Takes those that this process was given. To be called once, while it has one thread: the variables are removed, so
    /// that no program that is started takes the sockets for its own.
    pub(crate) fn take() -> Result<Self, Failure> {
        taken().map_err(|error| {
            Failure::host(error.context("cannot use the sockets that the service manager passed on"))
                .hint("the socket unit has to have ListenStream= with an IP address and a port".to_owned())
        })
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// The sockets, for a runtime that waits for them.
    pub(crate) fn into_listeners(self) -> std::io::Result<Vec<tokio::net::TcpListener>> {
        let listeners = self.0.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        });
        listeners.collect()
    }
}

fn taken() -> anyhow::Result<Sockets> {
    let Some(count) = std::env::var_os(COUNT) else { return Ok(Sockets::default()) };
    if std::env::var_os(PROCESS).is_none() {
        return Ok(Sockets::default());
    }
    let count = count.to_str().and_then(|count| count.parse().ok());
    let count: usize = count.ok_or_else(|| anyhow!("{COUNT} is no number"))?;
    ensure!(count <= MOST, "there are {count} of them, more than {MOST}");
    // Heeds the variable of the process, too.
    let mut passed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let socket = passed.take_tcp_listener(index)?.context("one was taken already")?;
        ensure!(rustix::net::sockopt::socket_acceptconn(&socket)?, "one of them does not listen");
        sockets.push(socket);
    }
    Ok(Sockets(sockets))
}
