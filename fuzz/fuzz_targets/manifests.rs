//! Manifests: of a snapshot, of an image and a snapshot in a bucket, of a kernel bundle, what is noted beside an image, and
//! names of objects.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| within_memory((1 << 20) + 256 * data.len(), || {
    store::fuzzing::manifests(data);
    images::fuzzing::manifests(data);
}));
