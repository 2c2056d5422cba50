//! What requests about images and snapshots have in common: languages, buckets, and where to look.

use axum::extract::{
    Path,
    rejection::{PathRejection, QueryRejection},
};
use engine::RequestError;
use serde::Deserialize;
use store::Language;
use utoipa::IntoParams;

use crate::{
    administrator::{Administrator, invalid},
    error::ApiError,
    operations::BucketName,
};

/// Where to look.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Place {
    /// Whether to list what is in a bucket instead of what is here.
    remote: Option<bool>,
    /// The bucket's name, instead of the one that is configured. Where it is given, `remote` is true unless it is said to
    /// be false.
    #[param(
        min_length = 3,
        max_length = 63,
        pattern = r"^(?!.*\.\.)[a-z0-9][a-z0-9.-]*[a-z0-9]$",
        example = "llm-firecracker"
    )]
    bucket: Option<String>,
}

impl Place {
    pub(super) fn is_remote(&self) -> bool {
        self.remote.unwrap_or(self.bucket.is_some())
    }

    pub(super) fn bucket(&self) -> Result<Option<BucketName>, ApiError> {
        bucket(self.bucket.as_deref())
    }
}

/// The bucket that a request names.
pub(super) fn bucket(name: Option<&str>) -> Result<Option<BucketName>, ApiError> {
    name.map(|name| name.parse().map_err(|error| invalid("bucket", error))).transpose()
}

/// The language in a path.
pub(super) fn language(
    administrator: &Administrator,
    name: Result<Path<String>, PathRejection>,
) -> Result<Language, ApiError> {
    let Path(name) =
        name.map_err(|_| ApiError::Request(RequestError::Invalid("the language is not UTF-8".to_owned())))?;
    administrator.language(&name).ok_or_else(|| ApiError::NoSuchLanguage(start_of(&name)))
}

/// The language in a body.
pub(super) fn named(administrator: &Administrator, name: &str) -> Result<Language, ApiError> {
    let unsupported = || ApiError::Request(RequestError::UnsupportedLanguage(start_of(name)));
    administrator.language(name).ok_or_else(unsupported)
}

/// A query that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
pub(super) fn bad_query(rejection: QueryRejection) -> ApiError {
    let text = rejection.body_text();
    let reason = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    ApiError::Request(RequestError::Invalid(format!("query: {reason}")))
}

fn start_of(text: &str) -> String {
    text.chars().take(100).collect()
}
