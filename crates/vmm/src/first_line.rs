//! What a program answers when it is asked for its version: its first line, in time, and no more.

use std::{
    io::{self, Read as _},
    path::Path,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// How long a program may take: a disk may be slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest line, in bytes.
const MAX_BYTES: usize = 4 << 10;

/// The first line that `program --version` prints, with what is left of it when it is longer than any version.
pub(crate) fn of_version(program: &Path) -> io::Result<String> {
    within(program, PATIENCE)
}

fn within(program: &Path, patience: Duration) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let line = child.stdout.take().map_or(Ok(Vec::new()), |output| first_line(output, patience));
    // It has said what it was asked for, or will not.
    child.kill()?;
    child.wait()?;
    Ok(String::from_utf8_lossy(&line?).into_owned())
}

/// What is written to a pipe up to the end of its first line, or its own.
fn first_line(mut output: ChildStdout, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    let mut buffer = [0; MAX_BYTES];
    while line.len() < MAX_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let length = output.read(&mut buffer[..MAX_BYTES - line.len()])?;
        line.extend_from_slice(&buffer[..length]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end + 1);
            break;
        }
        if length == 0 {
            break;
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn asked(script: &str) -> (tempfile::TempDir, io::Result<String>) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let said = within(&program, Duration::from_millis(500));
        (directory, said)
    }

    #[test]
    fn a_line_is_read_and_no_more_is_waited_for() {
        let started = Instant::now();
        assert_eq!(asked("echo one; echo two; sleep 60").1.unwrap(), "one\n");
        assert_eq!(asked("sleep 60 & echo one").1.unwrap(), "one\n");
        assert_eq!(asked("").1.unwrap(), "");
        assert!(started.elapsed() < Duration::from_secs(30), "somebody waited for the end");
    }

    #[test]
    fn silence_and_endless_lines_are_given_up() {
        assert_eq!(asked("exec sleep 60").1.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(asked("exec cat /dev/zero").1.unwrap().len(), 4 << 10);
    }
}
