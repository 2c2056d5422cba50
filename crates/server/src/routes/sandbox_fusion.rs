//! `SandboxFusion`'s API: see [`crate::compatible::sandbox_fusion`].

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use engine::RequestError;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::run::answer;
use crate::{
    caller::Envelope,
    compatible::sandbox_fusion::{Malformed, NotRun, RanCode, RunCode, Wanted, read, understand},
    error::ApiError,
    service::Shared,
    trace::TraceId,
    types::Failed,
};

/// Its routes.
pub(super) fn all() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(run_code))
        .route("/run_code/", axum::routing::post(run_code))
        .routes(routes!(ping))
}

/// Says that the API is served; without a token.
#[utoipa::path(
    get,
    path = "/v1/ping",
    operation_id = "sandbox_fusion_ping",
    tag = "sandbox_fusion",
    responses((status = 200, description = "It is", body = str, content_type = "application/json", example = "pong"))
)]
async fn ping() -> Json<&'static str> {
    Json("pong")
}

/// Runs a program.
#[utoipa::path(
    post,
    path = "/run_code",
    operation_id = "sandbox_fusion_run_code",
    tag = "sandbox_fusion",
    request_body(content = RunCode, content_type = "application/json"),
    responses(
        (status = 200, description = "It ran, however it ended; or, with `SandboxError`, it cannot be run here", body = RanCode),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 403, description = "E011: the token does not allow it", body = Failed),
        (status = 408, description = "E001: the body did not come in time", body = Failed),
        (status = 413, description = "E007: the whole request is too long", body = Failed),
        (status = 422, description = "Not a request of this API", body = Malformed),
        (status = 429, description = "E002: a quota of the token is used up", body = Failed),
        (status = 500, description = "E010: internal error", body = Failed),
        (status = 504, description = "E001, E008, E009: waited too long, server busy, or language not prepared", body = Failed),
    )
)]
async fn run_code(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    envelope: Envelope,
    body: Body,
) -> Response {
    let mut not_run = None;
    let mut wanted = Wanted::default();
    let understood = |body: &[u8], shared: &Shared| {
        match read(body).and_then(|run| understand(run, shared, &shared.policy())) {
            Ok(understood) => {
                wanted = understood.wanted;
                Ok(understood.request)
            }
            Err(reason) => {
                not_run = Some(reason);
                // What is told instead.
                Err(RequestError::Invalid("not a request that can be run".to_owned()))
            }
        }
    };
    let answered = match answer(&shared, &trace_id, &envelope, body, understood, None).await {
        Ok(outcome) => shared.answers.json(RanCode::of(outcome, &wanted)).await,
        Err(error) => Err(error),
    };
    match (answered, not_run) {
        (Ok(response), _) => response,
        (Err(_), Some(NotRun::Malformed(malformed))) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(malformed)).into_response()
        }
        (Err(_), Some(NotRun::Refused(message))) => Json(RanCode::failed(message)).into_response(),
        // Of the API's form, but more than is given here.
        (Err(error @ ApiError::Request(_)), None) => {
            Json(RanCode::failed(error.plain(&trace_id))).into_response()
        }
        (Err(error), None) => {
            let mut response = error.respond(&trace_id);
            if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                // What pipelines of training take for a reason to try again; anything else costs them the sample.
                *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            }
            response
        }
    }
}
