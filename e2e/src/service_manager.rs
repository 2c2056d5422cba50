//! A stand-in for systemd's side of a service: it listens for the service, starts it on the socket, and is told how it fares.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{TestHost, service::Service};

/// Makes stdin the first descriptor behind stderr and says whose it is, as `sd_listen_fds(3)` has it. The process stays the same.
const PASS_ON: &str = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=${OWNER:-$$} exec \"$0\" \"$@\"";

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A socket that listens, with or without a service, and what services have said.
pub struct Manager {
    listener: TcpListener,
    told: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    /// Listens on a free port of this address.
    pub fn listening(host: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let told = UnixDatagram::bind(directory.path().join("notify")).context("make a socket")?;
        told.set_read_timeout(Some(PATIENCE)).context("set a deadline")?;
        Ok(Self { listener: TcpListener::bind((host, 0)).context("listen")?, told, directory })
    }

    /// Where it listens, as this machine reaches it.
    pub fn address(&self) -> SocketAddr {
        let address = self.listener.local_addr().expect("it listens");
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    }

    /// The command that starts a service on the socket.
    pub fn command(&self, host: &TestHost, arguments: &[&str]) -> Result<Command> {
        let socket = self.listener.try_clone().context("share the socket")?;
        self.command_with(host, arguments, OwnedFd::from(socket).into())
    }

    /// The same with something else in place of the socket.
    pub fn command_with(&self, host: &TestHost, arguments: &[&str], passed: Stdio) -> Result<Command> {
        let service = host.command(&[&["api"], arguments].concat());
        let mut command = Command::new("sh");
        command.arg("-c").arg(PASS_ON).arg(service.get_program()).args(service.get_args());
        for (name, value) in service.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify")).stdin(passed);
        Ok(command)
    }

    /// Starts a service on the socket, and waits until it has said that it is ready.
    pub fn start(&self, host: &TestHost, arguments: &[&str]) -> Result<Service> {
        let service = Service::start_command(&mut self.command(host, arguments)?)?;
        let told = self.told()?;
        ensure!(told == "READY=1", "the service said {told:?}");
        Ok(service)
    }

    /// The next that a service says.
    pub fn told(&self) -> Result<String> {
        let mut buffer = [0; 512];
        let length = self.told.recv(&mut buffer).context("hear of the service")?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}
