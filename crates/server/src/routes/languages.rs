//! `GET /api/v1/languages`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use engine::{LanguageSpec, RequestError};

use crate::{
    caller::Asker,
    error::ApiError,
    service::Shared,
    trace::TraceId,
    types::{Failed, LanguageInfo, MachineSize},
};

/// Lists the languages.
#[utoipa::path(
    get,
    path = "/api/v1/languages",
    tag = "languages",
    responses(
        (status = 200, description = "All languages of this release", body = Vec<LanguageInfo>),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 503, description = "E010: tokens cannot be checked now", body = Failed),
    )
)]
pub(super) async fn list(State(shared): State<Arc<Shared>>, _asker: Asker) -> Json<Vec<LanguageInfo>> {
    let languages = shared.pool.engine().languages().iter().map(|spec| info(&shared, spec));
    Json(languages.collect())
}

/// Shows one language, by any of its names.
#[utoipa::path(
    get,
    path = "/api/v1/languages/{lang}",
    tag = "languages",
    params(("lang" = String, Path, description = "The language, by any of its names", example = "python")),
    responses(
        (status = 200, description = "The language", body = LanguageInfo),
        (status = 400, description = "E007: not a name", body = Failed),
        (status = 401, description = "E003, E004: token invalid or missing", body = Failed),
        (status = 404, description = "E006: there is no such language", body = Failed),
        (status = 503, description = "E010: tokens cannot be checked now", body = Failed),
    )
)]
pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Extension(trace_id): Extension<TraceId>,
    _asker: Asker,
    name: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Response {
    let Ok(Path(name)) = name else {
        return ApiError::Request(RequestError::Invalid("the language is not UTF-8".to_owned()))
            .respond(&trace_id);
    };
    match shared.pool.engine().languages().find(&name) {
        Some(spec) => Json(info(&shared, spec)).into_response(),
        None => ApiError::NoSuchLanguage(name.chars().take(100).collect()).respond(&trace_id),
    }
}

fn info(shared: &Shared, spec: &LanguageSpec) -> LanguageInfo {
    let kinds = shared.pool.status().kinds.into_iter();
    let restorable = kinds.filter(|kind| kind.restorable && kind.key.language == spec.name);
    let size = |machine: vmm::spec::MachineSpec| MachineSize {
        memory_mib: machine.memory_mib,
        vcpus: machine.vcpus,
    };
    LanguageInfo {
        name: spec.name.to_string(),
        aliases: spec.aliases.clone(),
        main_file: spec.main_file.clone(),
        command: spec.command.clone(),
        available: shared.pool.engine().has_image(&spec.name),
        snapshots: restorable.map(|kind| size(kind.key.machine)).collect(),
    }
}
