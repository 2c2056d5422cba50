//! Layers into the cache: `DIRECTORY/<digest>`, each once for all images.
//!
//! A download goes to `<digest>.partial`, which one process at a time writes. It stays where the download fails or is
//! interrupted, and the next one goes on at its end; its name becomes the layer's when the digest is right, and it is
//! removed when that is wrong.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::super::document::Blob;
use super::super::limits::MAX_LAYER_BYTES;
use super::client::{ATTEMPTS, Client, RequestError};
use crate::digest::Sha256Digest;
use crate::progress::Progress;
use crate::staging::{io_hint, sync_directory};

/// How many layers are downloaded at the same time.
const PARALLEL: usize = 3;

/// How often is looked whether another process has finished.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The name of a download that is not finished.
pub const PARTIAL: &str = "partial";

/// A layer could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum FetchLayerError {
    /// The registry does not deliver it.
    #[error("cannot download the layer {digest}")]
    Request {
        /// Its digest.
        digest: Sha256Digest,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// What the registry delivers is something else.
    #[error("the layer {digest} is not what the registry delivers: {problem}")]
    Wrong {
        /// Its digest.
        digest: Sha256Digest,
        /// In what way.
        problem: String,
    },
    /// It cannot be kept.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FetchLayerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request { source, .. } => source.hint(),
            Self::Wrong { .. } => {
                Some("try again; if it stays so, the registry or something before it is damaged".to_owned())
            }
            Self::Write { path, source } => io_hint(path, source),
        }
    }
}

/// What all downloads of an image have in common.
pub(super) struct Downloads {
    /// The registry.
    pub(super) client: Client,
    /// The cache.
    pub(super) directory: PathBuf,
    /// Who is told.
    pub(super) progress: Arc<dyn Progress>,
    /// Bytes that are there.
    pub(super) done: AtomicU64,
    /// Bytes of all layers.
    pub(super) total: u64,
}

/// Has all of `layers` in the cache. Dropping it stops all downloads.
pub(super) async fn fetch_all(downloads: Downloads, layers: &[Blob]) -> Result<(), FetchLayerError> {
    let mut wanted: Vec<Blob> = layers.to_vec();
    wanted.sort_by(|one, other| one.digest.cmp(&other.digest));
    wanted.dedup();
    let (downloads, mut waiting) = (Arc::new(downloads), wanted.into_iter());
    let mut running = JoinSet::new();
    let start = |running: &mut JoinSet<_>, blob: Blob| {
        let downloads = Arc::clone(&downloads);
        running.spawn(async move { downloads.fetch(&blob).await });
    };
    waiting.by_ref().take(PARALLEL).for_each(|blob| start(&mut running, blob));
    while let Some(ended) = running.join_next().await {
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        if let Some(blob) = waiting.next() {
            start(&mut running, blob);
        }
    }
    Ok(())
}

impl Downloads {
    async fn fetch(&self, blob: &Blob) -> Result<(), FetchLayerError> {
        let path = self.directory.join(blob.digest.as_str());
        if blob.size > MAX_LAYER_BYTES {
            return Err(wrong(blob, format!("it would have {} bytes, more than any layer", blob.size)));
        }
        if is_there(&path, blob) {
            self.advance(blob.size);
            return Ok(());
        }
        let partial = path.with_extension(PARTIAL);
        let failed = |source| FetchLayerError::Write { path: partial.clone(), source };
        let Some(file) = self.lock(&path, &partial, blob).await.map_err(failed)? else {
            self.advance(blob.size);
            return Ok(());
        };
        let mut download = Download::resume(file, blob).map_err(failed)?;
        self.advance(download.length);
        let mut fruitless = 0;
        while download.length < blob.size {
            let before = download.length;
            match self.receive(&mut download, blob).await {
                Ok(()) => {}
                Err(Interrupted::Connection(source)) => {
                    fruitless = if download.length > before { 0 } else { fruitless + 1 };
                    if fruitless >= ATTEMPTS {
                        return Err(FetchLayerError::Request { digest: blob.digest.clone(), source });
                    }
                    tokio::time::sleep(Duration::from_millis(200) * (fruitless + 1)).await;
                }
                Err(Interrupted::Request(source)) => {
                    return Err(FetchLayerError::Request { digest: blob.digest.clone(), source });
                }
                Err(Interrupted::Write(source)) => return Err(failed(source)),
            }
        }
        let found = Sha256Digest::from_hasher(download.hasher);
        if found != blob.digest {
            // Going on from it would never get it right.
            let _ = fs::remove_file(&partial);
            return Err(wrong(blob, format!("its SHA-256 is {found}")));
        }
        download.file.sync_all().map_err(failed)?;
        fs::rename(&partial, &path).and_then(|()| sync_directory(&self.directory)).map_err(failed)
    }

