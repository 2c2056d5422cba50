//! Makes a file sparse: Firecracker writes all of a guest's memory, most of which no guest has touched.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use rustix::fs::{FallocateFlags, fallocate};

/// What is looked at as a whole: large enough for few system calls, small enough to find holes.
const BLOCK_BYTES: usize = 64 << 10;

/// Gives back the blocks that hold nothing but zeros. What the file reads as does not change.
pub(super) fn dig(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut block = vec![0; BLOCK_BYTES];
    let mut offset = 0;
    while offset < length {
        let size = usize::try_from(length - offset).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let block = &mut block[..size];
        file.read_exact_at(block, offset)?;
        if block.iter().all(|byte| *byte == 0) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(file, hole, offset, size as u64) {
                Ok(()) => {}
                // A file system without holes: the file stays as large as it is.
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        offset += size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn zeros_become_holes_and_nothing_else_changes() {
        let file = tempfile::tempfile().unwrap();
        let mut contents = vec![0; 5 * BLOCK_BYTES + 100];
        contents[2 * BLOCK_BYTES + 7] = 1;
        contents[5 * BLOCK_BYTES + 99] = 2;
        file.write_all_at(&contents, 0).unwrap();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        dig(&file).unwrap();
        let mut read = vec![0; contents.len()];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == contents, "the contents changed");
        assert!(file.metadata().unwrap().blocks() < before, "no hole was made");
    }
}
