//! The jobs' root file system: the image, read-only, under a layer in memory.
//!
//! ```text
//! /lower    ext4 image, read-only, shared by all clones
//! /overlay  tmpfs: what the agent writes; jobs find it read-only
//! /newroot  the two as one (overlayfs), with its own /dev; the runner adds /proc and makes it the root
//! ```

use std::{
    ffi::CString,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    mount::{MountFlags, mount, mount_move, mount_remount},
    process::{chdir, chroot},
    thread::UnshareFlags,
};

use crate::{
    fault::{Doing, Fault},
    sys,
};

const LOWER: &str = "/lower";
const OVERLAY: &str = "/overlay";
const NEW_ROOT: &str = "/newroot";

/// How much of the guest's memory the overlay may take.
const OVERLAY_OPTIONS: &str = "size=25%,nr_inodes=64k,mode=0755";

/// Mounts `disk` and builds the jobs' root over it.
pub(crate) fn assemble(disk: &str) -> Result<(), Fault> {
    for directory in [LOWER, OVERLAY, NEW_ROOT] {
        fs::create_dir_all(directory).doing(format!("make {directory}"))?;
    }
    let read_only = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount(disk, LOWER, "ext4", read_only, None).doing(format!("mount the image on {disk}"))?;
    mount_with("tmpfs", OVERLAY, MountFlags::NODEV | MountFlags::NOSUID, OVERLAY_OPTIONS)?;
    for directory in ["upper", "work"] {
        fs::create_dir(format!("{OVERLAY}/{directory}")).doing("make the overlay's directories")?;
    }
    fs::set_permissions(format!("{OVERLAY}/upper"), fs::Permissions::from_mode(0o755))
        .doing("open the overlay to jobs")?;
    let options = format!("lowerdir={LOWER},upperdir={OVERLAY}/upper,workdir={OVERLAY}/work");
    mount_with("overlay", NEW_ROOT, MountFlags::NODEV | MountFlags::NOSUID, &options)?;
    make_devices()
}

/// Makes what [`assemble`] built the root of this process, in a mount namespace of its own.
pub(crate) fn enter() -> Result<(), Fault> {
    sys::unshare(UnshareFlags::NEWNS).doing("make the jobs' mount namespace")?;
    let proc = format!("{NEW_ROOT}/proc");
    fs::create_dir_all(&proc).doing("make the jobs' /proc")?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_with("proc", &proc, flags, "")?;
    chdir(NEW_ROOT).doing("enter the jobs' root")?;
    // pivot_root(2) refuses the initramfs as old root; moving the new root over it does what it would do.
    mount_move(".", "/").doing("move the jobs' root")?;
    chroot(".").doing("make the jobs' root the root")?;
    chdir("/").doing("enter the root")
}

/// Makes the root read-only for everybody in this mount namespace. What a job wrote outside of the scratch directories,
/// where an image lets anybody write, would be there for the next one.
pub(crate) fn protect() -> Result<(), Fault> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount("/", flags, c"").doing("protect the jobs' root")
}

/// Undoes [`protect`], while no job is alive.
pub(crate) fn unprotect() -> Result<(), Fault> {
    let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
    mount_remount("/", flags, c"").doing("open the jobs' root")
}

/// Mounts a file system that has no source.
pub(crate) fn mount_with(kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<(), Fault> {
    let options = CString::new(options).doing("pass mount options")?;
    mount(kind, target, kind, flags, options.as_c_str()).doing(format!("mount {target}"))
}

/// The few devices that programs may expect, and none that reaches the host.
fn make_devices() -> Result<(), Fault> {
    let dev = format!("{NEW_ROOT}/dev");
    fs::create_dir_all(&dev).doing("make the jobs' /dev")?;
    mount_with("tmpfs", &dev, MountFlags::NOSUID | MountFlags::NOEXEC, "size=64k,mode=0755")?;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        make_device(&format!("{dev}/{name}"), 1, minor)?;
    }
    make_device(&format!("{dev}/tty"), 5, 0)?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, format!("{dev}/{name}")).doing(format!("link /dev/{name}"))?;
    }
    for name in ["shm", "pts"] {
        fs::create_dir(format!("{dev}/{name}")).doing(format!("make /dev/{name}"))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_with("devpts", &format!("{dev}/pts"), flags, "newinstance,ptmxmode=0666,mode=0620")
}

fn make_device(path: &str, major: u32, minor: u32) -> Result<(), Fault> {
    let anyone = Mode::from_raw_mode(0o666);
    mknodat(CWD, path, FileType::CharacterDevice, anyone, makedev(major, minor))
        .doing(format!("make {path}"))?;
    // mknod(2) takes the umask away from the mode.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).doing(format!("open {path} to jobs"))
}
