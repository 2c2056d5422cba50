//! Images and snapshots in object storage (`docs/snapshot-format.md`).
//!
//! ```text
//!            address, credentials                 image, snapshot
//!                    │                                  │
//!  bucket ── get, put, list, each with tries ── send ── upload ── manifest last
//!     │                                         receive ─ download ─ partial file, verified, renamed
//!  transport: what a server refuses             chunk: eight MiB of a file
//! ```
//!
//! Files are cut into chunks that are named by their content. What is there already is not sent or fetched again, so an
//! interrupted command needs no notes to go on. What comes out of a bucket is hostile until its digest says otherwise.
//!
//! This module reads neither environment nor configuration, and decides nothing about hosts: it is given what is to be
//! compared.

mod address;
mod again;
mod bucket;
mod chunk;
mod download;
mod error;
mod image;
mod manifest;
mod names;
mod partial;
mod receive;
mod send;
mod snapshot;
mod transport;

pub use address::{BucketAddress, ParseBucketError};
pub use bucket::{Bucket, BucketSettings, Credentials};
pub use chunk::ChunkError;
pub use download::DownloadError;
pub use error::{BucketError, Fault};
pub use image::{ImageDownload, ImageRow, download_image, list_images, upload_image};
pub use manifest::{REMOTE_FORMAT_VERSION, RemoteManifestError};
pub use send::{UploadError, Uploaded};
pub use snapshot::{
    SnapshotDownload, SnapshotRow, Wanted, download_snapshot, list_sizes, list_snapshots, upload_snapshot,
};
pub use transport::Refused;

/// How many chunks are on their way at a time. Enough for two processors and for the pauses of a distant server; each
/// may take 17 MiB of memory.
const PARALLEL: usize = 4;

/// Does work that blocks or computes on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Reads a text as what a bucket may hold, for `fuzz/`. Who asks knows the image, or the snapshot, by the object's name: it is
/// taken from the text, or hardly any would get further than that.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_manifests(text: &[u8]) {
    use images::Sha256Digest;

    use crate::{Language, snapshot::Size};

    fn parsed<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Option<T> {
        T::deserialize(value).ok()
    }

    if let Ok(name) = std::str::from_utf8(text) {
        if let Some((language, sha256)) = names::parse_image(name) {
            assert_eq!(names::ObjectName::of_image(&language, &sha256).as_str(), name);
        }
        if let Some((language, size, key)) = names::parse_snapshot(name) {
            assert_eq!(names::ObjectName::of_snapshot(&language, size, &key).as_str(), name);
        }
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) else { return };
    let (language, sha256) = (&value["language"], &value["image"]["sha256"]);
    if let (Some(language), Some(sha256)) = (parsed::<Language>(language), parsed::<Sha256Digest>(sha256))
        && let Ok(image) = manifest::RemoteImage::parse(text, "object", &language, &sha256)
    {
        let written = serde_json::to_vec(&image).expect("it was JSON");
        assert_eq!(
            manifest::RemoteImage::parse(&written, "object", &language, &sha256).expect("it was one"),
            image
        );
        assert!(image.chunks.len() as u64 <= chunk::count(image.image.bytes));
    }
    let (language, size) = (&value["snapshot"]["language"], &value["snapshot"]["size"]);
    if let (Some(language), Some(size)) = (parsed::<Language>(language), parsed::<Size>(size))
        && let Ok(snapshot) = manifest::RemoteSnapshot::parse(text, "object", &language, size)
    {
        let written = serde_json::to_vec(&snapshot).expect("it was JSON");
        assert_eq!(
            manifest::RemoteSnapshot::parse(&written, "object", &language, size).expect("it was one"),
            snapshot
        );
        assert_eq!(snapshot.snapshot.memory.bytes, u64::from(size.memory_mib) << 20);
        assert!(snapshot.memory.len() as u64 <= chunk::count(snapshot.snapshot.memory.bytes));
    }
}
