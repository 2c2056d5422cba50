//! Why something was not downloaded.

use std::{
    io,
    path::{Path, PathBuf},
};

use images::{DigestError, Sha256Digest, rootfs::PublishImageError};

use super::{BucketError, ChunkError, RemoteManifestError};
use crate::{
    Language,
    snapshot::{CatalogueError, Mismatch, Size},
};

/// Why something was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The bucket did not do what it was asked for.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] RemoteManifestError),
    /// The bucket has no image of the language, or not this one.
    #[error("there is no {} in {bucket}", image(language, sha256.as_ref()))]
    NoImage {
        /// The bucket.
        bucket: String,
        /// The language.
        language: Language,
        /// The image, if one was named.
        sha256: Option<Sha256Digest>,
    },
    /// The bucket has no snapshot of the language and the size.
    #[error("there is no snapshot of {language}{} in {bucket}", size.map(|size| format!(" {size}")).unwrap_or_default())]
    NoSnapshot {
        /// The bucket.
        bucket: String,
        /// The language.
        language: Language,
        /// The size, if one was named.
        size: Option<Size>,
    },
    /// It has some, but none that could be restored here.
    #[error("of {count} snapshots of {language} {size} in {bucket} none can be restored on this host")]
    NoneFits {
        /// The bucket.
        bucket: String,
        /// The language.
        language: Language,
        /// The size.
        size: Size,
        /// How many there are.
        count: usize,
        /// What keeps the one that comes nearest.
        #[source]
        nearest: Mismatch,
    },
    /// Something else lies where it belongs.
    #[error("{} is there already, and is another one", .path.display())]
    Different {
        /// Where.
        path: PathBuf,
        /// What replaces it.
        hint: String,
    },
    /// There is less disk than it needs.
    #[error("{} MiB are free for {}, which needs {} more", free_bytes >> 20, .path.display(), needed_bytes >> 20)]
    DiskFull {
        /// The partial file.
        path: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What it needs.
        needed_bytes: u64,
    },
    /// A file cannot be written, or read back.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A chunk has the right digest and does not fit.
    #[error("{object} cannot be used")]
    Chunk {
        /// The object.
        object: String,
        /// Why.
        #[source]
        source: ChunkError,
    },
    /// The chunks that a manifest names do not make the file that it names.
    #[error("what was downloaded has the digest {found} instead of {expected}")]
    Contradiction {
        /// What the manifest says.
        expected: Sha256Digest,
        /// What its chunks make.
        found: Sha256Digest,
    },
    /// The image that is there cannot be read.
    #[error("cannot compare with what is there")]
    Digest(#[from] DigestError),
    /// Another command is making the same image.
    #[error("cannot put {} in place", .path.display())]
    Stage {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image cannot be put in place.
    #[error("cannot put the image in place")]
    Publish(#[from] PublishImageError),
    /// The snapshot cannot be put in place.
    #[error("cannot put the snapshot in place")]
    Catalogue(#[from] CatalogueError),
}

fn image(language: &Language, sha256: Option<&Sha256Digest>) -> String {
    match sha256 {
        Some(sha256) => format!("image {sha256} of {language}"),
        None => format!("image of {language}"),
    }
}

impl DownloadError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bucket(error) => error.hint(),
            Self::Manifest(error) => error.hint(),
            Self::NoImage { language, .. } => Some(format!(
                "upload one: infra.operator rootfs upload --lang {language}, or make it here: infra.operator rootfs create --lang {language}"
            )),
            Self::NoSnapshot { language, .. } => Some(format!(
                "upload one: infra.operator snapshot upload --lang {language}, or make it here: infra.operator snapshot create --lang {language}"
            )),
            Self::NoneFits { language, size, .. } => Some(format!(
                "make one here: infra.operator snapshot create --lang {language} --mem {} --vcpus {}",
                size.memory_mib, size.vcpus
            )),
            Self::Different { hint, .. } => Some(hint.clone()),
            Self::DiskFull { .. } => Some(
                "free some disk space, or choose another --data-dir; then run the same command".to_owned(),
            ),
            Self::Write { path, source } | Self::Stage { path, source } => Some(write_hint(path, source)),
            Self::Chunk { .. } | Self::Contradiction { .. } => {
                Some("upload it again from a host that has it, with --again".to_owned())
            }
            Self::Digest(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::Catalogue(CatalogueError::Locked { .. }) => {
                Some("wait for the other command to finish".to_owned())
            }
            Self::Catalogue(_) => Some("check the permissions of the data directory".to_owned()),
        }
    }
}

fn write_hint(path: &Path, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            "free some disk space; what has come so far is kept, and the same command goes on from there"
                .to_owned()
        }
        io::ErrorKind::WouldBlock => "wait for the other command to finish".to_owned(),
        _ => format!("check that {} can be written", path.display()),
    }
}
