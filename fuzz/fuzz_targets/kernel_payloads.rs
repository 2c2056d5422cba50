//! A kernel or a module, compressed or not, as a distribution's package may hold it.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

/// Dictionaries of up to 128 MiB are allowed, and a block of LZ4 has 8 MiB.
const DICTIONARY_BYTES: usize = 300 << 20;

fuzz_target!(|data: &[u8]| within_memory(DICTIONARY_BYTES, || images::fuzzing::kernel_payloads(data)));
