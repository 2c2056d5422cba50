//! What a guest agent may say of a run, and what is kept of it.
//!
//! An agent in a program's hands shall not get the host to keep more than was asked for, to wait for ever, or to take one
//! execution's report for another's.

use std::time::{Duration, Instant};

use protocol::{
    limits::{MAX_CHUNK_BYTES, MAX_FETCHED, MAX_FETCHED_BYTES, MAX_FILE_NAME_BYTES, MAX_OMITTED},
    message::{Captured, Content, Execution, Fetched, GuestMessage, Limits, Omitted, Output, Run, Stream},
};
use tokio::{sync::mpsc, time::timeout_at};

use crate::{
    guest_client::{GuestError, Report, failed},
    live::Event,
};

/// What is being answered.
pub(crate) const DOING: &str = "run";

/// The longest answer that holds no output, in bytes: a word, or why something failed.
pub(crate) const SHORT_ANSWER_BYTES: usize = 64 << 10;

/// What is kept of the output of all executions of a request together, in bytes: an answer is in memory as a whole.
pub(crate) const MAX_OUTPUT_OF_ALL_BYTES: usize = 32 << 20;

/// The same of the files that they return, in bytes.
pub(crate) const MAX_FILES_OF_ALL_BYTES: usize = 16 << 20;

/// What is still to come of a run, and what has.
pub(crate) struct Expected {
    count: usize,
    limits: Limits,
    fetches: bool,
    wants_usage: bool,
    /// How long each execution may take.
    each: Duration,
    /// When the next report has to be there.
    pub(crate) deadline: Instant,
    /// The longest message that there may be, in bytes.
    pub(crate) longest: usize,
    events: Option<mpsc::Sender<Event>>,
    report: Report,
    output_room: usize,
    files_room: usize,
    current: Current,
}

/// What has come of the execution that has no report yet.
#[derive(Default)]
struct Current {
    stdout: Captured,
    stderr: Captured,
    returned: usize,
    returned_bytes: usize,
    omitted: usize,
}

impl Expected {
    /// Of `run`, whose limits are still its own, and of which `events` tell.
    pub(crate) fn new(run: &Run, patience: Duration, events: Option<mpsc::Sender<Event>>) -> Self {
        let fetches = !run.options.fetch.is_empty();
        let kept = usize::try_from(run.limits.output_bytes).unwrap_or(usize::MAX);
        let output = if run.options.stream { MAX_CHUNK_BYTES } else { kept.saturating_mul(2) };
        let content = if fetches { output.max(MAX_FETCHED_BYTES) } else { output };
        let each = Duration::from_millis(run.limits.timeout_millis).saturating_add(patience);
        Self {
            count: run.stdins.len(),
            limits: run.limits,
            fetches,
            wants_usage: run.options.usage,
            each,
            deadline: Instant::now() + each,
            longest: content.div_ceil(3).saturating_mul(4).saturating_add(SHORT_ANSWER_BYTES),
            events,
            report: Report::default(),
            output_room: MAX_OUTPUT_OF_ALL_BYTES,
            files_room: MAX_FILES_OF_ALL_BYTES,
            current: Current::default(),
        }
    }

    /// Takes the agent's next message. The report, once it is complete.
    pub(crate) async fn take(&mut self, message: GuestMessage) -> Result<Option<Report>, GuestError> {
        let seen = self.report.executions.len();
        match message {
            GuestMessage::Output(output) if self.is_plausible_output(&output) => self.output(output).await?,
            GuestMessage::File(file) if self.is_plausible_file(&file) => self.file(file),
            GuestMessage::Execution(execution) if self.is_plausible(&execution) => self.execution(execution),
            GuestMessage::Finished if seen == self.count => {
                return Ok(Some(std::mem::take(&mut self.report)));
            }
            GuestMessage::Failed { reason } => return Err(failed(&reason)),
            _ => return Err(GuestError::Unexpected { doing: DOING }),
        }
        Ok(None)
    }

