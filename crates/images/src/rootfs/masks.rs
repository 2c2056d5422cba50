//! What of `/proc` steps do not get. They are the host's root to the kernel: what says of the kernel as a whole how it
//! works is written by who has that user's id, without any capability, and `core_pattern` names a program of the host.
//!
//! Whatever is not about a process becomes read-only, known by name or not; what tells of the host is empty.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

/// What is empty, as in containers. Not every kernel has all of it.
const EMPTY: [&str; 13] = [
    "acpi",
    "asound",
    "driver",
    "dynamic_debug",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

const FLAGS: MountFlags = MountFlags::RDONLY.union(MountFlags::NODEV).union(MountFlags::NOSUID);

/// Masks what is mounted at `proc`. `empty` is an empty file.
pub(super) fn mask(proc: &Path, empty: &Path) -> io::Result<()> {
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let (name, kind, path) = (entry.file_name(), entry.file_type()?, entry.path());
        let name = name.to_str().unwrap_or_default();
        // Processes, and links to the one who looks.
        if kind.is_symlink() || name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if !EMPTY.contains(&name) {
            mount_bind(&path, &path)?;
        } else if kind.is_dir() {
            mount("tmpfs", &path, "tmpfs", FLAGS | MountFlags::NOEXEC, c"size=0,mode=0555")?;
            continue;
        } else {
            mount_bind(empty, &path)?;
        }
        mount_remount(&path, MountFlags::BIND | MountFlags::NOEXEC | FLAGS, c"")?;
    }
    Ok(())
}
