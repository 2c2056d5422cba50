//! What a user gets: the page's responses.

use protocol::message::{Captured, Execution, Outcome, Usage};
use serde::Serialize;

use crate::files::{Files, OmittedFile, ReturnedFile};

/// The answer to a request: `status: "success"` for whatever ran, however it ended; a list for a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a request with one stdin.
    One(ExecutionAnswer),
    /// To a batch: one for each stdin, in order.
    Batch(Vec<ExecutionAnswer>),
    /// To a request that never ran.
    Failed(Failure),
}

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExecutionAnswer {
    /// `success`: it ran.
    pub status: &'static str,
    /// What it wrote to stdout. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub stdout: String,
    /// What it wrote to stderr; null when it wrote nothing.
    pub stderr: Option<String>,
    /// How it ended, where that was not by itself.
    pub exception: Option<Exception>,
    /// From its start to its end, in whole milliseconds, measured in the guest.
    #[serde(rename = "executionTime")]
    pub execution_time: u64,
    /// Its exit status; null when it was killed.
    #[serde(rename = "exitCode")]
    pub exit_code: Option<u8>,
    /// How many newlines at the end of stdout are not shown, where there are any: the page's answers end in at most
    /// one (`docs/adr/0006-trailing-newlines.md`).
    #[serde(rename = "trailingNewlinesOmitted", skip_serializing_if = "is_zero")]
    pub trailing_newlines_omitted: usize,
    /// How many bytes of output were not kept, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// The files that it left and the request asked for; null where that asked for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<ReturnedFile>>,
    /// Those that are not returned, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files_omitted: Vec<OmittedFile>,
    /// What it used, where the request asked for it. No part of the page's answers.
    #[serde(skip)]
    pub usage: Option<Usage>,
    /// What it read; in a batch alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The request's id.
    pub trace_id: String,
}

/// Output beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Bytes of stdout.
    pub stdout: u64,
    /// Bytes of stderr.
    pub stderr: u64,
}

/// How an execution ended, where that was not by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Its time was up.
    Timeout,
    /// It needed more memory than the microVM has for it.
    MemoryLimitExceeded,
    /// It wrote more than is kept; it ended by itself all the same.
    OutputLimitExceeded,
    /// It did not compile.
    CompilationFailure,
    /// A signal ended it.
    Killed(u8),
}

impl std::fmt::Display for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("Timeout"),
            Self::MemoryLimitExceeded => f.write_str("MemoryLimitExceeded"),
            Self::OutputLimitExceeded => f.write_str("OutputLimitExceeded"),
            Self::CompilationFailure => f.write_str("CompilationFailure"),
            Self::Killed(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "Killed: SIG{name}"),
                None => write!(f, "Killed: SIG{signal}"),
            },
        }
    }
}

impl Serialize for Exception {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An answer to a request that never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// `failed`.
    pub status: &'static str,
    /// Code and reason.
    pub error: String,
    /// The request's id.
    pub trace_id: String,
}

impl Failure {
    /// A failure for this reason.
    pub fn new(error: &dyn std::fmt::Display, trace_id: &str) -> Self {
        Self { status: "failed", error: error.to_string(), trace_id: trace_id.to_owned() }
    }
}

impl ExecutionAnswer {
    /// What the guest agent reports, as the page says it. Of what was streamed, nothing is lost that is not repeated here.
    pub fn new(
        execution: Execution,
        stdin: Option<String>,
        files: Option<Files>,
        trace_id: &str,
        streamed: bool,
    ) -> Self {
        let dropped = Dropped { stdout: execution.stdout.dropped, stderr: execution.stderr.dropped };
        let truncated = dropped.stdout > 0 || dropped.stderr > 0;
        let (exception, exit_code) = match execution.outcome {
            Outcome::TimedOut => (Some(Exception::Timeout), None),
            Outcome::OutOfMemory => (Some(Exception::MemoryLimitExceeded), None),
            Outcome::Killed { signal } => (Some(Exception::Killed(signal)), None),
            Outcome::Exited { code } => {
                ((truncated && !streamed).then_some(Exception::OutputLimitExceeded), Some(code))
            }
        };
        let (files, files_omitted) = match files {
            Some(Files { returned, omitted }) => (Some(returned), omitted),
            None => (None, Vec::new()),
        };
        let stderr = text(execution.stderr);
        let mut stdout = text(execution.stdout);
        let trailing_newlines_omitted =
            if dropped.stdout == 0 { omit_trailing_newlines(&mut stdout) } else { 0 };
        Self {
            status: "success",
            stdout,
            stderr: (!stderr.is_empty()).then_some(stderr),
            exception,
            execution_time: execution.duration_micros / 1000,
            exit_code,
            trailing_newlines_omitted,
            dropped: truncated.then_some(dropped),
            files,
            files_omitted,
            usage: execution.usage,
            stdin,
            trace_id: trace_id.to_owned(),
        }
    }
}