    fn is_next(&self, index: u32) -> bool {
        let seen = self.report.executions.len();
        seen < self.count && index as usize == seen
    }

    fn is_plausible_output(&self, output: &Output) -> bool {
        self.events.is_some()
            && self.is_next(output.index)
            && (1..=MAX_CHUNK_BYTES).contains(&output.bytes.0.len())
    }

    fn is_plausible_file(&self, file: &Fetched) -> bool {
        let Current { returned, returned_bytes, omitted, .. } = self.current;
        let bounded = match &file.content {
            Content::Bytes(bytes) => {
                let length = bytes.0.len();
                returned < MAX_FETCHED
                    && length <= MAX_FETCHED_BYTES - returned_bytes
                    && length as u64 == file.size
                    && is_beneath(&file.name)
            }
            Content::Omitted(_) => omitted < MAX_OMITTED && (file.name == "." || is_beneath(&file.name)),
        };
        self.fetches && self.is_next(file.index) && bounded
    }

    fn is_plausible(&self, execution: &Execution) -> bool {
        let most = if self.events.is_some() { 0 } else { self.limits.output_bytes };
        let kept = |captured: &Captured| {
            let bytes = captured.bytes.0.len() as u64;
            bytes <= most && (captured.dropped == 0 || bytes == most)
        };
        self.is_next(execution.index)
            && kept(&execution.stdout)
            && kept(&execution.stderr)
            && (execution.usage.is_none() || self.wants_usage)
    }

    async fn output(&mut self, output: Output) -> Result<(), GuestError> {
        let captured = match output.stream {
            Stream::Stdout => &mut self.current.stdout,
            Stream::Stderr => &mut self.current.stderr,
        };
        let limit = usize::try_from(self.limits.output_bytes).unwrap_or(usize::MAX);
        let length = output.bytes.0.len();
        let kept = length.min(limit - captured.bytes.0.len()).min(self.output_room);
        captured.bytes.0.extend_from_slice(&output.bytes.0[..kept]);
        captured.dropped += (length - kept) as u64;
        self.output_room -= kept;
        let Some(events) = &self.events else { return Ok(()) };
        match timeout_at(self.deadline.into(), events.send(Event::Output(output))).await {
            // Whoever has gone takes the request away as well.
            Ok(_) => Ok(()),
            Err(_) => Err(GuestError::NotTaken),
        }
    }

    fn file(&mut self, mut file: Fetched) {
        if let Content::Bytes(bytes) = &file.content {
            let length = bytes.0.len();
            self.current.returned += 1;
            self.current.returned_bytes += length;
            match self.files_room.checked_sub(length) {
                Some(room) => self.files_room = room,
                None => file.content = Content::Omitted(Omitted::TooLarge),
            }
        } else {
            self.current.omitted += 1;
        }
        self.report.files.push(file);
    }

    fn execution(&mut self, mut execution: Execution) {
        let current = std::mem::take(&mut self.current);
        if self.events.is_some() {
            (execution.stdout, execution.stderr) = (current.stdout, current.stderr);
        } else {
            for stream in [&mut execution.stdout, &mut execution.stderr] {
                self.output_room -= keep_at_most(stream, self.output_room);
            }
        }
        self.report.executions.push(execution);
        self.deadline = Instant::now() + self.each;
    }
}

/// Whether that can be a path beneath the job directory.
fn is_beneath(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    name.len() <= MAX_FILE_NAME_BYTES && !name.contains('\0') && name.split('/').all(is_part)
}

/// Drops what is beyond `room`. How much is kept.
fn keep_at_most(stream: &mut Captured, room: usize) -> usize {
    let excess = stream.bytes.0.len().saturating_sub(room);
    stream.bytes.0.truncate(room);
    stream.dropped += excess as u64;
    stream.bytes.0.len()
}
