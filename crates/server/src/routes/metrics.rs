//! `GET /metrics`: what was counted and measured, for Prometheus and for `infra.operator top`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};

use crate::{caller::Asker, error::ApiError, service::Shared, trace::TraceId, types::Failed};

/// What `OpenMetrics` text is called.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Shows what was counted and measured, as `OpenMetrics` text.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "status",
    responses(
        (status = 200, description = "What was counted and measured", body = String,
            content_type = "application/openmetrics-text"),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 503, description = "E010: tokens cannot be checked now", body = Failed),
    )
)]
pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    _asker: Asker,
) -> Response {
    let metrics = Arc::clone(&shared.metrics);
    let pool = shared.pool.status();
    let jobs = match &shared.jobs {
        Some(jobs) => jobs.counts().await.map(Some),
        None => Ok(None),
    };
    // What else there is to be seen is not to be missing because of them.
    let jobs = jobs.unwrap_or_else(|error| {
        tracing::error!(error = engine::chain(&error), "cannot count the jobs");
        None
    });
    // It reads of files in /proc, and writes thousands of lines.
    match tokio::task::spawn_blocking(move || metrics.text(pool, jobs)).await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(Err(error)) => ApiError::Internal(error.to_string()).respond(&trace_id),
        Err(error) => ApiError::Internal(error.to_string()).respond(&trace_id),
    }
}
