//! What the lab tells about its steps: a line of JSON for each, among whatever else is printed there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A line of the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// What is going to be done.
    Plan(Vec<String>),
    /// What was done.
    Step(Step),
    /// What was measured: tables, for people.
    Figures(String),
}

/// A step that was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Its name, as in the plan.
    pub(crate) name: String,
    /// Whether all was as it should be.
    pub(crate) ok: bool,
    /// What was seen, or what was wrong.
    pub(crate) detail: String,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Line {
    /// As it is printed.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("it has strings and numbers alone")
    }

    /// A printed line, where it is one of these.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Step {
    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let Self { name, ok, detail, seconds } = self;
        let word = if *ok { "ok  " } else { "FAIL" };
        let separator = if detail.is_empty() { "" } else { ": " };
        format!("{word} {name} ({seconds:.1} s){separator}{detail}")
    }
}

/// A time, as details show it.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
