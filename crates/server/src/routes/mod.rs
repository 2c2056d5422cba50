//! The routes, a file for each resource.
//!
//! WHEN ADDING A ROUTE: put it into [`all`] with `routes!`, so that the `OpenAPI` document has it; then
//! `cargo run -p xtask -- openapi` writes the document anew, which a test compares.

mod execute;
mod health;
mod languages;
mod metrics;
mod run;
mod status;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::service::Shared;

/// All of them.
pub(crate) fn all() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(run::run))
        .routes(routes!(execute::execute))
        .routes(routes!(languages::list))
        .routes(routes!(languages::one))
        .routes(routes!(status::status))
        .routes(routes!(metrics::metrics))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
}
