//! Piston's API, version 2, as its clients know it (github.com/engineer-man/piston, `docs/api-v2.md`, `api/src`).

pub(crate) mod answer;
pub(crate) mod connect;
pub(crate) mod request;
#[cfg(test)]
mod tests;

use serde::Serialize;
use utoipa::ToSchema;

use super::Runtime;

/// A language, as `runtimes` tells it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RuntimeInfo {
    /// Its name.
    #[schema(example = "python")]
    language: String,
    /// Its version.
    #[schema(example = "3.11.2")]
    version: String,
    /// Other names of it.
    aliases: Vec<String>,
}

/// The same as `packages` has it.
#[derive(Serialize, ToSchema)]
pub(crate) struct PackageInfo {
    /// The language.
    #[schema(example = "python")]
    language: String,
    /// Its version.
    #[schema(example = "3.11.2")]
    language_version: String,
    /// Whether it can be run: always so here.
    installed: bool,
}

/// An error.
#[derive(Serialize, ToSchema)]
pub(crate) struct Message {
    /// What is wrong.
    #[schema(example = "language is required as a string")]
    pub(crate) message: String,
}

impl From<&Runtime> for RuntimeInfo {
    fn from(Runtime { language, version }: &Runtime) -> Self {
        Self {
            language: language.name.to_string(),
            version: version.to_string(),
            aliases: language.aliases.clone(),
        }
    }
}

impl From<&Runtime> for PackageInfo {
    fn from(Runtime { language, version }: &Runtime) -> Self {
        Self { language: language.name.to_string(), language_version: version.to_string(), installed: true }
    }
}
