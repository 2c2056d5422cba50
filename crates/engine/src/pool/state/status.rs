//! What a pool holds, for those who watch it.

use std::time::Instant;

use super::{PoolKey, State};

/// A pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Its kinds of microVMs.
    pub kinds: Vec<KindStatus>,
    /// How many requests wait.
    pub queued: usize,
    /// How many may.
    pub queue: usize,
    /// How many microVMs there are, whatever they do.
    pub microvms: usize,
    /// How many run a program, and how many may.
    pub running: u32,
    /// See [`Self::running`].
    pub most_running: u32,
    /// What all may use, counted as the pool does, in MiB.
    pub memory_mib: u64,
    /// And what there is for them.
    pub memory_limit_mib: u64,
    /// Whether requests are refused because the pool stops.
    pub stopping: bool,
}

/// All of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStatus {
    /// The kind.
    pub key: PoolKey,
    /// Whether there is a snapshot that can be restored; without one they boot.
    pub restorable: bool,
    /// How many wait for a request.
    pub idle: u32,
    /// How many are to.
    pub target: u32,
    /// How many are being started.
    pub starting: u32,
    /// How many rehearse.
    pub rehearsing: u32,
    /// How many run a program.
    pub running: u32,
}

impl State {
    /// What there is now.
    pub(in crate::pool) fn status(&self, now: Instant) -> PoolStatus {
        let kinds = self.kinds.iter().map(|(key, kind)| KindStatus {
            key: key.clone(),
            restorable: kind.restorable,
            idle: kind.idle(),
            target: self.target(kind, now),
            starting: kind.starting,
            rehearsing: kind.rehearsing,
            running: kind.running,
        });
        PoolStatus {
            kinds: kinds.collect(),
            queued: self.queue.len(),
            queue: self.limits.queue,
            microvms: self.vms.len(),
            running: self.running,
            most_running: self.limits.running,
            memory_mib: self.memory_mib,
            memory_limit_mib: self.limits.memory_mib,
            stopping: self.stopping,
        }
    }
}
