//! What can be asked of whoever makes and exchanges images and snapshots.

use std::{fmt, str::FromStr};

use async_trait::async_trait;
use images::{
    Sha256Digest,
    oci::{ImageSource, ParseReferenceError},
};
use serde_json::Value;
use store::{Language, remote::BucketAddress};
use tokio_util::sync::CancellationToken;
use vmm::spec::MachineSpec;

use super::inventory::{ImageInfo, RemoteImageInfo, RemoteSnapshotInfo, SnapshotInfo};

/// Makes, exchanges and lists images and snapshots.
///
/// Texts that it gives, in lists, steps, results and errors, are shown to clients: they hold no path of the host.
#[async_trait]
pub trait Administration: Send + Sync {
    /// The images of this host.
    async fn images(&self, trace_id: &str) -> Result<Vec<ImageInfo>, AdministrationError>;

    /// The snapshots of this host, each with whether it can be restored here and now.
    async fn snapshots(&self, trace_id: &str) -> Result<Vec<SnapshotInfo>, AdministrationError>;

    /// The images of a bucket: this one, or the one that is configured.
    async fn remote_images(
        &self,
        bucket: Option<&BucketName>,
        trace_id: &str,
    ) -> Result<Vec<RemoteImageInfo>, AdministrationError>;

    /// The snapshots of a bucket: this one, or the one that is configured.
    async fn remote_snapshots(
        &self,
        bucket: Option<&BucketName>,
        trace_id: &str,
    ) -> Result<Vec<RemoteSnapshotInfo>, AdministrationError>;

    /// Performs a task and gives what it came to, where there is something to say. `step` is told each step as it
    /// begins. When `cancel` is cancelled it ends soon, with [`AdministrationError::Cancelled`] unless it was done
    /// already, and leaves nothing half made; dropping the future does too.
    async fn perform(
        &self,
        task: &Task,
        trace_id: &str,
        step: &(dyn Fn(String) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Option<Value>, AdministrationError>;
}

/// Why something was not listed or done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdministrationError {
    /// What was asked for cannot be.
    #[error("E007: invalid request: {0}")]
    Invalid(String),
    /// It has failed.
    #[error("{}", with_code(.0))]
    Failed(String),
    /// It took too long.
    #[error("E001: operation timed out")]
    TimedOut,
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Errors of the engine bring a code of their own.
fn with_code(text: &str) -> String {
    let has_code = text.len() > 5
        && text.starts_with('E')
        && text.get(1..4).is_some_and(is_number)
        && text[4..].starts_with(':');
    if has_code { text.to_owned() } else { format!("E010: {text}") }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Makes an image.
    CreateImage {
        /// Of this language.
        language: Language,
        /// What it is made from.
        origin: ImageOrigin,
        /// Its size, in MiB, 1 to 1048576; what its contents need where nobody says.
        size_mib: Option<u64>,
    },
    /// Puts an image into a bucket.
    UploadImage {
        /// Of this language.
        language: Language,
        /// The bucket, instead of the one that is configured.
        bucket: Option<BucketName>,
        /// Whether to send what is in the bucket already.
        again: bool,
    },
    /// Gets an image out of a bucket.
    DownloadImage {
        /// Of this language.
        language: Language,
        /// The bucket, instead of the one that is configured.
        bucket: Option<BucketName>,
        /// Which, instead of the one that was uploaded last.
        digest: Option<Sha256Digest>,
        /// Whether to replace another that is there.
        force: bool,
    },
    /// Makes a snapshot.
    CreateSnapshot {
        /// Of this language.
        language: Language,
        /// And this size.
        machine: MachineSpec,
    },
    /// Puts snapshots into a bucket, and the image that they need.
    UploadSnapshots {
        /// Of this language.
        language: Language,
        /// And of these sizes.
        sizes: SnapshotSizes,
        /// The bucket, instead of the one that is configured.
        bucket: Option<BucketName>,
        /// Whether to send what is in the bucket already.
        again: bool,
        /// Whether to pass over those that cannot be restored.
        skip_stale: bool,
    },
    /// Gets snapshots out of a bucket, those that can be restored here, and the image that they need.
    DownloadSnapshots {
        /// Of this language.
        language: Language,
        /// And of these sizes.
        sizes: SnapshotSizes,
        /// The bucket, instead of the one that is configured.
        bucket: Option<BucketName>,
        /// Whether to replace others that are there.
        force: bool,
    },
}

impl Task {
    /// What it is, for people and programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateImage { .. } => "rootfs.create",
            Self::UploadImage { .. } => "rootfs.upload",
            Self::DownloadImage { .. } => "rootfs.download",
            Self::CreateSnapshot { .. } => "snapshots.create",
            Self::UploadSnapshots { .. } => "snapshots.upload",
            Self::DownloadSnapshots { .. } => "snapshots.download",
        }
    }

