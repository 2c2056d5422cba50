//! One QEMU process.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use serde_json::json;
use tokio::net::UnixStream;

use super::{
    QemuSettings,
    command::{self, STATE_DESCRIPTOR, paths},
    qmp::Qmp,
};
use crate::{
    backend::{
        Acceleration, BootError, ControlError, Exit, MicroVm, Pausing, RestoreError, Restored, SavableVm,
        SaveError, StandbyVmm,
    },
    jail::{Access, CgroupLimits, JailFile, JailSpec, Jailed, LaunchError},
    spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles},
};

/// What a VMM may use besides the guest's memory: its own heap and TCG's translations.
const OVERHEAD_BYTES: u64 = 384 << 20;

/// Threads of a VMM besides those of the virtual processors.
const OVERHEAD_TASKS: u32 = 64;

/// How long the device state may take to be written or read on a busy host.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(60);

/// What a guest's kernel prints on its console when it panics, whatever the log level is.
const PANIC: &str = "Kernel panic - not syncing";

/// The largest device state, in bytes. It is some 60 kB.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// A running QEMU.
pub(super) struct QemuVm {
    jailed: Jailed,
    qmp: Qmp,
    agent: Option<UnixStream>,
    /// Where it can be saved to.
    files: Option<SnapshotFiles>,
}

/// Our ends of the sockets that QEMU is born with, and its ends.
struct Sockets {
    qmp: UnixStream,
    agent: UnixStream,
    theirs: Vec<OwnedFd>,
}

impl Sockets {
    fn make() -> io::Result<Self> {
        let (qmp, their_qmp) = BlockingStream::pair()?;
        let (agent, their_agent) = BlockingStream::pair()?;
        for ours in [&qmp, &agent] {
            ours.set_nonblocking(true)?;
        }
        Ok(Self {
            qmp: UnixStream::from_std(qmp)?,
            agent: UnixStream::from_std(agent)?,
            theirs: vec![their_qmp.into(), their_agent.into()],
        })
    }
}

impl QemuVm {
    /// Boots, with memory in `files` where there are some.
    pub(super) async fn boot(
        settings: &QemuSettings,
        spec: &BootSpec,
        arguments: Vec<String>,
        files: Option<&SnapshotFiles>,
    ) -> Result<Self, BootError> {
        let mut shown = vec![
            JailFile::read_only(&spec.vmlinux, paths::VMLINUX),
            JailFile::read_only(&spec.initramfs, paths::INITRAMFS),
            JailFile::read_only(&spec.rootfs, paths::ROOTFS),
        ];
        for file in &shown {
            file.check_readable().map_err(|source| BootError::File { path: file.host.clone(), source })?;
        }
        if let Some(files) = files {
            let user = settings.first_user.map(|first| first + spec.placement.slot);
            create_memory(&files.memory, spec.machine, user)
                .map_err(|source| BootError::File { path: files.memory.clone(), source })?;
            let memory = PathBuf::from(paths::MEMORY);
            shown.push(JailFile { host: files.memory.clone(), jail: memory, access: Access::ReadWrite });
        }
        let sockets = Sockets::make().map_err(|source| BootError::Launch(LaunchError::Control(source)))?;
        let mut jail = jail(settings, &spec.placement, spec.machine, arguments, shown);
        if files.is_some() {
            jail.file_bytes = (u64::from(spec.machine.memory_mib) << 20).max(MAX_STATE_BYTES);
        }
        let jailed =
            Jailed::launch(&settings.supervisor, &jail, sockets.theirs).await.map_err(BootError::Launch)?;
        match Qmp::negotiate(sockets.qmp).await {
            Ok(qmp) => Ok(Self { jailed, qmp, agent: Some(sockets.agent), files: files.cloned() }),
            Err(source) => {
                let said = jailed.into_last_words(&source).await;
                Err(BootError::Control { source, said })
            }
        }
    }

