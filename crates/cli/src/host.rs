//! This host: which VMM it has, what is known about it, and the engine over both.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use engine::{Engine, EngineSettings, Languages, Room};
use images::staging::read_regular;
use serde::{Deserialize, Serialize};
use store::DataDirectory;
use vmm::{
    backend::Acceleration,
    firecracker, host,
    jail::supervise as supervise_vmm,
    kvm::{self, KvmVerdict},
    qemu,
};

use crate::{backend, config, failure::Failure, settings};

/// The longest note of the host, in bytes. One is some 700.
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// The argument with which this program starts itself as the supervisor of a VMM.
pub(crate) const SUPERVISOR_ARGUMENT: &str = "vmm-supervisor";

/// Runs as a supervisor, told by the process that started it over stdin.
pub(crate) fn supervise() -> ExitCode {
    // Whatever else this process was born with could lie where the VMM's own descriptors are to be.
    let closed = vmm::jail::close_inherited();
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    match closed.and_then(|()| control.map_err(Into::into)) {
        Ok(control) => supervise_vmm(UnixStream::from(control)),
        Err(_) => ExitCode::FAILURE,
    }
}

/// The argument with which this program starts itself to change an image, in namespaces of its own.
pub(crate) const STEPS_ARGUMENT: &str = "image-steps";

