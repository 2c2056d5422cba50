//! What is kept between commands: where it lies, and the formats of snapshots and of buckets.
//!
//! [`layout`] names the directories, [`snapshot`] owns the snapshot format: how one is published, found, checked and
//! removed. [`remote`] keeps both images and snapshots in object storage. It neither makes microVMs nor images.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod garbage;
pub mod language;
pub mod layout;
pub mod remote;
pub mod snapshot;

pub use language::{Language, ParseLanguageError};
pub use layout::DataDirectory;
