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
