//! The jail's root directory, built in a mount namespace of its own.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        CWD, FileType, Gid, Mode, OFlags, StatVfsMountFlags, Uid, chmod, chown, fstat, mknodat, open, statvfs,
    },
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount,
        unmount,
    },
    process::{chdir, pivot_root},
};

use super::spec::{Access, JailSpec};

/// Any directory that every host has: the new root hides it, in this namespace alone, while it is built.
const STAGING: &str = "/tmp";

/// Devices that a VMM may expect besides those it is given.
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// A mount to be made: what, where, how.
struct Bind {
    source: OwnedFd,
    /// The source's path, for messages.
    host: PathBuf,
    jail: PathBuf,
    is_directory: bool,
    access: Access,
}

/// Makes the jail's root the root of this process, which must have a mount namespace of its own.
pub(super) fn enter(spec: &JailSpec) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| about("keep mounts private", error))?;
    // All are opened before anything is mounted: the staging directory may hide some.
    let binds = sources(spec)?;
    mount(
        "jail",
        STAGING,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"size=1m,nr_inodes=1k,mode=0755",
    )
    .map_err(|error| about("mount the root", error))?;
    if let Some(launcher) = &spec.launcher {
        // The launcher makes device nodes here, copies the VMM here, and gives it to the VMM's user.
        let base = beneath(STAGING, launcher.root.components().take(2).collect::<PathBuf>().as_path());
        fs::create_dir_all(&base)?;
        mount("launcher", &base, "tmpfs", MountFlags::NOSUID, LAUNCHER_ROOT_OPTIONS)
            .map_err(|error| about("mount the launcher's root", error))?;
        fs::create_dir_all(beneath(STAGING, &launcher.root))?;
    }
    let devices = beneath(STAGING, Path::new("/dev"));
    let own_devices = spec.user.filter(|_| spec.launcher.is_none());
    if own_devices.is_some() {
        fs::create_dir_all(&devices)?;
        mount("devices", &devices, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"size=64k,mode=0755")
            .map_err(|error| about("mount the directory of devices", error))?;
    }
    for bind in &binds {
        let given = match own_devices.filter(|_| bind.access == Access::Device) {
            Some(user) => give_device(bind, user)?,
            None => false,
        };
        if !given {
            make(bind)?;
        }
    }
    if own_devices.is_some() {
        let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount_remount(&devices, read_only, c"")
            .map_err(|error| about("make the directory of devices read-only", error))?;
    }
    if spec.run_directory {
        make_run_directory(spec)?;
    }
    // Where the host has /lib as a link to usr/lib, so has the jail.
    for name in ["lib", "lib64"] {
        if Path::new(STAGING).join("usr").join(name).exists() && !Path::new(STAGING).join(name).exists() {
            symlink(format!("usr/{name}"), format!("{STAGING}/{name}"))?;
        }
    }
    chdir(STAGING).map_err(|error| about("enter the root", error))?;
    pivot_root(".", ".").map_err(|error| about("pivot the root", error))?;
    unmount(".", UnmountFlags::DETACH).map_err(|error| about("leave the old root", error))?;
    chdir("/").map_err(|error| about("enter the root", error))?;
    let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", read_only, c"").map_err(|error| about("make the root read-only", error))
}

/// Where the VMM's sockets are, as it sees them.
const RUN: &str = "/run";

/// Fifos in [`RUN`]: for what the VMM has to tell besides its log, and for what a guest writes to its serial port, which
/// nobody reads.
const FIFOS: [&str; 2] = ["metrics", "serial"];

/// What a launcher may put into its root: a copy of the VMM, some 4 MB, and sockets.
const LAUNCHER_ROOT_OPTIONS: &std::ffi::CStr = c"size=32m,nr_inodes=1k,mode=0755";

fn make_run_directory(spec: &JailSpec) -> io::Result<()> {
    let run = match &spec.launcher {
        Some(launcher) => beneath(STAGING, &beneath(&launcher.root, Path::new(RUN))),
        None => beneath(STAGING, Path::new(RUN)),
    };
    fs::create_dir_all(&run)?;
    if spec.launcher.is_none() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("run", &run, "tmpfs", flags, c"size=1m,nr_inodes=1k,mode=0700")
            .map_err(|error| about("mount the run directory", error))?;
    }
    let mode = Mode::from_raw_mode(0o666);
    for fifo in FIFOS.map(|name| run.join(name)) {
        mknodat(CWD, &fifo, FileType::Fifo, mode, 0).map_err(|error| about("make a fifo", error))?;
        // Past this process's umask.
        chmod(&fifo, mode).map_err(|error| about("make a fifo", error))?;
    }
    Ok(())
}

