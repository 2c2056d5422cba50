//! The cgroup of a VMM, in either version of cgroups.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::spec::CgroupLimits;

const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The group that holds those of all microVMs.
const PARENT: &str = "llm-firecracker";

/// The hierarchies in which a VMM has a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// One hierarchy for all controllers.
    Unified,
    /// One for each.
    Split,
}

/// Whether this host has cgroups in which this process can limit a VMM.
pub fn available() -> bool {
    version().is_some()
}

fn version() -> Option<Version> {
    let writable = |directory: &str| {
        rustix::fs::access(format!("{MOUNT_POINT}/{directory}"), rustix::fs::Access::WRITE_OK).is_ok()
    };
    let unified = fs::read_to_string(format!("{MOUNT_POINT}/cgroup.controllers")).unwrap_or_default();
    let has = |name| unified.split_whitespace().any(|controller| controller == name);
    if has("memory") && has("pids") && writable("") && may_delegate() {
        Some(Version::Unified)
    } else if writable("memory") && writable("pids") {
        Some(Version::Split)
    } else {
        None
    }
}

/// Whether what is mounted passes the controllers on to groups beneath it, or can be made to: below the root of all groups,
/// which has no type, that is refused while there are processes in it (`cgroup-v2.rst` of Linux, no internal processes).
fn may_delegate() -> bool {
    let root = Path::new(MOUNT_POINT);
    passes_on(root).unwrap_or(false) || !root.join("cgroup.type").exists()
}

/// Whether a group passes the controllers that we use on to those beneath it.
fn passes_on(group: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    Ok(["memory", "pids"].iter().all(|wanted| text.split_whitespace().any(|name| name == *wanted)))
}

/// Where the groups of all microVMs are, in either version of cgroups. Not all of these exist.
pub fn parents() -> [PathBuf; 3] {
    ["", "memory", "pids"].map(|controller| Path::new(MOUNT_POINT).join(controller).join(PARENT))
}

/// Removes the group of a VMM whose supervisor could not: once the kernel has ended the VMM. Whether none is left.
pub(super) fn remove_left(name: &str) -> bool {
    parents()
        .map(|parent| parent.join(name))
        .iter()
        .filter(|group| group.exists())
        .all(|group| remove_with_all(group))
}

