//! `/api/v1/snapshots`: snapshots, made and exchanged with object storage.

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse as _, Response},
};
use engine::request::{MEMORY_MIB, whole_number};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmm::spec::MachineSpec;

use super::{Place, bucket, language, named};
use crate::{
    administrator::{Administrator, invalid},
    error::ApiError,
    operations::{RemoteSnapshotInfo, SnapshotInfo, SnapshotSizes, Task},
    types::{AdministratorsRefused, BodiesRefused, Failed, Submitted},
};

/// How many virtual processors a microVM may have.
const VCPUS: std::ops::RangeInclusive<u32> = 1..=16;

/// Snapshots of this host, or of a bucket.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Snapshots {
    Here(Vec<SnapshotInfo>),
    Remote(Vec<RemoteSnapshotInfo>),
}

/// Lists snapshots.
#[utoipa::path(
    get,
    path = "/api/v1/snapshots",
    operation_id = "list_snapshots",
    tag = "snapshots",
    params(Place),
    responses(
        (status = 200, description = "Snapshots of this host; with `remote=true`, of the bucket", body = Snapshots),
        (status = 400, description = "E007: no bucket, or not the name of one", body = Failed),
        AdministratorsRefused,
    )
)]
pub(super) async fn list(
    administrator: Administrator,
    query: Result<Query<Place>, QueryRejection>,
) -> Response {
    let answer = async {
        let Query(place) = query.map_err(super::bad_query)?;
        let bucket = place.bucket()?;
        let (administration, _turn) = administrator.operations.lister().await;
        let trace_id = administrator.trace_id.0.as_str();
        let snapshots = if place.is_remote() {
            Snapshots::Remote(administration.remote_snapshots(bucket.as_ref(), trace_id).await?)
        } else {
            Snapshots::Here(administration.snapshots(trace_id).await?)
        };
        Ok(Json(snapshots).into_response())
    };
    administrator.respond(answer.await)
}

/// A snapshot to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSnapshot {
    /// The language, by any of its names.
    #[schema(example = "python")]
    language: String,
    /// Memory of its microVMs, in MiB; as for requests that say nothing where nothing is said.
    #[schema(minimum = 128, maximum = 65_536)]
    #[serde(default, deserialize_with = "whole_number")]
    memory_mb: Option<u32>,
    /// Their virtual processors.
    #[schema(minimum = 1, maximum = 16)]
    #[serde(default, deserialize_with = "whole_number")]
    vcpus: Option<u32>,
}

/// Boots a microVM, warms its interpreter up, and saves it; tries the result before it replaces an older one.
#[utoipa::path(
    post,
    path = "/api/v1/snapshots",
    operation_id = "create_snapshot",
    tag = "snapshots",
    request_body(content = CreateSnapshot, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E006, E007: not a snapshot that can be made", body = Failed),
        BodiesRefused,
        AdministratorsRefused,
    )
)]
pub(super) async fn create(administrator: Administrator, body: Body) -> Response {
    let answer = async {
        let request: CreateSnapshot = administrator.read(body).await?;
        let language = named(&administrator, &request.language)?;
        let SnapshotSizes { memory_mib, vcpus } = sizes(request.memory_mb, request.vcpus)?;
        let usual = administrator.usual_machine();
        let machine = MachineSpec {
            memory_mib: memory_mib.unwrap_or(usual.memory_mib),
            vcpus: vcpus.unwrap_or(usual.vcpus),
        };
        administrator.submit(Task::CreateSnapshot { language, machine })
    };
    administrator.respond(answer.await)
}

/// Snapshots to be uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadSnapshots {
    /// The bucket's name, instead of the one that is configured.
    #[schema(min_length = 3, max_length = 63, example = "llm-firecracker")]
    bucket: Option<String>,
    /// Only those with this much memory, in MiB.
    #[schema(minimum = 128, maximum = 65_536)]
    #[serde(default, deserialize_with = "whole_number")]
    memory_mb: Option<u32>,
    /// Only those with so many virtual processors.
    #[schema(minimum = 1, maximum = 16)]
    #[serde(default, deserialize_with = "whole_number")]
    vcpus: Option<u32>,
    /// Whether to send what is in the bucket already.
    again: Option<bool>,
    /// Whether to pass over those that cannot be restored, instead of failing.
    skip_stale: Option<bool>,
}

