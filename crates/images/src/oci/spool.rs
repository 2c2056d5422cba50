//! Layers uncompressed, each in a file without a name, where its entries' contents are read from later.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

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
    /// It is longer than any layer, or compressed better than any.
    #[error("{stored} bytes of it become more than {limit} bytes")]
    Bomb {
        /// How long it is as it is stored.
        stored: u64,
        /// How long it may be uncompressed.
        limit: u64,
    },
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
            Self::Bomb { .. } => Some("do not use this image: it is meant to do harm".to_owned()),
            Self::Interrupted => None,
        }
    }
}

/// Uncompresses the layer in `stored`, which is `stored_bytes` long, to a file on the file system of `directory`.
pub(super) fn spool(
    stored: impl Read,
    stored_bytes: u64,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<Spooled, SpoolError> {
    let failed = |source| SpoolError::Write { directory: directory.to_owned(), source };
    let limit = stored_bytes.saturating_mul(MAX_RATIO).clamp(RATIO_FREE_BYTES, MAX_CONTENT_BYTES);
    let mut reader = decoder(BufReader::with_capacity(CHUNK_BYTES, stored)).map_err(SpoolError::Read)?;
    let mut file = tempfile::tempfile_in(directory).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0_u64;
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SpoolError::Read(error)),
        };
        length += count as u64;
        if length > limit {
            return Err(SpoolError::Bomb { stored: stored_bytes, limit });
        }
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
    const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&GZIP) {
        // Of several members, as parallel compressors write it.
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(&ZSTANDARD) {
        Box::new(ZstandardFrames { reader: Some(reader), frame: None })
    } else {
        Box::new(reader)
    })
}

/// Reads frame after frame: `zstd` in parallel, and seekable variants of it, write several.
struct ZstandardFrames<R: BufRead> {
    /// Nothing while a frame has it.
    reader: Option<R>,
    frame: Option<ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> Read for ZstandardFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                self.reader = self.frame.take().map(ruzstd::decoding::StreamingDecoder::into_inner);
            }
            let Some(mut reader) = self.reader.take() else { return Ok(0) };
            if reader.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = ruzstd::decoding::StreamingDecoder::new(reader)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            self.frame = Some(frame);
        }
    }
}
