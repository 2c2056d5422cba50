//! Versions, and asking a program for its own.

use std::{
    fmt, io,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::{sleep, timeout_at},
};

/// How much of what a program says is read. The version is in its first line.
const MAX_SAID_BYTES: u64 = 4096;

/// How often a file that is still open for writing somewhere is tried again.
const BUSY_INTERVAL: Duration = Duration::from_millis(5);

/// The version of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) patch: u32,
}

impl Version {
    /// Reads `1.16.1`, and `1.16.1-dev` as the same.
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.split_once('-').map_or(text, |(numbers, _)| numbers);
        let mut numbers = numbers.split('.').map(str::parse);
        match (numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()) {
            (Ok(major), Ok(minor), Ok(patch), None) => Some(Self { major, minor, patch }),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Runs `program --version`, which must end within `patience` and call itself `name`.
pub(super) async fn ask(program: &Path, name: &str, patience: Duration) -> Result<Version> {
    let shown = program.display();
    let deadline = Instant::now() + patience;
    let mut child = start(program, deadline).await.with_context(|| format!("cannot run {shown}"))?;
    let mut said = Vec::new();
    let finished = timeout_at(deadline.into(), async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_SAID_BYTES).read_to_end(&mut said).await?;
        }
        child.wait().await
    });
    let Ok(status) = finished.await else {
        // Dropping the child kills it.
        bail!("{shown} --version did not end within {} s", patience.as_secs_f32());
    };
    let status = status.with_context(|| format!("cannot wait for {shown}"))?;
    ensure!(status.success(), "{shown} --version failed ({status})");
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().next().unwrap_or_default();
    line.strip_prefix(name)
        .and_then(|rest| Version::parse(rest.strip_prefix(" v")?.trim_end()))
        .with_context(|| format!("{shown} --version printed {line:?}, no version of {name}"))
}

/// Starts the program. Its file may still be open for writing in a process that another thread has just forked and
/// that has not become its program yet: the kernel refuses to run it until then.
async fn start(program: &Path, deadline: Instant) -> io::Result<Child> {
    loop {
        let started = Command::new(program)
            .arg("--version")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match started {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                sleep(BUSY_INTERVAL).await;
            }
            started => return started,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32, patch: u32) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(Version::parse("1.16.1"), Some(version(1, 16, 1)));
        assert_eq!(Version::parse("1.17.0-dev"), Some(version(1, 17, 0)));
        assert!(version(1, 9, 9) < version(1, 16, 1) && version(1, 16, 1) < version(2, 0, 0));
        for text in ["", "1.16", "1.16.1.2", "v1.16.1", "1.16.x", "-1.2.3"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
