//! Making and exchanging images and snapshots: long work, asked for over HTTP and followed there.
//!
//! ```text
//! POST ─▶ Task ─▶ Operations ──one at a time──▶ Administration ─▶ steps, result or error
//!                   │ 202, id                                            │
//! GET, ?wait= ──────┴────────────────── Operation ◀──────────────────────┘
//! ```
//!
//! How it is done is said elsewhere, by whatever implements [`Administration`]; who may ask, in `administrator`. Operations
//! are kept in memory: after a start of the service nobody knows those of before.

mod administration;
mod inventory;
mod operation;
mod queue;
#[cfg(test)]
mod queue_tests;

pub use administration::{
    Administration, AdministrationError, BucketName, ImageOrigin, ParseBucketNameError,
    ParseRegistryImageError, RegistryImage, SnapshotSizes, Task,
};
pub use inventory::{ImageInfo, ImageSourceInfo, RemoteImageInfo, RemoteSnapshotInfo, SnapshotInfo};
pub(crate) use operation::{Operation, OperationSummary};
pub(crate) use queue::{Operations, SubmitError};
