//! One request to run a program, from its beginning to its end: counted, measured, and told to who traces.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use engine::Phases;
use store::Language;

use super::{Metrics, labels};
use crate::{
    error::ApiError,
    trace::{ParentSpan, TraceId},
};

/// What becomes of a request whose client has gone before it was answered.
const ABANDONED: &str = "abandoned";

/// A request that has ended, for those who trace.
#[derive(Debug)]
pub struct RequestTrace<'a> {
    /// Under which it is spoken of: the parent's, where there is one.
    pub trace_id: &'a str,
    /// The span of the client that it belongs to, where it said so.
    pub parent: Option<ParentSpan>,
    /// Its language, where it named one.
    pub language: Option<&'a Language>,
    /// As in `llm_firecracker_requests_total`.
    pub outcome: &'a str,
    /// Whether it is a fault of the service that there is no answer.
    pub failed: bool,
    /// When its head was read.
    pub began: SystemTime,
    /// When it came to the pool, where it did.
    pub queued: Option<SystemTime>,
    /// When there was an answer.
    pub ended: SystemTime,
    /// How long each part took, where it ran.
    pub phases: Option<Phases>,
    /// Whether its microVM was restored from a snapshot, where it ran.
    pub restored: Option<bool>,
}

/// Is told of each request that has ended. Called from the request's task; it must not block.
pub trait Traces: Send + Sync {
    /// One has ended.
    fn request(&self, request: &RequestTrace<'_>);
}

/// A request on its way. Dropped without an end, it is one whose client has gone.
pub(crate) struct Recorded<'a> {
    metrics: &'a Metrics,
    traces: Option<&'a dyn Traces>,
    trace_id: Arc<str>,
    parent: Option<ParentSpan>,
    language: Option<Language>,
    began: SystemTime,
    queued: Option<SystemTime>,
    has_ended: bool,
}

impl<'a> Recorded<'a> {
    /// One that begins now.
    pub(crate) fn begin(
        metrics: &'a Metrics,
        traces: Option<&'a dyn Traces>,
        trace_id: &TraceId,
        parent: Option<ParentSpan>,
    ) -> Self {
        Self {
            metrics,
            traces,
            trace_id: Arc::from(trace_id.0.as_str()),
            parent,
            language: None,
            began: SystemTime::now(),
            queued: None,
            has_ended: false,
        }
    }

    /// It is one of this language: from here on its log lines say so, too.
    pub(crate) fn is_of(&mut self, language: &Language) {
        tracing::Span::current().record("language", language.as_str());
        self.language = Some(language.clone());
    }

    /// It comes to the pool.
    pub(crate) fn queued(&mut self) {
        self.queued = Some(SystemTime::now());
    }

    /// It is answered.
    pub(crate) fn end(mut self, answered: Result<&engine::Outcome, &ApiError>) {
        match answered {
            Ok(outcome) => {
                if let Some(language) = &self.language {
                    self.metrics.request_ran(language, outcome, &self.trace_id);
                }
                let ended = labels::outcome(&outcome.answer).into();
                self.ended(ended, Some((outcome.phases, outcome.restored)), false);
            }
            Err(error) => self.ended(error.code().into(), None, error.is_fault()),
        }
    }

    fn ended(&mut self, outcome: labels::Outcome, ran: Option<(Phases, bool)>, failed: bool) {
        self.has_ended = true;
        let span = tracing::Span::current();
        span.record("outcome", &*outcome);
        if let Some((phases, _)) = ran {
            span.record("queue_micros", micros(phases.queue)).record("run_micros", micros(phases.run));
        }
        if let Some(traces) = self.traces {
            traces.request(&RequestTrace {
                trace_id: &self.trace_id,
                parent: self.parent,
                language: self.language.as_ref(),
                outcome: &outcome,
                failed,
                began: self.began,
                queued: self.queued,
                ended: SystemTime::now(),
                phases: ran.map(|(phases, _)| phases),
                restored: ran.map(|(_, restored)| restored),
            });
        }
        self.metrics.request_ended(self.language.as_ref(), outcome, &self.trace_id);
    }
}

impl Drop for Recorded<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.ended(ABANDONED.into(), None, false);
            tracing::info!("the client has gone before it was answered");
        }
    }
}

/// For the log.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
