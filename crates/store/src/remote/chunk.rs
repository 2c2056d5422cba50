//! Chunks: what is stored of eight MiB of a file.
//!
//! ```text
//! content   256 bytes: bit n % 8 of byte n / 8 says whether page n is not all zeros
//!           then those pages, 4096 bytes each, in order; the file's last one padded with zeros
//! name      SHA-256 of the content
//! object    the content as one zstd frame
//! ```
//!
//! A chunk that has no such page has no object. Equal chunks of all files, versions and languages are one object, and
//! whether it is there already is asked by its name.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use images::{Sha256Digest, Sha256Hasher};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

/// What of a file a chunk stands for, at most.
pub(super) const CHUNK_BYTES: usize = 8 << 20;

/// What is left out where it is zero: the unit in which guests and file systems write.
pub(super) const PAGE_BYTES: usize = 4096;

/// How many pages a chunk has, at most.
pub(super) const CHUNK_PAGES: usize = CHUNK_BYTES / PAGE_BYTES;

const BITMAP_BYTES: usize = CHUNK_PAGES / 8;

/// The longest content.
const MAX_CONTENT_BYTES: usize = BITMAP_BYTES + CHUNK_BYTES;

/// The longest object: zstd adds less than this to what it cannot make smaller.
pub(super) const MAX_STORED_BYTES: usize = MAX_CONTENT_BYTES + (64 << 10);

/// Of zstd's levels the one whose speed is near that of a disk. A snapshot's memory gets a third smaller than with
/// level 1, and a tenth larger than with level 9, which takes five times as long.
const LEVEL: i32 = 3;

static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// What an object holds that is no chunk.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It is no zstd frame, or one of something larger.
    #[error("it is no compressed chunk")]
    Frame(#[source] io::Error),
    /// Its content has another digest.
    #[error("its content has the digest {found}")]
    Digest {
        /// The digest of its content.
        found: Sha256Digest,
    },
    /// Its bitmap and its pages do not fit each other, or the file.
    #[error("its pages are not those of the file")]
    Pages,
}

/// The content of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content(Vec<u8>);

impl Content {
    /// The content for `window`, a part of a file; nothing where that is all zeros.
    fn of_window(window: &[u8]) -> Option<Self> {
        let is_data = |page: &[u8]| page != &ZEROS[..page.len()];
        let pages = window.chunks(PAGE_BYTES).filter(|page| is_data(page)).count();
        if pages == 0 {
            return None;
        }
        let mut content = Vec::with_capacity(BITMAP_BYTES + pages * PAGE_BYTES);
        content.resize(BITMAP_BYTES, 0);
        for (number, page) in window.chunks(PAGE_BYTES).enumerate().filter(|(_, page)| is_data(page)) {
            content[number / 8] |= 1 << (number % 8);
            content.extend_from_slice(page);
            // The file's last page may be shorter.
            content.resize(content.len() + PAGE_BYTES - page.len(), 0);
        }
        Some(Self(content))
    }

    /// Its name.
    pub(super) fn digest(&self) -> Sha256Digest {
        Sha256Digest::of_bytes(&self.0)
    }

    /// How many pages it holds.
    pub(super) fn pages(&self) -> usize {
        (self.0.len() - BITMAP_BYTES) / PAGE_BYTES
    }

    /// What is stored of it.
    pub(super) fn pack(&self) -> io::Result<Vec<u8>> {
        let mut packed = zstd::bulk::compress(&self.0, LEVEL)?;
        packed.shrink_to_fit();
        Ok(packed)
    }

    /// The content named `sha256` from what is stored of it.
    pub(super) fn unpack(stored: &[u8], sha256: &Sha256Digest) -> Result<Self, ChunkError> {
        let content = Self(zstd::bulk::decompress(stored, MAX_CONTENT_BYTES).map_err(ChunkError::Frame)?);
        let found = content.digest();
        if found != *sha256 {
            return Err(ChunkError::Digest { found });
        }
        let Some(bitmap) = content.0.get(..BITMAP_BYTES) else { return Err(ChunkError::Pages) };
        let pages: usize = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
        if content.0.len() == BITMAP_BYTES + pages * PAGE_BYTES {
            Ok(content)
        } else {
            Err(ChunkError::Pages)
        }
    }

