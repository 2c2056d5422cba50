//! The messages of this generation.
//!
//! The host speaks first and every message of the host has its answer:
//!
//! ```text
//! host                       guest agent
//! hello          ──────────▶
//!                ◀──────────  hello
//! prepare        ──────────▶             start the initialised interpreter, run the warm-up program
//!                ◀──────────  prepared   (the point at which a snapshot is taken)
//! reseed         ──────────▶             kernel, clock and interpreters
//!                ◀──────────  reseeded
//! run            ──────────▶             rehearsals first, where the clone has time before its job
//!                ◀──────────  output     as the program writes it, where the run is streamed
//! input, signal  ──────────▶             without an answer, where the run is interactive
//!                ◀──────────  file       each that the run fetches, after the program's end
//!                ◀──────────  execution  once for each stdin, in order
//!                ◀──────────  finished
//! ```
//!
//! Anything that goes wrong in the guest before a program runs is `failed`; the host then destroys the microVM.

mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// From the host to the guest agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HostMessage {
    /// Opens the conversation, after a boot as after a restore.
    Hello {
        /// The host's [`crate::GENERATION`].
        generation: u32,
    },
    /// Starts the language's initialised interpreter where it has one, and warms up.
    Prepare(Prepare),
    /// Makes this microVM differ from every other clone of its snapshot. Nothing may run before it is answered.
    Reseed {
        /// [`crate::limits::ENTROPY_BYTES`] fresh random bytes.
        entropy: Bytes,
        /// The host's wall clock, in nanoseconds since the Unix epoch.
        realtime_unix_nanos: u64,
    },
    /// Runs a program, once for each stdin.
    Run(Run),
    /// More of an interactive program's stdin. It has no answer; nothing happens where no such program runs.
    Input {
        /// What follows. At most [`crate::limits::MAX_CHUNK_BYTES`].
        bytes: Bytes,
        /// Whether that is the end.
        end: bool,
    },
    /// Sends an interactive program's process a signal. It has no answer; nothing happens where no such program runs.
    Signal {
        /// The signal's number on Linux.
        signal: u8,
    },
}

/// From the guest agent to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GuestMessage {
    /// Answers the host's hello.
    Hello {
        /// The agent's [`crate::GENERATION`].
        generation: u32,
        /// What a job may use of the guest's memory, in bytes.
        job_memory_bytes: u64,
        /// How fast the guest's kernel takes its timer to run, in thousandths of how fast that does run: about 1000 where it
        /// has measured that well, or need not measure it. With more it wakes late; with 0 it has no timer at all, and never
        /// takes a processor from a program.
        timer_permille: u32,
    },
    /// Answers [`HostMessage::Prepare`].
    Prepared {
        /// Whether an initialised interpreter waits for a job.
        initialised: bool,
    },
    /// Answers [`HostMessage::Reseed`].
    Reseeded,
    /// A part of what a streamed execution writes.
    Output(Output),
    /// A file that an execution left and its run fetches, or the note that there is one.
    File(Fetched),
    /// The outcome of one execution of a [`HostMessage::Run`].
    Execution(Execution),
    /// All executions of a [`HostMessage::Run`] are over.
    Finished,
    /// The agent could not do what the host asked for.
    Failed {
        /// What failed, as a lower-case fragment with its causes.
        reason: String,
    },
}

/// How programs of a language are run inside the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The program and its arguments, without those of the request: `["python3", "main.py"]`. The program is
    /// looked up in `PATH` of `environment`, beneath the image's root.
    pub command: Vec<String>,
    /// The whole environment of a job.
    pub environment: BTreeMap<String, String>,
    /// What kind of initialised process this language has, if any.
    pub interpreter: Option<Interpreter>,
}

/// Interpreters of which the guest agent can keep an initialised process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpreter {
    /// `CPython` 3.8 or newer.
    Python,
}

/// See [`HostMessage::Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// The language.
    pub runtime: Runtime,
    /// What runs before the snapshot.
    pub warm_up: WarmUp,
}

/// A program that brings interpreter and libraries into the guest's page cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Its files, the main one first.
    pub files: Vec<File>,
    /// How often it runs before the snapshot; 0 for never.
    pub runs: u32,
}

