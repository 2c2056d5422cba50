//! What is said in JSON, besides the page's own: [`engine::Request`] reads requests, [`engine::Answer`] writes answers.
//!
//! Types of which nothing is made are there for the `OpenAPI` document alone; tests compare them with what is really said.

use engine::{
    Answer, OmittedFile, ReturnedFile,
    answer::{Dropped, ExecutionAnswer},
    pool::{KindStatus, PoolStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The answer to one execution.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunAnswer {
    /// `success`: it ran, however it ended.
    #[schema(example = "success")]
    status: String,
    /// What it wrote to stdout.
    #[schema(example = "Hello from Python!\n")]
    stdout: String,
    /// What it wrote to stderr; null when it wrote nothing.
    #[schema(required = true)]
    stderr: Option<String>,
    /// `Timeout`, `MemoryLimitExceeded`, `OutputLimitExceeded`, `Killed: SIG…`; null when it ended by itself.
    #[schema(required = true)]
    exception: Option<String>,
    /// From its start to its end, in milliseconds, measured in the guest.
    #[schema(rename = "executionTime", example = 45)]
    execution_time: u64,
    /// Its exit status; null when it was killed.
    #[schema(rename = "exitCode", required = true, example = 0)]
    exit_code: Option<u8>,
    /// How many newlines at the end of stdout are not shown, where there are any.
    #[schema(rename = "trailingNewlinesOmitted")]
    trailing_newlines_omitted: Option<u64>,
    /// How many bytes of output were not kept, where there are any.
    dropped: Option<DroppedBytes>,
    /// The files that it left and `fetch` asked for, in order of name.
    files: Option<Vec<ReturnedFileInfo>>,
    /// Those that are not returned, where there are any.
    files_omitted: Option<Vec<OmittedFileInfo>>,
    /// What it read; in a batch alone.
    stdin: Option<String>,
    /// The request's id.
    #[schema(example = "01a20604e0267668b22a746c96f52ec4")]
    trace_id: String,
}

/// Output beyond the limit, in bytes.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct DroppedBytes {
    /// Of stdout.
    stdout: u64,
    /// Of stderr.
    stderr: u64,
}

impl From<Dropped> for DroppedBytes {
    fn from(Dropped { stdout, stderr }: Dropped) -> Self {
        Self { stdout, stderr }
    }
}

/// A file that a program left.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReturnedFileInfo {
    /// Its path beneath the job directory.
    #[schema(example = "plots/a.png")]
    name: String,
    /// What kind of file it is: images by what they hold, others by their name.
    #[schema(example = "image/png")]
    media_type: String,
    /// Its length, in bytes.
    #[schema(example = 8)]
    size: u64,
    /// What it holds, as base64.
    #[schema(example = "iVBORw0KGgo=")]
    content: String,
}

/// A file that was asked for and is not returned.
#[derive(Serialize, ToSchema)]
pub(crate) struct OmittedFileInfo {
    /// Its path beneath the job directory; `.` for all that were not looked at.
    #[schema(example = "video.mp4")]
    name: String,
    /// Its length, in bytes, as far as it is known.
    #[schema(example = 5_242_880)]
    size: u64,
    /// `too_large`, `too_many` or `unreadable`.
    #[schema(example = "too_large")]
    reason: String,
}

/// One answer, or a list of them for a batch.
#[derive(Serialize, ToSchema)]
#[expect(dead_code, clippy::large_enum_variant, reason = "engine::Answer is what is written")]
#[serde(untagged)]
pub(crate) enum RunAnswers {
    One(RunAnswer),
    Batch(Vec<RunAnswer>),
}

/// A request that was not run.
#[derive(ToSchema)]
#[expect(dead_code, reason = "engine::Failure is what is written")]
pub(crate) struct Failed {
    /// `failed`.
    #[schema(example = "failed")]
    status: String,
    /// Code and reason.
    #[schema(example = "E006: unsupported language unknownlang")]
    error: String,
    /// The request's id.
    #[schema(example = "01a20604e0267668b22a746c96f52ec4")]
    trace_id: String,
}