    async fn save_state(&mut self, files: &SnapshotFiles) -> Result<(), SaveError> {
        let state = &files.device_state;
        let failed = |source| SaveError::File { path: state.clone(), source };
        let file = File::options().write(true).create_new(true).open(state).map_err(failed)?;
        self.pause().await.map_err(SaveError::Control)?;
        migrate(&mut self.qmp, &file).await.map_err(SaveError::Control)?;
        self.jailed.kill().await;
        file.sync_all().map_err(failed)?;
        let memory = &files.memory;
        let failed = |source| SaveError::File { path: memory.clone(), source };
        // From now on it belongs to the host alone. QEMU is gone, and the path was never the guest's to change.
        let file = File::options().read(true).write(true).open(memory).map_err(failed)?;
        fchown(&file, Some(rustix::process::geteuid()), Some(rustix::process::getegid()))
            .and_then(|()| fchmod(&file, Mode::from_raw_mode(0o444)))
            .map_err(|error| failed(error.into()))?;
        file.sync_all().map_err(failed)
    }
}

/// A QEMU that waits for its device state.
pub(super) struct Standby {
    jailed: Jailed,
    qmp: Qmp,
    agent: UnixStream,
}

impl Standby {
    /// Starts a QEMU for the snapshot.
    pub(super) async fn start(
        settings: &QemuSettings,
        spec: &RestoreSpec,
        arguments: Vec<String>,
    ) -> Result<Self, RestoreError> {
        let memory = JailFile {
            host: spec.files.memory.clone(),
            jail: paths::MEMORY.into(),
            access: Access::ReadOnlyWhateverAsked,
        };
        let shown = vec![JailFile::read_only(&spec.rootfs, paths::ROOTFS), memory];
        for file in &shown {
            file.check_readable().map_err(|source| RestoreError::File { path: file.host.clone(), source })?;
        }
        let state = &spec.files.device_state;
        let state = File::open(state).map_err(|source| RestoreError::File { path: state.clone(), source })?;
        let mut sockets =
            Sockets::make().map_err(|source| RestoreError::Launch(LaunchError::Control(source)))?;
        sockets.theirs.push(state.into());
        let jail = jail(settings, &spec.placement, spec.machine, arguments, shown);
        let jailed = Jailed::launch(&settings.supervisor, &jail, sockets.theirs)
            .await
            .map_err(RestoreError::Launch)?;
        match ready_for_state(sockets.qmp).await {
            Ok(qmp) => Ok(Self { jailed, qmp, agent: sockets.agent }),
            Err(source) => {
                let said = jailed.into_last_words(&source).await;
                Err(RestoreError::Control { source, said })
            }
        }
    }
}

#[async_trait]
impl StandbyVmm for Standby {
    async fn load(self: Box<Self>) -> Result<Restored, RestoreError> {
        let Self { jailed, mut qmp, agent } = *self;
        match load(&mut qmp).await {
            Ok((load, resume)) => {
                let vm = Box::new(QemuVm { jailed, qmp, agent: Some(agent), files: None });
                Ok(Restored { vm, load, resume: Some(resume) })
            }
            Err(source) => {
                let said = jailed.into_last_words(&source).await;
                Err(RestoreError::Control { source, said })
            }
        }
    }

    async fn kill(&mut self) {
        self.jailed.kill().await;
    }

    fn process_id(&self) -> u32 {
        self.jailed.process_id()
    }
}

#[async_trait]
impl MicroVm for QemuVm {
    async fn connect(&mut self, _patience: Duration) -> Result<UnixStream, ControlError> {
        self.agent.take().ok_or(ControlError::Connected)
    }

    fn pausing(&mut self) -> Option<&mut dyn Pausing> {
        Some(self)
    }

    async fn kill(&mut self) {
        self.jailed.kill().await;
    }

    async fn wait(&mut self) -> Exit {
        match self.jailed.wait().await {
            // Either way the machine was reset. Nothing but a guest's kernel and PID 1 writes to its console.
            Exit::GuestShutdown if self.jailed.output().contains(PANIC) => Exit::GuestPanic,
            exit => exit,
        }
    }

