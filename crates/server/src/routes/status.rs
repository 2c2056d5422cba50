//! `GET /api/v1/status`: what there is at this moment, for people and for `infra.operator top`.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    caller::Asker,
    service::Shared,
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
pub(super) async fn status(State(shared): State<Arc<Shared>>, _asker: Asker) -> Json<Status> {
    Json(Status::new(shared.pool.status(), shared.since.elapsed()))
}
