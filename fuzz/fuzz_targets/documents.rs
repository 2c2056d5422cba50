//! What a registry says of an image, and what a user says.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| images::oci::fuzzing::documents(data));
