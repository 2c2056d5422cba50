//! `POST /api/v1/run`: the page's requests and responses.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State, response::Response};
use engine::{
    Outcome, Request, RequestError,
    live::Live,
    pool::{Admission, PoolError},
};

use serde::Serialize;

use super::stream;
use crate::{
    body::Received,
    caller::{Asker, Envelope},
    error::ApiError,
    metrics::Recorded,
    service::Shared,
    settings::Policy,
    trace::{ParentSpan, TraceId},
    types::{Failed, RunAnswers},
};

/// Runs a program, once for each stdin, in a microVM of its own.
///
/// With `Accept: text/event-stream` the answer is a stream of events: `started`, then `stdout` and `stderr` as the program
/// writes them, each with `index` (which stdin) and `text`, then `result`, the answer as it is without a stream, or `error`.
#[utoipa::path(
    post,
    path = "/api/v1/run",
    tag = "run",
    request_body(content = crate::openapi::RunRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "It ran, however it ended; a list for a batch", content(
            (RunAnswers = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 400, description = "E006, E007: not a request that can be run", body = Failed),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: the token does not allow it", body = Failed),
        (status = 408, description = "E001: the body did not come in time", body = Failed),
        (status = 413, description = "E005, E007: stdin, or the whole request, too long", body = Failed),
        (status = 429, description = "E002: a quota of the token is used up", body = Failed),
        (status = 500, description = "E010: internal error", body = Failed),
        (status = 503, description = "E001, E008, E009: waited too long, server busy, or language not prepared", body = Failed),
    )
)]
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
    body: Body,
) -> Response {
    if stream::is_wanted(&envelope.headers) {
        let render = |outcome: Outcome| text(&outcome.answer);
        return stream::respond(shared, trace_id, (envelope, body), understood, render).await;
    }
    let answered = async {
        let outcome = answer(&shared, &trace_id, &envelope, body, understood, None).await?;
        shared.answers.json(outcome.answer).await
    };
    answered.await.unwrap_or_else(|error| error.respond(&trace_id))
}

/// As the last event of a stream has it.
pub(super) fn text(answer: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(answer).map_err(|error| ApiError::Internal(error.to_string()))
}

/// What the body of a request says, as the page has it.
pub(super) fn understood(body: &[u8], shared: &Shared) -> Result<Request, RequestError> {
    Request::from_json(body, shared.pool.engine().languages())
}

/// The way of a request from its body to its answer, recorded, and told of where somebody watches.
pub(crate) async fn answer(
    shared: &Shared,
    trace_id: &TraceId,
    envelope: &Envelope,
    body: Body,
    understand: impl FnOnce(&[u8], &Shared) -> Result<Request, RequestError>,
    live: Option<&mut Live>,
) -> Result<Outcome, ApiError> {
    let parent = ParentSpan::of(&envelope.headers);
    let mut recorded = Recorded::begin(&shared.metrics, shared.traces.as_deref(), trace_id, parent);
    let answered = unrecorded(shared, trace_id, envelope, body, understand, live, &mut recorded).await;
    recorded.end(answered.as_ref());
    answered
}

async fn unrecorded(
    shared: &Shared,
    trace_id: &TraceId,
    envelope: &Envelope,
    body: Body,
    understand: impl FnOnce(&[u8], &Shared) -> Result<Request, RequestError>,
    live: Option<&mut Live>,
    recorded: &mut Recorded<'_>,
) -> Result<Outcome, ApiError> {
    let asker = Asker::of(shared, envelope).await?;
    // Its part of the memory for bodies is kept to the end: what it says is in the request then, while that waits too.
    let Received { bytes, room: _room } =
        shared.bodies.receive(body, shared.connections.body_timeout).await?;
    let request = understand(&bytes, shared)?;
    drop(bytes);
    recorded.is_of(&request.language.name);
    let policy = shared.policy();
    check_policy(&request, &policy)?;
    let machine = shared.pool.machine_for(&request.language.name, request.memory_mib, policy.usual_machine);
    let permit = asker.admit(shared, &request, machine).await?;
    let admission = Admission { tenant: asker.tenant(), machine, trace_id: trace_id.0.clone() };
    recorded.queued();
    match shared.pool.serve(&request, admission, live).await {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            if let (Some(permit), PoolError::Refused(_) | PoolError::Start(_)) = (permit, &error)
                && let Err(error) = permit.refund().await
            {
                // It stays counted, which is the lesser fault.
                tracing::warn!(error = engine::chain(&error), "cannot take back a count");
            }
            Err(ApiError::Pool(error))
        }
    }
}

/// Whether a request asks for no more than this service gives.
pub(super) fn check_policy(request: &Request, policy: &Policy) -> Result<(), ApiError> {
    let too_much = |what: String| Err(ApiError::Request(RequestError::Invalid(what)));
    if request.timeout > policy.longest_timeout {
        return too_much(format!("timeout: at most {} seconds here", policy.longest_timeout.as_secs_f64()));
    }
    if request.memory_mib.is_some_and(|mib| mib > policy.most_memory_mib) {
        return too_much(format!("memory_mb: at most {} MiB here", policy.most_memory_mib));
    }
    if request.executions() > policy.most_executions {
        return too_much(format!("stdin: at most {} of them here", policy.most_executions));
    }
    Ok(())
}
