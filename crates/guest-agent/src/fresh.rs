//! Starts a program as a process of its own.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use protocol::message::Runtime;
use rustix::process::Pid;

use crate::{
    cgroup::Group,
    credentials,
    fault::{Doing, Fault},
    output::JobEnds,
    sys,
};

/// Starts `runtime`'s command with `args` in `directory`, as a job in `group`.
pub(crate) fn spawn(
    runtime: &Runtime,
    args: &[String],
    directory: &str,
    streams: JobEnds,
    group: &Group<'_>,
) -> Result<Pid, Fault> {
    let mut command = command(runtime)?;
    command.args(args).current_dir(directory);
    command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
    let mut entrance = group.entrance()?;
    sys::before_exec(&mut command, move || {
        entrance.write_all(b"0")?;
        credentials::become_job()
    });
    started(&mut command)
}

/// Runs `runtime`'s interpreter as root without capabilities and returns what it prints: for questions to the
/// image before a job was near it.
pub(crate) fn ask(runtime: &Runtime, question: &[&str]) -> Result<String, Fault> {
    let program = runtime.command.first().ok_or_else(|| Fault::new("the language has no command"))?;
    let mut command = Command::new(program);
    command.args(question).env_clear().envs(&runtime.environment).stdin(Stdio::null()).stderr(Stdio::null());
    sys::before_exec(&mut command, credentials::become_powerless_root);
    let output = command.output().doing(format!("run {program}"))?;
    String::from_utf8(output.stdout).doing(format!("read what {program} printed"))
}

/// The language's command with its environment, and nothing else yet.
pub(crate) fn command(runtime: &Runtime) -> Result<Command, Fault> {
    let (program, args) =
        runtime.command.split_first().ok_or_else(|| Fault::new("the language has no command"))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&runtime.environment);
    Ok(command)
}

/// Starts it. The process is waited for by its id: `Child` would do so too, and the runner reaps everybody.
pub(crate) fn started(command: &mut Command) -> Result<Pid, Fault> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().doing(format!("start {program}"))?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| Fault::new("a process without an id"))
}
