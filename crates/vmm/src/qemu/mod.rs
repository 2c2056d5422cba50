//! QEMU's `microvm` machine, with KVM or with its own emulation (TCG).
//!
//! ```text
//! booting for a snapshot   memory file, share=on   ──stop, migrate──▶ device state (some 60 kB), memory file
//! restoring                same file, share=off    ──migrate-incoming, cont──▶ clone
//! ```
//!
//! The migration capability `x-ignore-shared` leaves the memory out of the state: it lies in its file already. Clones
//! map that file privately, so its pages are shared by all of them until they write to them.

mod command;
mod machine;
mod probe;
mod qmp;

use std::path::PathBuf;

use async_trait::async_trait;

pub use self::probe::{Installation, ProbeError, find, version};
use self::{
    command::{Memory, Start},
    machine::{QemuVm, Standby},
};
use crate::{
    backend::{
        Acceleration, BootError, MicroVm, RestoreError, SavableVm, Snapshots, StandbyVmm, Vmm, VmmIdentity,
    },
    jail::Supervisor,
    spec::{BootSpec, RestoreSpec, SnapshotFiles},
};

/// Converses with a QEMU as a restore does, for `fuzz/`.
#[cfg(feature = "fuzzing")]
pub(crate) async fn fuzz_restore(stream: tokio::net::UnixStream) -> Result<(), crate::ControlError> {
    let mut qmp = machine::ready_for_state(stream).await?;
    machine::load(&mut qmp).await.map(drop)
}

/// What every microVM of a backend has in common.
#[derive(Clone, Debug)]
pub struct QemuSettings {
    /// QEMU's program.
    pub program: PathBuf,
    /// What snapshots depend on; it also says whether KVM is used.
    pub identity: VmmIdentity,
    /// The rate of the host's time-stamp counter, in kHz, which guests are told at boot.
    pub tsc_khz: u64,
    /// How to start the supervisor of a jail.
    pub supervisor: Supervisor,
    /// The first of the users that VMMs get, by their slots; nothing where this process is not root.
    pub first_user: Option<u32>,
}

/// The backend.
#[derive(Clone, Debug)]
pub struct Qemu(QemuSettings);

impl Qemu {
    /// A backend with these settings. Nothing is tried until something is booted.
    pub fn new(settings: QemuSettings) -> Self {
        Self(settings)
    }

    fn kernel_command_line(&self) -> String {
        command::kernel_command_line(self.0.tsc_khz)
    }

    fn acceleration(&self) -> Acceleration {
        self.0.identity.acceleration
    }
}

#[async_trait]
impl Vmm for Qemu {
    fn identity(&self) -> &VmmIdentity {
        &self.0.identity
    }

    async fn boot(&self, spec: &BootSpec) -> Result<Box<dyn MicroVm>, BootError> {
        let start = Start::Boot { kernel_command_line: &self.kernel_command_line() };
        let arguments = command::arguments(self.acceleration(), spec.machine, Memory::Anonymous, &start);
        Ok(Box::new(QemuVm::boot(&self.0, spec, arguments, None).await?))
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

#[async_trait]
impl Snapshots for Qemu {
    async fn boot(&self, spec: &BootSpec, files: &SnapshotFiles) -> Result<Box<dyn SavableVm>, BootError> {
        let start = Start::Boot { kernel_command_line: &self.kernel_command_line() };
        let arguments = command::arguments(self.acceleration(), spec.machine, Memory::SharedFile, &start);
        Ok(Box::new(QemuVm::boot(&self.0, spec, arguments, Some(files)).await?))
    }

    async fn start(&self, spec: &RestoreSpec) -> Result<Box<dyn StandbyVmm>, RestoreError> {
        let arguments =
            command::arguments(self.acceleration(), spec.machine, Memory::PrivateFile, &Start::Incoming);
        Ok(Box::new(Standby::start(&self.0, spec, arguments).await?))
    }
}
