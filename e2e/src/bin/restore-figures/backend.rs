//! The backend that is measured, and an engine over it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use e2e::{TestHost, wiring};
use engine::{Engine, LanguageSpec, Languages, Request};
use images::Quiet;
use tokio::runtime::Runtime;
use vmm::{
    MachineSpec, Vmm as _,
    backend::Acceleration,
    firecracker::{self, Firecracker},
    qemu::Qemu,
};

/// What is run, and what has to come.
pub(crate) const HELLO: (&str, &str) = ("print('Hello, World!')", "Hello, World!\n");

/// The size of the snapshot that is restored.
pub(crate) const MACHINE: MachineSpec = MachineSpec { memory_mib: 512, vcpus: 1 };

/// A backend, and the data directory that it works on.
pub(crate) struct Backend {
    name: String,
    data: PathBuf,
}

enum Wired {
    Qemu(Qemu),
    Firecracker(Firecracker),
}

impl Backend {
    pub(crate) fn new(name: &str, data: &Path) -> Self {
        Self { name: name.to_owned(), data: data.to_owned() }
    }

    /// Its arguments, for this program to start itself.
    pub(crate) fn arguments(&self) -> [String; 2] {
        [self.name.clone(), self.data.to_string_lossy().into_owned()]
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Firecracker's program, where it is that.
    pub(crate) fn firecracker(&self) -> Option<&Path> {
        let path = Path::new(&self.name);
        path.is_absolute().then_some(path)
    }

    fn wired(&self) -> Result<Wired> {
        Ok(match self.name.as_str() {
            "qemu-tcg" => Wired::Qemu(wiring::qemu(Acceleration::Tcg)),
            "qemu-kvm" => Wired::Qemu(wiring::qemu(Acceleration::Kvm)),
            path => {
                let installation = firecracker::version(Path::new(path)).context("use this Firecracker")?;
                Wired::Firecracker(wiring::firecracker(installation, None))
            }
        })
    }

    /// Whether what it runs on is no host that is emulated itself: the stand-in and emulation need no KVM.
    pub(crate) fn is_native(&self) -> bool {
        self.name == "qemu-tcg" || self.name.contains("stand-in")
    }

    /// What is measured, for people.
    pub(crate) fn title(&self) -> String {
        let identity = match self.wired() {
            Ok(Wired::Qemu(qemu)) => qemu.identity().clone(),
            Ok(Wired::Firecracker(firecracker)) => firecracker.identity().clone(),
            Err(_) => return self.name.clone(),
        };
        let is_stand_in = self.name.contains("stand-in");
        let kind =
            if is_stand_in { "stand-in, no guest".to_owned() } else { identity.acceleration.to_string() };
        format!("{} {}, {kind}", identity.vmm, identity.version)
    }

    /// An engine over it.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let host = TestHost::at(&self.data);
        Ok(match self.wired()? {
            Wired::Qemu(qemu) => host.engine_over(qemu),
            Wired::Firecracker(firecracker) => host.engine_over(firecracker),
        })
    }

    /// Makes the snapshot.
    pub(crate) fn create_snapshot(&self) -> Result<()> {
        let (engine, language) = (self.engine()?, python());
        runtime()?.block_on(engine.create_snapshot(&language, MACHINE, Arc::new(Quiet)))?;
        Ok(())
    }
}

/// The language that is run.
pub(crate) fn python() -> LanguageSpec {
    Languages::built_in().find("python").expect("it is built in").clone()
}

/// The request that is run.
pub(crate) fn request() -> Request {
    Request::from_code("python", HELLO.0.to_owned(), String::new(), None, &Languages::built_in())
        .expect("it is a request")
}

/// A runtime of one thread, as commands have it.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")
}
