//! What clients of Piston are told.

use engine::{
    Exception,
    answer::{ExecutionAnswer, signal_name},
    live::{Event, Output},
};
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::Runtime;

/// How much of both streams together is kept in the order in which it came, in bytes.
const MAX_OUTPUT_BYTES: usize = 2 << 20;

/// The answer to `execute`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Executed {
    /// How the program ran.
    run: Stage,
    /// The language, by its name.
    #[schema(example = "python")]
    language: String,
    /// The version that ran it.
    #[schema(example = "3.11.2")]
    version: String,
}

/// One stage of it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stage {
    /// The signal that ended it; null where it ended by itself.
    #[schema(required = true, example = "SIGKILL")]
    pub(crate) signal: Option<String>,
    /// What it wrote to stdout.
    stdout: String,
    /// What it wrote to stderr.
    stderr: String,
    /// Its exit status; null where a signal ended it.
    #[schema(required = true)]
    pub(crate) code: Option<u8>,
    /// Both streams, in the order in which they were written.
    output: String,
    /// The most memory that was used at once, in bytes.
    #[schema(required = true)]
    memory: Option<u64>,
    /// What went wrong, in words.
    #[schema(required = true)]
    message: Option<String>,
    /// The same as a code: `RE` (an exit status that is not 0), `SG` (a signal), `TO` (its time was up), `OL` and `EL` (more
    /// on stdout or stderr than is kept).
    #[schema(required = true)]
    status: Option<&'static str>,
    /// Its processor time, in milliseconds.
    #[schema(required = true)]
    cpu_time: Option<f64>,
    /// From its start to its end, in milliseconds.
    wall_time: u64,
}

impl Executed {
    pub(crate) fn new(execution: &ExecutionAnswer, output: String, runtime: &Runtime) -> Self {
        Self {
            run: Stage::new(execution, output),
            language: runtime.language.name.to_string(),
            version: runtime.version.to_string(),
        }
    }
}

impl Stage {
    pub(crate) fn new(execution: &ExecutionAnswer, output: String) -> Self {
        let killed =
            |signal: u8| signal_name(signal).map_or(format!("SIG{signal}"), |name| format!("SIG{name}"));
        let dropped = execution.dropped.map_or((0, 0), |dropped| (dropped.stdout, dropped.stderr));
        let limit = "SIGKILL".to_owned();
        let (status, message, signal) = match (execution.exception, dropped) {
            (Some(Exception::Timeout), _) => {
                (Some("TO"), Some("Time limit exceeded".to_owned()), Some(limit))
            }
            (_, (1.., _)) => (Some("OL"), Some("stdout length exceeded".to_owned()), Some(limit)),
            (_, (_, 1..)) => (Some("EL"), Some("stderr length exceeded".to_owned()), Some(limit)),
            (Some(Exception::MemoryLimitExceeded), _) => {
                (Some("SG"), Some("Caught fatal signal 9".to_owned()), Some(limit))
            }
            (Some(Exception::Killed(signal)), _) => {
                (Some("SG"), Some(format!("Caught fatal signal {signal}")), Some(killed(signal)))
            }
            (Some(Exception::OutputLimitExceeded | Exception::CompilationFailure) | None, _) => {
                match execution.exit_code {
                    Some(0) | None => (None, None, None),
                    Some(code) => (Some("RE"), Some(format!("Exited with error status {code}")), None),
                }
            }
        };
        Self {
            code: execution.exit_code.filter(|_| signal.is_none()),
            signal,
            stdout: execution.exact_stdout(),
            stderr: execution.stderr.clone().unwrap_or_default(),
            output,
            memory: execution.usage.map(|usage| usage.peak_memory_bytes),
            message,
            status,
            #[expect(clippy::cast_precision_loss, reason = "processor times are small")]
            cpu_time: execution.usage.map(|usage| usage.cpu_micros as f64 / 1000.0),
            wall_time: execution.execution_time,
        }
    }
}

/// The output of both streams in the order in which it came.
pub(crate) async fn interleaved(mut events: mpsc::Receiver<Event>) -> String {
    let mut bytes = Vec::new();
    while let Some(event) = events.recv().await {
        if let Event::Output(Output { bytes: more, .. }) = event {
            let room = MAX_OUTPUT_BYTES - bytes.len();
            bytes.extend_from_slice(&more.0[..more.0.len().min(room)]);
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}
