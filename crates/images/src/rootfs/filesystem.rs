//! ext4 files: made from a file tree by `mkfs.ext4`, and looked at without it.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::elf::{u16_at, u32_at};
use crate::program::{Program, ProgramError};
use crate::staging::open_named;

const BLOCK_BYTES: u64 = 4096;
const SUPERBLOCK_AT: u64 = 1024;
const INODE_BYTES: u64 = 256;
const MIB: u64 = 1 << 20;

/// Room in an image whose size nobody chose, in MiB, so that packages can be added by hand. It takes no space on the
/// disk before it is used: images are sparse.
pub(crate) const ROOM_MIB: u64 = 512;

/// One per image would make each image unlike the last of the same content, and nobody looks an image up by it.
const UUID: &str = "5b6f7c3e-2f0a-4d55-9a53-6c6c6d66726b";

/// The same in bytes.
pub(crate) const IMAGE_UUID: [u8; 16] =
    [0x5b, 0x6f, 0x7c, 0x3e, 0x2f, 0x0a, 0x4d, 0x55, 0x9a, 0x53, 0x6c, 0x6c, 0x6d, 0x66, 0x72, 0x6b];

/// Time stamp of what is made here rather than unpacked: 2023-01-01. Not zero, since ZIP files, and so Python's
/// `zipfile`, begin in 1980.
pub(crate) const IMAGE_TIME: i64 = 1_672_531_200;

/// What a tree takes in a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Content {
    blocks: u64,
    inodes: u64,
}

/// The file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeFilesystemError {
    /// The tree does not fit.
    #[error("{requested_mib} MiB are too small for the files, which need {needed_mib} MiB")]
    TooSmall {
        /// What was asked for.
        requested_mib: u64,
        /// What would do.
        needed_mib: u64,
    },
    /// The tree cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system cannot be written.
    #[error("cannot write the file system")]
    Make(
        /// Why.
        #[source]
        ProgramError,
    ),
    /// The file system is damaged.
    #[error("the new file system has errors")]
    Check(
        /// Why.
        #[source]
        ProgramError,
    ),
}

impl MakeFilesystemError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { needed_mib, .. } => {
                Some(format!("use a size of {needed_mib} MiB or more, or none"))
            }
            Self::Read { path, source } => crate::staging::io_hint(path, source),
            Self::Make(source) | Self::Check(source) => source.hint(),
        }
    }
}