    /// Writes its pages to a part of a file that is all zeros.
    pub(super) fn write(&self, file: &File, part: &Range<u64>) -> Result<(), WriteChunkError> {
        let (bitmap, pages) = self.0.split_at(BITMAP_BYTES);
        let length = usize::try_from(part.end - part.start).unwrap_or(CHUNK_BYTES);
        let numbers: Vec<usize> =
            (0..CHUNK_PAGES).filter(|number| bitmap[number / 8] & (1 << (number % 8)) != 0).collect();
        if numbers.last().is_some_and(|last| last * PAGE_BYTES >= length) {
            return Err(WriteChunkError::Chunk(ChunkError::Pages));
        }
        let mut rest = pages;
        // Pages that lie side by side, in one write.
        for run in numbers.chunk_by(|one, next| one + 1 == *next) {
            let (these, others) = rest.split_at(run.len() * PAGE_BYTES);
            let start = run[0] * PAGE_BYTES;
            // The last page may reach beyond the end of the file.
            let these = &these[..these.len().min(length - start)];
            file.write_all_at(these, part.start + start as u64).map_err(WriteChunkError::Write)?;
            rest = others;
        }
        Ok(())
    }
}

/// A chunk was not written.
#[derive(Debug)]
pub(super) enum WriteChunkError {
    /// It does not fit the file.
    Chunk(ChunkError),
    /// The disk.
    Write(io::Error),
}

/// The part of a file that is `bytes` long for which the chunk with this number stands.
pub(super) fn part(index: u32, bytes: u64) -> Range<u64> {
    let start = (u64::from(index) * CHUNK_BYTES as u64).min(bytes);
    start..(start + CHUNK_BYTES as u64).min(bytes)
}

/// How many chunks a file of this length has.
pub(super) fn count(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64)
}

/// Reads parts of a file, of which holes cost next to nothing.
pub(super) struct Reader<'a> {
    file: &'a File,
    window: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, window: Vec::new() }
    }

    /// The content of a part; nothing where that is all zeros.
    pub(super) fn content(&mut self, part: &Range<u64>) -> io::Result<Option<Content>> {
        Ok(self.fill(part)?.and_then(Content::of_window))
    }

    /// The same, and all of the part's bytes go into `hasher`.
    pub(super) fn content_hashed(
        &mut self,
        part: &Range<u64>,
        hasher: &mut Sha256Hasher,
    ) -> io::Result<Option<Content>> {
        self.hash(part, hasher)?;
        Ok(if self.window.is_empty() { None } else { Content::of_window(&self.window) })
    }

    /// All of the part's bytes go into `hasher`.
    pub(super) fn hash(&mut self, part: &Range<u64>, hasher: &mut Sha256Hasher) -> io::Result<()> {
        if let Some(window) = self.fill(part)? {
            hasher.update(window);
            return Ok(());
        }
        let mut rest = usize::try_from(part.end - part.start).unwrap_or(CHUNK_BYTES);
        while rest > 0 {
            let length = rest.min(ZEROS.len());
            hasher.update(&ZEROS[..length]);
            rest -= length;
        }
        Ok(())
    }

    /// Reads a part; nothing, and no room for it, where it is a hole.
    fn fill(&mut self, part: &Range<u64>) -> io::Result<Option<&[u8]>> {
        let length = usize::try_from(part.end - part.start).unwrap_or(CHUNK_BYTES);
        self.window.clear();
        let mut next = next_data(self.file, part)?;
        if next.is_none() {
            return Ok(None);
        }
        self.window.resize(length, 0);
        while let Some(data) = next {
            let within = |at: u64| usize::try_from(at - part.start).unwrap_or(length);
            self.file.read_exact_at(&mut self.window[within(data.start)..within(data.end)], data.start)?;
            next = next_data(self.file, &(data.end..part.end))?;
        }
        Ok(Some(&self.window))
    }
}

/// Where in a part of a file there is something else than a hole. Writers must not be at work.
fn next_data(file: &File, part: &Range<u64>) -> io::Result<Option<Range<u64>>> {
    if part.is_empty() {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(part.start)) {
        Ok(start) if start >= part.end => return Ok(None),
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => return Ok(Some(part.clone())),
        Err(error) => return Err(error.into()),
    };
    let end = match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => end.min(part.end),
        Err(error) => return Err(error.into()),
    };
    Ok((start < end).then_some(start..end))
}

