//! `/api/v1/operations`: what was asked for, followed and cancelled.

use axum::{
    Json,
    extract::{
        Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse as _, Response},
};

use super::wait::{Wait, wait};
use crate::{
    administrator::Administrator,
    error::ApiError,
    operations::{Operation, OperationSummary},
    types::{AdministratorsRefused, Failed},
};

/// Lists the operations that are known, newest first: those that wait or run, and the last hundred that have ended.
#[utoipa::path(
    get,
    path = "/api/v1/operations",
    operation_id = "list_operations",
    tag = "operations",
    responses(
        (status = 200, description = "Operations, without their steps", body = Vec<OperationSummary>),
        AdministratorsRefused,
    )
)]
pub(super) async fn list(administrator: Administrator) -> Response {
    Json(administrator.operations.list()).into_response()
}

/// Shows an operation, at once or when it has changed.
#[utoipa::path(
    get,
    path = "/api/v1/operations/{id}",
    operation_id = "show_operation",
    tag = "operations",
    params(
        ("id" = String, Path, description = "The operation"),
        ("wait" = Option<u64>, Query, maximum = 60,
         description = "For how many seconds to wait for a change of its state or progress. One that has ended changes no more."),
    ),
    responses(
        (status = 200, description = "The operation", body = Operation),
        (status = 400, description = "E007: not a number of seconds", body = Failed),
        (status = 404, description = "E012: there is none, or it was forgotten", body = Failed),
        AdministratorsRefused,
    )
)]
pub(super) async fn one(
    administrator: Administrator,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<Wait>, QueryRejection>,
) -> Response {
    let answer = async {
        let wait = wait(query)?;
        let Path(id) = id.map_err(|_| unknown())?;
        let operations = &administrator.operations;
        let operation = if wait.is_zero() { operations.get(&id) } else { operations.wait(&id, wait).await };
        Ok(Json(operation.ok_or_else(unknown)?).into_response())
    };
    administrator.respond(answer.await)
}

/// Cancels an operation. Nothing half made is left.
#[utoipa::path(
    delete,
    path = "/api/v1/operations/{id}",
    operation_id = "cancel_operation",
    tag = "operations",
    params(("id" = String, Path, description = "The operation")),
    responses(
        (status = 200, description = "It has ended, now or before", body = Operation),
        (status = 202, description = "It will end soon", body = Operation,
         headers(("Location" = String, description = "Where it can be followed"))),
        (status = 404, description = "E012: there is none, or it was forgotten", body = Failed),
        AdministratorsRefused,
    )
)]
pub(super) async fn cancel(
    administrator: Administrator,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let cancelled = id.ok().and_then(|Path(id)| administrator.operations.cancel(&id)).ok_or_else(unknown);
    administrator.respond(cancelled.map(|operation| {
        if operation.has_ended() { Json(operation).into_response() } else { accepted(operation) }
    }))
}

/// The answer to what has only begun.
pub(crate) fn accepted(operation: Operation) -> Response {
    let location = format!("/api/v1/operations/{}", operation.summary.id);
    let mut response = (StatusCode::ACCEPTED, Json(operation)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn unknown() -> ApiError {
    ApiError::NotFound("no such operation".to_owned())
}