    /// Opens the download that is not finished, alone. Nothing where another process has finished it meanwhile.
    async fn lock(&self, path: &Path, partial: &Path, blob: &Blob) -> io::Result<Option<File>> {
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(partial)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_there(path, blob) => {
                    // The name is free again, and this file is not the one that was downloaded.
                    fs::remove_file(partial)?;
                    return Ok(None);
                }
                // It may have become the layer, or been removed, between opening and locking.
                Ok(()) if is_named(&file, partial) => return Ok(Some(file)),
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOOK_INTERVAL).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn receive(&self, download: &mut Download, blob: &Blob) -> Result<(), Interrupted> {
        let digest = format!("sha256:{}", blob.digest);
        let (mut response, continues) =
            self.client.blob_from(&digest, download.length).await.map_err(Interrupted::Request)?;
        if !continues && download.length > 0 {
            self.done.fetch_sub(download.length, Ordering::Relaxed);
            download.restart().map_err(Interrupted::Write)?;
        }
        while let Some(chunk) =
            response.chunk().await.map_err(|source| Interrupted::Connection(self.client.hung_up(source)))?
        {
            if download.length + chunk.len() as u64 > blob.size {
                let host = self.client.host().name.clone();
                return Err(Interrupted::Request(RequestError::TooLong { host, limit: blob.size }));
            }
            download.add(&chunk).map_err(Interrupted::Write)?;
            self.advance(chunk.len() as u64);
        }
        if download.length < blob.size {
            let host = self.client.host().name.clone();
            return Err(Interrupted::Connection(RequestError::TooShort { host }));
        }
        Ok(())
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.bytes(done, Some(self.total));
    }
}

enum Interrupted {
    /// Going on may help.
    Connection(RequestError),
    /// It will not.
    Request(RequestError),
    /// The disk is full, or its like.
    Write(io::Error),
}

/// A download, as far as it has come.
struct Download {
    file: File,
    hasher: Sha256,
    length: u64,
}

impl Download {
    /// What an earlier attempt has left is part of it.
    fn resume(mut file: File, blob: &Blob) -> io::Result<Self> {
        let mut download = Self { hasher: Sha256::new(), length: 0, file: file.try_clone()? };
        let mut chunk = vec![0; 256 << 10];
        file.seek(SeekFrom::Start(0))?;
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            download.hasher.update(&chunk[..count]);
            download.length += count as u64;
        }
        if download.length > blob.size {
            download.restart()?;
        }
        Ok(download)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Writing a few kilobytes to the page cache takes less than handing them to another thread would.
    fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }
}

/// Whether the cache has the layer. Its digest is computed when it is used.
fn is_there(path: &Path, blob: &Blob) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size)
}

fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(identity).ok() == fs::symlink_metadata(path).map(identity).ok()
}

fn wrong(blob: &Blob, problem: String) -> FetchLayerError {
    FetchLayerError::Wrong { digest: blob.digest.clone(), problem }
}
