//! What fuzzing needs of this module: see `fuzz/`. Not part of the crate's interface.

use std::io::{Cursor, Write as _};

use mkext4::reader::Fs;

use super::document;
use super::ext4::{self, WriteImageError};
use super::layer::{Allowance, read_archive};
use super::reference::ImageSource;
use super::registry;
use super::spool::Spooled;
use super::tree::Tree;
use crate::digest::Sha256Digest;
use crate::progress::Quiet;

/// The size of file systems, in MiB: the smallest.
const SIZE_MIB: u64 = 16;

/// Merges layers and writes them as a file system, which must be sound.
///
/// # Panics
/// Where it is not.
pub fn layers(archives: &[Vec<u8>]) {
    let mut tree = Tree::new(0);
    let mut allowance = Allowance::default();
    let mut spooled = Vec::new();
    for (number, bytes) in archives.iter().enumerate() {
        let Ok(entries) = read_archive(Cursor::new(bytes), &mut allowance) else { return };
        if tree.apply(number, entries).is_err() {
            return;
        }
        let mut file = tempfile::tempfile().expect("temporary files can be made");
        file.write_all(bytes).expect("there is room");
        spooled.push(Spooled { file, digest: Sha256Digest::of_bytes(bytes) });
    }
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let image = directory.path().join("image");
    match ext4::write(&tree, &spooled, &image, Some(SIZE_MIB), &Quiet) {
        Ok(()) => {}
        Err(WriteImageError::Write { source, .. }) => unreachable!("what was read can be written: {source}"),
        Err(_) => return,
    }
    let reader = Fs::open(std::fs::File::open(&image).expect("it was written")).expect("it is a file system");
    let issues = reader.verify().expect("it can be read");
    assert!(issues.is_empty(), "{issues:?}");
}

/// Reads a text as each of the documents and names that there are.
pub fn documents(text: &[u8]) {
    if let Ok(document::Manifest::Index(manifests)) = document::manifest(text) {
        let _ = document::for_this_platform(&manifests);
        let _ = document::named(&manifests, Some("latest"));
    }
    let _ = document::configuration(text);
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = text.parse::<ImageSource>();
        let _ = text.parse::<registry::Mirror>();
        registry::fuzz_challenge(text);
    }
}
