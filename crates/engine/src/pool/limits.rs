//! What a pool may use, and how patient it is.

use std::time::Duration;

use vmm::spec::MachineSpec;

/// Memory that a restored microVM takes on the host while it waits, in MiB: pages of its own and its processes. Measured
/// at 24 to 54 MiB under emulation (docs/performance.md), after rehearsals somewhat more.
const IDLE_MIB: u64 = 64;

/// What a VMM takes besides the guest's memory while a program runs, in MiB.
const OVERHEAD_MIB: u64 = 64;

/// Bounds of a pool. All can be changed while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Memory of all microVMs together, in MiB.
    pub memory_mib: u64,
    /// The fewest microVMs of each kind that has a snapshot to be kept waiting.
    pub minimum: u32,
    /// The most.
    pub maximum: u32,
    /// The most microVMs that run a program at the same time; at least 1.
    pub running: u32,
    /// The most that start or rehearse at the same time; at least 1.
    pub starting: u32,
    /// The most that run a batch at the same time; at least 1.
    pub batches: u32,
    /// How often a microVM rehearses while it waits for its request.
    pub rehearsals: u32,
    /// The most requests that wait.
    pub queue: usize,
    /// How long a request may wait.
    pub patience: Duration,
}

impl PoolLimits {
    /// What a microVM of this size takes while it waits, in MiB.
    pub(super) fn idle_mib(machine: MachineSpec) -> u64 {
        IDLE_MIB.min(Self::running_mib(machine))
    }

    /// The most that it takes while it runs a program, in MiB: all of its memory may have been written to.
    pub(super) fn running_mib(machine: MachineSpec) -> u64 {
        u64::from(machine.memory_mib) + OVERHEAD_MIB
    }

    /// The most microVMs that one tenant may have running: it never has all of them, or the others would wait for as
    /// long as its programs run.
    pub(super) fn running_of_one(&self) -> u32 {
        (self.running * 3).div_ceil(4).min(self.running.saturating_sub(1)).max(1)
    }
}

impl Default for PoolLimits {
    /// For a host with two processors.
    fn default() -> Self {
        Self {
            memory_mib: 8192,
            minimum: 1,
            maximum: 16,
            running: 8,
            starting: 2,
            batches: 4,
            rehearsals: 3,
            queue: 1000,
            patience: Duration::from_secs(30),
        }
    }
}
