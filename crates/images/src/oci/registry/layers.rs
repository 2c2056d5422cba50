//! Layers into the cache: `DIRECTORY/<digest>`, each once for all images.
//!
//! A download goes to `<digest>.partial`, which one process at a time writes. It stays where the download fails or is
//! interrupted, and the next one goes on at its end; its name becomes the layer's when the digest is right, and it is
//! removed when that is wrong, or the disk is full.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::super::document::Blob;
use super::super::limits::{MAX_LAYER_BYTES, MAX_STORED_BYTES};
use super::client::{ATTEMPTS, Client, RequestError};
use super::pace::Pace;
use crate::digest::Sha256Digest;
use crate::progress::Progress;
use crate::staging::{io_hint, sync_directory};

/// How many layers are downloaded at the same time.
const PARALLEL: usize = 3;

/// How often is looked whether another process has finished.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How much a connection has to bring for another one to be made after it, in bytes. A host that hangs up after every
/// byte could keep us for ever.
const LEAST_PROGRESS_BYTES: u64 = 16 << 10;

/// What the file system takes for itself beside the layers, in bytes.
const DISK_RESERVE_BYTES: u64 = 1 << 20;

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
    /// All of them together are longer than those of any image.
    #[error(
        "its layers would have {announced} bytes, more than the {MAX_STORED_BYTES} that an image may have"
    )]
    TooLarge {
        /// What they would have.
        announced: u64,
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
            Self::TooLarge { .. } => {
                Some("use another image: this one is larger than a microVM's may be".to_owned())
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
    check_room(&wanted, &downloads.directory)?;
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

/// Refuses what is larger than any image, or than the disk, before anything of it is written.
fn check_room(wanted: &[Blob], directory: &Path) -> Result<(), FetchLayerError> {
    let announced = wanted.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
    if announced > MAX_STORED_BYTES {
        return Err(FetchLayerError::TooLarge { announced });
    }
    // Where nobody can tell, writing will.
    let Ok(disk) = rustix::fs::statvfs(directory) else { return Ok(()) };
    check_disk(wanted, directory, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn check_disk(wanted: &[Blob], directory: &Path, free: u64) -> Result<(), FetchLayerError> {
    let missing = wanted.iter().map(|blob| {
        let path = directory.join(blob.digest.as_str());
        let begun = fs::symlink_metadata(path.with_extension(PARTIAL)).map_or(0, |metadata| metadata.len());
        if is_there(&path, blob) { 0 } else { blob.size.saturating_sub(begun) }
    });
    let missing: u64 = missing.sum();
    if missing > 0 && free < missing + DISK_RESERVE_BYTES {
        let reason = format!(
            "no space left on device: the layers need {} MiB, and {} MiB are free",
            missing.div_ceil(1 << 20),
            free >> 20
        );
        let source = io::Error::new(io::ErrorKind::StorageFull, reason);
        return Err(FetchLayerError::Write { path: directory.to_owned(), source });
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
        let (mut fruitless, mut furthest) = (0, download.length);
        while download.length < blob.size {
            match self.receive(&mut download, blob).await {
                Ok(()) => {}
                Err(Interrupted::Connection(source)) => {
                    // A server can have it begin anew each time: what was there before is no progress.
                    let is_worth_it = download.length >= furthest + LEAST_PROGRESS_BYTES;
                    fruitless = if is_worth_it { 0 } else { fruitless + 1 };
                    furthest = furthest.max(download.length);
                    if fruitless >= ATTEMPTS {
                        return Err(FetchLayerError::Request { digest: blob.digest.clone(), source });
                    }
                    tokio::time::sleep(Duration::from_millis(200) * (fruitless + 1)).await;
                }
                Err(Interrupted::Request(source)) => {
                    return Err(FetchLayerError::Request { digest: blob.digest.clone(), source });
                }
                Err(Interrupted::Write(source)) => {
                    // A full disk is in the way of everybody, and more so than a download is worth keeping.
                    if source.kind() == io::ErrorKind::StorageFull {
                        let _ = fs::remove_file(&partial);
                    }
                    return Err(failed(source));
                }
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
        let mut pace = Pace::new(Instant::now());
        while let Some(chunk) =
            response.chunk().await.map_err(|source| Interrupted::Connection(self.client.hung_up(source)))?
        {
            if download.length + chunk.len() as u64 > blob.size {
                let host = self.client.host().name.clone();
                return Err(Interrupted::Request(RequestError::TooLong { host, limit: blob.size }));
            }
            download.add(&chunk).map_err(Interrupted::Write)?;
            self.advance(chunk.len() as u64);
            if !pace.is_kept(chunk.len() as u64, Instant::now()) {
                let host = self.client.host().name.clone();
                return Err(Interrupted::Request(RequestError::TooSlow { host }));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str, size: u64) -> Blob {
        Blob { digest: Sha256Digest::of_bytes(name.as_bytes()), size }
    }

    #[test]
    fn layers_that_are_larger_than_any_image_are_refused_before_one_is_begun() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layers: Vec<Blob> = (0..512).map(|number| blob(&number.to_string(), MAX_LAYER_BYTES)).collect();
        let refused = check_room(&layers, directory.path()).expect_err("16 TiB");
        let FetchLayerError::TooLarge { announced } = refused else { unreachable!("{refused}") };
        assert_eq!(announced, 512 * MAX_LAYER_BYTES);
        let refused = check_room(&[blob("a", u64::MAX), blob("b", 1)], directory.path());
        assert!(matches!(refused, Err(FetchLayerError::TooLarge { .. })), "no number overflows");
    }

    #[test]
    fn what_the_disk_has_no_room_for_is_refused_with_a_hint_unless_it_is_there() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (layer, free) = (blob("a", 100 << 20), 50 << 20);
        let check = || check_disk(std::slice::from_ref(&layer), directory.path(), free);
        let refused = check().expect_err("no room");
        assert!(refused.hint().is_some_and(|hint| hint.starts_with("free some space")), "{refused}");
        let path = directory.path().join(layer.digest.as_str());
        let partial = path.with_extension(PARTIAL);
        File::create(&partial).and_then(|file| file.set_len(60 << 20)).expect("a sparse file");
        check().expect("40 MiB fit into 50");
        fs::rename(&partial, &path).expect("rename");
        check().expect_err("what has another length is no layer");
        File::create(&path).and_then(|file| file.set_len(layer.size)).expect("a sparse file");
        check().expect("nothing is needed");
    }

    #[test]
    fn the_disk_that_counts_is_the_cache_s() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let refused = check_room(&[blob("a", 1)], Path::new("/proc")).expect_err("nothing is free there");
        assert!(matches!(refused, FetchLayerError::Write { .. }), "{refused}");
        check_room(&[blob("a", 1)], directory.path()).expect("a byte is");
    }
}