/// Removes a group, and ends what is left in it: a VMM that a guest has taken over may have undone that it dies with its
/// supervisor. False while something is on its way out.
fn remove_with_all(group: &Path) -> bool {
    if fs::remove_dir(group).is_ok() {
        return true;
    }
    // Version 1 has no such file.
    if fs::write(group.join("cgroup.kill"), "1").is_err() {
        for process in processes(group) {
            // One that is gone by now needs no signal; and its number may be another's, who is not in the group.
            let opened = pidfd_open(process, PidfdFlags::empty());
            if let Ok(pidfd) = opened
                && processes(group).contains(&process)
            {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
    }
    fs::remove_dir(group).is_ok()
}

/// Who is in a group.
fn processes(group: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// Removes the groups of VMMs whose names begin so, and whose supervisors were killed with them. There must be nobody who starts
/// any of such a name. How many there were.
pub fn remove_all_left(prefix: &str) -> usize {
    let groups = parents().into_iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
    let ours = groups.filter(|group| group.file_name().to_string_lossy().starts_with(prefix));
    // One whose processes are still on their way out stays: the next start finds it empty.
    ours.filter(|group| remove_with_all(&group.path())).count()
}

/// The group of one VMM. By the time that it is removed the VMM must have ended.
pub(super) struct Group {
    version: Version,
    directories: Vec<PathBuf>,
}

/// How a process gets into a group.
pub(super) enum Entrance {
    /// It is born there: the group's directory.
    Birth(fs::File),
    /// It writes "0" to each of these files.
    Move(Vec<fs::File>),
}

impl Group {
    /// Makes the group and sets its limits. Nothing where the host has no cgroups to use.
    pub(super) fn create(name: &str, limits: CgroupLimits) -> io::Result<Option<Self>> {
        let Some(version) = version() else { return Ok(None) };
        let memory = limits.memory_bytes.to_string();
        let tasks = limits.tasks.to_string();
        let settings: [(&str, &str, &str); 2] = match version {
            Version::Unified => [("", "memory.max", &memory), ("", "pids.max", &tasks)],
            Version::Split => [("memory", "memory.limit_in_bytes", &memory), ("pids", "pids.max", &tasks)],
        };
        let mut group = Self { version, directories: Vec::new() };
        match group.prepare(name, settings, limits.memory_bytes) {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                // Nobody is in it yet.
                for directory in &group.directories {
                    let _ = fs::remove_dir(directory);
                }
                Err(error)
            }
        }
    }

    fn prepare(
        &mut self,
        name: &str,
        settings: [(&str, &str, &str); 2],
        memory_bytes: u64,
    ) -> io::Result<()> {
        let Self { version, directories } = self;
        for (controller, file, value) in settings {
            let parent = Path::new(MOUNT_POINT).join(controller).join(PARENT);
            let directory = parent.join(name);
            if !directories.contains(&directory) {
                if *version == Version::Unified {
                    delegate(&parent)?;
                }
                fs::create_dir_all(&directory)?;
                directories.push(directory.clone());
            }
            fs::write(directory.join(file), value)?;
        }
        match (version, &directories[..]) {
            (Version::Unified, [directory]) => keep_out_of_swap(directory)?,
            (_, [memory, ..]) => bound_swap(memory, memory_bytes),
            _ => {}
        }
        Ok(())
    }

    /// How the VMM gets into the group.
    pub(super) fn entrance(&self) -> io::Result<Entrance> {
        let processes = |group: &PathBuf| fs::File::options().write(true).open(group.join("cgroup.procs"));
        match (self.version, &self.directories[..]) {
            (Version::Unified, [directory]) => Ok(Entrance::Birth(fs::File::open(directory)?)),
            (_, directories) => {
                Ok(Entrance::Move(directories.iter().map(processes).collect::<io::Result<_>>()?))
            }
        }
    }

    /// Opens the groups' parents, to remove the groups from a place where their paths are gone.
    pub(super) fn remover(&self) -> io::Result<Remover> {
        let open = |group: &PathBuf| {
            let parent = group.parent().ok_or(io::ErrorKind::InvalidInput)?;
            let name = group.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            Ok((fs::File::open(parent)?, PathBuf::from(name)))
        };
        Ok(Remover(self.directories.iter().map(open).collect::<io::Result<_>>()?))
    }
}

/// Removes a group when dropped. The group must have no process any more.
pub(super) struct Remover(Vec<(fs::File, PathBuf)>);

impl Drop for Remover {
    fn drop(&mut self) {
        for (parent, name) in &self.0 {
            // Nobody is left to be told; `doctor` finds and removes what could not be removed here.
            let _ = rustix::fs::unlinkat(parent, name, rustix::fs::AtFlags::REMOVEDIR);
        }
    }
}

/// The same as far as version 1 of cgroups can: memory and swap together are no more than the memory, and swap is the last
/// resort. Nothing where the kernel does not count swap.
fn bound_swap(group: &Path, memory_bytes: u64) {
    for (file, value) in [("memory.memsw.limit_in_bytes", memory_bytes), ("memory.swappiness", 0)] {
        if let Err(error) = fs::write(group.join(file), value.to_string()) {
            tracing::debug!(%error, file, "cannot keep a VMM out of swap");
        }
    }
}

/// What a microVM had in memory is not to outlive it on a disk.
fn keep_out_of_swap(group: &Path) -> io::Result<()> {
    match fs::write(group.join("memory.swap.max"), "0") {
        // A kernel that does not count swap, or has none.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        done => done,
    }
}

/// Lets `parent` pass the controllers on to its children, unless it does.
fn delegate(parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    for directory in [Path::new(MOUNT_POINT), parent] {
        if !passes_on(directory)? {
            fs::write(directory.join("cgroup.subtree_control"), "+memory +pids")?;
        }
    }
    Ok(())
}
