//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.

use std::path::Path;

use crate::{remote, snapshot::Manifest};

/// Reads a text as a snapshot's manifest, as both manifests of a bucket, and as the name of an object.
///
/// # Panics
/// Where what was accepted does not come back as it was written, or is against the rules.
pub fn manifests(text: &[u8]) {
    let path = Path::new("manifest.json");
    if let Ok(manifest) = Manifest::parse(text, path) {
        let written = serde_json::to_vec(&manifest).expect("it was JSON");
        assert_eq!(Manifest::parse(&written, path).expect("it was one"), manifest);
        let shown = [&manifest.host.vmm, &manifest.host.cpu, &manifest.kernel.release];
        assert!(shown.iter().all(|text| text.len() <= 256 && !text.chars().any(char::is_control)));
        assert!(!manifest.language.as_str().contains(['/', '\0']) && manifest.language.as_str() != "..");
    }
    remote::fuzz_manifests(text);
}
