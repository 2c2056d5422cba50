//! Firecracker, under its own jailer.
//!
//! ```text
//! supervisor (ours): namespaces, cgroup, a root with nothing but what is needed
//! └─ keeper: PID 1 of the namespace, ends everything with the supervisor
//!    └─ jailer ─becomes─▶ firecracker: own root, own user, no capabilities, its seccomp filters
//!
//! host ──/run/api──▶ HTTP                       boot: five requests; restore: one
//!      ──/run/vsock─▶ CONNECT 5000              the guest agent
//!      ◀─/run/metrics, stdout                   metrics, log
//! ```
//!
//! A clone maps the snapshot's memory file privately: its pages are shared by all clones until they are written to.

mod api;
mod cpu_template;
mod exit;
mod holes;
mod launch;
mod machine;
mod probe;
mod requests;
mod run_directory;
mod vsock;

use async_trait::async_trait;

use self::machine::{FirecrackerVm, Standby};
pub use self::{
    cpu_template::{CpuTemplate, CpuTemplateError},
    probe::{Installation, OLDEST, ProbeError, find, jailer_of, version},
};
use crate::{
    backend::{BootError, MicroVm, RestoreError, SavableVm, Snapshots, StandbyVmm, Vmm, VmmIdentity},
    jail::Supervisor,
    spec::{BootSpec, RestoreSpec, SnapshotFiles},
};

/// Converses with a Firecracker as a restore and a pause do, for `fuzz/`. How many requests it has answered, and the error
/// that has ended it.
#[cfg(feature = "fuzzing")]
pub(crate) async fn fuzz_restore(stream: tokio::net::UnixStream) -> (usize, Option<crate::ControlError>) {
    let mut answered = 0;
    let conversation = async {
        let mut api = api::Api::over(stream).await?;
        for state in [requests::VmState::Paused, requests::VmState::Resumed, requests::VmState::Paused] {
            api.call(&requests::Vm { state }).await?;
            answered += 1;
        }
        Ok(())
    };
    let ended: Result<(), crate::ControlError> = conversation.await;
    (answered, ended.err())
}

/// What every microVM of a backend has in common.
#[derive(Clone, Debug)]
pub struct FirecrackerSettings {
    /// The programs.
    pub installation: Installation,
    /// What snapshots depend on.
    pub identity: VmmIdentity,
    /// What makes guests see the same processor on different hosts.
    pub cpu_template: Option<CpuTemplate>,
    /// How to start the supervisor of a jail.
    pub supervisor: Supervisor,
    /// The first of the users that VMMs get, by their slots; nothing where this process is not root.
    pub first_user: Option<u32>,
}

/// The backend.
#[derive(Clone, Debug)]
pub struct Firecracker(FirecrackerSettings);

impl Firecracker {
    /// A backend with these settings. Nothing is tried until something is booted.
    pub fn new(settings: FirecrackerSettings) -> Self {
        Self(settings)
    }
}

/// The guest kernel's command line. No serial console: it would be a way out for the guest that nobody needs, and slow. The
/// device is there all the same; where what is written to it goes, see `Listening::start`.
/// A panic ends in a triple fault, an agent's end in a reset: so the two can be told apart.
const KERNEL_COMMAND_LINE: &str = "8250.nr_uarts=0 quiet loglevel=3 panic=-1 reboot=t pci=off \
     random.trust_cpu=on mitigations=off audit=0 rcupdate.rcu_expedited=1 init_on_alloc=0 hardened_usercopy=off \
     randomize_kstack_offset=off lsm=capability psi=0 nowatchdog \
     cgroup_disable=io,cpuset,hugetlb,net_cls,net_prio,perf_event,rdma,misc ipv6.disable=1 rdinit=/init";

#[async_trait]
impl Vmm for Firecracker {
    fn identity(&self) -> &VmmIdentity {
        &self.0.identity
    }

    async fn boot(&self, spec: &BootSpec) -> Result<Box<dyn MicroVm>, BootError> {
        Ok(Box::new(FirecrackerVm::boot(&self.0, spec, KERNEL_COMMAND_LINE, None).await?))
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

#[async_trait]
impl Snapshots for Firecracker {
    async fn boot(&self, spec: &BootSpec, files: &SnapshotFiles) -> Result<Box<dyn SavableVm>, BootError> {
        Ok(Box::new(FirecrackerVm::boot(&self.0, spec, KERNEL_COMMAND_LINE, Some(files)).await?))
    }

    async fn start(&self, spec: &RestoreSpec) -> Result<Box<dyn StandbyVmm>, RestoreError> {
        Ok(Box::new(Standby::start(&self.0, spec).await?))
    }
}
