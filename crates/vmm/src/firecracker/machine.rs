//! One Firecracker process.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::{sleep_until, timeout},
};

use super::{
    CpuTemplate, FirecrackerSettings,
    api::Api,
    exit, holes,
    launch::{self, paths},
    requests::{
        Action, ActionType, BootSource, CpuConfiguration, Drive, Logger, MachineConfiguration, MemoryBackend,
        Serial, SnapshotCreate, SnapshotLoad, Vm, VmState, Vsock, VsockOverride,
    },
    run_directory::RunDirectory,
    vsock,
};
use crate::{
    backend::{
        BootError, ControlError, Exit, LastWords, MicroVm, Pausing, RestoreError, Restored, SavableVm,
        SaveError, StandbyVmm,
    },
    jail::{Access, JailFile, Jailed, LaunchError},
    spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles},
};

/// How long a Firecracker may take until it listens, on a busy host.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The largest device state, in bytes. It is some 30 kB for each virtual processor.
const MAX_STATE_BYTES: u64 = 64 << 20;

/// How long a Firecracker may take to write its metrics.
const METRICS_PATIENCE: Duration = Duration::from_secs(2);

/// The longest report of metrics that is kept, in bytes.
const MAX_METRICS_BYTES: u64 = 64 << 10;

/// A Firecracker that listens, and has no guest yet.
struct Listening {
    jailed: Jailed,
    api: Api,
    run: RunDirectory,
    metrics: Option<OwnedFd>,
    /// Whether a guest's vsock outlives that it was paused: see `Installation::resumes_vsock`.
    resumes_vsock: bool,
}

/// A running Firecracker.
pub(super) struct FirecrackerVm {
    vmm: Listening,
    /// Told by the guest agent of a booted guest when it listens.
    ready: Option<UnixListener>,
    connected: bool,
    /// Where it can be saved to.
    files: Option<SnapshotFiles>,
    /// How long its memory is then.
    memory_bytes: u64,
}

/// A Firecracker that waits for the snapshot it was started for.
pub(super) struct Standby(Listening);

/// Why a Firecracker does not listen.
enum StartError {
    Launch(LaunchError),
    Control(ControlError, LastWords),
}

impl Listening {
    async fn start(
        settings: &FirecrackerSettings,
        placement: &Placement,
        machine: MachineSpec,
        files: Vec<JailFile>,
        file_bytes: u64,
    ) -> Result<Self, StartError> {
        let control = |source| StartError::Launch(LaunchError::Control(source));
        let (ours, theirs) = BlockingStream::pair().map_err(control)?;
        ours.set_nonblocking(true).map_err(control)?;
        let ours = UnixStream::from_std(ours).map_err(control)?;
        let spec = launch::jail(settings, placement, machine, files, file_bytes);
        let mut jailed = Jailed::launch(&settings.supervisor, &spec, vec![theirs.into()])
            .await
            .map_err(StartError::Launch)?;
        let run = match launch::take_directory(&ours).await {
            Ok(directory) => RunDirectory::new(directory),
            Err(source) => return Err(control(source)),
        };
        let metrics = run.open_fifo(paths::METRICS_NAME);
        let printed = jailed.printed();
        let listening = tokio::select! {
            listening = listening(&run, printed) => listening,
            _ = jailed.wait() => Err(ControlError::Closed { command: "start" }),
        };
        let resumes_vsock = settings.installation.resumes_vsock();
        let prepared = match listening {
            // The guest's kernel is told to leave its serial port alone; one that a program has taken over does as it likes.
            // What it writes there would be among Firecracker's own words, by which its end is judged.
            Ok(mut api) => api.call(&Serial { serial_out_path: paths::SERIAL }).await.map(|()| api),
            Err(source) => Err(source),
        };
        match prepared {
            Ok(api) => Ok(Self { jailed, api, run, metrics, resumes_vsock }),
            Err(source) => {
                let said = jailed.into_last_words(&source).await;
                Err(StartError::Control(source, said))
            }
        }
    }

    /// Adds what Firecracker has reported of itself since it was last asked: lines of JSON.
    fn read_metrics(&self, report: &mut Vec<u8>) {
        if let Some(fifo) = self.metrics.as_ref().and_then(|fifo| fifo.try_clone().ok()) {
            // It ends in an error where there is no more: the fifo does not block.
            let _ = File::from(fifo).take(MAX_METRICS_BYTES).read_to_end(report);
        }
    }
}

/// Connects to the API as soon as it is there. Of the moment at which it listens, and not only exists, Firecracker's log
/// tells.
async fn listening(run: &RunDirectory, printed: watch::Receiver<u64>) -> Result<Api, ControlError> {
    let failed = |source| ControlError::Io { command: "start", source };
    let stream = run.connect_when_there(paths::API_NAME, printed, START_PATIENCE).await.map_err(failed)?;
    Api::over(stream).await
}

