//! What is kept on disk between commands: where it lies, and the format of snapshots.
//!
//! [`layout`] names the directories, [`snapshot`] owns the snapshot format: how one is published, found, checked and
//! removed. It neither makes microVMs nor images.

pub mod language;
pub mod layout;
pub mod snapshot;

pub use language::{Language, ParseLanguageError};
pub use layout::DataDirectory;