/// Writes an ext4 file system with the contents of `tree` to the new file `image`, and checks it.
///
/// It has no journal: guests mount it read-only, where a journal would be dead weight. Entries of the tree that are
/// younger than `newest` (seconds since 1970) get a fixed time stamp.
pub(super) fn make_filesystem(
    tree: &Path,
    image: &Path,
    size_mib: Option<u64>,
    newest: i64,
) -> Result<(), MakeFilesystemError> {
    let content = measure(tree, newest)?;
    let needed_mib = content.needed_mib();
    let size_mib = match size_mib {
        Some(requested_mib) if requested_mib < needed_mib => {
            return Err(MakeFilesystemError::TooSmall { requested_mib, needed_mib });
        }
        Some(requested_mib) => requested_mib,
        None => needed_mib + needed_mib / 10 + ROOM_MIB,
    };
    Program::new("mkfs.ext4", "e2fsprogs")
        .arguments(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-L", "rootfs", "-U", UUID])
        .arguments(["-O", "^has_journal,^resize_inode"])
        .arguments(["-E", &format!("hash_seed={UUID},root_owner=0:0,lazy_itable_init=0")])
        .arguments(["-N", &content.inodes_of_image(size_mib).to_string(), "-d"])
        .arguments([tree, image])
        .argument(format!("{size_mib}M"))
        .environment("E2FSPROGS_FAKE_TIME", "1672531200")
        .run()
        .map_err(|error| {
            if error.stderr().is_some_and(|said| said.contains("Could not allocate")) {
                MakeFilesystemError::TooSmall {
                    requested_mib: size_mib,
                    needed_mib: size_mib + size_mib / 4 + 8,
                }
            } else {
                MakeFilesystemError::Make(error)
            }
        })?;
    let check = Program::new("e2fsck", "e2fsprogs").arguments(["-f", "-n"]).argument(image);
    check.run().map_err(MakeFilesystemError::Check)?;
    Ok(())
}

impl Content {
    /// A tenth more inodes than used, and no fewer than one for 16 KiB, the default of `mkfs.ext4`.
    fn inodes_of_image(self, size_mib: u64) -> u64 {
        (self.inodes + self.inodes / 10 + 256).max(size_mib * MIB / (16 << 10))
    }

    /// The smallest size that holds the content, rather a little more than less.
    fn needed_mib(self) -> u64 {
        const GROUP_BLOCKS: u64 = 32_768;
        const FIXED_BLOCKS: u64 = 64;
        // Bitmaps, and a copy of superblock and group descriptors.
        const BLOCKS_OF_GROUP: u64 = 8;
        let mut size_mib = self.blocks * BLOCK_BYTES / MIB + 1;
        // The tables grow with the size: a few rounds settle it.
        for _ in 0..8 {
            let groups = (size_mib * MIB / BLOCK_BYTES).div_ceil(GROUP_BLOCKS);
            // The table of each group is rounded up to a block and to eight inodes.
            let tables = self.inodes_of_image(size_mib) * INODE_BYTES / BLOCK_BYTES + 2 * groups;
            let blocks = self.blocks + self.blocks / 200 + tables + groups * BLOCKS_OF_GROUP + FIXED_BLOCKS;
            size_mib = (blocks * BLOCK_BYTES).div_ceil(MIB);
        }
        size_mib
    }

    fn add(&mut self, metadata: &Metadata) {
        self.inodes += 1;
        if metadata.is_dir() {
            // Our directories are written anew, and compactly: never larger than where they were read.
            self.blocks += metadata.len().div_ceil(BLOCK_BYTES).max(1) + 1;
        } else if metadata.is_file() {
            self.blocks += metadata.len().div_ceil(BLOCK_BYTES);
        } else if metadata.is_symlink() && metadata.len() >= 60 {
            self.blocks += 1;
        }
    }
}

fn measure(tree: &Path, newest: i64) -> Result<Content, MakeFilesystemError> {
    let mut content = Content::default();
    let mut linked = HashSet::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |source| MakeFilesystemError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let failed = |source| MakeFilesystemError::Read { path: path.clone(), source };
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            if metadata.is_dir() || metadata.nlink() == 1 || linked.insert(metadata.ino()) {
                content.add(&metadata);
            }
            if metadata.mtime() >= newest {
                set_time_stamp(&path).map_err(failed)?;
            }
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
    Ok(content)
}

fn set_time_stamp(path: &Path) -> io::Result<()> {
    let time = Timespec { tv_sec: IMAGE_TIME, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A file is no image that a guest could mount.
#[derive(Debug, thiserror::Error)]
pub enum InspectImageError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is not an ext4 image", path.display())]
    NotExt4 {
        /// Which.
        path: PathBuf,
    },
    /// Somebody writes to it, or has not come to an end.
    #[error("{} is mounted, or was not unmounted", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Its end is missing.
    #[error("{} is truncated: {found} of {expected} bytes are there", path.display())]
    Truncated {
        /// Which.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size in its superblock.
        expected: u64,
    },
}

impl InspectImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } => crate::staging::io_hint(path, source),
            Self::InUse { path } => {
                Some(format!("unmount it; if it is not mounted: e2fsck -p {}", path.display()))
            }
            Self::NotExt4 { .. } | Self::Truncated { .. } => {
                Some("create or download the image again".to_owned())
            }
        }
    }
}

/// Checks cheaply that `image` is a whole ext4 file system, and returns the file's size in bytes.
pub fn inspect(image: &Path) -> Result<u64, InspectImageError> {
    let failed = |source| InspectImageError::Read { path: image.to_owned(), source };
    let not_ext4 = || InspectImageError::NotExt4 { path: image.to_owned() };
    let file = open_named(image).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut superblock = [0; 1024];
    match file.read_exact_at(&mut superblock, SUPERBLOCK_AT) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(not_ext4()),
        Err(error) => return Err(failed(error)),
    }
    let expected = superblock_bytes(&superblock).ok_or_else(not_ext4)?;
    if metadata.len() < expected {
        return Err(InspectImageError::Truncated { path: image.to_owned(), found: metadata.len(), expected });
    }
    if is_in_use(&superblock) {
        return Err(InspectImageError::InUse { path: image.to_owned() });
    }
    Ok(metadata.len())
}

