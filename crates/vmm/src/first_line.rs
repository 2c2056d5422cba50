//! What a program answers when it is asked for its version: its first line, in time, and no more.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// How long a program may take: a disk may be slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest line, in bytes.
const MAX_BYTES: u64 = 4 << 10;

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
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, received) = mpsc::channel();
    // On a thread, for a read has no deadline. It ends with the pipe.
    thread::spawn(move || {
        let mut line = Vec::new();
        let read = BufReader::new(output).take(MAX_BYTES).read_until(b'\n', &mut line).map(|_| line);
        // Whoever asked may have given up.
        let _ = sender.send(read);
    });
    let line = received.recv_timeout(patience).map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
    // It has said what it was asked for, or will not.
    child.kill()?;
    child.wait()?;
    Ok(String::from_utf8_lossy(&line??).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

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
