//! What the configuration gives the service: bounds, with what the program decides where nobody has.

use std::{num::NonZero, path::Path, thread::available_parallelism};

use engine::pool::PoolLimits;
use server::{
    Compatible, Connections, PistonLimits, Policy,
    jobs::{JobSettings, SigningSecret},
};

use super::memory;
use crate::{
    config::{Config, Pool, WarmUp},
    settings::DEFAULT_MACHINE,
};

/// How often a microVM rehearses: what the first leaves untranslated of an emulated guest's code, the others do.
const REHEARSALS: u32 = 3;

/// Files that the service has open without connections and microVMs, with room to spare.
const OWN_FILES: u64 = 32;

/// As many connections are served on any host.
const LEAST_CONNECTIONS: usize = 8;

/// What the program found out at its start, for where nobody has decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Whether guests' code is emulated.
    pub(super) emulates: bool,
    /// Memory for microVMs, in MiB. Later their own would count.
    pub(super) memory_mib: u64,
}

impl Found {
    /// Now, before there is a microVM.
    pub(super) fn now(emulates: bool) -> Self {
        Self { emulates, memory_mib: memory::for_microvms() }
    }
}

/// Bounds of the pool.
pub(super) fn limits(config: &Config, found: Found) -> PoolLimits {
    let running = running(&config.pool);
    let rehearses = match config.pool.warm_up {
        Some(WarmUp::Always) => true,
        Some(WarmUp::Never) => false,
        // A processor runs code at once as fast as ever.
        None => found.emulates,
    };
    PoolLimits {
        memory_mib: config.pool.memory_mib.unwrap_or(found.memory_mib),
        minimum: number(config.pool.minimum),
        maximum: number(config.pool.maximum),
        running: number(running),
        starting: number(config.pool.starting.unwrap_or_else(processors)),
        batches: number(config.queue.batches.unwrap_or(running / 2).max(1)),
        rehearsals: if rehearses { REHEARSALS } else { 0 },
        queue: config.queue.length,
        patience: config.queue.patience,
    }
}

/// How jobs are kept, in the file at `path`, and run; nothing where there are to be none.
pub(super) fn jobs(config: &Config, path: &Path, secret: Option<SigningSecret>) -> Option<JobSettings> {
    let (jobs, pool) = (&config.jobs, &config.pool);
    jobs.enabled.then(|| JobSettings {
        running: jobs.running.unwrap_or(running(pool) / 2).max(1),
        most_queued: jobs.queued,
        most_kept: jobs.kept,
        most_bytes: jobs.size_mib << 20,
        usual_lifetime: jobs.expires_after.min(jobs.longest_expiry),
        longest_lifetime: jobs.longest_expiry,
        reruns: jobs.reruns,
        callback_attempts: jobs.callback_attempts,
        callback_timeout: jobs.callback_timeout,
        callback_networks: jobs.callback_networks.clone(),
        callback_secret: secret,
        ..JobSettings::new(path.to_owned())
    })
}

/// The most microVMs that execute at the same time.
fn running(pool: &Pool) -> usize {
    pool.running.unwrap_or(4 * processors()).max(1)
}

fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// What requests may ask for.
pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        longest_timeout: config.limits.timeout,
        most_memory_mib: config.limits.memory_mib,
        most_executions: number(config.limits.batch),
        usual_machine: DEFAULT_MACHINE,
    }
}

/// Which APIs of others are served.
pub(super) fn compatible(config: &Config) -> Compatible {
    let piston = config.piston.as_ref().map(|piston| PistonLimits {
        run_timeout: piston.run_timeout,
        compile_timeout: piston.compile_timeout,
    });
    Compatible { piston, sandbox_fusion: config.sandbox_fusion }
}

/// How connections are served, of a process that may have so many files open. Those who connect and say nothing must not take what
/// microVMs need, each some ten.
pub(super) fn connections(config: &Config, files: Option<u64>) -> Connections {
    let room = files.map_or(usize::MAX, |files| {
        usize::try_from(files.saturating_sub(OWN_FILES) / 2).unwrap_or(usize::MAX).max(LEAST_CONNECTIONS)
    });
    let wanted = config.api.max_connections;
    if wanted > room {
        let hint = "raise the limit of open files: LimitNOFILE= of the unit, or ulimit -n";
        tracing::warn!(wanted, most = room, hint, "fewer connections than api.max_connections are served");
    }
    Connections {
        most: wanted.min(room),
        header_timeout: config.api.header_timeout,
        idle_timeout: config.api.idle_timeout,
        body_timeout: config.api.body_timeout,
    }
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