impl FirecrackerVm {
    /// Boots, to be saved to `files` where there are some.
    pub(super) async fn boot(
        settings: &FirecrackerSettings,
        spec: &BootSpec,
        command_line: &str,
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
        let mut file_bytes = 0;
        if let Some(files) = files {
            let user = settings.first_user.map(|first| first + spec.placement.slot);
            for (host, jail) in [(&files.memory, paths::MEMORY), (&files.device_state, paths::STATE)] {
                create_for(user, host).map_err(|source| BootError::File { path: host.clone(), source })?;
                shown.push(JailFile { host: host.clone(), jail: jail.into(), access: Access::ReadWrite });
            }
            file_bytes = (u64::from(spec.machine.memory_mib) << 20).max(MAX_STATE_BYTES);
        }
        let started = Listening::start(settings, &spec.placement, spec.machine, shown, file_bytes).await;
        let mut vmm = started.map_err(|error| match error {
            StartError::Launch(source) => BootError::Launch(source),
            StartError::Control(source, said) => BootError::Control { source, said },
        })?;
        match start_guest(&mut vmm, settings, spec, command_line).await {
            Ok(ready) => Ok(Self {
                vmm,
                ready: Some(ready),
                connected: false,
                files: files.cloned(),
                memory_bytes: u64::from(spec.machine.memory_mib) << 20,
            }),
            Err(source) => {
                let said = vmm.jailed.into_last_words(&source).await;
                Err(BootError::Control { source, said })
            }
        }
    }

