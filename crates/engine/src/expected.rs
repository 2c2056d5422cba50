//! What a guest agent may say of a run, and what is kept of it.
//!
//! An agent in a program's hands shall not get the host to keep more than was asked for, to wait for ever, or to take one
//! execution's report for another's.

use std::time::Duration;

use protocol::{
    limits::{MAX_CHUNK_BYTES, MAX_FETCHED, MAX_FETCHED_BYTES, MAX_FILE_NAME_BYTES, MAX_OMITTED},
    message::{Captured, Content, Execution, Fetched, GuestMessage, Limits, Omitted, Output, Run, Stream},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    guest_client::{GuestError, Report, failed},
    live::Event,
    written,
};

/// What is being answered.
pub(crate) const DOING: &str = "run";

/// The longest answer that holds no output, in bytes: a word, or why something failed.
pub(crate) const SHORT_ANSWER_BYTES: usize = 64 << 10;

/// What is kept of the output of all executions of a request together, in bytes, as an answer has it: that is in memory as a
/// whole.
pub(crate) const MAX_OUTPUT_OF_ALL_BYTES: usize = 32 << 20;

/// The same of the files that they return: what they hold, and what is said of each.
pub(crate) const MAX_FILES_OF_ALL_BYTES: usize = 16 << 20;

/// What is said of a file besides its name and what it holds, in bytes: keys, its kind and its size.
const NOTE_BYTES: usize = 128;

/// What an execution may take of the time of all beyond its own time limit. Its end and its files take 1.5 s at most where
/// nothing is wrong; what is wrong now and then has the patience with the whole run.
const MORE_FOR_EACH: Duration = Duration::from_secs(2);

/// The name that stands for all files that are not told of.
const THE_REST: &str = ".";

/// What is still to come of a run, and what has.
pub(crate) struct Expected {
    count: usize,
    limits: Limits,
    usage: bool,
    fetches: bool,
    /// How long each execution may take.
    each: Duration,
    /// When the last report has to be there.
    end: Instant,
    /// When the next one has to be.
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
    /// The last file's name.
    last: Option<String>,
    /// Whether there are files that are not told of.
    has_rest: bool,
}

impl Expected {
    /// Of `run`, whose limits are still its own, and of which `events` tell.
    pub(crate) fn new(run: &Run, patience: Duration, events: Option<mpsc::Sender<Event>>) -> Self {
        let fetches = !run.options.fetch.is_empty();
        let kept = usize::try_from(run.limits.output_bytes).unwrap_or(usize::MAX);
        let output = if run.options.stream { MAX_CHUNK_BYTES } else { kept.saturating_mul(2) };
        let content = if fetches { output.max(MAX_FETCHED_BYTES) } else { output };
        let timeout = Duration::from_millis(run.limits.timeout_millis);
        let (each, count) = (timeout.saturating_add(patience), run.stdins.len());
        // Renewed at each report alone, the patience with one would be had as often as there are executions.
        let for_all = timeout.saturating_add(MORE_FOR_EACH);
        let all = for_all.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).saturating_add(patience);
        let now = Instant::now();
        Self {
            count,
            limits: run.limits,
            usage: run.options.usage,
            fetches,
            each,
            end: now + all,
            deadline: now + each.min(all),
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
            // A program's files come after its end.
            && self.current.last.is_none()
            && (1..=MAX_CHUNK_BYTES).contains(&output.bytes.0.len())
    }

    fn is_plausible_file(&self, file: &Fetched) -> bool {
        let Current { returned, returned_bytes, omitted, last, .. } = &self.current;
        let is_rest = file.name == THE_REST;
        let bounded = match &file.content {
            Content::Bytes(bytes) => {
                let length = bytes.0.len();
                *returned < MAX_FETCHED
                    && length <= MAX_FETCHED_BYTES - returned_bytes
                    && length as u64 == file.size
                    && is_beneath(&file.name)
            }
            Content::Omitted(why) => {
                let is_note = if is_rest { *why == Omitted::TooMany } else { is_beneath(&file.name) };
                *omitted < MAX_OMITTED && is_note
            }
        };
        // In order of name, so that none comes twice, and after the rest nothing.
        let in_order = match last.as_deref() {
            Some(THE_REST) => false,
            Some(last) => is_rest || *last < *file.name,
            None => true,
        };
        self.fetches && self.is_next(file.index) && bounded && in_order
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
            && execution.usage.is_some() == self.usage
    }

    async fn output(&mut self, output: Output) -> Result<(), GuestError> {
        let captured = match output.stream {
            Stream::Stdout => &mut self.current.stdout,
            Stream::Stderr => &mut self.current.stderr,
        };
        let limit = usize::try_from(self.limits.output_bytes).unwrap_or(usize::MAX);
        let bytes = &output.bytes.0;
        // Where something is missing nothing follows.
        let most = if captured.dropped == 0 { bytes.len().min(limit - captured.bytes.0.len()) } else { 0 };
        let (kept, taken) = written::fitting(&bytes[..most], self.output_room);
        captured.bytes.0.extend_from_slice(&bytes[..kept]);
        captured.dropped = captured.dropped.saturating_add((bytes.len() - kept) as u64);
        self.output_room -= taken;
        let Some(events) = &self.events else { return Ok(()) };
        match timeout_at(self.deadline, events.send(Event::Output(output))).await {
            // Whoever has gone takes the request away as well.
            Ok(_) => Ok(()),
            Err(_) => Err(GuestError::NotTaken),
        }
    }

    fn file(&mut self, mut file: Fetched) {
        let content = match &file.content {
            Content::Bytes(bytes) => {
                self.current.returned += 1;
                self.current.returned_bytes += bytes.0.len();
                bytes.0.len()
            }
            Content::Omitted(_) => {
                self.current.omitted += 1;
                0
            }
        };
        self.current.last = Some(file.name.clone());
        if self.current.has_rest {
            return;
        }
        let said = NOTE_BYTES + written::length(&file.name);
        let Some(room) = self.files_room.checked_sub(said).filter(|_| file.name != THE_REST) else {
            // One such note for each execution has no need to be counted.
            self.current.has_rest = true;
            let (name, content) = (THE_REST.to_owned(), Content::Omitted(Omitted::TooMany));
            self.report.files.push(Fetched { index: file.index, name, size: 0, content });
            return;
        };
        self.files_room = room.checked_sub(content).unwrap_or_else(|| {
            file.content = Content::Omitted(Omitted::TooLarge);
            room
        });
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
        self.deadline = (Instant::now() + self.each).min(self.end);
    }
}

/// Whether that can be a path beneath the job directory.
fn is_beneath(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    name.len() <= MAX_FILE_NAME_BYTES && !name.contains('\0') && name.split('/').all(is_part)
}

/// Drops what is beyond `room`. How much of it is taken.
fn keep_at_most(stream: &mut Captured, room: usize) -> usize {
    let (kept, taken) = written::fitting(&stream.bytes.0, room);
    stream.dropped = stream.dropped.saturating_add((stream.bytes.0.len() - kept) as u64);
    stream.bytes.0.truncate(kept);
    // What is dropped is memory as well.
    stream.bytes.0.shrink_to_fit();
    taken
}

#[cfg(test)]
mod tests;
