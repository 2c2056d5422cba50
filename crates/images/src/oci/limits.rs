//! What an image may be at most. All of it comes from elsewhere: each bound is checked before anything is allocated or
//! written for it.

/// The longest manifest, index or configuration, in bytes. Registries accept 4 MiB.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// How many layers. Docker makes at most 127.
pub(super) const MAX_LAYERS: usize = 512;

/// The largest layer as it is stored, in bytes.
pub(super) const MAX_LAYER_BYTES: u64 = 32 << 30;

/// What all layers may be uncompressed, in bytes.
pub(super) const MAX_CONTENT_BYTES: u64 = 64 << 30;

/// What all layers may be as they are stored, in bytes: what does not compress becomes a little longer.
pub(super) const MAX_STORED_BYTES: u64 = MAX_CONTENT_BYTES + (1 << 30);

/// Up to here a layer may be compressed as well as it likes, in bytes.
pub(super) const RATIO_FREE_BYTES: u64 = 1 << 30;

/// From there on it may be so many times as long as it was stored. gzip reaches 1,030, with zeros; file trees some 3.
pub(super) const MAX_RATIO: u64 = 200;

/// How many entries all layers may have together. The largest images that people use have some 300,000.
pub(super) const MAX_ENTRIES: usize = 500_000;

/// The longest path of an entry, and the longest target of a symbolic link, in bytes: Linux's `PATH_MAX`, which counts
/// the NUL.
pub(super) const MAX_PATH_BYTES: usize = 4095;

/// What the entries of all layers may take in memory together, in bytes: paths, targets of links, extended attributes,
/// and what holds them. The largest images that people use come to some 100 MB; a small archive of much the same again and
/// again could fill the memory.
pub(super) const MAX_METADATA_BYTES: usize = 256 << 20;

/// What an entry takes beside its texts, in bytes: in a list, and as a file of the tree.
pub(super) const ENTRY_BYTES: usize = 200;

/// What an extended attribute takes beside its name and its value, in bytes: two texts of their own, each in a block of
/// the allocator.
pub(super) const XATTR_BYTES: usize = 100;

// As many entries as there may be, of which each has a usual path.
const _: () = assert!(MAX_ENTRIES * (ENTRY_BYTES + 100) < MAX_METADATA_BYTES);

/// How deep directories may be nested.
pub(super) const MAX_DEPTH: usize = 512;

/// The longest name in a directory, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// How many files a tree may have, directories that no layer has an entry of included.
pub(super) const MAX_NODES: usize = MAX_ENTRIES;

/// The longest record of an archive about its next entry, in bytes: names and extended attributes.
pub(super) const MAX_EXTENSION_BYTES: u64 = 256 << 10;

/// What the extended attributes of one file may take, names included, in bytes: one block of the file system, less
/// its headers.
pub(super) const MAX_XATTR_BYTES: usize = 3600;

/// How many links a path may lead through: Linux's bound.
pub(super) const MAX_LINKS_FOLLOWED: usize = 40;

/// The newest time stamp that ext4 holds, in seconds since 1970.
pub(super) const MAX_TIME: i64 = (1 << 34) - (1 << 31) - 1;

/// How many names may be looked up for all paths together: a hundred for each of as many entries as there may be. Some
/// ten seconds of work; symbolic links could make it hours.
pub(super) const MAX_STEPS: u64 = 100 * MAX_ENTRIES as u64;
