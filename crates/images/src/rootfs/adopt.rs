//! Takes over an image that another process has made.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use rustix::{fs::SeekFrom as Sparse, io::Errno};

use super::{
    details::{RootfsDetails, details_path},
    publish::{PublishImageError, RootfsImage, publish_image},
};
use crate::staging::{OutputLock, io_hint, open_regular, parent};

/// An image could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptImageError {
    /// The destination is in use, or nothing can be written beside it, or the image cannot be copied there.
    #[error("cannot write {}", output.display())]
    Copy {
        /// The image.
        output: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image, or what is noted beside it, cannot be put in place.
    #[error("cannot put the image in place")]
    Publish(
        /// Why.
        #[from]
        PublishImageError,
    ),
}

impl AdoptImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Copy { output, source } => io_hint(output, source),
            Self::Publish(source) => source.hint(),
        }
    }
}

/// Copies the image that `from` is, and puts the copy in the place of `output`, with what is noted of it.
pub fn adopt_image(
    from: &File,
    output: &Path,
    details: RootfsDetails,
) -> Result<RootfsImage, AdoptImageError> {
    let failed = |source| AdoptImageError::Copy { output: output.to_owned(), source };
    fs::create_dir_all(parent(output)).map_err(failed)?;
    let lock = OutputLock::acquire(output).map_err(failed)?;
    let directory = lock.temporary_directory().map_err(failed)?;
    let staged = directory.path().join("image");
    let to = File::create_new(&staged).map_err(failed)?;
    copy_sparse(from, &to).map_err(failed)?;
    Ok(publish_image(&staged, output, details)?)
}

/// Copies an image, and what is noted beside it, where something is. Follows no link.
pub fn copy_image(from: &Path, to: &Path) -> io::Result<()> {
    copy_sparse(&open_regular(from)?, &File::create_new(to)?)?;
    match open_regular(&details_path(from)) {
        Ok(notes) => io::copy(&mut &notes, &mut &File::create_new(details_path(to))?).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies what is there of a file, and leaves out what is not.
fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while position < length {
        let start = match rustix::fs::seek(from, Sparse::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, Sparse::Hole(start))?;
        let (mut from, mut to) = (from, to);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        if io::copy(&mut from.take(end - start), &mut to)? < end - start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        position = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_takes_no_more_room() {
        const MIB: u64 = 1 << 20;
        let directory = tempfile::tempdir().expect("temporary directory");
        let (from, to) = (directory.path().join("a.ext4"), directory.path().join("b.ext4"));
        let file = File::create_new(&from).expect("file");
        file.set_len(32 * MIB).expect("length");
        for (place, byte) in [(0, 1), (5 * MIB, 2), (20 * MIB + 7, 3)] {
            file.write_all_at(&[byte; 10_000], place).expect("written");
        }
        copy_image(&from, &to).expect("copied");
        assert!(fs::read(&from).expect("read") == fs::read(&to).expect("read"));
        assert!(fs::metadata(&to).expect("metadata").blocks() < 8 * MIB / 512);
        let link = directory.path().join("c.ext4");
        std::os::unix::fs::symlink(&from, &link).expect("link");
        copy_image(&link, &directory.path().join("d.ext4")).expect_err("a link");
    }
}
