//! One run of this program for the service: started, listened to, and ended.

use std::{
    ffi::OsString,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Mutex,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use server::operations::AdministrationError;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::Command,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{attached, presentable::Presentable};
use crate::failure::USAGE;

/// How long it may take to end, once it was told to: longer than it gives the programs that it has started.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// How long its output may take to come once it has ended: programs that it has started may hold the other end.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// The most that it may write to stdout, in bytes: lists are some kB.
const MAX_STDOUT_BYTES: u64 = 8 << 20;

/// The longest line of stderr that is taken whole, in bytes.
const MAX_LINE_BYTES: usize = 4 << 10;

/// What is run.
pub(super) struct Child<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) presentable: &'a Presentable,
}

/// What it says on stderr.
#[derive(Default)]
struct Said {
    error: Option<String>,
    hint: Option<String>,
}

impl Child<'_> {
    /// Runs it, and gives what it wrote to stdout. When it is to end before it has, or `patience` is over, it is told so
    /// by SIGTERM; SIGKILL follows.
    pub(super) async fn run(
        &self,
        trace_id: &str,
        patience: Duration,
        step: &(dyn Fn(String) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>, AdministrationError> {
        let failed = |error: std::io::Error| {
            tracing::error!(trace_id, %error, "cannot run a command");
            AdministrationError::Failed("cannot start".to_owned())
        };
        let mut child = self.start().map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        // As long as it is open, the service lives.
        let _service = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let said = Mutex::new(Said::default());
        let reading = async {
            tokio::join!(read_all(stdout), read_lines(stderr, |line| self.hear(&line, trace_id, step, &said)))
        };
        tokio::pin!(reading);
        let (mut output, mut told, mut killed) = (None, None, false);
        let mut deadline = Instant::now() + patience;
        let status = loop {
            tokio::select! {
                (stdout, ()) = &mut reading, if output.is_none() => output = Some(stdout),
                status = child.wait() => break status.map_err(failed)?,
                () = cancel.cancelled(), if told.is_none() => {
                    (told, deadline) = (Some(AdministrationError::Cancelled), Instant::now() + END_PATIENCE);
                    end(pid);
                }
                () = sleep_until(deadline), if told.is_none() => {
                    (told, deadline) = (Some(AdministrationError::TimedOut), Instant::now() + END_PATIENCE);
                    end(pid);
                }
                () = sleep_until(deadline), if told.is_some() && !killed => {
                    killed = true;
                    tracing::warn!(trace_id, "a command did not end and is killed");
                    kill(pid);
                }
            }
        };
        if output.is_none() {
            output = timeout(OUTPUT_PATIENCE, &mut reading).await.ok().map(|(stdout, ())| stdout);
        }
        match (status.success(), told) {
            (true, _) => Ok(output.unwrap_or_default()),
            (false, Some(reason)) => Err(reason),
            (false, None) => Err(failure(
                status,
                said.lock().map(|mut said| std::mem::take(&mut *said)).unwrap_or_default(),
            )),
        }
    }

    fn start(&self) -> std::io::Result<tokio::process::Child> {
        Command::new(self.program)
            .arg(attached::ARGUMENT)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal is the service's, which then ends this.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// A line of stderr: a step, or what has gone wrong.
    fn hear(&self, line: &str, trace_id: &str, step: &(dyn Fn(String) + Send + Sync), said: &Mutex<Said>) {
        let line = line.trim_end();
        // Whole in the log; for clients, without what is the operator's alone.
        if line.is_empty() || is_of_a_log(line) {
            tracing::info!(trace_id, line, "a command says");
            return;
        }
        let shown = self.presentable.text(line);
        let Ok(mut said) = said.lock() else { return };
        if let Some(error) = shown.strip_prefix("error: ") {
            tracing::warn!(trace_id, line, "a command fails");
            said.error = Some(error.to_owned());
        } else if let Some(hint) = shown.strip_prefix("hint: ") {
            tracing::warn!(trace_id, line, "a command fails");
            said.hint = Some(hint.to_owned());
        } else {
            tracing::info!(trace_id, line, "a command says");
            step(shown.trim_end_matches(" …").to_owned());
        }
    }
}

/// Lines that a log has written begin with their level, or are JSON.
fn is_of_a_log(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('{')
        || ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "].iter().any(|level| line.starts_with(level))
}

fn failure(status: ExitStatus, said: Said) -> AdministrationError {
    let error = said.error.unwrap_or_else(|| match status.code() {
        Some(code) => format!("it ended with status {code}"),
        None => "it was killed".to_owned(),
    });
    let text = match said.hint {
        Some(hint) => format!("{error} (hint: {hint})"),
        None => error,
    };
    if status.code() == Some(USAGE.into()) && !text.starts_with("E0") {
        AdministrationError::Invalid(text)
    } else {
        AdministrationError::Failed(text)
    }
}

fn end(pid: Option<Pid>) {
    // It may have ended by itself.
    let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
}

fn kill(pid: Option<Pid>) {
    let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
}

async fn read_all(stdout: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(stdout) = stdout {
        // What is cut off is no JSON any more, and said to be none.
        let _ = stdout.take(MAX_STDOUT_BYTES).read_to_end(&mut read).await;
    }
    read
}

async fn read_lines(stderr: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(String)) {
    let Some(stderr) = stderr else { return };
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(read) = stderr.fill_buf().await
        && !read.is_empty()
    {
        let end = read.iter().position(|byte| *byte == b'\n');
        let part = &read[..end.unwrap_or(read.len())];
        line.extend_from_slice(&part[..part.len().min(MAX_LINE_BYTES - line.len())]);
        let consumed = end.map_or(read.len(), |end| end + 1);
        stderr.consume(consumed);
        if end.is_some() {
            hear(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    }
    if !line.is_empty() {
        hear(String::from_utf8_lossy(&line).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_and_long_ones_cut_off() {
        let long = "x".repeat(3 * MAX_LINE_BYTES);
        let text = format!("one\n\n{long}\nlast");
        let mut lines = Vec::new();
        read_lines(Some(text.as_bytes()), |line| lines.push(line)).await;
        assert_eq!(lines, ["one", "", &long[..MAX_LINE_BYTES], "last"]);
    }

    #[test]
    fn what_a_log_has_written_is_no_step() {
        assert!(is_of_a_log(" WARN the disk is nearly full") && is_of_a_log("{\"level\":\"WARN\"}"));
        assert!(
            !is_of_a_log("WARNING") && !is_of_a_log("fetching the image …") && !is_of_a_log("warning: x")
        );
    }
}
