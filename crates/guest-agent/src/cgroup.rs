//! Control groups (v2) of the guest: each execution gets one, so that it can be bounded and ended as a whole.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat},
    io::Errno,
    mount::MountFlags,
    process::Pid,
};

use crate::{
    fault::{Doing, Fault},
    root::mount_with,
    wait,
};

/// Where PID 1 mounts the hierarchy. Jobs cannot see it: the runner keeps a descriptor of it instead.
const MOUNT_POINT: &str = "/cgroup";

/// The most processes and threads of one job.
const MAX_TASKS: u32 = 512;

/// A job's share of the processors, of 1 to 10,000, beside what is in no group: the agent and the kernel's own threads, each of
/// which has 100. It has all that they leave, which is nearly all; but however many processes it has, and in however many
/// sessions, none of them keeps the agent waiting, which has a deadline to keep.
const PROCESSOR_WEIGHT: u32 = 1;

/// Mounts the hierarchy and enables the controllers that jobs are bounded with.
pub(crate) fn mount() -> Result<(), Fault> {
    fs::create_dir_all(MOUNT_POINT).doing("make the cgroup directory")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Moving a process waits for a grace period of RCU otherwise.
    mount_with("cgroup2", MOUNT_POINT, flags, "favordynmods")?;
    fs::write(format!("{MOUNT_POINT}/cgroup.subtree_control"), "+cpu +memory +pids")
        .doing("enable the cpu, memory and pids controllers")
}

/// The hierarchy's root.
pub(crate) struct Hierarchy(OwnedFd);

impl Hierarchy {
    /// Opens it, before the runner leaves the initramfs.
    pub(crate) fn open() -> Result<Self, Fault> {
        directory(CWD, MOUNT_POINT).map(Self)
    }

    /// Makes a group beneath the root.
    pub(crate) fn create(&self, name: &str) -> Result<Group<'_>, Fault> {
        match mkdirat(&self.0, name, Mode::from_raw_mode(0o755)) {
            // One that could not be removed when it was dropped, by now can be. It must not be used again, for what it counted.
            Err(Errno::EXIST) => {
                unlinkat(&self.0, name, AtFlags::REMOVEDIR).doing(format!("remove cgroup {name}"))?;
                mkdirat(&self.0, name, Mode::from_raw_mode(0o755))
            }
            made => made,
        }
        .doing(format!("make cgroup {name}"))?;
        Ok(Group { hierarchy: self, name: name.to_owned(), directory: directory(&self.0, name)? })
    }
}

/// One group. Dropping it removes it, which fails, harmlessly, while a process is left in it.
pub(crate) struct Group<'a> {
    hierarchy: &'a Hierarchy,
    name: String,
    directory: OwnedFd,
}

impl Group<'_> {
    /// Bounds the group to `memory_bytes`. Exceeding it ends all its processes, never one alone.
    pub(crate) fn limit(&self, memory_bytes: u64) -> Result<(), Fault> {
        self.limit_memory(memory_bytes)?;
        self.write("memory.oom.group", "1")?;
        self.write("cpu.weight", &PROCESSOR_WEIGHT.to_string())?;
        self.write("pids.max", &MAX_TASKS.to_string())
    }

    /// Bounds its memory anew.
    pub(crate) fn limit_memory(&self, memory_bytes: u64) -> Result<(), Fault> {
        self.write("memory.max", &memory_bytes.to_string())
    }

    /// Moves a process in.
    pub(crate) fn add(&self, process: Pid) -> Result<(), Fault> {
        self.write("cgroup.procs", &process.as_raw_nonzero().to_string())
    }

    /// The file that takes the process that writes "0" to it: how a process enters before it executes.
    pub(crate) fn entrance(&self) -> Result<File, Fault> {
        self.open("cgroup.procs", OFlags::WRONLY)
    }

    /// The processes inside, in the runner's pid namespace.
    pub(crate) fn processes(&self) -> Result<Vec<Pid>, Fault> {
        let listed = self.read("cgroup.procs")?;
        Ok(listed.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect())
    }

    /// Whether the group's memory limit ended its processes.
    pub(crate) fn out_of_memory(&self) -> Result<bool, Fault> {
        let events = self.read("memory.events")?;
        Ok(events.lines().any(|line| {
            line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0")
                || line.strip_prefix("oom_group_kill ").is_some_and(|count| count.trim() != "0")
        }))
    }

    /// The processor time of all that ran in it, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Result<u64, Fault> {
        let stat = self.read("cpu.stat")?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok());
        usage.ok_or_else(|| Fault::new("cpu.stat has no usage_usec"))
    }

    /// The most memory that was charged to it at once, in bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64, Fault> {
        self.read("memory.peak")?.trim().parse().doing("read memory.peak")
    }

    /// Ends every process inside, however many and whatever they do. Does not wait.
    pub(crate) fn kill(&self) -> Result<(), Fault> {
        self.write("cgroup.kill", "1")
    }

    /// Whether no process is left.
    pub(crate) fn is_empty(&self) -> Result<bool, Fault> {
        Ok(self.read("cgroup.events")?.lines().any(|line| line == "populated 0"))
    }

    /// Waits until no process is left.
    pub(crate) fn wait_until_empty(&self, timeout: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut events = self.open("cgroup.events", OFlags::RDONLY)?;
            let mut text = String::new();
            events.read_to_string(&mut text).doing("read cgroup.events")?;
            if text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            // The kernel reports a change of this file since it was read as an urgent condition.
            let changed = wait::ready(&mut [PollFd::new(&events, PollFlags::PRI)], deadline);
            if !changed.doing("wait for a cgroup")? {
                return Err(Fault::new(format!("cgroup {} still has processes", self.name)));
            }
        }
    }

    fn open(&self, file: &str, access: OFlags) -> Result<File, Fault> {
        openat(&self.directory, file, access | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .doing(format!("open {file} of cgroup {}", self.name))
    }

    fn read(&self, file: &str) -> Result<String, Fault> {
        let mut text = String::new();
        self.open(file, OFlags::RDONLY)?
            .read_to_string(&mut text)
            .doing(format!("read {file} of cgroup {}", self.name))?;
        Ok(text)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), Fault> {
        self.open(file, OFlags::WRONLY)?
            .write_all(value.as_bytes())
            .doing(format!("write {value} to {file} of cgroup {}", self.name))
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        // Groups are few and small; one that a dying process keeps busy is of no harm.
        let _ = unlinkat(&self.hierarchy.0, &self.name, AtFlags::REMOVEDIR);
    }
}

fn directory(at: impl AsFd, name: &str) -> Result<OwnedFd, Fault> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(format!("open cgroup {name}"))
}