/// One file of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path beneath the job directory: relative, without `..`, at most
    /// [`crate::limits::MAX_FILE_NAME_BYTES`] bytes.
    pub name: String,
    /// What it holds.
    pub content: Bytes,
}

/// See [`HostMessage::Run`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The id under which the host's log speaks of it, for the guest's: at most
    /// [`crate::limits::MAX_TRACE_ID_BYTES`] letters, digits and hyphens.
    pub trace_id: String,
    /// The language.
    pub runtime: Runtime,
    /// Which process runs the program.
    pub process: Process,
    /// The files of the program, written afresh for every execution.
    pub files: Vec<File>,
    /// Arguments after [`Runtime::command`].
    pub args: Vec<String>,
    /// One stdin for each execution.
    pub stdins: Vec<Bytes>,
    /// Bounds of each execution.
    pub limits: Limits,
    /// What is wanted besides the outcome.
    pub options: Options,
}

/// What a run gives besides the outcome of each execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Whether output is sent as it is written, in [`GuestMessage::Output`]. It is bounded by the host's reading alone,
    /// and [`Limits::output_bytes`] bounds what is repeated in the report.
    pub stream: bool,
    /// Whether stdin stays open for [`HostMessage::Input`] after the run's own. Such a run has one stdin.
    pub interactive: bool,
    /// Whether [`Execution::usage`] is told.
    pub usage: bool,
    /// Paths and globs beneath the job directory of files to be returned, in [`GuestMessage::File`].
    pub fetch: Vec<String>,
}

/// Which process runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// The initialised interpreter where one waits, else a fresh process.
    Initialised,
    /// Always a fresh process: what the initialised one is compared with.
    Fresh,
    /// A fork of the initialised interpreter where one waits, which is then left as if it had not forked: a program
    /// of the host's own that takes the path of a job to come. Under emulation the code on that path is translated
    /// then. Its files and its processes are gone when the host hears of its end.
    Rehearsal,
}

/// Bounds of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Wall-clock time, in milliseconds.
    pub timeout_millis: u64,
    /// What is kept of stdout, and of stderr, in bytes.
    pub output_bytes: u64,
}

/// What became of one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Position of its stdin in [`Run::stdins`].
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote to stdout, up to [`Limits::output_bytes`].
    pub stdout: Captured,
    /// What it wrote to stderr, up to [`Limits::output_bytes`].
    pub stderr: Captured,
    /// From the start of the program to its end, in microseconds.
    pub duration_micros: u64,
    /// What it used; present where the run asked for it.
    pub usage: Option<Usage>,
}

/// What an execution used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Processor time of all its processes, in microseconds.
    pub cpu_micros: u64,
    /// The most memory that was charged to its group at once, in bytes: that of an initialised interpreter too.
    pub peak_memory_bytes: u64,
}

/// A part of a streamed execution's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Position of its stdin in [`Run::stdins`].
    pub index: u32,
    /// To which stream it was written.
    pub stream: Stream,
    /// What was written: 1 to [`crate::limits::MAX_CHUNK_BYTES`] bytes.
    pub bytes: Bytes,
}

/// An output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// A file that an execution left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetched {
    /// Position of the execution's stdin in [`Run::stdins`].
    pub index: u32,
    /// Its path beneath the job directory.
    pub name: String,
    /// Its length when it was looked at, in bytes.
    pub size: u64,
    /// What it holds, or why that does not come.
    pub content: Content,
}

/// What a file holds, or why that does not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All of it.
    Bytes(Bytes),
    /// Nothing, for this reason.
    Omitted(Omitted),
}

/// Why a file does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Omitted {
    /// It, or it with those before it, is longer than is returned.
    TooLarge,
    /// There are more than are returned, or more than are looked at.
    TooMany,
    /// It could not be read.
    Unreadable,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// The program ended by itself.
    Exited {
        /// Its exit status.
        code: u8,
    },
    /// A signal ended the program.
    Killed {
        /// The signal's number on Linux.
        signal: u8,
    },
    /// [`Limits::timeout_millis`] passed.
    TimedOut,
    /// The job needed more memory than there is.
    OutOfMemory,
}

/// One output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// What was kept: the first bytes.
    pub bytes: Bytes,
    /// How many bytes after those were read and dropped.
    pub dropped: u64,
}