impl ExecutionAnswer {
    /// What it wrote to stdout, with all its newlines.
    pub fn exact_stdout(&self) -> String {
        let omitted = "\n".repeat(self.trailing_newlines_omitted);
        [self.stdout.as_str(), &omitted].concat()
    }
}

/// Leaves one newline at the end of `text` where there are several, and says how many are gone.
fn omit_trailing_newlines(text: &mut String) -> usize {
    let content = text.trim_end_matches('\n').len();
    let omitted = (text.len() - content).saturating_sub(1);
    text.truncate(text.len() - omitted);
    omitted
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A stream as text. Where it was cut within a character, that character is left out.
fn text(captured: Captured) -> String {
    let mut bytes = captured.bytes.0;
    if captured.dropped > 0
        && let Some(chunk) = bytes.utf8_chunks().last()
    {
        let invalid = chunk.invalid();
        // An incomplete character at the end, as opposed to bytes that begin none.
        let incomplete = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if incomplete {
            bytes.truncate(bytes.len() - invalid.len());
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// The signals of signal(7) from 1 on, for x86-64, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The name of a signal, without `SIG`.
pub fn signal_name(signal: u8) -> Option<&'static str> {
    SIGNALS.get(usize::from(signal).checked_sub(1)?).copied()
}

/// The number of the signal of this name, without `SIG`.
pub fn signal_number(name: &str) -> Option<u8> {
    let position = SIGNALS.iter().position(|signal| *signal == name)?;
    u8::try_from(position + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(outcome: Outcome, stdout: &[u8], dropped: u64) -> Execution {
        Execution {
            index: 0,
            outcome,
            stdout: Captured { bytes: stdout.to_vec().into(), dropped },
            stderr: Captured::default(),
            duration_micros: 12_999,
            usage: None,
        }
    }

    fn json(outcome: Outcome, stdout: &[u8], dropped: u64) -> String {
        serde_json::to_string(&ExecutionAnswer::new(
            execution(outcome, stdout, dropped),
            None,
            None,
            "t",
            false,
        ))
        .unwrap()
    }

    #[test]
    fn answers_have_the_pages_keys() {
        insta::assert_snapshot!(
            [
                json(Outcome::Exited { code: 0 }, b"Hello\n", 0),
                json(Outcome::Exited { code: 0 }, b"Hello\n\n\n", 0),
                json(Outcome::Exited { code: 3 }, b"x\n\n", 5),
                json(Outcome::TimedOut, b"", 0),
                json(Outcome::OutOfMemory, b"", 0),
                json(Outcome::Killed { signal: 11 }, b"", 0),
                json(Outcome::Killed { signal: 40 }, b"", 0),
            ]
            .join("\n")
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_cut_characters_left_out() {
        let text = |bytes: &[u8], dropped| super::text(Captured { bytes: bytes.to_vec().into(), dropped });
        assert_eq!(text(b"a\xffb", 0), "a\u{fffd}b");
        assert_eq!(text("aé".as_bytes(), 0), "aé");
        assert_eq!(text(&"aé".as_bytes()[..2], 7), "a");
        assert_eq!(text(&"aé".as_bytes()[..2], 0), "a\u{fffd}");
        assert_eq!(text(b"a\xff", 7), "a\u{fffd}");
    }
}
