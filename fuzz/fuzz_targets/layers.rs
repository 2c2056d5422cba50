//! Layers of an image: archives, with 1,024 zeros after each. The checksums of headers are put right, or hardly any input
//! would come further than that.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 512;

/// What the writer of file systems takes for the smallest, with what its reader keeps.
const FILE_SYSTEM_BYTES: usize = 64 << 20;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    for header in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let blocks: Vec<&[u8]> = bytes.chunks(BLOCK).collect();
    let is_end = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
    let archives: Vec<Vec<u8>> = blocks.split(is_end).take(4).map(|archive| archive.concat()).collect();
    within_memory(FILE_SYSTEM_BYTES, || images::fuzzing::layers(&archives));
});
