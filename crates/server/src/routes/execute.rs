//! `POST /api/v1/execute`: one program, one stdin, a flat answer.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State, response::Response};
use engine::{Outcome, Request, RequestError, request::Stdin};

use super::{
    run::{answer, text, understood},
    stream,
};
use crate::{
    caller::Envelope,
    error::ApiError,
    service::Shared,
    trace::TraceId,
    types::{ExecuteAnswer, Failed},
};

/// Runs a program once, in a microVM of its own.
///
/// With `Accept: text/event-stream` the answer is a stream of events, as that of `run`.
#[utoipa::path(
    post,
    path = "/api/v1/execute",
    tag = "run",
    request_body(content = crate::openapi::ExecuteRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "It ran, however it ended", content(
            (ExecuteAnswer = "application/json"),
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
pub(super) async fn execute(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
    body: Body,
) -> Response {
    if stream::is_wanted(&envelope.headers) {
        let render = |outcome| text(&flat(outcome)?);
        return stream::respond(shared, trace_id, (envelope, body), only_one, render).await;
    }
    let answered = async {
        let outcome = answer(&shared, &trace_id, &envelope, body, only_one, None).await?;
        shared.answers.json(flat(outcome)?).await
    };
    answered.await.unwrap_or_else(|error| error.respond(&trace_id))
}

fn only_one(body: &[u8], shared: &Shared) -> Result<Request, RequestError> {
    let request = understood(body, shared)?;
    match request.stdin {
        Stdin::One(_) => Ok(request),
        Stdin::Batch(_) => {
            Err(RequestError::Invalid("stdin: a string is asked for; /api/v1/run takes lists".to_owned()))
        }
    }
}

fn flat(outcome: Outcome) -> Result<ExecuteAnswer, ApiError> {
    let answer = ExecuteAnswer::only(outcome.answer, outcome.phases.queue);
    answer.ok_or_else(|| ApiError::Internal("an answer without an execution".to_owned()))
}
