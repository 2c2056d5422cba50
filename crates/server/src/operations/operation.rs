//! One operation: what clients see of it.
//!
//! ```text
//! queued ──▶ running ──▶ succeeded
//!    │          ├──────▶ failed
//!    └──────────┴──────▶ cancelled
//! ```

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::administration::{AdministrationError, Task};

/// How many steps of an operation are kept: the last ones.
const MAX_STEPS: usize = 100;

/// The longest step that is kept whole, in characters.
const MAX_STEP_CHARACTERS: usize = 500;

/// What has become of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OperationState {
    /// It waits for those that came before.
    Queued,
    /// It is being performed.
    Running,
    /// It is done.
    Succeeded,
    /// It has failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// An operation, without all of its steps.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct OperationSummary {
    /// Its id.
    #[schema(example = "019ab3f2c4d57e1f8a6b0c2d4e6f8091")]
    pub(crate) id: String,
    /// What it does.
    #[schema(example = "snapshots.create")]
    kind: &'static str,
    /// The language that it is about.
    #[schema(example = "python")]
    target: String,
    /// What has become of it.
    pub(crate) state: OperationState,
    /// The last step that it has begun.
    #[schema(required = true)]
    progress: Option<String>,
    /// What it came to, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    result: Option<Value>,
    /// Why it has failed, with a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "E010: cannot reach the bucket")]
    pub(crate) error: Option<String>,
    /// When it was asked for.
    #[schema(format = DateTime)]
    created: String,
    /// When it began.
    #[schema(required = true, format = DateTime)]
    started: Option<String>,
    /// When it ended.
    #[schema(required = true, format = DateTime)]
    finished: Option<String>,
    /// The id of the request that asked for it.
    #[schema(example = "01a20604e0267668b22a746c96f52ec4")]
    pub(crate) trace_id: String,
}

/// An operation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Operation {
    #[serde(flatten)]
    pub(crate) summary: OperationSummary,
    /// The last hundred of its steps.
    #[schema(example = json!([]))]
    pub(crate) steps: Vec<String>,
}

impl Operation {
    /// One that waits.
    pub(super) fn queued(task: &Task, trace_id: &str) -> Self {
        let summary = OperationSummary {
            id: Uuid::now_v7().simple().to_string(),
            kind: task.kind(),
            target: task.language().to_string(),
            state: OperationState::Queued,
            progress: None,
            result: None,
            error: None,
            created: now(),
            started: None,
            finished: None,
            trace_id: trace_id.to_owned(),
        };
        Self { summary, steps: Vec::new() }
    }

    /// Whether nothing will become of it any more.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.summary.state, OperationState::Queued | OperationState::Running)
    }

    pub(super) fn start(&mut self) {
        self.summary.state = OperationState::Running;
        self.summary.started = Some(now());
    }

    pub(super) fn step(&mut self, step: &str) {
        let step: String = step.chars().take(MAX_STEP_CHARACTERS).collect();
        self.summary.progress = Some(step.clone());
        if self.steps.len() == MAX_STEPS {
            self.steps.remove(0);
        }
        self.steps.push(step);
    }

    pub(super) fn end(&mut self, outcome: Result<Option<Value>, AdministrationError>) {
        self.summary.finished = Some(now());
        self.summary.state = match outcome {
            Ok(result) => {
                self.summary.result = result;
                OperationState::Succeeded
            }
            Err(AdministrationError::Cancelled) => OperationState::Cancelled,
            Err(error) => {
                self.summary.error = Some(error.to_string());
                OperationState::Failed
            }
        };
    }
}

fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
