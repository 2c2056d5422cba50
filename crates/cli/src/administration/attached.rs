//! A command that belongs to a service: it ends when the service does, also where that is killed.
//!
//! The service holds the other end of its stdin and writes nothing. Whatever ends the service closes it, which the command
//! sees, and ends as by SIGTERM: with nothing half made. A signal at the parent's death would come when the thread ends that
//! started it, and has to be asked for after a fork.

use std::{ffi::OsString, fs::File, io::Read as _, os::fd::OwnedFd, thread};

use anyhow::Context as _;
use rustix::process::{Signal, getpid, kill_process};

use crate::failure::Failure;

/// The argument before those of such a command.
pub(crate) const ARGUMENT: &str = "attached";

/// This process's arguments without [`ARGUMENT`]. Where that is there, its end follows the service's from now on. Call it
/// before there is a second thread that starts programs.
pub(crate) fn arguments() -> Result<Vec<OsString>, Failure> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == ARGUMENT) {
        arguments.remove(1);
        watch().context("cannot watch the service").map_err(Failure::host)?;
    }
    Ok(arguments)
}

fn watch() -> anyhow::Result<()> {
    let service = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Programs that this command starts inherit its stdin. They are not to wait for what nobody writes.
    rustix::stdio::dup2_stdin(OwnedFd::from(File::open("/dev/null")?))?;
    thread::Builder::new().name("service".to_owned()).spawn(move || {
        // Whether it ends or fails, there is no service any more.
        let _ = File::from(service).read(&mut [0]);
        // This process is there.
        let _ = kill_process(getpid(), Signal::TERM);
    })?;
    Ok(())
}
