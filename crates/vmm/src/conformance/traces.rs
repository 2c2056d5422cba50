//! What a VMM leaves on its host.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::PATIENCE;
use crate::jail::cgroup_available;

/// A VMM's process and cgroups, to be looked for when it should be gone.
pub(super) struct Traces {
    process: PathBuf,
    cgroups: Vec<PathBuf>,
}

impl Traces {
    /// Of a process that runs.
    pub(super) fn of(process: u32) -> Self {
        let directory = PathBuf::from(format!("/proc/{process}"));
        let groups = fs::read_to_string(directory.join("cgroup")).expect("the VMM's process runs");
        let cgroups: Vec<_> = groups.lines().filter_map(cgroup).filter(|group| group.is_dir()).collect();
        let has_none = !rustix::process::geteuid().is_root() || !cgroup_available();
        assert!(has_none || !cgroups.is_empty(), "the VMM is in no cgroup of its own: {groups}");
        Self { process: directory, cgroups }
    }

    /// Whether nothing is left.
    pub(super) fn are_gone(&self) -> bool {
        !self.process.exists() && !self.cgroups.iter().any(|group| group.exists())
    }

    /// Waits until nothing is left.
    pub(super) async fn end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.are_gone() {
            assert!(Instant::now() < deadline, "left: {} {:?}", self.process.display(), self.cgroups);
            // The kernel tells of no such end.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The directory of a line of `/proc/<id>/cgroup` (`cgroups(7)`), if it is one of a microVM's.
fn cgroup(line: &str) -> Option<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let root = Path::new("/sys/fs/cgroup").join(controllers);
    path.contains("llm-firecracker/").then(|| root.join(path.trim_start_matches('/')))
}
