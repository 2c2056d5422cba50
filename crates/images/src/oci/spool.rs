//! Layers uncompressed, each in a file without a name, where its entries' contents are read from later.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::limits::{MAX_CONTENT_BYTES, MAX_RATIO, RATIO_FREE_BYTES};
use crate::digest::Sha256Digest;
use crate::progress::Progress;
use crate::staging::io_hint;

const CHUNK_BYTES: usize = 256 << 10;

/// A layer, uncompressed.
#[derive(Debug)]
pub(super) struct Spooled {
    /// The archive. It has no name: it is gone with this value, or with the process.
    pub(super) file: File,
    /// Its digest: what an image's configuration calls a diff id.
    pub(super) digest: Sha256Digest,
}

/// A layer could not be uncompressed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be read, or is damaged.
    #[error("it cannot be uncompressed")]
    Read(
        /// Why.
        #[source]
        io::Error,
    ),
    /// There is no room for it, or no permission.
    #[error("cannot write to {}", directory.display())]
    Write {
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is compressed better than any, or all layers together are.
    #[error("{stored} bytes of it and of the other layers become more than {limit} bytes")]
    Bomb {
        /// How long all layers are as they are stored.
        stored: u64,
        /// How long they may be uncompressed.
        limit: u64,
    },
    /// All layers together are longer than those of any image.
    #[error("with the other layers it becomes more than {MAX_CONTENT_BYTES} bytes")]
    TooLarge,
    /// The user has interrupted the command.
    #[error("interrupted")]
    Interrupted,
}

impl SpoolError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Write { directory, source } => io_hint(directory, source),
            Self::Read(_) => Some("pull the image again, or have it made again".to_owned()),
            Self::Bomb { .. } | Self::TooLarge => {
                Some("do not use this image: it is meant to do harm".to_owned())
            }
            Self::Interrupted => None,
        }
    }
}

/// What all layers of an image may be uncompressed, or what is left of it, in bytes. It is one for all of them: five
/// hundred layers that are a little too well compressed are as bad as one that is far too well.
#[derive(Debug)]
pub(super) struct ContentAllowance {
    left: AtomicU64,
    stored: u64,
    limit: u64,
}

impl ContentAllowance {
    /// That of an image whose layers are stored in so many bytes.
    pub(super) fn of(stored: u64) -> Self {
        let limit = stored.saturating_mul(MAX_RATIO).clamp(RATIO_FREE_BYTES, MAX_CONTENT_BYTES);
        Self { left: AtomicU64::new(limit), stored, limit }
    }

    fn take(&self, bytes: u64) -> Result<(), SpoolError> {
        let take = |left: u64| left.checked_sub(bytes);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) if self.limit == MAX_CONTENT_BYTES => Err(SpoolError::TooLarge),
            Err(_) => Err(SpoolError::Bomb { stored: self.stored, limit: self.limit }),
        }
    }
}

/// Uncompresses the layer in `stored` to a file on the file system of `directory`.
pub(super) fn spool(
    stored: impl Read,
    allowance: &ContentAllowance,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Spooled, SpoolError> {
    let failed = |source| SpoolError::Write { directory: directory.to_owned(), source };
    let mut reader = decoder(BufReader::with_capacity(CHUNK_BYTES, stored)).map_err(SpoolError::Read)?;
    let mut file = tempfile::tempfile_in(directory).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SpoolError::Read(error)),
        };
        allowance.take(count as u64)?;
        if progress.is_interrupted() {
            return Err(SpoolError::Interrupted);
        }
        hasher.update(&chunk[..count]);
        file.write_all(&chunk[..count]).map_err(failed)?;
    }
    file.rewind().map_err(failed)?;
    Ok(Spooled { file, digest: Sha256Digest::from_hasher(hasher) })
}

/// What `reader` holds, uncompressed. How it is compressed says its beginning: media types are often wrong.
fn decoder<'a>(mut reader: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&GZIP) {
        // Of several members, as parallel compressors write it.
        Box::new(MultiGzDecoder::new(reader))
    } else if start.first_chunk().is_some_and(|magic| *magic == ZSTANDARD || is_skippable(*magic)) {
        Box::new(ZstandardFrames { reader: Some(reader), frame: None })
    } else {
        Box::new(reader)
    })
}

/// How a frame of Zstandard begins (RFC 8878, section 3.1).
const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether this begins a frame for others: `pzstd` puts lengths in some, and `zstd:chunked` layers a table of contents.
fn is_skippable(magic: [u8; 4]) -> bool {
    magic[0] & 0xf0 == 0x50 && magic[1..] == [0x2a, 0x4d, 0x18]
}

/// A frame's beginning, which has been read already, and the rest.
type Frame<R> = io::Chain<io::Cursor<[u8; 4]>, R>;

