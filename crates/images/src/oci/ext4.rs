//! A tree written as an ext4 file system, without root and without mounting anything.
//!
//! The same tree gives the same bytes: time stamps and identifiers are those of the tree, or constants.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mkext4::sink::FileSink;
use mkext4::{FsBuilder, InodeCount, InodeHandle, Layout, Meta, Options, SpecialKind};

use super::spool::Spooled;
use super::tree::{Content, Kind, NodeId, ROOT, Tree};
use crate::progress::Progress;
use crate::rootfs::{IMAGE_TIME, IMAGE_UUID, ROOM_MIB};
use crate::staging::io_hint;

const BLOCK_BYTES: u64 = 4096;
const MIB: u64 = 1 << 20;

/// The shortest journal that the kernel takes. A guest never writes to it; who edits the image by hand does.
const JOURNAL_BLOCKS: u32 = 1024;

/// The smallest image: four journals.
const MIN_MIB: u64 = 16;

/// The largest, in MiB: what block numbers of 32 bits reach.
const MAX_MIB: u64 = 16 << 20;

/// An image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteImageError {
    /// The files do not fit.
    #[error("{requested_mib} MiB are too small for the files, which need {needed_mib} MiB")]
    TooSmall {
        /// What was asked for.
        requested_mib: u64,
        /// What would do.
        needed_mib: u64,
    },
    /// The files are more than any image holds.
    #[error("the files are more than the {MAX_MIB} MiB that an image can have")]
    TooLarge,
    /// The tree is none that a file system can hold.
    #[error("no file system can hold the files")]
    Layout(
        /// Why.
        #[source]
        mkext4::Error,
    ),
    /// The user has interrupted the command.
    #[error("interrupted")]
    Interrupted,
    /// The image, or the contents of a file, cannot be written or read.
    #[error("cannot write {}", path.display())]
    Write {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: mkext4::Error,
    },
}

impl WriteImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { needed_mib, .. } => Some(format!("use --size {needed_mib} or more, or none")),
            Self::Write { path, source: mkext4::Error::Io(source) } => io_hint(path, source),
            Self::TooLarge | Self::Layout(_) | Self::Interrupted | Self::Write { .. } => None,
        }
    }
}