/// Changes an image as the file says that the next argument names.
pub(crate) fn take_steps() -> ExitCode {
    let file = std::env::args_os().nth(2).unwrap_or_default();
    let closed = vmm::jail::close_inherited().map_err(|error| format!("cannot close descriptors: {error}"));
    match closed.and_then(|()| images::rootfs::take_steps_inside(Path::new(&file))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            crate::output::say!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// What was found out about this host. Finding it out takes 100 ms, so it is kept until something changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    /// The boot in which it was found out.
    boot_id: String,
    /// The KVM device that was tried, if there was one, and whether it could be opened.
    kvm_device: Option<(u64, u64, i64, bool)>,
    /// The QEMU that was asked for its version, if there was one, and what it said.
    qemu_file: Option<(PathBuf, FileIdentity)>,
    qemu: Option<qemu::Installation>,
    /// The same of Firecracker and of its jailer.
    firecracker_file: Option<(PathBuf, FileIdentity)>,
    jailer_file: Option<(PathBuf, FileIdentity)>,
    firecracker: Option<firecracker::Installation>,
    /// Whether KVM is worth using.
    pub(crate) kvm: KvmVerdict,
    /// The processor.
    pub(crate) cpu: String,
    /// Its vendor.
    pub(crate) cpu_vendor: String,
    /// The rate of its time-stamp counter.
    pub(crate) tsc_khz: u64,
}

/// What changes when a file does.
type FileIdentity = (u64, u64, u64, i64, i64);

impl HostFacts {
    /// What is known, found out again where something has changed.
    pub(crate) fn get(global: &settings::Global) -> Self {
        let qemu_file = find_qemu(global).ok().and_then(identified);
        let firecracker_file = find_firecracker(global).ok().and_then(identified);
        let jailer_file =
            firecracker_file.as_ref().and_then(|(program, _)| identified(firecracker::jailer_of(program)));
        let boot_id = host::boot_id();
        let kvm_device = kvm_device();
        let note = global.data().run().join("host.json");
        if let Some(facts) = read_note(&note)
            && facts.boot_id == boot_id
            && facts.kvm_device == kvm_device
            && facts.qemu_file == qemu_file
            && facts.firecracker_file == firecracker_file
            && facts.jailer_file == jailer_file
        {
            return facts;
        }
        let facts = Self {
            boot_id,
            kvm_device,
            qemu: qemu_file.as_ref().and_then(|(program, _)| qemu::version(program).ok()),
            qemu_file,
            firecracker: firecracker_file
                .as_ref()
                .and_then(|(program, _)| firecracker::version(program).ok()),
            firecracker_file,
            jailer_file,
            kvm: kvm::probe(),
            cpu: host::cpu_model(),
            cpu_vendor: host::cpu_vendor(),
            tsc_khz: host::tsc_khz(),
        };
        // Where it cannot be kept it is found out anew the next time.
        if let Err(error) = write_note(&note, &facts) {
            tracing::debug!(%error, note = %note.display(), "cannot keep what was found out about this host");
        }
        facts
    }

    /// This host's QEMU, or why it has none to be used.
    pub(crate) fn qemu(&self, global: &settings::Global) -> Result<qemu::Installation, qemu::ProbeError> {
        match &self.qemu {
            Some(installation) => Ok(installation.clone()),
            None => qemu::version(&find_qemu(global)?),
        }
    }

    /// This host's Firecracker, or why it has none to be used.
    pub(crate) fn firecracker(
        &self,
        global: &settings::Global,
    ) -> Result<firecracker::Installation, firecracker::ProbeError> {
        match &self.firecracker {
            Some(installation) => Ok(installation.clone()),
            None => firecracker::version(&find_firecracker(global)?),
        }
    }

    /// Which VMM runs microVMs here: Firecracker where there is one and KVM is worth using, else QEMU, unless the user
    /// has said.
    pub(crate) fn vmm(&self, global: &settings::Global) -> config::VmmName {
        match global.config.vmm.name {
            Some(name) => name,
            None if self.firecracker.is_some()
                && self.kvm.is_usable()
                && global.config.vmm.acceleration != Some(config::Acceleration::Tcg) =>
            {
                config::VmmName::Firecracker
            }
            None => config::VmmName::Qemu,
        }
    }

    /// How microVMs execute code here.
    pub(crate) fn acceleration(&self, global: &settings::Global) -> Acceleration {
        match global.config.vmm.acceleration {
            Some(config::Acceleration::Kvm) => Acceleration::Kvm,
            Some(config::Acceleration::Tcg) => Acceleration::Tcg,
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

/// Whether KVM is worth using here.
pub(crate) fn kvm(global: &settings::Global) -> KvmVerdict {
    HostFacts::get(global).kvm
}

/// Changes when a module is loaded, or when this user may open the device: when the probe may say something else.
fn kvm_device() -> Option<(u64, u64, i64, bool)> {
    use rustix::fs::Access;
    let metadata = fs::metadata(kvm::DEVICE).ok()?;
    let usable = rustix::fs::access(kvm::DEVICE, Access::READ_OK | Access::WRITE_OK).is_ok();
    Some((metadata.rdev(), metadata.ino(), metadata.ctime(), usable))
}

/// The QEMU that commands would use.
pub(crate) fn find_qemu(global: &settings::Global) -> Result<PathBuf, qemu::ProbeError> {
    match &global.config.vmm.qemu {
        Some(program) => Ok(program.clone()),
        None => qemu::find(std::env::var_os("PATH").as_deref()),
    }
}

/// The Firecracker that commands would use.
pub(crate) fn find_firecracker(global: &settings::Global) -> Result<PathBuf, firecracker::ProbeError> {
    match &global.config.vmm.firecracker {
        Some(program) => Ok(program.clone()),
        None => firecracker::find(&[global.data().programs()], std::env::var_os("PATH").as_deref()),
    }
}

fn identified(program: PathBuf) -> Option<(PathBuf, FileIdentity)> {
    let metadata = fs::metadata(&program).ok()?;
    let identity = (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.ctime());
    Some((program, identity))
}

fn read_note(note: &Path) -> Option<HostFacts> {
    serde_json::from_slice(&read_regular(note, MAX_NOTE_BYTES).ok()?).ok()
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
    Ok(Engine::new(EngineSettings {
        vmm: backend::chosen(global, &HostFacts::get(global))?,
        data,
        languages: Languages::built_in(),
        room: Room::Shared { slots: global.slots(), patience: global.slot_patience() },
    }))
}

/// This program.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().context("cannot find this program: is /proc mounted?").map_err(Failure::host)
}
