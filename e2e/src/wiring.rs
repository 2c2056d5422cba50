//! The product's backends over a data directory, for tests of what no command shows.

use std::{path::Path, sync::Arc, time::Duration};

use engine::{Engine, EngineSettings, Languages, Room};
use images::KernelBundle;
use store::DataDirectory;
use vmm::{
    Vmm,
    backend::{Acceleration, VmmIdentity},
    conformance::{Parts, Trial},
    firecracker::{CpuTemplate, Firecracker, FirecrackerSettings, Installation},
    host,
    jail::Supervisor,
    qemu::{self, Qemu, QemuSettings},
};

use crate::{TestHost, program};

/// The first of the users that VMMs get.
const FIRST_USER: u32 = 1_910_000_000;

/// How many microVMs may run at the same time.
const SLOTS: u32 = 8;

fn supervisor() -> Supervisor {
    Supervisor { program: program(), args: vec!["vmm-supervisor".to_owned()] }
}

fn first_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(FIRST_USER)
}

/// QEMU's backend.
pub fn qemu(acceleration: Acceleration) -> Qemu {
    let found = qemu::find(std::env::var_os("PATH").as_deref()).expect("QEMU is installed");
    let installation = qemu::version(&found).expect("QEMU works");
    let tsc_khz = host::tsc_khz();
    Qemu::new(QemuSettings {
        program: installation.program,
        identity: VmmIdentity {
            vmm: "qemu".to_owned(),
            version: installation.version,
            acceleration,
            cpu: match acceleration {
                Acceleration::Kvm => host::cpu_model(),
                Acceleration::Tcg => "QEMU's max".to_owned(),
            },
            tsc_mhz: Some(u32::try_from((tsc_khz + 500) / 1000).expect("a rate in MHz is small")),
        },
        tsc_khz,
        supervisor: supervisor(),
        first_user: first_user(),
    })
}

/// Firecracker's backend.
pub fn firecracker(installation: Installation, cpu_template: Option<CpuTemplate>) -> Firecracker {
    Firecracker::new(FirecrackerSettings {
        identity: VmmIdentity {
            vmm: "firecracker".to_owned(),
            version: installation.version.clone(),
            acceleration: Acceleration::Kvm,
            cpu: host::cpu_model(),
            tsc_mhz: None,
        },
        installation,
        cpu_template,
        supervisor: supervisor(),
        first_user: first_user(),
    })
}

impl TestHost {
    /// The engine over a backend.
    pub fn engine_over(&self, vmm: impl Vmm + 'static) -> Engine {
        Engine::new(EngineSettings {
            vmm: Arc::new(vmm),
            data: DataDirectory::new(self.data().to_owned()),
            languages: Languages::built_in(),
            room: Room::Shared { slots: SLOTS, patience: Duration::from_secs(600) },
        })
    }

    /// The engine over QEMU, with emulation.
    pub fn engine(&self) -> Engine {
        self.engine_over(qemu(Acceleration::Tcg))
    }

    /// What microVMs are made of here, for a trial of `vmm` with files in `scratch`.
    pub fn trial(&self, vmm: impl Vmm + 'static, scratch: &Path) -> Trial {
        let bundle = KernelBundle::open(&DataDirectory::new(self.data().to_owned()).kernel())
            .expect("the data directory has a kernel bundle");
        let parts = Parts { vmlinux: bundle.vmlinux(), initramfs: bundle.initramfs(), rootfs: self.image() };
        Trial::new(Box::new(vmm), parts, scratch.to_owned())
    }
}
