//! A data directory to make snapshots in, which leaves those of the user alone.
//!
//! ```text
//! <data>/run/benchmark.lock        locked by the one benchmark that runs
//! <data>/run/benchmark/<random>/   the scratch directory; gone when dropped
//!   images, kernel, run            links to the user's
//!   snapshots/                     its own
//! ```
//!
//! It is on the disk that snapshots are made on, for that is what is measured, and it shares the slots, for they say
//! which users VMMs may run as.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::PathBuf,
};

use anyhow::Context as _;
use store::DataDirectory;
use tempfile::TempDir;

use crate::{alone, failure::Failure};

/// The right to measure: two benchmarks at a time would measure each other.
pub(super) struct Alone {
    data: DataDirectory,
    directory: PathBuf,
    _lock: File,
}

/// A scratch directory, removed when dropped.
pub(super) struct Scratch {
    directory: TempDir,
}

impl Alone {
    /// Takes the lock, and removes what a benchmark that was killed has left.
    pub(super) fn take(data: DataDirectory) -> Result<Self, Failure> {
        let lock = alone::lock(
            &data.run().join("benchmark.lock"),
            "another benchmark is running",
            "wait for it to finish: two at a time would measure each other",
        )?;
        let directory = data.run().join("benchmark");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let doing = format!("cannot remove {}", directory.display());
                Err(Failure::host(anyhow::Error::new(error).context(doing)))
            }
            _ => Ok(Self { data, directory, _lock: lock }),
        }
    }

    /// Makes a scratch directory.
    pub(super) fn scratch(&self) -> Result<Scratch, Failure> {
        self.make()
            .with_context(|| format!("cannot write to {}", self.directory.display()))
            .map_err(Failure::host)
    }

    fn make(&self) -> io::Result<Scratch> {
        fs::create_dir_all(&self.directory)?;
        let scratch = Scratch { directory: tempfile::tempdir_in(&self.directory)? };
        let here = scratch.data();
        let links = [
            (self.data.images(), here.images()),
            (self.data.kernel(), here.kernel()),
            (self.data.run(), here.run()),
        ];
        for (original, link) in links {
            // A link's target is relative to the link, a --data-dir to where we were started.
            symlink(std::path::absolute(original)?, link)?;
        }
        Ok(scratch)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Empty by now; where it is not, the next benchmark removes it.
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Scratch {
    /// It, as a data directory.
    pub(super) fn data(&self) -> DataDirectory {
        DataDirectory::new(self.directory.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (TempDir, DataDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(directory.path().to_owned());
        fs::create_dir_all(data.images()).unwrap();
        fs::write(data.images().join("rootfs-python.ext4"), "image").unwrap();
        (directory, data)
    }

    #[test]
    fn a_scratch_directory_shows_the_images_and_takes_nothing_along_when_it_goes() {
        let (_directory, data) = data();
        let alone = Alone::take(data.clone()).unwrap();
        let scratch = alone.scratch().unwrap();
        let here = scratch.data();
        assert_eq!(fs::read_to_string(here.images().join("rootfs-python.ext4")).unwrap(), "image");
        assert!(!here.snapshots().exists());
        fs::create_dir_all(here.snapshots()).unwrap();
        drop(scratch);
        assert!(!here.root().exists());
        assert!(data.images().join("rootfs-python.ext4").exists());
        drop(alone);
        assert!(!data.run().join("benchmark").exists());
    }

    #[test]
    fn there_is_one_benchmark_at_a_time_and_it_clears_up_after_the_one_that_was_killed() {
        let (_directory, data) = data();
        let left = data.run().join("benchmark/killed/snapshots");
        fs::create_dir_all(&left).unwrap();
        let alone = Alone::take(data.clone()).unwrap();
        assert!(!left.exists());
        assert!(Alone::take(data.clone()).is_err());
        drop(alone);
        assert!(Alone::take(data).is_ok());
    }
}
