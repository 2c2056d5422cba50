//! An engine over the product's QEMU backend, for tests of what no command shows.

use std::{sync::Arc, time::Duration};

use engine::{Engine, EngineSettings, Languages};
use store::DataDirectory;
use vmm::{
    backend::{Acceleration, VmmIdentity},
    host,
    jail::Supervisor,
    qemu::{self, Qemu, QemuSettings},
};

use crate::{TestHost, program};

impl TestHost {
    /// The backend, with emulation.
    pub fn qemu(&self) -> Qemu {
        let found = qemu::find(std::env::var_os("PATH").as_deref()).expect("QEMU is installed");
        let installation = qemu::version(&found).expect("QEMU works");
        let tsc_khz = host::tsc_khz();
        Qemu::new(QemuSettings {
            program: installation.program,
            identity: VmmIdentity {
                vmm: "qemu".to_owned(),
                version: installation.version,
                acceleration: Acceleration::Tcg,
                cpu: "QEMU's max".to_owned(),
                tsc_mhz: u32::try_from((tsc_khz + 500) / 1000).expect("a rate in MHz is small"),
            },
            tsc_khz,
            supervisor: Supervisor { program: program(), args: vec!["vmm-supervisor".to_owned()] },
            first_user: rustix::process::geteuid().is_root().then_some(710_000),
        })
    }

    /// The engine over it.
    pub fn engine(&self) -> Engine {
        Engine::new(EngineSettings {
            vmm: Arc::new(self.qemu()),
            data: DataDirectory::new(self.data().to_owned()),
            languages: Languages::built_in(),
            slots: 4,
            slot_patience: Duration::from_secs(600),
        })
    }
}
