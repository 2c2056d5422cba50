//! What lists say of images and snapshots: what the command line's `--json` says, without places on the host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An image of this host.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImageInfo {
    /// The language.
    #[schema(example = "python")]
    pub language: String,
    /// Its size, in bytes.
    #[schema(example = 702_545_920)]
    pub size_bytes: u64,
    /// Its SHA-256 when it was made.
    #[schema(required = true)]
    pub sha256: Option<String>,
    /// When it was made.
    #[schema(required = true, format = DateTime)]
    pub created: Option<String>,
    /// What it was made from; null where nobody has noted it.
    #[schema(required = true)]
    pub source: Option<ImageSourceInfo>,
    /// Why it cannot be used; null when it can.
    #[schema(required = true)]
    pub problem: Option<String>,
}

/// What an image was made from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ImageSourceInfo {
    /// Debian packages.
    Debian {
        /// Those that were asked for.
        packages: Vec<String>,
        /// The Debian release.
        suite: String,
    },
    /// An OCI or Docker image.
    Oci {
        /// How it was named.
        #[schema(example = "python:3.12-alpine")]
        image: String,
        /// The digest of its manifest.
        manifest: String,
    },
    /// Nobody has noted it.
    Unknown,
}

/// A snapshot of this host.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SnapshotInfo {
    /// The language.
    #[schema(example = "python")]
    pub language: String,
    /// Memory of its microVMs, in MiB.
    #[schema(example = 512)]
    pub memory_mib: u32,
    /// Their virtual processors.
    #[schema(example = 1)]
    pub vcpus: u32,
    /// When it was made.
    #[schema(required = true, format = DateTime)]
    pub created: Option<String>,
    /// What its files take on the disk, in bytes.
    #[schema(example = 110_100_480)]
    pub disk_bytes: u64,
    /// The VMM that made it.
    #[schema(required = true)]
    pub vmm: Option<String>,
    /// Whether an initialised interpreter waits in it.
    #[schema(required = true)]
    pub initialised: Option<bool>,
    /// Whether it can be restored here and now.
    #[schema(example = true)]
    pub usable: bool,
    /// Why not; null when it can.
    #[schema(required = true)]
    pub problem: Option<String>,
}

/// An image of a bucket.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RemoteImageInfo {
    /// The language.
    #[schema(example = "python")]
    pub language: String,
    /// Its SHA-256.
    #[schema(example = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")]
    pub sha256: String,
    /// Its size, in bytes.
    #[schema(required = true)]
    pub bytes: Option<u64>,
    /// What it takes in the bucket, in bytes.
    #[schema(required = true)]
    pub stored_bytes: Option<u64>,
    /// When it was uploaded.
    #[schema(required = true, format = DateTime)]
    pub uploaded: Option<String>,
    /// Whether it is the one that is downloaded where no digest is named.
    #[schema(example = true)]
    pub current: bool,
    /// Why it cannot be used; null when it can.
    #[schema(required = true)]
    pub problem: Option<String>,
}

/// A snapshot of a bucket.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RemoteSnapshotInfo {
    /// The language.
    #[schema(example = "python")]
    pub language: String,
    /// Memory of its microVMs, in MiB.
    #[schema(example = 512)]
    pub memory_mib: u32,
    /// Their virtual processors.
    #[schema(example = 1)]
    pub vcpus: u32,
    /// The VMM that made it.
    #[schema(required = true)]
    pub vmm: Option<String>,
    /// The processor on which it was made.
    #[schema(required = true)]
    pub cpu: Option<String>,
    /// Its size, in bytes.
    #[schema(required = true)]
    pub bytes: Option<u64>,
    /// What it takes in the bucket, in bytes.
    #[schema(required = true)]
    pub stored_bytes: Option<u64>,
    /// When it was uploaded.
    #[schema(required = true, format = DateTime)]
    pub uploaded: Option<String>,
    /// When it was made.
    #[schema(required = true, format = DateTime)]
    pub created: Option<String>,
    /// The SHA-256 of its memory.
    #[schema(required = true)]
    pub sha256: Option<String>,
    /// That of the image that it needs.
    #[schema(required = true)]
    pub rootfs_sha256: Option<String>,
    /// Why it cannot be used; null when it can.
    #[schema(required = true)]
    pub problem: Option<String>,
}
