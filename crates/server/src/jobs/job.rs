//! A job, as it is kept and as clients see it.
//!
//! ```text
//! queued ──▶ running ──▶ done        it ran, however its programs ended
//!   ▲ │         │ ├────▶ failed      there is no answer, and it is said why
//!   │ └─────────│─┴────▶ cancelled
//!   └───────────┘ the pool had no room, or the process has died
//! ```

use jiff::Timestamp;
use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A time, in milliseconds since 1970.
pub(crate) type Millis = i64;

/// Now.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum JobState {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It ran, however its programs ended.
    Done,
    /// It has no answer.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl JobState {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing changes it any more.
    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl ToSql for JobState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for JobState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];
        let name = value.as_str()?;
        all.into_iter().find(|state| state.name() == name).ok_or(FromSqlError::InvalidType)
    }
}

/// What is to become of a job that runs when the process dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IfInterrupted {
    /// It is run again: a program may run more than once.
    #[default]
    Rerun,
    /// It fails: a program runs once at most.
    Fail,
}

/// What has become of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallbackState {
    /// The job has not ended, or another attempt is due.
    Waiting,
    /// It was taken.
    Delivered,
    /// It is not tried any more.
    GivenUp,
}

/// Whom a job's end is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Callback {
    /// To where.
    pub(crate) url: String,
    /// What has become of it.
    pub(crate) state: CallbackState,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false, format = DateTime)]
    pub(crate) next: Option<Timestamp>,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) error: Option<String>,
}

/// A job, without its result.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct JobSummary {
    /// Its id.
    #[schema(example = "01939c1a-7c3e-7d1e-8f3c-6f0c2ab39100")]
    pub(crate) id: String,
    /// What has become of it.
    pub(crate) state: JobState,
    /// Which place in the queue it has, from 1 on; while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) position: Option<u64>,
    /// The language of its program.
    #[schema(example = "python")]
    pub(crate) language: String,
    /// How often its program is to be run: once for each stdin.
    pub(crate) executions: u32,
    /// How often it was begun.
    pub(crate) attempts: u32,
    /// What is to become of it if the process dies while it runs.
    pub(crate) if_interrupted: IfInterrupted,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created: Timestamp,
    /// When it was begun for the last time.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) started: Option<Timestamp>,
    /// When it has ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) finished: Option<Timestamp>,
    /// When it is forgotten, once it has ended.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub(crate) expires: Option<Timestamp>,
    /// Why it has no answer, with a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) error: Option<String>,
    /// Whom its end is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) callback: Option<Callback>,
    /// The id under which its run is spoken of.
    pub(crate) trace_id: String,
}

/// A job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Job {
    #[serde(flatten)]
    pub(crate) summary: JobSummary,
    /// What `run` would have answered, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::types::RunAnswers>, nullable = false)]
    pub(crate) result: Option<Box<RawValue>>,
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobPage {
    /// Newest first.
    pub(crate) jobs: Vec<JobSummary>,
    /// What `cursor` has to be for those that follow; null where there are none.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}
