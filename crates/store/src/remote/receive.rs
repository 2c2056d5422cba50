//! Fetches a file into its partial file, and verifies it.

use std::{fs::File, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use images::{Progress, Sha256Digest, Sha256Hasher};

use super::{
    Bucket, ChunkError, Fault, PARALLEL, blocking,
    chunk::{self, Content, Reader, WriteChunkError},
    download::DownloadError,
    manifest::ChunkRecord,
    names::ObjectName,
    partial::Partial,
};
use crate::snapshot::ReadFile;

/// What a file system takes for itself, with room to spare.
const DISK_RESERVE_BYTES: u64 = 16 << 20;

/// A file that is whole and verified.
pub(super) struct Received {
    pub(super) partial: Partial,
    pub(super) read: ReadFile,
    /// How many bytes came out of the bucket.
    pub(super) fetched_bytes: u64,
}

/// Makes the partial file whole: fetches what of it is not there.
pub(super) async fn receive(
    bucket: &Bucket,
    partial: Partial,
    chunks: &[ChunkRecord],
    progress: &Arc<dyn Progress>,
) -> Result<Received, DownloadError> {
    let bytes = partial.record.bytes;
    let missing = missing(&partial, chunks, progress).await?;
    check_disk(&partial, &missing)?;
    let mut done = bytes - missing.iter().map(|record| length(record, bytes)).sum::<u64>();
    let mut fetched_bytes = 0;
    progress.bytes(done, Some(bytes));
    let mut fetching =
        stream::iter(&missing).map(|record| fetch(bucket, &partial, record)).buffer_unordered(PARALLEL);
    while let Some(fetched) = fetching.next().await {
        let record = fetched?;
        fetched_bytes += record.stored;
        done += length(record, bytes);
        progress.bytes(done, Some(bytes));
    }
    drop(fetching);
    let (sha256, metadata) = {
        let (file, path) = (Arc::clone(&partial.file), partial.path.clone());
        let read = blocking(move || {
            file.sync_all()?;
            Ok((digest(&file, bytes)?, file.metadata()?))
        });
        read.await.map_err(|source| DownloadError::Write { path, source })?
    };
    if sha256 != partial.record.sha256 {
        // Each chunk is what the manifest says, so the manifest contradicts itself: nothing here is worth keeping.
        partial.remove();
        return Err(DownloadError::Contradiction { expected: partial.record.sha256, found: sha256 });
    }
    Ok(Received { read: ReadFile::new(&metadata, sha256), partial, fetched_bytes })
}

fn length(record: &ChunkRecord, bytes: u64) -> u64 {
    let part = chunk::part(record.index, bytes);
    part.end - part.start
}

/// The chunks that are not in the file yet. What is no chunk's, or a wrong one's, is made zeros.
async fn missing(
    partial: &Partial,
    chunks: &[ChunkRecord],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<ChunkRecord>, DownloadError> {
    if !partial.is_begun {
        return Ok(chunks.to_vec());
    }
    let (file, bytes, path) = (Arc::clone(&partial.file), partial.record.bytes, partial.path.clone());
    let (chunks, progress) = (chunks.to_vec(), Arc::clone(progress));
    let looked = blocking(move || {
        let mut reader = Reader::new(&file);
        let mut expected = chunks.into_iter().peekable();
        let mut missing = Vec::new();
        for index in 0..u32::try_from(chunk::count(bytes)).unwrap_or(u32::MAX) {
            let part = chunk::part(index, bytes);
            let record = expected.next_if(|record| record.index == index);
            let there = reader.content(&part)?.map(|content| content.digest());
            if there.as_ref() != record.as_ref().map(|record| &record.sha256) {
                chunk::clear(&file, &part)?;
                missing.extend(record);
            }
            progress.bytes(part.end, Some(bytes));
        }
        Ok(missing)
    });
    looked.await.map_err(|source| DownloadError::Write { path, source })
}

/// Full before anything was written is better than full in the middle.
fn check_disk(partial: &Partial, missing: &[ChunkRecord]) -> Result<(), DownloadError> {
    let pages: u64 = missing.iter().map(|record| u64::from(record.pages)).sum();
    let needed_bytes = pages * chunk::PAGE_BYTES as u64 + DISK_RESERVE_BYTES;
    let Ok(disk) = rustix::fs::fstatvfs(&*partial.file) else { return Ok(()) };
    let free_bytes = disk.f_bavail * disk.f_frsize;
    if free_bytes < needed_bytes {
        return Err(DownloadError::DiskFull { path: partial.path.clone(), free_bytes, needed_bytes });
    }
    Ok(())
}

async fn fetch<'a>(
    bucket: &Bucket,
    partial: &Partial,
    record: &'a ChunkRecord,
) -> Result<&'a ChunkRecord, DownloadError> {
    let name = ObjectName::of_chunk(&record.sha256);
    let content = bucket
        .get(&name, chunk::MAX_STORED_BYTES, |stored: Bytes| {
            let record = record.clone();
            async { blocking(move || unpack(&stored, &record)).await.map_err(Fault::Content) }
        })
        .await?;
    let (file, part) = (Arc::clone(&partial.file), chunk::part(record.index, partial.record.bytes));
    match blocking(move || write(&content, &file, &part)).await {
        Ok(()) => Ok(record),
        Err(WriteChunkError::Write(source)) => {
            Err(DownloadError::Write { path: partial.path.clone(), source })
        }
        Err(WriteChunkError::Chunk(source)) => {
            Err(DownloadError::Chunk { object: bucket.shown(name.as_str()), source })
        }
    }
}

/// The chunk's content, if it is what the manifest says.
fn unpack(stored: &[u8], record: &ChunkRecord) -> Result<Content, ChunkError> {
    let content = Content::unpack(stored, &record.sha256)?;
    if content.pages() as u64 == u64::from(record.pages) { Ok(content) } else { Err(ChunkError::Pages) }
}

fn write(content: &Content, file: &File, part: &Range<u64>) -> Result<(), WriteChunkError> {
    content.write(file, part)
}

/// The digest of a whole file, of which holes cost little.
fn digest(file: &File, bytes: u64) -> std::io::Result<Sha256Digest> {
    let mut hasher = Sha256Hasher::default();
    let mut reader = Reader::new(file);
    for index in 0..u32::try_from(chunk::count(bytes)).unwrap_or(u32::MAX) {
        reader.hash(&chunk::part(index, bytes), &mut hasher)?;
    }
    Ok(hasher.finish())
}
