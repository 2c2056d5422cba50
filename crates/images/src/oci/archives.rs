//! Makes archives for tests: header by header, so that they can be as wrong as those of somebody who means harm.

use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt as _;

use tar::{EntryType, Header};

use super::layer::{Allowance, Entry, ReadLayerError, read_archive};
use super::spool::Spooled;
use crate::digest::Sha256Digest;

/// An archive in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// Appends an entry with these contents, and what `change` makes of its header. A path is cut off where the header
    /// ends it.
    pub(super) fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        contents: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        let name = &mut header.as_old_mut().name;
        let length = path.len().min(name.len());
        name[..length].copy_from_slice(&path.as_bytes()[..length]);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(contents.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.padded(contents)
    }

    /// Appends bytes as they are, up to the next block.
    pub(super) fn padded(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A directory.
    pub(super) fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, b"", |header| header.set_mode(0o755))
    }

    /// A file.
    pub(super) fn file(self, path: &str, contents: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, contents, |_| {})
    }

    /// A symbolic link.
    pub(super) fn symbolic_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    /// A hard link.
    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let with_target = |header: &mut Header| {
            let name = &mut header.as_old_mut().linkname;
            name[..target.len()].copy_from_slice(target.as_bytes());
        };
        self.entry(kind, path, b"", with_target)
    }

    /// pax records about the next entry.
    pub(super) fn records(self, records: &[(&str, &[u8])]) -> Self {
        let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(EntryType::XHeader, "PaxHeaders/0", &text, |_| {})
    }

    /// The archive.
    pub(super) fn end(self) -> Vec<u8> {
        self.padded(&[0; 1024]).bytes
    }

    /// The archive as a layer.
    pub(super) fn layer(self) -> Spooled {
        let bytes = self.end();
        let file = tempfile::tempfile().expect("temporary files can be made");
        file.write_all_at(&bytes, 0).expect("there is room");
        Spooled { file, digest: Sha256Digest::of_bytes(&bytes) }
    }

    /// Its entries.
    pub(super) fn read(self) -> Result<Vec<Entry>, ReadLayerError> {
        read(&self.end())
    }
}

/// One pax record: its length counts its own digits.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// The entries of an archive.
pub(super) fn read(archive: &[u8]) -> Result<Vec<Entry>, ReadLayerError> {
    read_archive(Cursor::new(archive), &mut Allowance::default())
}

/// What `file` holds from `offset` on.
pub(super) fn part(file: &File, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).expect("files of tests are small")];
    file.read_exact_at(&mut bytes, offset).expect("it is there");
    bytes
}