/// The answer of `execute`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExecuteAnswer {
    /// What the program wrote to stdout.
    #[schema(example = "Hello from Python!\n")]
    stdout: String,
    /// What it wrote to stderr.
    #[schema(example = "")]
    stderr: String,
    /// Its exit status; null when it was killed.
    #[schema(required = true, example = 0)]
    exit_code: Option<u8>,
    /// From the request's arrival until its program was started, in milliseconds.
    #[schema(example = 3.217)]
    load_time: f64,
    /// From its start to its end, in milliseconds, measured in the guest.
    #[schema(example = 45)]
    exec_time: u64,
    /// `Timeout`, `MemoryLimitExceeded`, `OutputLimitExceeded`, `Killed: SIG…`; null when it ended by itself.
    #[schema(required = true)]
    exception: Option<String>,
    /// How many newlines at the end of stdout are not shown, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    trailing_newlines_omitted: Option<usize>,
    /// How many bytes of output were not kept, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<DroppedBytes>,
    /// The files that it left and `fetch` asked for, in order of name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ReturnedFileInfo>>)]
    files: Option<Vec<ReturnedFile>>,
    /// Those that are not returned, where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<OmittedFileInfo>>)]
    files_omitted: Vec<OmittedFile>,
    /// The request's id.
    #[schema(example = "01a20604e0267668b22a746c96f52ec4")]
    trace_id: String,
}

impl ExecuteAnswer {
    /// Of an execution that started so long after the request had come.
    pub(crate) fn new(execution: ExecutionAnswer, load_time: std::time::Duration) -> Self {
        Self {
            stdout: execution.stdout,
            stderr: execution.stderr.unwrap_or_default(),
            exit_code: execution.exit_code,
            load_time: millis(load_time),
            exec_time: execution.execution_time,
            exception: execution.exception.map(|exception| exception.to_string()),
            trailing_newlines_omitted: Some(execution.trailing_newlines_omitted)
                .filter(|omitted| *omitted > 0),
            dropped: execution.dropped.map(DroppedBytes::from),
            files: execution.files,
            files_omitted: execution.files_omitted,
            trace_id: execution.trace_id,
        }
    }

    /// The only one of an answer.
    pub(crate) fn only(answer: Answer, load_time: std::time::Duration) -> Option<Self> {
        match answer {
            Answer::One(execution) => Some(Self::new(execution, load_time)),
            Answer::Batch(_) | Answer::Failed(_) => None,
        }
    }
}

/// Milliseconds to the microsecond.
fn millis(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A language.
#[derive(Serialize, ToSchema)]
pub(crate) struct LanguageInfo {
    /// Its name.
    #[schema(example = "python")]
    pub(crate) name: String,
    /// Other names under which a request may ask for it.
    #[schema(example = json!(["py", "python3"]))]
    pub(crate) aliases: Vec<String>,
    /// The file that is the program.
    #[schema(example = "main.py")]
    pub(crate) main_file: String,
    /// The command that runs it.
    #[schema(example = json!(["python3", "main.py"]))]
    pub(crate) command: Vec<String>,
    /// Whether it has an image, so that programs can be run.
    #[schema(example = true)]
    pub(crate) available: bool,
    /// The sizes that have a snapshot that can be restored: others boot.
    pub(crate) snapshots: Vec<MachineSize>,
}

/// The size of a microVM.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(crate) struct MachineSize {
    /// Memory, in MiB.
    #[schema(example = 512)]
    pub(crate) memory_mib: u32,
    /// Virtual processors.
    #[schema(example = 1)]
    pub(crate) vcpus: u32,
}

/// Whether the service lives.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or why not.
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
    /// The release.
    #[schema(example = "0.1.0")]
    pub(crate) version: &'static str,
}

/// What there is at this moment.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    /// The release.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// How long the service has been running, in seconds.
    #[schema(example = 3600)]
    uptime: u64,
    /// Whether it is being stopped.
    stopping: bool,
    /// What waits and runs, by language and size.
    pools: Vec<PoolInfo>,
    /// Requests that wait.
    queue: QueueInfo,
    /// How many microVMs there are, whatever they do.
    #[schema(example = 4)]
    microvms: usize,
    /// How many run a program.
    #[schema(example = 1)]
    running: u32,
    /// How many may.
    #[schema(example = 4)]
    most_running: u32,
    /// What all microVMs may use, as the pool counts it, in MiB.
    #[schema(example = 700)]
    memory_mib: u64,
    /// And what there is for them.
    #[schema(example = 8192)]
    memory_limit_mib: u64,
}