/// Writes `tree` with the contents in `layers` to the new file `image`.
pub(super) fn write(
    tree: &Tree,
    layers: &[Spooled],
    image: &Path,
    size_mib: Option<u64>,
    progress: &dyn Progress,
) -> Result<(), WriteImageError> {
    let content = Measured::of(tree);
    let (layout, fills) = if let Some(requested_mib) = size_mib {
        fitting(tree, &content, requested_mib)?
    } else {
        let size_mib = content.enough_mib();
        lay_out(tree, size_mib + size_mib / 10 + ROOM_MIB, &content, Inodes::WithRoom)?
    };
    let failed = |source| WriteImageError::Write { path: image.to_owned(), source };
    let mut sink =
        FileSink::create(image, layout.image_len()).map_err(|source| failed(mkext4::Error::Io(source)))?;
    let mut writer = layout.writer(&mut sink).map_err(failed)?;
    for (handle, content) in fills {
        if progress.is_interrupted() {
            return Err(WriteImageError::Interrupted);
        }
        let Some(layer) = layers.get(content.layer) else { continue };
        let mut reader = ContentReader { file: &layer.file, offset: content.offset };
        writer.fill(handle, &mut reader).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    Ok(())
}

/// How many inodes an image gets.
#[derive(Clone, Copy)]
enum Inodes {
    /// Room for more files, as `mkfs.ext4` gives: one for 16 KiB.
    WithRoom,
    /// Those that there are.
    Needed,
}

type Fills = Vec<(InodeHandle, Content)>;

/// The layout in exactly this size; where it does not fit, the error names the smallest size that does.
fn fitting(tree: &Tree, content: &Measured, requested_mib: u64) -> Result<(Layout, Fills), WriteImageError> {
    if (MIN_MIB..=MAX_MIB).contains(&requested_mib) {
        for inodes in [Inodes::WithRoom, Inodes::Needed] {
            if let Ok(fits) = lay_out(tree, requested_mib, content, inodes) {
                return Ok(fits);
            }
        }
    }
    // Where even a generous size does not do, it is not for its size.
    let mut enough_mib = content.enough_mib();
    lay_out(tree, enough_mib, content, Inodes::Needed)?;
    if requested_mib >= enough_mib {
        return lay_out(tree, requested_mib, content, Inodes::Needed);
    }
    let mut too_small_mib = requested_mib;
    while enough_mib - too_small_mib > 1 {
        let middle_mib = too_small_mib.midpoint(enough_mib);
        match lay_out(tree, middle_mib, content, Inodes::Needed) {
            Ok(_) => enough_mib = middle_mib,
            Err(_) => too_small_mib = middle_mib,
        }
    }
    Err(WriteImageError::TooSmall { requested_mib, needed_mib: enough_mib })
}

/// The blocks of a group: as many as a block has bits.
const GROUP_BLOCKS: u64 = 8 * BLOCK_BYTES;

/// What a tree takes.
struct Measured {
    blocks: u64,
    inodes: u64,
}

impl Measured {
    fn of(tree: &Tree) -> Self {
        let mut measured = Self { blocks: 0, inodes: 0 };
        let mut seen = vec![false; tree.len()];
        let mut ahead = vec![ROOT];
        while let Some(id) = ahead.pop() {
            if std::mem::replace(&mut seen[id], true) {
                continue;
            }
            measured.inodes += 1;
            let node = tree.node(id);
            measured.blocks += u64::from(!node.attributes.xattrs.is_empty());
            measured.blocks += match &node.kind {
                Kind::Directory(names) => {
                    let bytes: usize = names.keys().map(|name| name.len() + 12).sum();
                    ahead.extend(names.values());
                    // Blocks of an indexed directory are two thirds full.
                    (bytes as u64 * 3 / 2).div_ceil(BLOCK_BYTES) + 2
                }
                Kind::File(content) => {
                    content.length.div_ceil(BLOCK_BYTES) + u64::from(content.length > 64 * MIB)
                }
                Kind::SymbolicLink(target) => u64::from(target.len() >= 60),
                Kind::Fifo => 0,
            };
        }
        measured
    }

    /// A size that holds it for sure.
    fn enough_mib(&self) -> u64 {
        let inode_blocks = self.inodes.div_ceil(16) + 64;
        let blocks = self.blocks + self.blocks / 100 + inode_blocks + u64::from(JOURNAL_BLOCKS);
        // Bitmaps and copies of the superblock of each group, and the rest of its inode table.
        let groups = blocks.div_ceil(GROUP_BLOCKS) + 2;
        // The bitmap of a group's inodes is a block as well, and has room for no more.
        let groups_of_inodes = self.inodes_with_room().div_ceil(GROUP_BLOCKS);
        let for_inodes = groups_of_inodes * GROUP_BLOCKS * BLOCK_BYTES / MIB;
        ((blocks + groups * 24) * BLOCK_BYTES).div_ceil(MIB).max(MIN_MIB).max(for_inodes) + 2
    }

    fn inodes_with_room(&self) -> u64 {
        self.inodes + self.inodes / 10 + 256
    }

    fn inodes_of_image(&self, size_mib: u64, inodes: Inodes) -> u32 {
        let wanted = match inodes {
            Inodes::WithRoom => self.inodes_with_room().max(size_mib * MIB / (16 << 10)),
            // Eleven are the file system's own.
            Inodes::Needed => self.inodes + 16,
        };
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }
}

fn lay_out(
    tree: &Tree,
    size_mib: u64,
    content: &Measured,
    inodes: Inodes,
) -> Result<(Layout, Fills), WriteImageError> {
    if size_mib > MAX_MIB {
        return Err(WriteImageError::TooLarge);
    }
    let mut options = Options::new(size_mib * MIB, IMAGE_UUID, IMAGE_TIME);
    options.label = Some("rootfs".to_owned());
    options.reserved_percent = 0;
    options.journal_blocks = Some(JOURNAL_BLOCKS);
    options.inodes = InodeCount::Exact(content.inodes_of_image(size_mib, inodes));
    declare(tree, options).map_err(WriteImageError::Layout)
}

fn declare(tree: &Tree, options: Options) -> mkext4::Result<(Layout, Fills)> {
    let mut builder = FsBuilder::new(options)?;
    let mut fills = Vec::new();
    let mut handles: Vec<Option<InodeHandle>> = vec![None; tree.len()];
    let mut ahead = vec![(ROOT, mkext4::ROOT)];
    builder.set_meta(mkext4::ROOT, meta(tree, ROOT))?;
    set_xattrs(&mut builder, tree, ROOT, mkext4::ROOT)?;
    while let Some((directory, parent)) = ahead.pop() {
        let Kind::Directory(names) = &tree.node(directory).kind else { continue };
        for (name, id) in names {
            if let Some(linked) = handles[*id] {
                builder.hardlink(parent, name, linked)?;
                continue;
            }
            let meta = meta(tree, *id);
            let handle = match &tree.node(*id).kind {
                Kind::Directory(_) => builder.mkdir(parent, name, meta)?,
                Kind::File(content) => builder.file(parent, name, meta, content.length)?,
                Kind::SymbolicLink(target) => builder.symlink(parent, name, target, meta)?,
                Kind::Fifo => builder.mknod(parent, name, meta, SpecialKind::Fifo)?,
            };
            handles[*id] = Some(handle);
            set_xattrs(&mut builder, tree, *id, handle)?;
            match &tree.node(*id).kind {
                Kind::Directory(_) => ahead.push((*id, handle)),
                Kind::File(content) if content.length > 0 => fills.push((handle, *content)),
                _ => {}
            }
        }
    }
    Ok((builder.seal()?, fills))
}

fn meta(tree: &Tree, id: NodeId) -> Meta {
    let attributes = &tree.node(id).attributes;
    Meta::new(attributes.mode, attributes.uid, attributes.gid, attributes.modified)
}

fn set_xattrs(builder: &mut FsBuilder, tree: &Tree, id: NodeId, handle: InodeHandle) -> mkext4::Result<()> {
    for (name, value) in &tree.node(id).attributes.xattrs {
        builder.set_xattr(handle, name, value)?;
    }
    Ok(())
}

/// Reads on from a place in a layer.
struct ContentReader<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