/// Reads frame after frame: `zstd` in parallel, and seekable variants of it, write several.
struct ZstandardFrames<R: BufRead> {
    /// Nothing while a frame has it.
    reader: Option<R>,
    frame: Option<ruzstd::decoding::StreamingDecoder<Frame<R>, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> Read for ZstandardFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.reader = self.frame.take().map(|frame| frame.into_inner().into_inner().1);
            }
            let Some(mut reader) = self.reader.take() else { return Ok(0) };
            if reader.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let mut magic = [0; 4];
            reader.read_exact(&mut magic)?;
            if is_skippable(magic) {
                let mut length = [0; 4];
                reader.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut reader.by_ref().take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.reader = Some(reader);
                continue;
            }
            let frame = ruzstd::decoding::StreamingDecoder::new(io::Cursor::new(magic).chain(reader))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            self.frame = Some(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::progress::Quiet;

    fn uncompressed(stored: &[u8]) -> Result<Vec<u8>, SpoolError> {
        with_allowance(stored, &ContentAllowance::of(stored.len() as u64))
    }

    fn with_allowance(stored: &[u8], allowance: &ContentAllowance) -> Result<Vec<u8>, SpoolError> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let spooled = spool(stored, allowance, directory.path(), &Quiet)?;
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 0, "it has no name");
        let mut bytes = Vec::new();
        (&spooled.file).read_to_end(&mut bytes).expect("it can be read");
        assert_eq!(Sha256Digest::of_bytes(&bytes), spooled.digest);
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("compress");
        encoder.finish().expect("compress")
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// A frame for others: `pzstd` begins with one, and `zstd:chunked` layers end with some.
    fn skippable(contents: &[u8]) -> Vec<u8> {
        let length = u32::try_from(contents.len()).expect("it is small").to_le_bytes();
        [&[0x5e, 0x2a, 0x4d, 0x18], &length[..], contents].concat()
    }

    #[test]
    fn layers_are_uncompressed_whatever_they_are_called() {
        for plain in [&b""[..], b"x", &b"some text, again and again. ".repeat(50_000)] {
            assert!(uncompressed(plain).expect("plain") == plain);
            assert!(uncompressed(&gzip(plain)).expect("gzip") == plain);
            assert!(uncompressed(&zstandard(plain)).expect("zstd") == plain);
        }
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(uncompressed(&two).expect("several members"), b"one two");
        let frames = [skippable(b"12"), zstandard(b"one "), zstandard(b"two"), skippable(&[7; 999])].concat();
        assert_eq!(uncompressed(&frames).expect("several frames"), b"one two");
        assert_eq!(uncompressed(&skippable(b"")).expect("nothing for us"), b"");
    }

    #[test]
    fn damaged_and_cut_layers_are_refused() {
        let long = b"some text, again and again. ".repeat(5_000);
        for whole in [gzip(&long), zstandard(&long), [zstandard(b"one"), skippable(b"two")].concat()] {
            for cut in [5, whole.len() / 2, whole.len() - 1] {
                assert!(matches!(uncompressed(&whole[..cut]), Err(SpoolError::Read(_))), "{cut}");
            }
        }
        let mut flipped = gzip(&long);
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        assert!(matches!(uncompressed(&flipped), Err(SpoolError::Read(_))));
    }

    #[test]
    fn what_all_layers_become_is_bounded_while_it_is_written() {
        let left = AtomicU64::new(5_000_000);
        let allowance = ContentAllowance { left, stored: 1 << 40, limit: MAX_CONTENT_BYTES };
        let layer = gzip(&vec![0; 2_000_000]);
        assert!(with_allowance(&layer, &allowance).is_ok());
        assert!(with_allowance(&layer, &allowance).is_ok());
        assert!(matches!(with_allowance(&layer, &allowance), Err(SpoolError::TooLarge)));
    }

    #[test]
    fn layers_that_are_a_bomb_together_are_stopped_together() {
        assert_eq!(ContentAllowance::of(0).limit, RATIO_FREE_BYTES);
        assert_eq!(ContentAllowance::of(100 << 20).limit, MAX_RATIO * (100 << 20));
        assert_eq!(ContentAllowance::of(u64::MAX).limit, MAX_CONTENT_BYTES);
        // As many that each stay a little below what one alone may become.
        let image = ContentAllowance::of(512 << 20 >> 9);
        let refused = (0..512).find_map(|_| image.take(RATIO_FREE_BYTES - 1).err()).expect("a bomb");
        assert!(matches!(refused, SpoolError::Bomb { limit: RATIO_FREE_BYTES, .. }), "{refused}");
    }

    #[test]
    fn a_bomb_is_stopped_at_what_a_layer_may_become() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1 << 26]).expect("compress");
        let bomb = encoder.finish().expect("compress").repeat(17);
        // Of what it becomes nobody is to see a gigabyte where this fails.
        let refused = uncompressed(&bomb).map(drop).expect_err("a bomb");
        let SpoolError::Bomb { stored, limit } = refused else { unreachable!("{refused}") };
        assert_eq!((stored, limit), (bomb.len() as u64, RATIO_FREE_BYTES));
    }
}
