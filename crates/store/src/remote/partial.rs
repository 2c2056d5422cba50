//! A file that is being downloaded: `downloads/<sha256>.partial`, sparse, and locked by who works on it.
//!
//! It stays where a command ends before it is whole, and the next one goes on with it. No journal says what of it is
//! there: that is found by reading it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use images::Progress;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::{blocking, download::DownloadError};
use crate::snapshot::FileRecord;

/// A partial file that is ours as long as this lives.
pub(super) struct Partial {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) record: FileRecord,
    /// Whether somebody had worked on it before.
    pub(super) is_begun: bool,
}

/// What there is when its lock is ours.
pub(super) enum Taken {
    /// The file.
    Partial(Partial),
    /// Nothing: who had the lock has put the file in its place, or removed it.
    Gone,
}

impl Partial {
    /// Takes the partial file of `record`, and waits while somebody else works on it.
    pub(super) async fn take(
        downloads: &Path,
        record: &FileRecord,
        progress: &Arc<dyn Progress>,
    ) -> Result<Taken, DownloadError> {
        let path = downloads.join(format!("{}.partial", record.sha256));
        let failed = |source| DownloadError::Write { path: path.clone(), source };
        let (downloads, record, progress) = (downloads.to_owned(), record.clone(), Arc::clone(progress));
        let wanted = path.clone();
        // A thread of its own: who is interrupted while it waits leaves it behind, and it ends with the process.
        let taken = blocking(move || take(&downloads, wanted, record, &*progress)).await;
        taken.map_err(failed)
    }

    /// Removes it.
    pub(super) fn remove(&self) {
        // Where it cannot be removed, the next command finds what is wrong with it.
        let _ = fs::remove_file(&self.path);
    }
}

fn take(downloads: &Path, path: PathBuf, record: FileRecord, progress: &dyn Progress) -> io::Result<Taken> {
    fs::create_dir_all(downloads)?;
    // No link to another place.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))?);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            progress.step("waiting for another command that downloads the same");
            flock(&file, FlockOperation::LockExclusive)?;
        }
        locked => locked?,
    }
    let (ours, named) = (file.metadata()?, fs::metadata(&path));
    if !named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
        return Ok(Taken::Gone);
    }
    let is_begun = ours.len() > 0;
    file.set_len(record.bytes)?;
    Ok(Taken::Partial(Partial { file: Arc::new(file), path, record, is_begun }))
}
