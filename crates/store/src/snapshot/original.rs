//! Whether a file is as it was when a microVM began to use it.
//!
//! A clone's memory is the file's until it writes to it, so whoever cuts the file off or writes to it changes what runs: a page
//! that is gone ends the VMM with SIGBUS, one that is another is another program. It is not prevented (who may write there may
//! do anything), but noticed: by length and time of change, which every write and every truncation set.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{OFlags, fstat};

/// A file, held by a descriptor: that another takes its name, or nobody, does not concern whoever uses it.
#[derive(Debug)]
pub struct Original {
    file: OwnedFd,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    bytes: i64,
    modified: (i64, i64),
}

impl Seen {
    fn of(file: &OwnedFd) -> io::Result<Self> {
        let stat = fstat(file)?;
        // The types differ between platforms.
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
        Ok(Self { bytes: stat.st_size, modified: (stat.st_mtime, nanoseconds) })
    }
}

impl Original {
    /// The file at `path`, as it is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::PATH.bits()).map_err(io::Error::other)?;
        let file = OwnedFd::from(std::fs::File::options().read(true).custom_flags(flags).open(path)?);
        let seen = Seen::of(&file)?;
        Ok(Self { file, seen })
    }

    /// Whether it was written to, or cut off, since.
    pub fn is_changed(&self) -> bool {
        Seen::of(&self.file).is_ok_and(|now| now != self.seen)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_changes_the_contents_is_noticed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory");
        let made = || {
            let _ = fs::remove_file(&path);
            fs::write(&path, [1; 8192]).unwrap();
            // Written long ago, as far as the file system can tell.
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            Original::of(&path).unwrap()
        };
        let original = made();
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        assert!(!original.is_changed(), "it has another name");
        fs::remove_file(directory.path().join("elsewhere")).unwrap();
        assert!(!original.is_changed(), "it has none");
        let original = made();
        fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        assert!(original.is_changed(), "it was cut off");
        let original = made();
        let file = fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, &[2], 5000).unwrap();
        assert!(original.is_changed(), "it was written to");
    }
}
