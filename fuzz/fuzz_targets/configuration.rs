//! The operator's configuration file.

#![no_main]

use fuzz::within_memory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        within_memory((4 << 20) + 1024 * data.len(), || infra_operator::fuzzing::configuration(text));
    }
});
