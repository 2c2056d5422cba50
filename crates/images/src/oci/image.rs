//! An image whose layers are at hand.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::document::Configuration;
use crate::digest::Sha256Digest;

/// An image whose layers are at hand, in files that stay open: nothing else of where they came from is looked at again.
#[derive(Debug)]
pub struct Image {
    /// How the user named it.
    pub(super) name: String,
    /// The digest of its manifest.
    pub(super) manifest: Sha256Digest,
    /// What its configuration says.
    pub(super) configuration: Configuration,
    /// Its layers, lowest first.
    pub(super) layers: Vec<StoredLayer>,
    /// How long the compressed archive is that all of it came in, if it did.
    pub(super) compressed: Option<u64>,
}

impl Image {
    /// In how many bytes all that it has was stored: what is compressed twice counts once.
    pub(super) fn stored_bytes(&self) -> u64 {
        let layers = stored_bytes(&self.layers);
        self.compressed.map_or(layers, |compressed| compressed.min(layers))
    }
}

/// A layer as it is stored: part of a file.
#[derive(Debug, Clone)]
pub(super) struct StoredLayer {
    /// The digest that it is to have; nothing where it is known uncompressed alone.
    pub(super) digest: Option<Sha256Digest>,
    /// How long it is.
    pub(super) length: u64,
    /// Its name in the cache, if it is there.
    pub(super) cached: Option<PathBuf>,
    file: Arc<File>,
    offset: u64,
}

impl StoredLayer {
    /// A whole file of the cache.
    pub(super) fn cached(digest: Sha256Digest, file: File, length: u64, path: PathBuf) -> Self {
        Self { digest: Some(digest), length, cached: Some(path), file: Arc::new(file), offset: 0 }
    }

    /// A part of a file.
    pub(super) fn part(digest: Option<Sha256Digest>, section: Section) -> Self {
        Self {
            digest,
            length: section.end - section.offset,
            cached: None,
            offset: section.offset,
            file: section.file,
        }
    }

    /// Its bytes.
    pub(super) fn reader(&self) -> Section {
        Section { file: Arc::clone(&self.file), offset: self.offset, end: self.offset + self.length }
    }
}

/// What these layers are together as they are stored, in bytes. One that is there several times counts once.
fn stored_bytes(layers: &[StoredLayer]) -> u64 {
    let mut places = std::collections::BTreeMap::new();
    for layer in layers {
        // By what it is, or, where nobody says, by where it is.
        let place = layer.digest.is_none().then_some((Arc::as_ptr(&layer.file), layer.offset));
        places.insert((&layer.digest, place), layer.length);
    }
    places.into_values().fold(0, u64::saturating_add)
}

/// Reads a part of a file that others may be reading too.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// The file.
    pub(super) file: Arc<File>,
    /// Where to read on.
    pub(super) offset: u64,
    /// Where to stop.
    pub(super) end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_named_again_and_again_is_stored_once() {
        let file = || tempfile::tempfile().expect("a file");
        let layer = |text: &[u8]| {
            StoredLayer::cached(Sha256Digest::of_bytes(text), file(), 100, PathBuf::from("layer"))
        };
        assert_eq!(stored_bytes(&[layer(b"a"), layer(b"b"), layer(b"a")]), 200);
        let archive = Arc::new(file());
        let part = |offset| {
            StoredLayer::part(None, Section { file: Arc::clone(&archive), offset, end: offset + 10 })
        };
        assert_eq!(stored_bytes(&[part(0), part(10), part(0)]), 20);
    }
}
