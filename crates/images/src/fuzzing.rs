//! What fuzzing needs of this crate: see `fuzz/`. Not part of its interface.

use std::path::Path;

pub use crate::oci::fuzzing::{documents, layers};
use crate::{
    bundle::BundleManifest,
    compression::Compression,
    elf::{self, Elf},
    initramfs::build_initramfs,
    kernel::extract_within,
    modules::{KernelModule, read_dependencies},
    rootfs::RootfsDetails,
};

/// What a payload may be decompressed to, in bytes.
const LIMIT_BYTES: usize = 1 << 20;

/// Takes a kernel out of `bytes`, decompresses them, and reads them as a module.
///
/// # Panics
/// Where what was accepted is not what it is said to be.
pub fn kernel_payloads(bytes: &[u8]) {
    if let Ok(vmlinux) = extract_within(bytes, LIMIT_BYTES) {
        assert!(vmlinux.len() <= LIMIT_BYTES.max(bytes.len()));
        let elf = Elf::parse(&vmlinux).expect("a kernel is an ELF file");
        assert_eq!(elf.machine(), Some(elf::MACHINE_X86_64));
        assert_eq!(extract_within(&vmlinux, 0).expect("it is a kernel already"), vmlinux);
    }
    let module = match Compression::detect(bytes) {
        Some(compression) => match compression.decompress(bytes, LIMIT_BYTES) {
            Ok(output) => {
                assert!(output.len() <= LIMIT_BYTES);
                let again = compression.decompress(bytes, output.len()).expect("that is as much as it needs");
                assert!(again == output, "one input has two outputs");
                let less = output.len().checked_sub(1).map(|less| compression.decompress(bytes, less));
                assert!(less.is_none_or(|less| less.is_err()), "the limit is none");
                output
            }
            Err(_) => return,
        },
        None => bytes.to_vec(),
    };
    let Some(dependencies) = read_dependencies(&module) else { return };
    for name in &dependencies {
        assert!(!name.is_empty() && !name.contains([',', '-', '\0']), "{name:?}");
    }
    let modules: Vec<_> =
        dependencies.into_iter().map(|name| KernelModule { name, bytes: module.clone() }).collect();
    match build_initramfs(b"agent", &modules) {
        Ok(archive) => {
            assert!(archive.len() % 4 == 0 && archive.windows(10).any(|window| window == b"TRAILER!!!"));
        }
        Err(_) => assert!(modules.len() > 100),
    }
}

/// Reads a text as a kernel bundle's manifest, and as what is noted beside an image.
///
/// # Panics
/// Where what was accepted does not come back as it was written.
pub fn manifests(text: &[u8]) {
    if let Ok(manifest) = BundleManifest::parse(text, Path::new("bundle.json")) {
        let written = serde_json::to_vec(&manifest).expect("it was JSON");
        let again = BundleManifest::parse(&written, Path::new("bundle.json")).expect("it was one");
        assert_eq!(again, manifest);
    }
    if let Ok(details) = RootfsDetails::parse(text) {
        assert!(details.config.is_sound());
        let written = serde_json::to_vec(&details).expect("it was JSON");
        assert_eq!(RootfsDetails::parse(&written).expect("it was one"), details);
    }
}
