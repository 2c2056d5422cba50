//! `GET /api/v1/status`: what there is at this moment, for people and for `infra.operator top`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{ConnectInfo, State},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};

use crate::{
    caller::Asker,
    service::{Shared, peer},
    trace::TraceId,
    types::{Failed, Status},
};

/// Shows pools, queue and memory.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "status",
    responses(
        (status = 200, description = "What there is at this moment", body = Status),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 503, description = "E010: tokens cannot be checked now", body = Failed),
    )
)]
pub(super) async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    connection: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    match Asker::of(&shared, &headers, &uri, peer(connection.as_deref())).await {
        Ok(_) => Json(Status::new(shared.pool.status(), shared.since.elapsed())).into_response(),
        Err(error) => error.respond(&trace_id),
    }
}
