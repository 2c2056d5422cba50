//! The routes, a file for each resource.
//!
//! WHEN ADDING A ROUTE: put it into [`all`] with `routes!`, so that the `OpenAPI` document has it; then
//! `cargo xtask openapi` writes the document anew, which a test compares.

mod docs;
mod execute;
mod health;
mod jobs;
mod languages;
mod metrics;
mod operations;
mod page;
mod piston;
mod place;
mod rootfs;
mod run;
mod sandbox_fusion;
mod snapshots;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

#[cfg(feature = "fuzzing")]
pub(crate) use self::jobs::{fuzz_body, fuzz_head};
use self::place::{Place, bad_query, bucket, language, named};
pub(crate) use self::{operations::accepted, run::answer};
use crate::{service::Shared, settings::Compatible};

/// All of them.
pub(crate) fn all() -> OpenApiRouter<Arc<Shared>> {
    served(&Compatible::default())
}

/// Our own, and those of others that are switched on.
pub(crate) fn served(compatible: &Compatible) -> OpenApiRouter<Arc<Shared>> {
    let mut router = own();
    if compatible.piston.is_some() {
        router = router.merge(piston::all());
    }
    if compatible.sandbox_fusion {
        router = router.merge(sandbox_fusion::all());
    }
    router
}

/// Our own.
fn own() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(run::run))
        .routes(routes!(execute::execute))
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::one, jobs::remove))
        .routes(routes!(languages::list))
        .routes(routes!(languages::one))
        .routes(routes!(rootfs::list, rootfs::create))
        .routes(routes!(rootfs::upload))
        .routes(routes!(rootfs::download))
        .routes(routes!(snapshots::list, snapshots::create))
        .routes(routes!(snapshots::upload))
        .routes(routes!(snapshots::download))
        .routes(routes!(operations::list))
        .routes(routes!(operations::one, operations::cancel))
        .routes(routes!(status::status))
        .routes(routes!(metrics::metrics))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(docs::document))
        .routes(routes!(docs::page))
        .routes(routes!(docs::part))
        .routes(routes!(page::page))
        .routes(routes!(page::part))
}
