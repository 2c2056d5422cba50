//! Bounded decompression of the formats in which kernels and their modules are shipped.
//!
//! Pure Rust decoders, so that an untrusted kernel image meets no C code, and bounds, so that it cannot fill the
//! memory either.

use std::fmt;
use std::io::{self, Read};

use crate::elf::u32_at;

/// A way of compressing, recognised by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// The `.xz` container.
    Xz,
    /// RFC 8878.
    Zstd,
    /// The legacy frame of LZ4, which the kernel's build uses.
    Lz4Legacy,
}

const LZ4_LEGACY_MAGIC: &[u8] = &[0x02, 0x21, 0x4c, 0x18];

/// Every block of a legacy frame but the last decompresses to exactly this much.
const LZ4_LEGACY_BLOCK_BYTES: usize = 8 << 20;

/// Kernels are compressed with dictionaries of up to 128 MiB (`zstd -22 --ultra`, `xz --lzma2=dict=128MiB`).
const WINDOW_BYTES: u64 = 128 << 20;

impl Compression {
    /// Recognises the format of `bytes`.
    pub(crate) fn detect(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 4] = [
            (&[0x1f, 0x8b], Compression::Gzip),
            (b"\xfd7zXZ\0", Compression::Xz),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (LZ4_LEGACY_MAGIC, Compression::Lz4Legacy),
        ];
        MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, compression)| *compression)
    }

    /// Decompresses one frame, of at most `limit` bytes. What follows the frame is ignored: the kernel's build
    /// appends the size to all formats but gzip.
    pub(crate) fn decompress(self, bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => read_bounded(flate2::read::GzDecoder::new(bytes), limit),
            Self::Xz => {
                let limit_kib = u32::try_from((WINDOW_BYTES >> 10) * 2).unwrap_or(u32::MAX);
                read_bounded(lzma_rust2::XzReader::new_mem_limit(bytes, false, limit_kib), limit)
            }
            Self::Zstd => {
                let decoder =
                    ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, WINDOW_BYTES)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                read_bounded(decoder, limit)
            }
            Self::Lz4Legacy => decompress_lz4_legacy(bytes, limit),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4Legacy => "lz4",
        })
    }
}

fn read_bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut output)?;
    if output.len() > limit { Err(too_large(limit)) } else { Ok(output) }
}

/// Written out because `lz4_flex`'s frame decoder takes the appended size for one more block, and fails.
fn decompress_lz4_legacy(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    const APPENDED_SIZE_BYTES: usize = 4;
    let mut rest = bytes.strip_prefix(LZ4_LEGACY_MAGIC).ok_or_else(|| damaged("no lz4 legacy frame"))?;
    let mut output = Vec::new();
    let mut block = vec![0; LZ4_LEGACY_BLOCK_BYTES];
    while rest.len() > APPENDED_SIZE_BYTES {
        let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok());
        let compressed = length
            .and_then(|length| rest.get(4..length.checked_add(4)?))
            .ok_or_else(|| damaged("lz4 block reaches beyond the end"))?;
        let count = lz4_flex::block::decompress_into(compressed, &mut block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if output.len() + count > limit {
            return Err(too_large(limit));
        }
        output.extend_from_slice(&block[..count]);
        rest = &rest[4 + compressed.len()..];
    }
    Ok(output)
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn too_large(limit: usize) -> io::Error {
    let message = format!("more than {} MiB after decompression", limit >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

#[cfg(test)]
pub(crate) mod synthetic {
    //! Encoders for tests.

    use std::io::Write;

    use super::{Compression, LZ4_LEGACY_MAGIC};

    /// Compresses as the kernel's build does, with the appended size where it has one.
    pub(crate) fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let size = u32::try_from(bytes.len()).expect("small").to_le_bytes();
        let mut output = match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).expect("gzip");
                return encoder.finish().expect("gzip");
            }
            Compression::Xz => xz_stored(bytes),
            Compression::Zstd => {
                ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
            }
            Compression::Lz4Legacy => {
                let block = lz4_flex::block::compress(bytes);
                let mut output = LZ4_LEGACY_MAGIC.to_vec();
                output.extend(u32::try_from(block.len()).expect("small").to_le_bytes());
                output.extend(block);
                output
            }
        };
        output.extend(size);
        output
    }

    /// An `.xz` file whose only block is stored: the crate is built without its encoder.
    fn xz_stored(bytes: &[u8]) -> Vec<u8> {
        let mut lzma2 = Vec::new();
        for (index, chunk) in bytes.chunks(1 << 16).enumerate() {
            lzma2.push(if index == 0 { 1 } else { 2 });
            lzma2.extend(u16::try_from(chunk.len() - 1).expect("chunk").to_be_bytes());
            lzma2.extend(chunk);
        }
        lzma2.push(0);

        let mut file = b"\xfd7zXZ\0\x00\x01".to_vec();
        file.extend(crc32(&[0, 1]).to_le_bytes());
        // Block header: 12 bytes, one filter, LZMA2 with one property byte (4 MiB dictionary).
        let mut header = vec![2, 0, 0x21, 1, 0x14, 0, 0, 0];
        header.extend(crc32(&header).to_le_bytes());
        let unpadded = header.len() + lzma2.len() + 4;
        file.extend(&header);
        file.extend(&lzma2);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(crc32(bytes).to_le_bytes());
        let mut index = vec![0, 1];
        for number in [unpadded, bytes.len()] {
            put_variable_length(&mut index, number);
        }
        index.resize(index.len().next_multiple_of(4), 0);
        index.extend(crc32(&index).to_le_bytes());
        file.extend(&index);
        let mut footer = u32::try_from(index.len() / 4 - 1).expect("small").to_le_bytes().to_vec();
        footer.extend([0, 1]);
        file.extend(crc32(&footer).to_le_bytes());
        file.extend(footer);
        file.extend(b"YZ");
        file
    }

    fn put_variable_length(output: &mut Vec<u8>, mut number: usize) {
        while number >= 0x80 {
            output.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        output.push(number.to_le_bytes()[0]);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}

#[cfg(test)]
pub(crate) const ALL: [Compression; 4] =
    [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Lz4Legacy];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_formats_are_detected_and_decompressed() {
        let bytes: Vec<u8> = (0..=255).cycle().take(30_000).flat_map(|byte| [byte; 7]).collect();
        for compression in ALL {
            let compressed = synthetic::compress(compression, &bytes);
            assert_eq!(Compression::detect(&compressed), Some(compression));
            let output = compression.decompress(&compressed, bytes.len()).expect("decompress");
            assert!(output == bytes, "{compression}");
        }
    }

    #[test]
    fn the_limit_is_enforced_by_all_formats() {
        let bytes = vec![0; 100_000];
        for compression in ALL {
            let compressed = synthetic::compress(compression, &bytes);
            let error = compression.decompress(&compressed, bytes.len() - 1).expect_err("too large");
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{compression}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_input_never_panics(position in 0_usize..3000, byte: u8, keep in 0_usize..3000) {
            let bytes: Vec<u8> = (0..97).cycle().take(2000).collect();
            for compression in ALL {
                let mut compressed = synthetic::compress(compression, &bytes);
                let position = position % compressed.len();
                compressed[position] = byte;
                compressed.truncate(keep);
                let _outcome = compression.decompress(&compressed, 1 << 20);
            }
        }
    }
}
