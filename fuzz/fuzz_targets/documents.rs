//! What a registry says of an image, and what a user says.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| within_memory((1 << 20) + 256 * data.len(), || images::fuzzing::documents(data)));
