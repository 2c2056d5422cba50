//! What of ours is on the host: taken before and after, and compared.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use store::DataDirectory;
use vmm::jail;

/// How deep the data directory is looked through: images, snapshots and what is in the making.
const DEPTH: u32 = 4;

/// How much the memory of this process may have grown: answers are kept, and allocators do not give everything back.
const GROWTH_KIB: u64 = 32 << 10;

/// How long what ends may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// Processes that this one has started.
    processes: BTreeSet<u32>,
    /// What its descriptors lead to, and how many there are.
    descriptors: usize,
    /// Cgroups of its microVMs.
    cgroups: BTreeSet<PathBuf>,
    /// Mounts that it sees.
    mounts: BTreeSet<String>,
    /// Names in the data directory.
    files: BTreeSet<PathBuf>,
    /// Sockets of the whole host that can be reached by a path.
    sockets: BTreeSet<String>,
    /// Resident memory of this process, in KiB.
    memory_kib: u64,
}

impl Census {
    /// Takes it. Cgroups are counted whose names begin with `prefix`.
    pub(super) fn take(data: &DataDirectory, prefix: &str) -> Result<Self> {
        let mut files = BTreeSet::new();
        names(data.root(), DEPTH, &mut files);
        let groups = jail::cgroup_parents()
            .into_iter()
            .filter_map(|parent| fs::read_dir(parent).ok())
            .flatten()
            .flatten();
        let is_ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let root = data.root().display().to_string();
        Ok(Self {
            processes: children()?,
            descriptors: fs::read_dir("/proc/self/fd").context("list /proc/self/fd")?.count(),
            cgroups: groups.map(|group| group.path()).filter(is_ours).collect(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            files,
            sockets: sockets
                .split_whitespace()
                .filter(|word| word.starts_with(&root))
                .map(str::to_owned)
                .collect(),
            memory_kib: memory_kib()?,
        })
    }

    /// Takes it again until it is as it was before, and says what differs where it does not become so.
    pub(super) async fn compare(&self, data: &DataDirectory, prefix: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let differs = self.differences(&Self::take(data, prefix)?);
            if differs.is_empty() || Instant::now() > deadline {
                return Ok(differs);
            }
            // The kernel tells nobody when the last of a mount or a cgroup is gone.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn differences(&self, after: &Self) -> Vec<String> {
        fn more<T: Ord + std::fmt::Debug>(
            what: &str,
            before: &BTreeSet<T>,
            after: &BTreeSet<T>,
        ) -> Option<String> {
            let new: Vec<_> = after.difference(before).collect();
            (!new.is_empty()).then(|| format!("{what} that were not there before: {new:?}"))
        }
        let mut differs: Vec<String> = [
            more("processes", &self.processes, &after.processes),
            more("cgroups", &self.cgroups, &after.cgroups),
            more("mounts", &self.mounts, &after.mounts),
            more("files", &self.files, &after.files),
            more("sockets", &self.sockets, &after.sockets),
        ]
        .into_iter()
        .flatten()
        .collect();
        if after.descriptors > self.descriptors {
            differs.push(format!("{} descriptors instead of {}", after.descriptors, self.descriptors));
        }
        if after.memory_kib > self.memory_kib + GROWTH_KIB {
            differs.push(format!("{} KiB of memory instead of {}", after.memory_kib, self.memory_kib));
        }
        differs
    }
}

/// Whether there is such a process.
pub(super) fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// The processes that this one has started and that have not ended.
fn children() -> Result<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for thread in fs::read_dir("/proc/self/task").context("list the threads")?.flatten() {
        // A thread that has ended by now has no children.
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(all)
}

fn memory_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
}

fn names(directory: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names(&entry.path(), depth - 1, found);
        }
        found.insert(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::new(directory.path().to_owned());
        let before = Census::take(&data, "none-").unwrap();
        assert_eq!(before.differences(&before), Vec::<String>::new());
        fs::write(directory.path().join("left"), "").unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let after = Census::take(&data, "none-").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let differs = before.differences(&after).join("\n");
        assert!(differs.contains("/left"), "{differs}");
        assert!(
            differs.contains(&format!("processes that were not there before: [{}]", child.id())),
            "{differs}"
        );
        let grown = Census { descriptors: before.descriptors + 1, memory_kib: u64::MAX, ..before.clone() };
        assert_eq!(before.differences(&grown).len(), 2);
    }
}
