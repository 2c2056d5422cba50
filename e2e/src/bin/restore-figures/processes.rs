//! The processes of a restored microVM, and what they have used.

use std::{fs, time::Duration};

use e2e::running::Process;
use rustix::time::{ClockId, clock_gettime};

/// The VMM of a microVM, and those of our processes that stand between it and this one: keeper, supervisor.
pub(crate) struct Family {
    pub(crate) vmm: u32,
    pub(crate) ours: Vec<u32>,
}

impl Family {
    /// Of a VMM that was started by this process.
    pub(crate) fn of(vmm: u32) -> Self {
        let own = std::process::id();
        let parent = |process: u32| Process::find(process)?.parent();
        let parents = std::iter::successors(parent(vmm), |process| parent(*process));
        Self { vmm, ours: parents.take_while(|process| *process != own && *process > 1).collect() }
    }

    /// The processor time that ours have used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        self.ours.iter().map(|process| processor_time(*process)).sum()
    }
}

/// The time that a process has been on a processor, in its own code and in the kernel, since its start: the first field
/// of `schedstat` of each thread, in nanoseconds (`Documentation/scheduler/sched-stats.rst` of Linux).
pub(crate) fn processor_time(process: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The same of this process, with the threads that have ended.
pub(crate) fn own_processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Memory that a process would give back if it ended, with its part of what it shares, in KiB.
pub(crate) fn proportional_kib(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}
