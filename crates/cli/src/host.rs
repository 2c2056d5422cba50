//! This host: which VMM it has, what is known about it, and the engine over both.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use engine::{Engine, EngineSettings, Languages};
use serde::{Deserialize, Serialize};
use store::DataDirectory;
use vmm::{
    backend::{Acceleration, VmmIdentity},
    host,
    jail::{Supervisor, supervise as supervise_vmm},
    kvm::{self, KvmVerdict},
    qemu::{self, Installation, ProbeError, Qemu, QemuSettings},
};

use crate::{failure::Failure, settings};

/// The argument with which this program starts itself as the supervisor of a VMM.
pub(crate) const SUPERVISOR_ARGUMENT: &str = "vmm-supervisor";

/// Runs as a supervisor, told by the process that started it over stdin.
pub(crate) fn supervise() -> ExitCode {
    match rustix::io::dup(rustix::stdio::stdin()) {
        Ok(control) => supervise_vmm(UnixStream::from(control)),
        Err(_) => ExitCode::FAILURE,
    }
}

/// What was found out about this host. Finding it out takes 100 ms, so it is kept until something changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    /// The boot in which it was found out.
    boot_id: String,
    /// The KVM device that was tried, if there was one, and whether it could be opened.
    kvm_device: Option<(u64, u64, i64, bool)>,
    /// Which file was asked for its version.
    qemu_file: (u64, u64, u64, i64, i64),
    /// What it said.
    pub(crate) qemu: Installation,
    /// Whether KVM is worth using.
    pub(crate) kvm: KvmVerdict,
    /// The processor.
    pub(crate) cpu: String,
    /// The rate of its time-stamp counter.
    pub(crate) tsc_khz: u64,
}

impl HostFacts {
    /// What is known, found out again where something has changed.
    pub(crate) fn get(global: &settings::Global) -> Result<Self, ProbeError> {
        let program = match &global.qemu {
            Some(program) => program.clone(),
            None => qemu::find(std::env::var_os("PATH").as_deref())?,
        };
        let unusable = |source| ProbeError::Unusable { program: program.clone(), source };
        let file = file_identity(&program).map_err(unusable)?;
        let boot_id = host::boot_id();
        let kvm_device = kvm_device();
        let note = global.data().run().join("host.json");
        if let Some(facts) = read_note(&note)
            && facts.boot_id == boot_id
            && facts.kvm_device == kvm_device
            && facts.qemu.program == program
            && facts.qemu_file == file
        {
            return Ok(facts);
        }
        let facts = Self {
            boot_id,
            kvm_device,
            qemu_file: file,
            qemu: qemu::version(&program)?,
            kvm: kvm::probe(),
            cpu: host::cpu_model(),
            tsc_khz: host::tsc_khz(),
        };
        // Where it cannot be kept it is found out anew the next time.
        if let Err(error) = write_note(&note, &facts) {
            tracing::debug!(%error, note = %note.display(), "cannot keep what was found out about this host");
        }
        Ok(facts)
    }

    /// How microVMs execute code here.
    pub(crate) fn acceleration(&self, global: &settings::Global) -> Acceleration {
        match global.accel {
            Some(settings::Acceleration::Kvm) => Acceleration::Kvm,
            Some(settings::Acceleration::Tcg) => Acceleration::Tcg,
            None => {
                if self.kvm.is_usable() {
                    Acceleration::Kvm
                } else {
                    Acceleration::Tcg
                }
            }
        }
    }
}

/// Whether KVM is worth using here. Found out anew where there is no QEMU to note it with.
pub(crate) fn kvm(global: &settings::Global) -> KvmVerdict {
    HostFacts::get(global).map_or_else(|_| kvm::probe(), |facts| facts.kvm)
}

/// Changes when a module is loaded, or when this user may open the device: when the probe may say something else.
fn kvm_device() -> Option<(u64, u64, i64, bool)> {
    use rustix::fs::Access;
    let metadata = fs::metadata(kvm::DEVICE).ok()?;
    let usable = rustix::fs::access(kvm::DEVICE, Access::READ_OK | Access::WRITE_OK).is_ok();
    Some((metadata.rdev(), metadata.ino(), metadata.ctime(), usable))
}

fn file_identity(program: &Path) -> io::Result<(u64, u64, u64, i64, i64)> {
    let metadata = fs::metadata(program)?;
    Ok((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.ctime()))
}

fn read_note(note: &Path) -> Option<HostFacts> {
    serde_json::from_slice(&fs::read(note).ok()?).ok()
}

fn write_note(note: &Path, facts: &HostFacts) -> io::Result<()> {
    let directory = note.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&file, facts)?;
    file.persist(note)?;
    Ok(())
}

/// The engine of this host.
pub(crate) fn engine(global: &settings::Global) -> Result<Engine, Failure> {
    engine_over(global.data(), global)
}

/// An engine of this host over another data directory.
pub(crate) fn engine_over(data: DataDirectory, global: &settings::Global) -> Result<Engine, Failure> {
    let facts = HostFacts::get(global).map_err(no_qemu)?;
    Ok(Engine::new(EngineSettings {
        vmm: Arc::new(Qemu::new(qemu_settings(global, &facts)?)),
        data,
        languages: Languages::built_in(),
        slots: global.slots(),
        slot_patience: global.slot_patience(),
    }))
}

/// The failure of a host without QEMU.
pub(crate) fn no_qemu(error: ProbeError) -> Failure {
    let hint = match &error {
        ProbeError::Missing => "run: infra.operator setup",
        ProbeError::TooOld { .. } => "install a newer one and name it with --qemu",
        ProbeError::Unusable { .. } | ProbeError::Unknown { .. } => "name a QEMU that works with --qemu",
    };
    Failure::host(error).hint(hint.to_owned())
}

fn qemu_settings(global: &settings::Global, facts: &HostFacts) -> Result<QemuSettings, Failure> {
    let acceleration = facts.acceleration(global);
    let cpu = match acceleration {
        Acceleration::Kvm => facts.cpu.clone(),
        Acceleration::Tcg => "QEMU's max".to_owned(),
    };
    Ok(QemuSettings {
        program: facts.qemu.program.clone(),
        identity: VmmIdentity {
            vmm: "qemu".to_owned(),
            version: facts.qemu.version.clone(),
            acceleration,
            cpu,
            tsc_mhz: u32::try_from((facts.tsc_khz + 500) / 1000).unwrap_or(u32::MAX),
        },
        tsc_khz: facts.tsc_khz,
        supervisor: Supervisor { program: own_program()?, args: vec![SUPERVISOR_ARGUMENT.to_owned()] },
        first_user: rustix::process::geteuid().is_root().then_some(global.first_uid),
    })
}

/// This program.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().context("cannot find this program: is /proc mounted?").map_err(Failure::host)
}
