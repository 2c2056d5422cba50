//! `GET /health` and `GET /ready`: for supervisors and load balancers. They ask for no token.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use crate::{service::Shared, types::Health};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Says that the service lives.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, description = "It lives", body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: VERSION })
}

/// Says whether requests are worth sending: not before the first microVM waits, and not while the service stops.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "health",
    responses(
        (status = 200, description = "Requests can be served", body = Health),
        (status = 503, description = "Not yet, or not any more", body = Health),
    )
)]
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let pool = shared.pool.status();
    let mut restorable = pool.kinds.iter().filter(|kind| kind.restorable).peekable();
    let engine = shared.pool.engine();
    let reason = if pool.stopping {
        Some("stopping")
    } else if restorable.peek().is_some() {
        // While all of them run programs, requests wait their turn.
        let serves = restorable.any(|kind| kind.idle + kind.running > 0);
        (!serves).then_some("starting")
    } else {
        let has_image = engine.languages().iter().any(|spec| engine.has_image(&spec.name));
        (!has_image).then_some("no language is prepared")
    };
    match reason {
        None => Json(Health { status: "ok", version: VERSION }).into_response(),
        Some(status) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status, version: VERSION })).into_response()
        }
    }
}
