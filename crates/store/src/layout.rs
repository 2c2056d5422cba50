//! Where things lie beneath the data directory.
//!
//! ```text
//! images/rootfs-<lang>.ext4           rootfs images
//! snapshots/<lang>/<size>/            snapshots, see `snapshot`
//! layers/<digest>                     layers of images of others, as they were downloaded
//! kernel/                             the kernel bundle
//! downloads/<sha256>.partial          what comes out of a bucket and is not whole yet
//! bin/{firecracker,jailer}            Firecracker, replaced as one directory
//! run/                                locks, and what was found out about this host
//! service.sqlite3                     the service's tokens, and what was counted of them
//! ```

use std::path::{Path, PathBuf};

use crate::Language;

/// The root user's data directory.
pub const SYSTEM_DIRECTORY: &str = "/srv/firecracker";

/// The data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirectory(PathBuf);

impl DataDirectory {
    /// The one at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The directory of rootfs images.
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// The image of a language.
    pub fn image(&self, language: &Language) -> PathBuf {
        self.images().join(format!("rootfs-{language}.ext4"))
    }

    /// The cache of layers, shared by all images that are made from images of others.
    pub fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }

    /// The directory of all snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    /// The kernel bundle.
    pub fn kernel(&self) -> PathBuf {
        self.0.join("kernel")
    }

    /// What is being downloaded. In the data directory, so that a rename puts it in place.
    pub fn downloads(&self) -> PathBuf {
        self.0.join("downloads")
    }

    /// The programs that `setup` installs.
    pub fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Firecracker.
    pub fn firecracker(&self) -> PathBuf {
        self.programs().join("firecracker")
    }

    /// Firecracker's jailer.
    pub fn jailer(&self) -> PathBuf {
        self.programs().join("jailer")
    }

    /// The service's tokens, and what was counted of them.
    pub fn service_database(&self) -> PathBuf {
        self.0.join("service.sqlite3")
    }

    /// The service's jobs, and what they came to.
    pub fn jobs_database(&self) -> PathBuf {
        self.0.join("jobs.sqlite3")
    }

    /// What lasts as long as commands run, or until the host boots anew.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }
}
