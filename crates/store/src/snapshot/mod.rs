//! Snapshots on disk (`docs/snapshot-format.md`).
//!
//! ```text
//! snapshots/python/512m-1c/
//!   manifest.json      what the other two are, and what they depend on
//!   vmstate.snapshot   device and processor state
//!   mem.snapshot       guest memory, with holes
//!   verified.json      this host's note of what it has checked; never leaves it
//! ```

mod catalogue;
pub(crate) mod manifest;
mod original;
mod verify;

pub use catalogue::{Catalogue, CatalogueError, Entry, Staged};
pub use manifest::{FORMAT_VERSION, FileRecord, HostRecord, KernelRecord, Manifest, ManifestError, Size};
pub use original::Original;
pub use verify::{Current, Mismatch, ReadFile, VerifyError};

/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The name of the device state.
pub const DEVICE_STATE: &str = "vmstate.snapshot";
/// The name of the memory.
pub const MEMORY: &str = "mem.snapshot";
/// The name of the note of what was checked.
const VERIFIED: &str = "verified.json";