/// A descriptor of the VMM's directory for its sockets, after [`enter`].
pub(super) fn open_run_directory(spec: &JailSpec) -> io::Result<OwnedFd> {
    let run = match &spec.launcher {
        Some(launcher) => beneath(&launcher.root, Path::new(RUN)),
        None => PathBuf::from(RUN),
    };
    open(&run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| about("open the run directory", error))
}

/// The absolute path `path`, seen from where `root` is the root.
fn beneath(root: impl AsRef<Path>, path: &Path) -> PathBuf {
    root.as_ref().join(path.strip_prefix("/").unwrap_or(path))
}

fn sources(spec: &JailSpec) -> io::Result<Vec<Bind>> {
    let mut binds = Vec::new();
    for directory in &spec.directories {
        // A link such as /lib is made anew above; what is not there cannot be shown.
        if fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir()) {
            binds.push(bind(directory, directory, Access::ReadOnly)?);
        }
    }
    let covered = |path: &Path| spec.directories.iter().any(|directory| path.starts_with(directory));
    for program in [Some(&spec.program), spec.launcher.as_ref().map(|launcher| &launcher.vmm)] {
        if let Some(program) = program.filter(|program| !covered(program)) {
            binds.push(bind(program, program, Access::ReadOnly)?);
        }
    }
    let cache = Path::new("/etc/ld.so.cache");
    if cache.exists() {
        binds.push(bind(cache, cache, Access::ReadOnly)?);
    }
    for device in DEVICES {
        binds.push(bind(Path::new(device), Path::new(device), Access::Device)?);
    }
    for file in &spec.files {
        let jail = match &spec.launcher {
            Some(launcher) => beneath(&launcher.root, &file.jail),
            None => file.jail.clone(),
        };
        binds.push(bind(&file.host, &jail, file.access)?);
    }
    Ok(binds)
}

fn bind(host: &Path, jail: &Path, access: Access) -> io::Result<Bind> {
    let source = open(host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| about(&format!("open {}", host.display()), error))?;
    let is_directory = fs::metadata(host).is_ok_and(|metadata| metadata.is_dir());
    Ok(Bind { source, host: host.to_owned(), jail: jail.to_owned(), is_directory, access })
}

fn make(bind: &Bind) -> io::Result<()> {
    let target = beneath(STAGING, &bind.jail);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if bind.is_directory {
        fs::create_dir_all(&target)?;
    } else {
        File::create(&target)?;
    }
    let source = format!("/proc/self/fd/{}", bind.source.as_raw_fd());
    let doing = |error| about(&format!("show {}", bind.host.display()), error);
    mount_bind(source, &target).map_err(doing)?;
    // A remount may not take away what the host's mount forbids (in a user namespace it is not allowed to).
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | inherited_flags(&target).map_err(doing)?;
    match bind.access {
        Access::ReadOnly | Access::ReadOnlyWhateverAsked => flags |= MountFlags::RDONLY | MountFlags::NODEV,
        Access::ReadWrite => flags |= MountFlags::NODEV,
        Access::Device => flags |= MountFlags::NOEXEC,
    }
    mount_remount(&target, flags, c"").map_err(doing)
}

/// Makes a node of its own for a user who may not open the host's: Debian gives `/dev/kvm` to a group, whose power over
/// other files the VMM shall not get. Whether that was needed and possible.
fn give_device(bind: &Bind, user: u32) -> io::Result<bool> {
    const OTHERS: u32 = 0o006;
    let host = fstat(&bind.source)?;
    if host.st_mode & OTHERS == OTHERS || FileType::from_raw_mode(host.st_mode) != FileType::CharacterDevice {
        return Ok(false);
    }
    let node = beneath(STAGING, &bind.jail);
    let doing = |error| about(&format!("make {}", bind.jail.display()), error);
    match mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o600), host.st_rdev) {
        // In a container root may have the device and not make another.
        Err(Errno::PERM) => return Ok(false),
        made => made.map_err(doing)?,
    }
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    chown(&node, Some(user), Some(group)).map_err(doing)?;
    Ok(true)
}

fn inherited_flags(target: &Path) -> rustix::io::Result<MountFlags> {
    let of = statvfs(target)?.f_flag;
    let mut flags = MountFlags::empty();
    for (given, flag) in [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if of.contains(given) {
            flags |= flag;
        }
    }
    Ok(flags)
}

/// The error, with what was being done.
fn about(doing: &str, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}
