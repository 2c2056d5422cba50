//! The `OpenAPI` document, and a page that shows it. Both are part of this program: nothing is fetched from elsewhere.

use std::sync::LazyLock;

use axum::{
    Extension,
    extract::Path,
    http::{
        HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;

use crate::{error::ApiError, trace::TraceId, types::Failed};

/// The page may use what this service has, and nothing else; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document never changes.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(crate::document().to_string()));

/// This document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "openapi",
    tag = "documentation",
    security(()),
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object)),
)]
pub(super) async fn document() -> Response {
    served("application/json", DOCUMENT.clone())
}

/// A page that shows this document, and tries requests.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "docs",
    tag = "documentation",
    security(()),
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
)]
pub(super) async fn page() -> Response {
    served("text/html; charset=utf-8", include_str!("../../assets/docs.html"))
}

/// What the page consists of.
#[utoipa::path(
    get,
    path = "/docs/{part}",
    operation_id = "docs_part",
    tag = "documentation",
    security(()),
    params(("part" = String, Path, description = "`docs.css` or `docs.js`", example = "docs.js")),
    responses(
        (status = 200, description = "A part of the page", content(
            (String = "text/css"),
            (String = "text/javascript"),
        )),
        (status = 404, description = "E012: there is no such part", body = Failed),
    ),
)]
pub(super) async fn part(Extension(trace_id): Extension<TraceId>, Path(part): Path<String>) -> Response {
    match part.as_str() {
        "docs.css" => served("text/css; charset=utf-8", include_str!("../../assets/docs.css")),
        "docs.js" => served("text/javascript; charset=utf-8", include_str!("../../assets/docs.js")),
        _ => ApiError::NotFound("no such path".to_owned()).respond(&trace_id),
    }
}

fn served(media_type: &'static str, body: impl Into<Bytes>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Another release has another one.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body.into()).into_response()
}
