//! The cgroup of a VMM, in either version of cgroups.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

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
    if has("memory") && has("pids") && writable("") {
        Some(Version::Unified)
    } else if writable("memory") && writable("pids") {
        Some(Version::Split)
    } else {
        None
    }
}

/// The group of one VMM. Dropping it removes it; by then the VMM must have ended.
pub(super) struct Group(Vec<PathBuf>);

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
        let mut group = Self(Vec::new());
        for (controller, file, value) in settings {
            let parent = Path::new(MOUNT_POINT).join(controller).join(PARENT);
            if version == Version::Unified {
                delegate(&parent)?;
            }
            let directory = parent.join(name);
            if !group.0.contains(&directory) {
                fs::create_dir_all(&directory)?;
                group.0.push(directory.clone());
            }
            fs::write(directory.join(file), value)?;
        }
        Ok(Some(group))
    }

    /// The files that take a process into the group when it writes "0" to them.
    pub(super) fn entrances(&self) -> io::Result<Vec<fs::File>> {
        self.0.iter().map(|group| fs::File::options().write(true).open(group.join("cgroup.procs"))).collect()
    }

    /// Opens the groups' parents, to remove the groups from a place where their paths are gone.
    pub(super) fn remover(&self) -> io::Result<Remover> {
        let open = |group: &PathBuf| {
            let parent = group.parent().ok_or(io::ErrorKind::InvalidInput)?;
            let name = group.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            Ok((fs::File::open(parent)?, PathBuf::from(name)))
        };
        Ok(Remover(self.0.iter().map(open).collect::<io::Result<_>>()?))
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

/// Lets `parent` pass the controllers on to its children.
fn delegate(parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    for directory in [Path::new(MOUNT_POINT), parent] {
        fs::write(directory.join("cgroup.subtree_control"), "+memory +pids")?;
    }
    Ok(())
}