    fn last_words(&self) -> String {
        self.jailed.output()
    }

    fn process_id(&self) -> u32 {
        self.jailed.process_id()
    }
}

#[async_trait]
impl Pausing for QemuVm {
    async fn pause(&mut self) -> Result<(), ControlError> {
        self.qmp.execute("stop", json!({})).await
    }

    async fn resume(&mut self) -> Result<(), ControlError> {
        self.qmp.execute("cont", json!({})).await
    }
}

#[async_trait]
impl SavableVm for QemuVm {
    async fn save(mut self: Box<Self>) -> Result<(), SaveError> {
        let Some(files) = self.files.take() else {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(SaveError::File { path: PathBuf::new(), source });
        };
        let saved = self.save_state(&files).await;
        self.jailed.kill().await;
        saved
    }
}

/// Has QEMU write its device state to `file`.
async fn migrate(qmp: &mut Qmp, file: &File) -> Result<(), ControlError> {
    prepare_migration(qmp).await?;
    qmp.pass("state", file.as_fd()).await?;
    qmp.execute("migrate", json!({ "uri": "fd:state" })).await?;
    migrated(qmp, "migrate").await
}

/// Does all that can be done before the device state is loaded.
pub(super) async fn ready_for_state(stream: UnixStream) -> Result<Qmp, ControlError> {
    let mut qmp = Qmp::negotiate(stream).await?;
    prepare_migration(&mut qmp).await?;
    Ok(qmp)
}

/// Has QEMU load the device state that it was born with, and run. How long each took.
pub(super) async fn load(qmp: &mut Qmp) -> Result<(Duration, Duration), ControlError> {
    let started = Instant::now();
    qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{STATE_DESCRIPTOR}") })).await?;
    migrated(qmp, "migrate-incoming").await?;
    let loaded = started.elapsed();
    let resuming = Instant::now();
    // It was paused when it was saved, and so it is now.
    qmp.execute("cont", json!({})).await?;
    Ok((loaded, resuming.elapsed()))
}

async fn prepare_migration(qmp: &mut Qmp) -> Result<(), ControlError> {
    let on = |capability: &str| json!({ "capability": capability, "state": true });
    let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
    qmp.execute("migrate-set-capabilities", capabilities).await
}

async fn migrated(qmp: &mut Qmp, command: &'static str) -> Result<(), ControlError> {
    let completed =
        qmp.event(command, MIGRATION_PATIENCE, |name, data| match (name, data["status"].as_str()) {
            ("MIGRATION", Some("completed")) => Some(true),
            ("MIGRATION", Some("failed" | "cancelled")) => Some(false),
            _ => None,
        });
    if completed.await? {
        return Ok(());
    }
    Err(ControlError::Refused { command, reason: "the migration failed".to_owned() })
}

fn jail(
    settings: &QemuSettings,
    placement: &Placement,
    machine: MachineSpec,
    args: Vec<String>,
    mut files: Vec<JailFile>,
) -> JailSpec {
    if settings.identity.acceleration == Acceleration::Kvm {
        let device = PathBuf::from(crate::kvm::DEVICE);
        files.push(JailFile { host: device.clone(), jail: device, access: Access::Device });
    }
    JailSpec {
        name: placement.name.clone(),
        program: settings.program.clone(),
        launcher: None,
        run_directory: false,
        args,
        directories: command::directories(&settings.program),
        files,
        user: settings.first_user.map(|first| first + placement.slot),
        cgroup: Some(CgroupLimits {
            memory_bytes: (u64::from(machine.memory_mib) << 20) + OVERHEAD_BYTES,
            tasks: machine.vcpus + OVERHEAD_TASKS,
        }),
        file_bytes: 0,
    }
}

/// Makes the memory file of a snapshot to come, for the VMM's user alone.
fn create_memory(path: &Path, machine: MachineSpec, user: Option<u32>) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_len(u64::from(machine.memory_mib) << 20)?;
    if let Some(user) = user {
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    }
    Ok(())
}
