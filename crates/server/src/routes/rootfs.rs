//! `/api/v1/rootfs`: images, made and exchanged with object storage.

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse as _, Response},
};
use engine::request::whole_number;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Place, bucket, language, named};
use crate::{
    administrator::{Administrator, invalid},
    operations::{ImageInfo, ImageOrigin, RemoteImageInfo, Task},
    types::{AdministratorsRefused, BodiesRefused, Failed, Submitted},
};

/// The sizes that an image may have, in MiB.
const SIZE_MIB: std::ops::RangeInclusive<u64> = 1..=1_048_576;

/// Images of this host, or of a bucket.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Images {
    Here(Vec<ImageInfo>),
    Remote(Vec<RemoteImageInfo>),
}

/// Lists images.
#[utoipa::path(
    get,
    path = "/api/v1/rootfs",
    operation_id = "list_images",
    tag = "images",
    params(Place),
    responses(
        (status = 200, description = "Images of this host; with `remote=true`, of the bucket", body = Images),
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
        let images = if place.is_remote() {
            Images::Remote(administration.remote_images(bucket.as_ref(), trace_id).await?)
        } else {
            Images::Here(administration.images(trace_id).await?)
        };
        Ok(Json(images).into_response())
    };
    administrator.respond(answer.await)
}

/// An image to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateImage {
    /// The language, by any of its names.
    #[schema(example = "python")]
    language: String,
    /// The image of a registry that it is made from; without one, Debian packages are installed.
    #[schema(example = "python:3.12-alpine")]
    image: Option<String>,
    /// Its size, in MiB; what its contents need where nothing is said.
    #[schema(minimum = 1, maximum = 1_048_576)]
    #[serde(default, deserialize_with = "whole_number")]
    size_mib: Option<u64>,
}

/// Makes an image, and replaces the one that the language has.
#[utoipa::path(
    post,
    path = "/api/v1/rootfs",
    operation_id = "create_image",
    tag = "images",
    request_body(content = CreateImage, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E006, E007: not an image that can be made", body = Failed),
        BodiesRefused,
        AdministratorsRefused,
    )
)]
pub(super) async fn create(administrator: Administrator, body: Body) -> Response {
    let answer = async {
        let CreateImage { language, image, size_mib } = administrator.read(body).await?;
        let language = named(&administrator, &language)?;
        let origin = match image {
            None => ImageOrigin::Packages,
            Some(image) => ImageOrigin::Registry(image.parse().map_err(|error| invalid("image", error))?),
        };
        if size_mib.is_some_and(|mib| !SIZE_MIB.contains(&mib)) {
            return Err(invalid("size_mib", format_args!("not within 1 to {} MiB", SIZE_MIB.end())));
        }
        administrator.submit(Task::CreateImage { language, origin, size_mib })
    };
    administrator.respond(answer.await)
}

/// An image to be uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadImage {
    /// The bucket's name, instead of the one that is configured.
    #[schema(min_length = 3, max_length = 63, example = "llm-firecracker")]
    bucket: Option<String>,
    /// Whether to send what is in the bucket already.
    again: Option<bool>,
}

/// Puts the image of a language into a bucket.
#[utoipa::path(
    post,
    path = "/api/v1/rootfs/{lang}/upload",
    operation_id = "upload_image",
    tag = "images",
    params(("lang" = String, Path, description = "The language, by any of its names", example = "python")),
    request_body(content = Option<UploadImage>, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E007: not the name of a bucket", body = Failed),
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
        let request: UploadImage = administrator.read(body).await?;
        let again = request.again.unwrap_or_default();
        administrator.submit(Task::UploadImage {
            language,
            bucket: bucket(request.bucket.as_deref())?,
            again,
        })
    };
    administrator.respond(answer.await)
}

/// An image to be downloaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DownloadImage {
    /// The bucket's name, instead of the one that is configured.
    #[schema(min_length = 3, max_length = 63, example = "llm-firecracker")]
    bucket: Option<String>,
    /// The SHA-256 of the image, instead of the one that was uploaded last.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    digest: Option<String>,
    /// Whether to replace another image that is there.
    force: Option<bool>,
}

/// Gets the image of a language out of a bucket.
#[utoipa::path(
    post,
    path = "/api/v1/rootfs/{lang}/download",
    operation_id = "download_image",
    tag = "images",
    params(("lang" = String, Path, description = "The language, by any of its names", example = "python")),
    request_body(content = Option<DownloadImage>, content_type = "application/json"),
    responses(
        Submitted,
        (status = 400, description = "E007: not the name of a bucket, or not a digest", body = Failed),
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
        let request: DownloadImage = administrator.read(body).await?;
        let digest = request.digest.map(|digest| digest.parse().map_err(|error| invalid("digest", error)));
        administrator.submit(Task::DownloadImage {
            language,
            bucket: bucket(request.bucket.as_deref())?,
            digest: digest.transpose()?,
            force: request.force.unwrap_or_default(),
        })
    };
    administrator.respond(answer.await)
}