/// Puts the snapshots of a language into a bucket, and the image that they need.
#[utoipa::path(
    post,
    path = "/api/v1/snapshots/{lang}/upload",
    operation_id = "upload_snapshots",
    tag = "snapshots",
    params(("lang" = String, Path, description = "The language, by any of its names", example = "python")),
    request_body(content = Option<UploadSnapshots>, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E007: not the name of a bucket, or not a size", body = Failed),
        (status = 404, description = "E006: there is no such language", body = Failed),
        BodiesRefused,
        AdministratorsRefused,
    )
)]
pub(super) async fn upload(
    administrator: Administrator,
    name: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let answer = async {
        let language = language(&administrator, name)?;
        let request: UploadSnapshots = administrator.read(body).await?;
        administrator.submit(Task::UploadSnapshots {
            language,
            sizes: sizes(request.memory_mb, request.vcpus)?,
            bucket: bucket(request.bucket.as_deref())?,
            again: request.again.unwrap_or_default(),
            skip_stale: request.skip_stale.unwrap_or_default(),
        })
    };
    administrator.respond(answer.await)
}

/// Snapshots to be downloaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DownloadSnapshots {
    /// The bucket's name, instead of the one that is configured.
    #[schema(min_length = 3, max_length = 63, example = "llm-firecracker")]
    bucket: Option<String>,
    /// Only those with this much memory, in MiB.
    #[schema(minimum = 128, maximum = 65_536)]
    #[serde(default, deserialize_with = "whole_number")]
    memory_mb: Option<u32>,
    /// Only those with so many virtual processors.
    #[schema(minimum = 1, maximum = 16)]
    #[serde(default, deserialize_with = "whole_number")]
    vcpus: Option<u32>,
    /// Whether to replace others that are there.
    force: Option<bool>,
}

/// Gets the snapshots of a language out of a bucket, those that can be restored here, and the image that they need.
#[utoipa::path(
    post,
    path = "/api/v1/snapshots/{lang}/download",
    operation_id = "download_snapshots",
    tag = "snapshots",
    params(("lang" = String, Path, description = "The language, by any of its names", example = "python")),
    request_body(content = Option<DownloadSnapshots>, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E007: not the name of a bucket, or not a size", body = Failed),
        (status = 404, description = "E006: there is no such language", body = Failed),
        BodiesRefused,
        AdministratorsRefused,
    )
)]
pub(super) async fn download(
    administrator: Administrator,
    name: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let answer = async {
        let language = language(&administrator, name)?;
        let request: DownloadSnapshots = administrator.read(body).await?;
        administrator.submit(Task::DownloadSnapshots {
            language,
            sizes: sizes(request.memory_mb, request.vcpus)?,
            bucket: bucket(request.bucket.as_deref())?,
            force: request.force.unwrap_or_default(),
        })
    };
    administrator.respond(answer.await)
}

fn sizes(memory_mib: Option<u32>, vcpus: Option<u32>) -> Result<SnapshotSizes, ApiError> {
    if memory_mib.is_some_and(|mib| !MEMORY_MIB.contains(&mib)) {
        let (least, most) = (MEMORY_MIB.start(), MEMORY_MIB.end());
        return Err(invalid("memory_mb", format_args!("not within {least} to {most} MiB")));
    }
    if vcpus.is_some_and(|vcpus| !VCPUS.contains(&vcpus)) {
        return Err(invalid("vcpus", format_args!("not within {} to {}", VCPUS.start(), VCPUS.end())));
    }
    Ok(SnapshotSizes { memory_mib, vcpus })
}
