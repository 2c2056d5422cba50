//! The snapshot that a microVM was restored from, as long as it runs.

use std::{fs::File, path::PathBuf};

use store::snapshot::Original;

/// Held by a microVM.
pub(crate) struct InUse {
    /// Keeps the snapshot from being tidied away.
    pub(crate) _lock: Option<File>,
    /// Its memory, as it was before it was checked.
    pub(crate) memory: Option<Original>,
    /// Where that is, or was.
    pub(crate) path: PathBuf,
    /// The command that makes the snapshot again.
    pub(crate) remedy: String,
}

impl InUse {
    /// Whether the memory is not what was saved any more, so that the microVM may be anything.
    pub(crate) fn is_changed(&self) -> bool {
        self.memory.as_ref().is_some_and(Original::is_changed)
    }
}
