//! The labels of series, each of a bounded number of values.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use axum::http::Method;
use engine::{Answer, Exception, answer::ExecutionAnswer};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use store::Language;

/// A language of the catalogue; `none` for requests that name no such.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LanguageLabel(pub(super) Option<Language>);

impl LanguageLabel {
    /// Of one.
    pub(super) fn of(language: &Language) -> Self {
        Self(Some(language.clone()))
    }
}

impl EncodeLabelValue for LanguageLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0.as_ref().map_or("none", Language::as_str))
    }
}

/// How a request ended: see [`outcome`] and [`crate::error::ApiError::code`].
pub(crate) type Outcome = Cow<'static, str>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) language: LanguageLabel,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) route: Arc<str>,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PhaseLabels {
    pub(super) language: LanguageLabel,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StartedLabels {
    pub(super) language: LanguageLabel,
    pub(super) how: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndedLabels {
    pub(super) language: LanguageLabel,
    pub(super) why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabels {
    pub(super) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    pub(super) version: &'static str,
}

/// Goes with a measurement, so that one can find what it was taken of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Exemplar {
    pub(super) trace_id: Arc<str>,
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// A request waits for a microVM.
    Queue,
    /// A VMM is started, until it can be given its snapshot; for a boot, until the guest executes.
    Start,
    /// The snapshot is loaded, and the guest resumed.
    Restore,
    /// Until there is a connection to the guest agent.
    Connect,
    /// The guest agent answers and reseeds.
    Handshake,
    /// A job is rehearsed.
    Rehearsal,
    /// A request's job, from sending it to having the answer.
    Run,
    /// One execution, as the guest measures it, in whole milliseconds.
    Execution,
    /// A microVM is ended.
    End,
    // WHEN A LANGUAGE IS COMPILED: `Compile`, from the guest's answer, observed beside `Execution`.
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Start => "start",
            Self::Restore => "restore",
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Rehearsal => "rehearsal",
            Self::Run => "run",
            Self::Execution => "execution",
            Self::End => "end",
        }
    }
}

impl EncodeLabelValue for Phase {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.name())
    }
}

/// A method by its name, where it is one that a route may have: a client may make up others.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// How the execution ended.
pub(super) fn execution_outcome(execution: &ExecutionAnswer) -> &'static str {
    match execution.exception {
        None => "success",
        Some(Exception::Timeout) => "timeout",
        Some(Exception::MemoryLimitExceeded) => "memory_limit",
        Some(Exception::OutputLimitExceeded) => "output_limit",
        Some(Exception::CompilationFailure) => "compilation_failure",
        Some(Exception::Killed(_)) => "killed",
    }
}

/// The executions of an answer.
pub(super) fn executions(answer: &Answer) -> &[ExecutionAnswer] {
    match answer {
        Answer::One(execution) => std::slice::from_ref(execution),
        Answer::Batch(executions) => executions,
        Answer::Failed(_) => &[],
    }
}

/// How a request that ran ended: as the first of its executions that did not end by itself; `success` where all did.
pub(super) fn outcome(answer: &Answer) -> &'static str {
    let mut outcomes = executions(answer).iter().map(execution_outcome);
    outcomes.find(|outcome| *outcome != "success").unwrap_or("success")
}
