//! Sends a file: reads it once from start to end, and puts what the bucket lacks.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use images::{Progress, Sha256Digest, Sha256Hasher, rootfs::ReadDetailsError};
use tokio::sync::mpsc;

use super::{
    Bucket, BucketError, PARALLEL, blocking,
    chunk::{self, Content, Reader},
    manifest::ChunkRecord,
    names::ObjectName,
};
use crate::snapshot::FileRecord;

/// Why something was not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bucket did not do what it was asked for.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A chunk cannot be compressed.
    #[error("cannot compress a part of {}", .path.display())]
    Pack {
        /// Of which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was written to while it was read.
    #[error("{} has changed while it was uploaded", .path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// A file is not what the manifest says.
    #[error("{} is not what the snapshot's manifest says", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The command that mends it.
        command: String,
    },
    /// What is noted beside an image cannot be used.
    #[error("cannot upload what is noted beside the image")]
    Details(#[source] ReadDetailsError),
    /// A file has a length that no download would accept.
    #[error("{} is no image: {bytes} bytes are no whole number of sectors, or too many", .path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// A manifest cannot be written as JSON.
    #[error("cannot write a manifest")]
    Manifest(#[source] serde_json::Error),
}

impl UploadError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bucket(error) => error.hint(),
            Self::Read { path, .. } => Some(format!("check that {} can be read", path.display())),
            Self::Changed { .. } => Some("upload it again when nobody writes to it".to_owned()),
            Self::Damaged { command, .. } => Some(format!("run: {command}")),
            Self::Details(_) => Some("remove the file; the image works without it".to_owned()),
            Self::Pack { .. } | Self::Length { .. } | Self::Manifest(_) => None,
        }
    }
}

/// What an upload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// How long the files are.
    pub bytes: u64,
    /// What they take in the bucket.
    pub stored_bytes: u64,
    /// How much of that was sent now.
    pub sent_bytes: u64,
}

impl Uploaded {
    /// Both together.
    pub(super) fn and(self, other: &Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            stored_bytes: self.stored_bytes + other.stored_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
        }
    }
}

/// A file that is in the bucket now.
pub(super) struct Sent {
    pub(super) record: FileRecord,
    pub(super) chunks: Vec<ChunkRecord>,
    pub(super) uploaded: Uploaded,
}

/// Sends a file. With `again` also those parts that are there.
pub(super) async fn send(
    bucket: &Bucket,
    path: &Path,
    again: bool,
    progress: &Arc<dyn Progress>,
) -> Result<Sent, UploadError> {
    let failed = |source| UploadError::Read { path: path.to_owned(), source };
    let opened = path.to_owned();
    let (file, before) = blocking(move || {
        let file = File::open(opened)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    })
    .await
    .map_err(failed)?;
    let bytes = before.len();
    // One part waits here and one is being read, beside those that are on their way.
    let (parts, received) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || read(&file, bytes, &parts));
    let parts =
        stream::unfold(received, |mut received| async { received.recv().await.map(|part| (part, received)) });
    // In order, for the manifest.
    let sending = parts.map(|(index, content)| put(bucket, path, index, content, again)).buffered(PARALLEL);
    let mut sending = std::pin::pin!(sending);
    let (mut chunks, mut uploaded) = (Vec::new(), Uploaded { bytes, ..Uploaded::default() });
    progress.bytes(0, Some(bytes));
    while let Some((record, sent_bytes)) = sending.try_next().await? {
        progress.bytes(chunk::part(record.index, bytes).end, Some(bytes));
        uploaded.stored_bytes += record.stored;
        uploaded.sent_bytes += sent_bytes;
        chunks.push(record);
    }
    let read = reading.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let (sha256, after) = read.map_err(failed)?;
    // By its name, too: an editor puts another file in its place.
    let by_name = fs::metadata(path).map_err(failed)?;
    if identity(&before) != identity(&after) || identity(&before) != identity(&by_name) {
        return Err(UploadError::Changed { path: path.to_owned() });
    }
    progress.bytes(bytes, Some(bytes));
    Ok(Sent { record: FileRecord { sha256, bytes }, chunks, uploaded })
}

/// What changes when a file does.
fn identity(metadata: &fs::Metadata) -> (u64, u64, u64, [i64; 4]) {
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    (metadata.dev(), metadata.ino(), metadata.len(), times)
}

/// Reads a file, hands out its parts that are not all zeros, and returns its digest and what it is at the end.
fn read(
    file: &File,
    bytes: u64,
    parts: &mpsc::Sender<(u32, Content)>,
) -> io::Result<(Sha256Digest, fs::Metadata)> {
    let mut hasher = Sha256Hasher::default();
    let mut reader = Reader::new(file);
    let count = u32::try_from(chunk::count(bytes)).map_err(|_| io::ErrorKind::FileTooLarge)?;
    for index in 0..count {
        if let Some(content) = reader.content_hashed(&chunk::part(index, bytes), &mut hasher)? {
            // Where nobody takes it, sending has failed, and that is what is told.
            parts.blocking_send((index, content)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
    }
    Ok((hasher.finish(), file.metadata()?))
}

/// Puts a chunk, unless it is there. Returns its record, and how many bytes were sent.
async fn put(
    bucket: &Bucket,
    path: &Path,
    index: u32,
    content: Content,
    again: bool,
) -> Result<(ChunkRecord, u64), UploadError> {
    let (sha256, content) = blocking(move || (content.digest(), content)).await;
    let name = ObjectName::of_chunk(&sha256);
    let pages = u32::try_from(content.pages()).unwrap_or(u32::MAX);
    let record = |stored| ChunkRecord { index, sha256: sha256.clone(), pages, stored };
    let there = if again { None } else { bucket.length(&name).await? };
    // What is empty or larger than any chunk is none: somebody else's, or what a crash has left.
    if let Some(stored) = there.filter(|stored| (1..=chunk::MAX_STORED_BYTES as u64).contains(stored)) {
        return Ok((record(stored), 0));
    }
    let packed = blocking(move || content.pack())
        .await
        .map_err(|source| UploadError::Pack { path: path.to_owned(), source })?;
    let stored = packed.len() as u64;
    bucket.put(&name, packed.into()).await?;
    Ok((record(stored), stored))
}
