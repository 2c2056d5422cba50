//! The product's own service, as a process of its own.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    TestHost,
    running::{Process, Running},
};

/// What it says once it serves.
const LISTENING: &str = "listening on http://";

/// How long it may take to end, with what it has started.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service that runs. Dropping it kills it; [`Service::stop`] has it end by itself.
pub struct Service {
    running: Running,
    address: SocketAddr,
}

impl Service {
    /// Starts it on a data directory, on a port that is free, and waits until it serves.
    pub fn start(host: &TestHost, options: &[String]) -> Result<Self> {
        let mut arguments = vec!["api", "--host", "127.0.0.1", "--port", "0"];
        arguments.extend(options.iter().map(String::as_str));
        let mut running = Running::start(&mut host.command(&arguments));
        running.wait_until_said(LISTENING)?;
        let mut address = None;
        crate::eventually("it says where it listens", PATIENCE, || {
            address = address_in(&running.stderr());
            address.is_some()
        })?;
        let address = address.context("the condition was that there is one")?;
        let address = address.parse().with_context(|| format!("it listens on {address:?}"))?;
        Ok(Self { running, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.running.process()
    }

    /// Has it end, which must leave no process.
    pub fn stop(self) -> Result<()> {
        let started = self.process().descendants();
        self.running.signal(Signal::TERM);
        let ended = self.running.end_within(PATIENCE)?;
        ensure!(ended.code == 0, "the service ended with {}: {}", ended.code, ended.stderr);
        let is_left = |process: &&Process| process.is_alive();
        let mut left = Vec::new();
        let gone = crate::eventually("what the service has started is gone", PATIENCE, || {
            left = started.iter().filter(is_left).cloned().collect();
            left.is_empty()
        });
        gone.with_context(|| format!("left: {left:?}"))
    }
}

/// The address in what the service has said, once it has said that to the end of the line.
fn address_in(said: &str) -> Option<String> {
    let (_, rest) = said.split_once(LISTENING)?;
    let (address, _) = rest.split_once('\n')?;
    Some(address.trim().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_when_its_line_is_whole() {
        assert_eq!(address_in("a warning\nlistening on http://127.0.0.1:80"), None);
        let said = "a warning\nlistening on http://127.0.0.1:8080\nmore\n";
        assert_eq!(address_in(said).as_deref(), Some("127.0.0.1:8080"));
    }
}