    /// The language that it is about.
    pub fn language(&self) -> &Language {
        match self {
            Self::CreateImage { language, .. }
            | Self::UploadImage { language, .. }
            | Self::DownloadImage { language, .. }
            | Self::CreateSnapshot { language, .. }
            | Self::UploadSnapshots { language, .. }
            | Self::DownloadSnapshots { language, .. } => language,
        }
    }

    /// Whether there may be other snapshots once it is done.
    pub(super) fn changes_snapshots(&self) -> bool {
        matches!(self, Self::CreateSnapshot { .. } | Self::DownloadSnapshots { .. })
    }
}

/// What an image is made from. Never a file of the host: whoever asks over HTTP is not its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageOrigin {
    /// The Debian packages that the catalogue has for the language.
    Packages,
    /// An image of a registry.
    Registry(RegistryImage),
}

/// An image of a registry, as users name it: `python:3.12-alpine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryImage(String);

/// What names no image of a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRegistryImageError {
    /// It names nothing.
    #[error(transparent)]
    Image(#[from] ParseReferenceError),
    /// It names a file.
    #[error("only images of registries can be asked for here, as in python:3.12-alpine")]
    File,
}

impl FromStr for RegistryImage {
    type Err = ParseRegistryImageError;

    fn from_str(text: &str) -> Result<Self, ParseRegistryImageError> {
        match text.parse()? {
            ImageSource::Registry(_) => Ok(Self(text.to_owned())),
            ImageSource::Layout { .. } | ImageSource::Archive { .. } => Err(ParseRegistryImageError::File),
        }
    }
}

impl fmt::Display for RegistryImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which sizes of a language's snapshots: all where nobody says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSizes {
    /// Only those with this much memory, in MiB.
    pub memory_mib: Option<u32>,
    /// Only those with so many virtual processors.
    pub vcpus: Option<u32>,
}

/// The name of a bucket. Neither an address nor a directory of the host is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketName(String);

/// What names no bucket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a bucket (3 to 63 lower-case letters, digits, dots and hyphens)")]
pub struct ParseBucketNameError(String);

impl FromStr for BucketName {
    type Err = ParseBucketNameError;

    fn from_str(text: &str) -> Result<Self, ParseBucketNameError> {
        match text.parse() {
            // What is more than a name has been taken for an address.
            Ok(BucketAddress::S3 { name, .. }) if name == text => Ok(Self(name)),
            _ => Err(ParseBucketNameError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_name_and_nothing_else() {
        assert_eq!("llm-firecracker".parse::<BucketName>().unwrap().to_string(), "llm-firecracker");
        for text in [
            "",
            "file:///etc",
            "s3://name",
            "s3://name/prefix",
            "--help",
            "-name",
            "a/b",
            "../etc",
            "https://x",
        ] {
            assert!(text.parse::<BucketName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_image_is_never_a_file_of_the_host() {
        for text in ["python:3.12-alpine", "ghcr.io/team/image:tag", "docker://python", "localhost:5000/x"] {
            assert_eq!(text.parse::<RegistryImage>().unwrap().to_string(), text);
        }
        for text in [
            "oci:/srv/image",
            "oci:x",
            "oci-archive:x.tar",
            "docker-archive:/etc/shadow",
            "docker-archive:x:y",
        ] {
            assert_eq!(text.parse::<RegistryImage>(), Err(ParseRegistryImageError::File), "{text}");
        }
        for text in ["", "/etc/passwd", "--help", "-x", "../x", "file:///etc/passwd", "a b", "x\n"] {
            assert!(text.parse::<RegistryImage>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_has_one_code() {
        let text = |text: &str| AdministrationError::Failed(text.to_owned()).to_string();
        assert_eq!(text("E009: language not prepared: x"), "E009: language not prepared: x");
        for other in ["cannot reach the bucket", "E1", "E00ä: x", ""] {
            assert_eq!(text(other), format!("E010: {other}"));
        }
    }
}