    async fn save_state(&mut self, files: &SnapshotFiles) -> Result<(), SaveError> {
        self.vmm.api.call(&Vm { state: VmState::Paused }).await.map_err(SaveError::Control)?;
        let create = SnapshotCreate {
            snapshot_type: "Full",
            snapshot_path: paths::STATE,
            mem_file_path: paths::MEMORY,
        };
        self.vmm.api.call(&create).await.map_err(SaveError::Control)?;
        self.vmm.jailed.kill().await;
        let memory_bytes = self.memory_bytes;
        for (path, least, most) in
            [(&files.device_state, 1, MAX_STATE_BYTES), (&files.memory, memory_bytes, memory_bytes)]
        {
            // From now on it belongs to the host alone. Firecracker is gone, and the path was never the guest's to change.
            let of = path.clone();
            // Reading all of a guest's memory does not belong on the runtime's thread.
            let kept = tokio::task::spawn_blocking(move || {
                let file = File::options().read(true).write(true).open(of)?;
                let bytes = file.metadata()?.len();
                if !(least..=most).contains(&bytes) {
                    let reason = format!("the VMM has written {bytes} bytes, and not {least} to {most}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                holes::dig(&file)?;
                keep(&file)
            });
            let kept = kept.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            kept.map_err(|source| SaveError::File { path: path.clone(), source })?;
        }
        Ok(())
    }
}

impl Standby {
    /// Starts a Firecracker for the snapshot.
    pub(super) async fn start(
        settings: &FirecrackerSettings,
        spec: &RestoreSpec,
    ) -> Result<Self, RestoreError> {
        let shown = vec![
            JailFile::read_only(&spec.rootfs, paths::ROOTFS),
            JailFile::read_only(&spec.files.memory, paths::MEMORY),
            JailFile::read_only(&spec.files.device_state, paths::STATE),
        ];
        for file in &shown {
            file.check_readable().map_err(|source| RestoreError::File { path: file.host.clone(), source })?;
        }
        let started = Listening::start(settings, &spec.placement, spec.machine, shown, 0).await;
        let mut vmm = started.map_err(|error| match error {
            StartError::Launch(source) => RestoreError::Launch(source),
            StartError::Control(source, said) => RestoreError::Control { source, said },
        })?;
        // Of a restore that goes well there is nothing to be told, and each line would take time of it.
        match vmm.api.call(&Logger { level: "Warning" }).await {
            Ok(()) => Ok(Self(vmm)),
            Err(source) => {
                let said = vmm.jailed.into_last_words(&source).await;
                Err(RestoreError::Control { source, said })
            }
        }
    }
}

#[async_trait]
impl StandbyVmm for Standby {
    async fn load(self: Box<Self>) -> Result<Restored, RestoreError> {
        let mut vmm = self.0;
        let load = SnapshotLoad {
            snapshot_path: paths::STATE,
            mem_backend: MemoryBackend { backend_type: "File", backend_path: paths::MEMORY },
            resume_vm: true,
            vsock_override: VsockOverride { uds_path: paths::VSOCK },
        };
        let started = Instant::now();
        match vmm.api.call(&load).await {
            Ok(()) => {
                let load = started.elapsed();
                let vm = FirecrackerVm { vmm, ready: None, connected: false, files: None, memory_bytes: 0 };
                let vm = Box::new(vm);
                Ok(Restored { vm, load, resume: None })
            }
            Err(source) => {
                let said = vmm.jailed.into_last_words(&source).await;
                Err(RestoreError::Control { source, said })
            }
        }
    }

    async fn kill(&mut self) {
        self.0.jailed.kill().await;
    }

    fn process_id(&self) -> u32 {
        self.0.jailed.process_id()
    }
}

#[async_trait]
impl MicroVm for FirecrackerVm {
    async fn connect(&mut self, patience: Duration) -> Result<UnixStream, ControlError> {
        if std::mem::replace(&mut self.connected, true) {
            return Err(ControlError::Connected);
        }
        let command = "CONNECT";
        let deadline = Instant::now() + patience;
        if let Some(ready) = self.ready.take() {
            let told = async { ready.accept().await };
            tokio::select! {
                told = told => drop(told.map_err(|source| ControlError::Io { command, source })?),
                exit = self.vmm.jailed.wait() => {
                    tracing::debug!(%exit, "ended before its guest agent listened");
                    return Err(ControlError::Closed { command });
                }
                () = sleep_until(deadline.into()) => {
                    return Err(ControlError::TimedOut { command, after: patience });
                }
            }
        }
        vsock::connect(&self.vmm.run, paths::VSOCK_NAME, deadline).await.map_err(|source| {
            if source.kind() == io::ErrorKind::TimedOut {
                ControlError::TimedOut { command, after: patience }
            } else {
                ControlError::Io { command, source }
            }
        })
    }

    fn pausing(&mut self) -> Option<&mut dyn Pausing> {
        if self.vmm.resumes_vsock { Some(self) } else { None }
    }

    async fn kill(&mut self) {
        self.vmm.jailed.kill().await;
    }

    async fn wait(&mut self) -> Exit {
        let exit = self.vmm.jailed.wait().await;
        exit::told(exit, &self.vmm.jailed.output())
    }

    fn last_words(&self) -> String {
        self.vmm.jailed.output()
    }

    fn process_id(&self) -> u32 {
        self.vmm.jailed.process_id()
    }

    async fn metrics(&mut self) -> Option<String> {
        // Before it is asked for more as well: a full fifo takes none.
        let mut report = Vec::new();
        self.vmm.read_metrics(&mut report);
        let flush = Action { action_type: ActionType::FlushMetrics };
        // One that has ended, or does not answer, may have reported before.
        let _ = timeout(METRICS_PATIENCE, self.vmm.api.call(&flush)).await;
        self.vmm.read_metrics(&mut report);
        Some(String::from_utf8_lossy(&report).into_owned())
    }
}

#[async_trait]
impl Pausing for FirecrackerVm {
    async fn pause(&mut self) -> Result<(), ControlError> {
        self.vmm.api.call(&Vm { state: VmState::Paused }).await
    }

    async fn resume(&mut self) -> Result<(), ControlError> {
        self.vmm.api.call(&Vm { state: VmState::Resumed }).await
    }
}

#[async_trait]
impl SavableVm for FirecrackerVm {
    async fn save(mut self: Box<Self>) -> Result<(), SaveError> {
        let Some(files) = self.files.take() else {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(SaveError::File { path: PathBuf::new(), source });
        };
        let saved = self.save_state(&files).await;
        self.vmm.jailed.kill().await;
        saved
    }
}

/// Describes the machine, and starts it. Returns where its agent tells that it listens.
async fn start_guest(
    vmm: &mut Listening,
    settings: &FirecrackerSettings,
    spec: &BootSpec,
    command_line: &str,
) -> Result<UnixListener, ControlError> {
    let ready = vmm
        .run
        .listen(paths::READY_NAME)
        .map_err(|source| ControlError::Io { command: "listen for the guest agent", source })?;
    let api = &mut vmm.api;
    api.call(&MachineConfiguration {
        vcpu_count: spec.machine.vcpus,
        mem_size_mib: spec.machine.memory_mib,
        smt: false,
        cpu_template: settings.cpu_template.as_ref().and_then(CpuTemplate::built_in),
    })
    .await?;
    if let Some(CpuTemplate::Custom(template)) = &settings.cpu_template {
        api.call(&CpuConfiguration(template)).await?;
    }
    api.call(&BootSource {
        kernel_image_path: paths::VMLINUX,
        initrd_path: paths::INITRAMFS,
        boot_args: command_line,
    })
    .await?;
    api.call(&Drive {
        drive_id: "rootfs",
        path_on_host: paths::ROOTFS,
        // The initramfs mounts it; there is nothing to add to the kernel's command line.
        is_root_device: false,
        is_read_only: true,
    })
    .await?;
    api.call(&Vsock { guest_cid: vsock::GUEST_CID, uds_path: paths::VSOCK }).await?;
    api.call(&Action { action_type: ActionType::InstanceStart }).await?;
    Ok(ready)
}

/// Makes a file for the VMM's user alone.
fn create_for(user: Option<u32>, path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    if let Some(user) = user {
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    }
    Ok(())
}

/// Takes a file over from the VMM's user, for good.
fn keep(file: &File) -> io::Result<()> {
    fchown(file.as_fd(), Some(rustix::process::geteuid()), Some(rustix::process::getegid()))?;
    fchmod(file.as_fd(), Mode::from_raw_mode(0o444))?;
    file.sync_all()
}
