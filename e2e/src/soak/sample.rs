//! What the service and its microVMs have at a moment.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use images::Sha256Digest;

use crate::running::Process;

/// Where groups of microVMs are, in either version of cgroups.
const CGROUPS: [&str; 3] = ["llm-firecracker", "memory/llm-firecracker", "pids/llm-firecracker"];

/// A service, and where it leaves what it has.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its process.
    pub process: Process,
    /// Its data directory.
    pub data: PathBuf,
}

/// What there is. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// Memory of the service that is no file's.
    pub own_memory: u64,
    /// Its proportional memory (`Pss`).
    pub memory: u64,
    /// That of its VMMs, all together.
    pub vmm_memory: u64,
    /// Its descriptors.
    pub descriptors: usize,
    /// Its threads.
    pub threads: usize,
    /// Supervisors and VMMs.
    pub processes: usize,
    /// Cgroups of its microVMs.
    pub cgroups: usize,
    /// Files in the data directory.
    pub files: usize,
    /// Its databases with their logs.
    pub databases: u64,
}

impl Place {
    /// What there is now.
    pub fn sample(&self, at: Duration) -> Result<Sample> {
        let directory = PathBuf::from(format!("/proc/{}", self.process.id));
        let count = |name: &str| -> Result<usize> {
            Ok(fs::read_dir(directory.join(name)).context("the service has ended")?.count())
        };
        let family = self.process.descendants();
        let vmms = family.iter().filter(|process| {
            process.name.starts_with("qemu-system") || process.name.starts_with("firecracker")
        });
        let (files, databases) = files(&self.data)?;
        Ok(Sample {
            at,
            own_memory: self.process.anonymous_bytes().context("the service has ended")?,
            memory: proportional(self.process.id).context("the service has ended")?,
            // One that ends right now has none.
            vmm_memory: vmms.filter_map(|vmm| proportional(vmm.id)).sum(),
            descriptors: count("fd")?,
            threads: count("task")?,
            processes: family.len(),
            cgroups: self.cgroups(),
            files,
            databases,
        })
    }

    /// Groups of this service's microVMs: their names begin with a digest of its data directory.
    pub fn cgroups(&self) -> usize {
        let digest = Sha256Digest::of_bytes(self.data.as_os_str().as_encoded_bytes()).to_string();
        let prefix = format!("api-{}-", &digest[..8]);
        let groups =
            CGROUPS.iter().filter_map(|name| fs::read_dir(Path::new("/sys/fs/cgroup").join(name)).ok());
        let names = groups.flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&prefix)).collect::<BTreeSet<_>>().len()
    }
}

/// The proportional memory of a process, unless it has ended.
fn proportional(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// How many files there are, and the bytes of those that belong to databases.
fn files(directory: &Path) -> Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?.flatten() {
        // What is gone meanwhile does not count.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let (beneath, of_databases) = files(&entry.path())?;
            (count, bytes) = (count + beneath, bytes + of_databases);
        } else {
            count += 1;
            let is_database = entry.file_name().to_string_lossy().contains(".sqlite3");
            bytes += if is_database { metadata.len() } else { 0 };
        }
    }
    Ok((count, bytes))
}

impl fmt::Display for Sample {
    #[expect(clippy::cast_precision_loss, reason = "to be read by people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:>5} s  service {:>5.1} MB ({:.1} own)  VMMs {:>6.1} MB  descriptors {:>3}  threads {:>2}  processes {:>2}  \
             cgroups {:>2}  files {}  databases {:.2} MB",
            self.at.as_secs(),
            mega(self.memory),
            mega(self.own_memory),
            mega(self.vmm_memory),
            self.descriptors,
            self.threads,
            self.processes,
            self.cgroups,
            self.files,
            mega(self.databases)
        )
    }
}
