//! What a service is given.

use std::{sync::Arc, time::Duration};

use engine::pool::Pool;
use vmm::spec::MachineSpec;

use crate::{
    jobs::Jobs,
    metrics::{Metrics, Traces},
    operations::Administration,
    tokens::Authority,
};

/// What a service works with.
pub struct Settings {
    /// Where programs run.
    pub pool: Pool,
    /// Who says which tokens are good; where there is none, everybody may do everything.
    pub authority: Option<Authority>,
    /// What requests may ask for.
    pub policy: Policy,
    /// What is counted; the pool's observer, so that all of it is told in one place.
    pub metrics: Arc<Metrics>,
    /// Who is told of each request that has ended, where somebody traces.
    pub traces: Option<Arc<dyn Traces>>,
    /// How connections are served.
    pub connections: Connections,
    /// Requests that are run later; where there are none, none are taken.
    pub jobs: Option<Jobs>,
    /// Who makes and exchanges images and snapshots; where there is nobody, that cannot be asked for.
    pub administration: Option<Arc<dyn Administration>>,
    /// The APIs of others that are served as well.
    pub compatible: Compatible,
    /// Whether there is the page at `/`, where people write and run programs.
    pub page: bool,
}

/// APIs of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatible {
    /// Piston's, version 2, within these limits.
    pub piston: Option<PistonLimits>,
    /// `SandboxFusion`'s `run_code`.
    pub sandbox_fusion: bool,
}

impl Default for Compatible {
    fn default() -> Self {
        Self { piston: Some(PistonLimits::default()), sandbox_fusion: true }
    }
}

/// The most that clients of Piston may ask for, and get where they do not ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PistonLimits {
    /// How long a program may run.
    pub run_timeout: Duration,
    /// How long it may take to compile.
    pub compile_timeout: Duration,
}

impl Default for PistonLimits {
    fn default() -> Self {
        Self { run_timeout: Duration::from_secs(3), compile_timeout: Duration::from_secs(10) }
    }
}

/// What requests may ask for. Can be changed while the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The longest time limit.
    pub longest_timeout: Duration,
    /// The most memory of a microVM, in MiB.
    pub most_memory_mib: u32,
    /// The most executions of a batch.
    pub most_executions: u32,
    /// The size of a microVM for requests that do not care.
    pub usual_machine: MachineSpec,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            longest_timeout: Duration::from_secs(300),
            most_memory_mib: 4096,
            most_executions: 1000,
            usual_machine: MachineSpec { memory_mib: 512, vcpus: 1 },
        }
    }
}

/// How connections are served: what a client may take of the service without asking for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// The most at the same time; others wait to be accepted.
    pub most: usize,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// How long the body of a request may take, and an answer that nobody reads.
    pub body_timeout: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: 4096,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
        }
    }
}
