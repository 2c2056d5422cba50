//! What the host process tells the supervisor, and what that answers.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The number of the first descriptor that is passed to the VMM; the others follow it. Beyond those that the supervisor has
/// open, some twenty.
pub const FIRST_DESCRIPTOR: i32 = 40;

/// A VMM process and all that it may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailSpec {
    /// The microVM's name, for its cgroup.
    pub name: String,
    /// The program that is started, by its path on the host, at which it is found in the jail too: the VMM, or its
    /// launcher.
    pub program: PathBuf,
    /// What the program is, if it is not the VMM itself.
    pub launcher: Option<Launcher>,
    /// Whether the VMM has a directory `/run` of its own to make sockets in. The host process gets a descriptor of
    /// it, over the first of the descriptors, which is not passed on then.
    pub run_directory: bool,
    /// Its arguments.
    pub args: Vec<String>,
    /// Directories of the host that it may read, with all beneath, at the same paths. Missing ones are left out.
    pub directories: Vec<PathBuf>,
    /// Files of the host and where they are in the jail.
    pub files: Vec<JailFile>,
    /// The user and group that the VMM gets. Nothing where the host process is not root: then a user namespace
    /// stands in for another user.
    pub user: Option<u32>,
    /// Limits of its cgroup, where the host has cgroups that it can use.
    pub cgroup: Option<CgroupLimits>,
    /// The most bytes that the VMM may write into a file.
    pub file_bytes: u64,
}

/// A program that starts as root in the jail, makes another root beneath a directory of it, changes its user, and
/// becomes the VMM: Firecracker's jailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launcher {
    /// The VMM's program, by its path on the host, at which the launcher finds it too.
    pub vmm: PathBuf,
    /// The root that it is going to make: files are shown beneath it. It can be written to, and devices work there.
    pub root: PathBuf,
}

/// One file in a jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailFile {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the jail, absolute.
    pub jail: PathBuf,
    /// What the VMM may do with it.
    pub access: Access,
}

impl JailFile {
    /// A file to be read.
    pub(crate) fn read_only(host: &Path, jail: &str) -> Self {
        Self { host: host.to_owned(), jail: jail.into(), access: Access::ReadOnly }
    }

    /// Whether it can be read: a better message than the one that a VMM in its jail would give.
    pub(crate) fn check_readable(&self) -> io::Result<()> {
        File::open(&self.host).map(drop)
    }
}

/// What a VMM may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read it and write it: a file that exists for this microVM alone.
    ReadWrite,
    /// Read it, also through a descriptor that was asked for with read-write access. QEMU opens memory files so
    /// even where it maps them privately; what it gets is a read-only descriptor.
    ReadOnlyWhateverAsked,
    /// Open it as the device that it is.
    Device,
}

/// Limits of a VMM's cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Threads and processes.
    pub tasks: u32,
}

/// What the supervisor reports, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// The VMM executes.
    Started {
        /// Its process on the host.
        process: u32,
    },
    /// It could not be started.
    Failed {
        /// What was being done.
        step: String,
        /// Why it failed.
        reason: String,
        /// The kernel's number for that, where it was the kernel.
        errno: Option<i32>,
    },
    /// It ended by itself.
    Exited {
        /// Its exit status.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// The signal.
        signal: i32,
    },
}