/// Makes a part of a file all zeros, and gives its room back.
pub(super) fn clear(file: &File, part: &Range<u64>) -> io::Result<()> {
    if next_data(file, part)?.is_none() {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, part.start, part.end - part.start) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; usize::try_from(part.end - part.start).unwrap_or(CHUNK_BYTES)];
            file.write_all_at(&zeros, part.start)
        }
        cleared => Ok(cleared?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sparse file that holds each page's number at the places of `pages`.
    fn sparse(bytes: u64, pages: &[u64]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        for page in pages {
            let at = page * PAGE_BYTES as u64;
            if at < bytes {
                let text = vec![u8::try_from(page % 251).unwrap() + 1; PAGE_BYTES];
                let length = usize::try_from((bytes - at).min(PAGE_BYTES as u64)).unwrap();
                file.write_all_at(&text[..length], at).unwrap();
            }
        }
        file
    }

    fn whole(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn a_file_comes_back_from_its_chunks(
            bytes in 1..(3 * CHUNK_BYTES as u64),
            pages in prop::collection::vec(0..(3 * CHUNK_PAGES as u64), 0..40),
            garbage in prop::collection::vec(0..(3 * CHUNK_PAGES as u64), 0..4),
        ) {
            let from = sparse(bytes, &pages);
            let to = sparse(bytes, &garbage);
            let mut hasher = Sha256Hasher::default();
            let mut reader = Reader::new(&from);
            for index in 0..u32::try_from(count(bytes)).unwrap() {
                let part = part(index, bytes);
                clear(&to, &part).unwrap();
                if let Some(content) = reader.content_hashed(&part, &mut hasher).unwrap() {
                    let stored = content.pack().unwrap();
                    prop_assert!(stored.len() <= MAX_STORED_BYTES);
                    let again = Content::unpack(&stored, &content.digest()).unwrap();
                    prop_assert_eq!(&again, &content);
                    again.write(&to, &part).unwrap();
                }
            }
            prop_assert!(whole(&from) == whole(&to), "the files differ");
            prop_assert_eq!(hasher.finish(), Sha256Digest::of_bytes(&whole(&from)));
        }

        #[test]
        fn any_bytes_are_a_chunk_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let digest = Sha256Digest::of_bytes(&bytes);
            prop_assert!(Content::unpack(&bytes, &digest).is_err());
        }
    }

    #[test]
    fn what_cannot_be_made_smaller_fits_the_bound() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        };
        let window: Vec<u8> = (0..CHUNK_BYTES).map(|_| noise()).collect();
        let stored = Content::of_window(&window).unwrap().pack().unwrap();
        assert!(stored.len() > CHUNK_BYTES && stored.len() <= MAX_STORED_BYTES, "{}", stored.len());
        assert!(zstd::compress_bound(MAX_CONTENT_BYTES) <= MAX_STORED_BYTES);
    }

    #[test]
    fn a_frame_of_more_than_a_chunk_is_refused_before_there_is_room_for_it() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        assert!(bomb.len() < 16 << 10);
        let refused = Content::unpack(&bomb, &Sha256Digest::of_bytes(b""));
        assert!(matches!(refused, Err(ChunkError::Frame(_))), "{refused:?}");
    }

    #[test]
    fn bitmaps_that_do_not_fit_the_pages_or_the_file_are_refused() {
        let content = |bits: u8, pages: usize| {
            let mut content = vec![0; BITMAP_BYTES + pages * PAGE_BYTES];
            content[0] = bits;
            let stored = zstd::bulk::compress(&content, LEVEL).unwrap();
            Content::unpack(&stored, &Sha256Digest::of_bytes(&content))
        };
        assert!(matches!(content(0b11, 1), Err(ChunkError::Pages)));
        assert!(matches!(content(0b1, 2), Err(ChunkError::Pages)));
        let file = sparse(PAGE_BYTES as u64, &[]);
        let beyond = content(0b10, 1).unwrap().write(&file, &(0..PAGE_BYTES as u64));
        assert!(matches!(beyond, Err(WriteChunkError::Chunk(ChunkError::Pages))));
        assert_eq!(file.metadata().unwrap().len(), PAGE_BYTES as u64);
    }
}
