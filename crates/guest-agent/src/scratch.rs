//! The directories in which jobs may write: file systems in memory, thrown away after every execution.

use std::{fs, path::Path};

use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::{
    fault::{Doing, Fault},
    root::mount_with,
};

/// Each with the share of the guest's memory that it may take. What bounds all of them together is the limit of the job's
/// cgroup: what it writes counts as its memory.
const DIRECTORIES: [(&str, &str); 3] = [("/tmp", "50%"), ("/var/tmp", "10%"), ("/dev/shm", "50%")];

/// Mounts empty scratch directories.
pub(crate) fn mount() -> Result<(), Fault> {
    for (directory, share) in DIRECTORIES {
        if !Path::new(directory).is_dir() {
            fs::create_dir_all(directory).doing(format!("make {directory}"))?;
        }
        let options = format!("size={share},nr_inodes=64k,mode=1777");
        mount_with("tmpfs", directory, MountFlags::NODEV | MountFlags::NOSUID, &options)?;
    }
    Ok(())
}

/// Replaces the scratch directories by empty ones. No job may be alive.
pub(crate) fn renew() -> Result<(), Fault> {
    for (directory, _) in DIRECTORIES {
        // A detached file system is freed as soon as its last user is gone.
        unmount(directory, UnmountFlags::DETACH).doing(format!("unmount {directory}"))?;
    }
    mount()
}