/// `MicroVMs` of one language and size.
#[derive(Serialize, ToSchema)]
pub(crate) struct PoolInfo {
    #[schema(example = "python")]
    language: String,
    /// Memory, in MiB.
    #[schema(example = 512)]
    memory_mib: u32,
    /// Virtual processors.
    #[schema(example = 1)]
    vcpus: u32,
    /// Whether there is a snapshot that can be restored; without one they boot.
    #[schema(example = true)]
    restorable: bool,
    /// How many wait for a request.
    #[schema(example = 3)]
    idle: u32,
    /// How many are to.
    #[schema(example = 3)]
    target: u32,
    /// How many are being started.
    starting: u32,
    /// How many rehearse.
    rehearsing: u32,
    /// How many run a program.
    #[schema(example = 1)]
    running: u32,
}

/// Requests that wait.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueueInfo {
    /// How many.
    length: usize,
    /// How many may.
    #[schema(example = 1000)]
    most: usize,
}

impl From<KindStatus> for PoolInfo {
    fn from(kind: KindStatus) -> Self {
        Self {
            language: kind.key.language.to_string(),
            memory_mib: kind.key.machine.memory_mib,
            vcpus: kind.key.machine.vcpus,
            restorable: kind.restorable,
            idle: kind.idle,
            target: kind.target,
            starting: kind.starting,
            rehearsing: kind.rehearsing,
            running: kind.running,
        }
    }
}

impl Status {
    /// Of this pool, in a service that has been running so long.
    pub(crate) fn new(pool: PoolStatus, uptime: std::time::Duration) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime: uptime.as_secs(),
            stopping: pool.stopping,
            pools: pool.kinds.into_iter().map(PoolInfo::from).collect(),
            queue: QueueInfo { length: pool.queued, most: pool.queue },
            microvms: pool.microvms,
            running: pool.running,
            most_running: pool.most_running,
            memory_mib: pool.memory_mib,
            memory_limit_mib: pool.memory_limit_mib,
        }
    }
}

/// What whoever may not, or cannot now, is told by everything for administrators.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "error::ApiError is what is said")]
pub(crate) enum AdministratorsRefused {
    /// E003, E004: token invalid or missing
    #[response(status = 401)]
    Unknown(Failed),
    /// E011: the token does not allow it, or, where none is asked for, it may come from a web page of others
    #[response(status = 403)]
    NotAllowed(Failed),
    /// E010: internal error, or the reason why it cannot be done
    #[response(status = 500)]
    Internal(Failed),
    /// E001, E008, E010: it took too long, server busy, or tokens cannot be checked now
    #[response(status = 503)]
    Unavailable(Failed),
}

/// What is said of bodies that cannot be read.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "error::ApiError is what is said")]
pub(crate) enum BodiesRefused {
    /// E001: the body did not come in time
    #[response(status = 408)]
    Late(Failed),
    /// E007: the body is too long
    #[response(status = 413)]
    Long(Failed),
}

/// The answer to what takes long.
pub(crate) struct Submitted;

impl utoipa::IntoResponses for Submitted {
    fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
        use utoipa::openapi::{
            ContentBuilder, HeaderBuilder, Ref, ResponseBuilder, ResponsesBuilder,
            schema::{ObjectBuilder, Type},
        };
        let location = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(utoipa::openapi::SchemaFormat::Custom("uri-reference".to_owned())));
        let header =
            HeaderBuilder::new().schema(Some(location)).description(Some("Where it can be followed"));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Operation")));
        let accepted = ResponseBuilder::new()
            .description("It waits for its turn, or has begun")
            .content("application/json", content.build())
            .header("Location", header.build());
        ResponsesBuilder::new().response("202", accepted.build()).build().into()
    }
}