/// Whether the file system was mounted for writing, and not unmounted since: it is not marked as clean, or its journal
/// has to be replayed (`Documentation/filesystems/ext4/super.rst`, `s_state` and `s_feature_incompat`).
fn is_in_use(superblock: &[u8]) -> bool {
    const CLEAN: u16 = 1;
    const NEEDS_RECOVERY: u32 = 4;
    let is_clean = u16_at(superblock, 0x3a).is_some_and(|state| state & CLEAN != 0);
    let needs_recovery = u32_at(superblock, 0x60).is_some_and(|features| features & NEEDS_RECOVERY != 0);
    !is_clean || needs_recovery
}

/// What is free in the file system of `image`, in MiB.
pub(super) fn free_mib(image: &Path) -> Result<u64, InspectImageError> {
    let failed = |source| InspectImageError::Read { path: image.to_owned(), source };
    let mut superblock = [0; 1024];
    open_named(image).and_then(|file| file.read_exact_at(&mut superblock, SUPERBLOCK_AT)).map_err(failed)?;
    let free = u32_at(&superblock, 0xc).map_or(0, u64::from);
    let shift = u32_at(&superblock, 0x18).unwrap_or_default().min(6);
    Ok((free << (10 + shift)) / MIB)
}

/// The size of the file system, by its superblock (`Documentation/filesystems/ext4/super.rst`).
fn superblock_bytes(superblock: &[u8]) -> Option<u64> {
    const MAGIC: u16 = 0xef53;
    const FEATURE_64BIT: u32 = 0x80;
    if u16_at(superblock, 0x38)? != MAGIC {
        return None;
    }
    let has_high_half = u32_at(superblock, 0x60)? & FEATURE_64BIT != 0;
    let high = if has_high_half { u64::from(u32_at(superblock, 0x150)?) } else { 0 };
    let blocks = high << 32 | u64::from(u32_at(superblock, 0x4)?);
    // Block sizes are 1 KiB to 64 KiB.
    let shift = u32_at(superblock, 0x18)?.checked_add(10).filter(|shift| *shift <= 16)?;
    blocks.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(directory: &Path) -> PathBuf {
        let tree = directory.join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("directories");
        for index in 0..200_usize {
            fs::write(tree.join(format!("a/b/{index}")), vec![7; index * 500]).expect("file");
        }
        fs::hard_link(tree.join("a/b/199"), tree.join("a/linked")).expect("link");
        tree
    }

    #[test]
    fn the_size_that_an_error_names_would_do() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (tree, image) = (tree(directory.path()), directory.path().join("image"));
        let error = make_filesystem(&tree, &image, Some(1), 0).expect_err("one MiB cannot do");
        let needed_mib = match error {
            MakeFilesystemError::TooSmall { needed_mib, .. } => needed_mib,
            other => unreachable!("{other:?}"),
        };
        assert!(!image.exists());
        make_filesystem(&tree, &image, Some(needed_mib), 0).expect("needed size");
        assert_eq!(inspect(&image).expect("image"), needed_mib * MIB);
        assert!(needed_mib <= 13, "10 MiB of files need no {needed_mib} MiB");
    }

    #[test]
    fn truncated_and_foreign_files_are_no_images() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let image = directory.path().join("image");
        make_filesystem(&tree(directory.path()), &image, None, 0).expect("image");
        let size = inspect(&image).expect("image");
        fs::OpenOptions::new().write(true).open(&image).expect("open").set_len(size - 1).expect("truncate");
        assert!(
            matches!(inspect(&image), Err(InspectImageError::Truncated { expected, .. }) if expected == size)
        );
        fs::write(&image, vec![0; 8192]).expect("write");
        assert!(matches!(inspect(&image), Err(InspectImageError::NotExt4 { .. })));
        fs::write(&image, "short").expect("write");
        assert!(matches!(inspect(&image), Err(InspectImageError::NotExt4 { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_superblock_is_read_without_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 1024)) {
            bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
            superblock_bytes(&bytes);
        }
    }
}
