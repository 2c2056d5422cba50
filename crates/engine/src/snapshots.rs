//! Making and checking snapshots.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use images::{KernelBundle, Progress, Sha256Digest};
use protocol::GENERATION;
use store::{
    Language,
    snapshot::{
        Current, Entry, FORMAT_VERSION, FileRecord, HostRecord, KernelRecord, Manifest, Mismatch, Original,
        Size, Staged,
    },
};
use tokio::task::spawn_blocking;
use vmm::{
    printable,
    spec::{MachineSpec, SnapshotFiles},
};

use crate::{
    engine::{Engine, Standby},
    error::{CreateSnapshotError, NotPrepared, RunError, chain, create_command},
    execution::{self, BOOT_PATIENCE, Job, PREPARE_PATIENCE, Phases, Session},
    guest_client::{GuestClient, TIMERS_OF_A_SNAPSHOT},
    in_use::InUse,
    languages::LanguageSpec,
    request::Request,
};

/// What a snapshot takes on the disk beyond its memory, in MiB, with room to spare.
const DISK_RESERVE_MIB: u64 = 64;

/// How many microVMs are booted until one has a timer that is good enough: on a host with four times the work that it can
/// do, two of three have.
const BOOTS: u32 = 8;

/// What a finished snapshot is tried with, and what has to come.
const PROOF: (&str, &str) = ("print('proof', 6 * 7)", "proof 42\n");

/// A snapshot and whether it can be restored here and now.
#[derive(Debug)]
pub struct SnapshotStatus {
    /// The snapshot.
    pub entry: Entry,
    /// Nothing where it can be restored; else why not.
    pub problem: Option<NotPrepared>,
}

/// A snapshot that can be restored here and now.
pub(crate) struct UsableSnapshot {
    /// Its files.
    pub(crate) files: SnapshotFiles,
    /// What its image adds to the environment of programs.
    pub(crate) environment: BTreeMap<String, String>,
    /// Keeps it from being tidied away, and knows whether it is changed.
    pub(crate) in_use: Option<InUse>,
}

impl Engine {
    /// Makes a snapshot of `spec`'s language: boots, prepares, saves, tries it, and puts it in its place. Begins anew, a few
    /// times, where the host was too busy for the guest's kernel to measure its timer.
    pub async fn create_snapshot(
        &self,
        spec: &LanguageSpec,
        machine: MachineSpec,
        progress: Arc<dyn Progress>,
    ) -> Result<(Manifest, PathBuf), CreateSnapshotError> {
        for _ in 1..BOOTS {
            match self.try_to_create_snapshot(spec, machine, progress.clone()).await {
                Err(CreateSnapshotError::Run(error)) if error.is_of_the_timer() => {
                    progress.step(&format!("beginning anew: {}", chain(&error)));
                }
                created => return created,
            }
        }
        self.try_to_create_snapshot(spec, machine, progress).await
    }

    async fn try_to_create_snapshot(
        &self,
        spec: &LanguageSpec,
        machine: MachineSpec,
        progress: Arc<dyn Progress>,
    ) -> Result<(Manifest, PathBuf), CreateSnapshotError> {
        let language = &spec.name;
        let not_prepared =
            |source| CreateSnapshotError::Run(RunError::NotPrepared { language: language.clone(), source });
        let snapshots = self.vmm.snapshots().ok_or_else(|| not_prepared(NotPrepared::Unsupported))?;
        let slot = self.slot().await?;
        let boot = self.boot_spec(language, machine, &slot).map_err(not_prepared)?;
        let environment = self.environment(language).map_err(not_prepared)?;
        let staged = self.catalogue.stage(language, size(machine)).map_err(CreateSnapshotError::Catalogue)?;
        check_disk(&staged, machine)?;
        let files = SnapshotFiles { device_state: staged.device_state(), memory: staged.memory() };
        let rootfs = record(boot.rootfs.clone(), &progress);

        progress.step("booting a microVM");
        let mut vm = match snapshots.boot(&boot, &files).await {
            Ok(vm) => vm,
            Err(source) => {
                check_room(&staged, machine)?;
                return Err(RunError::Boot(source).into());
            }
        };
        let prepared = async {
            let stream = vm.connect(BOOT_PATIENCE).await.map_err(execution::control_error)?;
            let guest = execution::guest_error;
            let mut client = GuestClient::greet(stream, BOOT_PATIENCE).await.map_err(guest)?;
            client.require(&TIMERS_OF_A_SNAPSHOT).map_err(guest)?;
            // The prepared interpreter must start with random numbers and a clock as good as any.
            client.reseed(BOOT_PATIENCE).await.map_err(guest)?;
            progress.step(&format!("warming up {language}"));
            let initialised =
                client.prepare(spec.prepare(&environment), PREPARE_PATIENCE).await.map_err(guest)?;
            Ok((initialised, client))
        };
        let (initialised, client) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                let error = execution::with_fate(vm.as_mut(), error).await;
                vm.kill().await;
                check_room(&staged, machine)?;
                return Err(error.into());
            }
        };
        progress.step("saving it");
        if let Err(source) = vm.save().await {
            check_room(&staged, machine)?;
            return Err(CreateSnapshotError::Save(source));
        }
        // Not before: a guest whose host hangs up turns itself off, and would be saved doing so.
        drop(client);

        progress.step("computing digests");
        let device_state = record(files.device_state.clone(), &progress);
        let memory = record(files.memory.clone(), &progress);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            language: language.clone(),
            size: size(machine),
            initialised,
            protocol_generation: GENERATION,
            host: self.host_record(),
            kernel: self.kernel_record().map_err(not_prepared)?,
            rootfs: rootfs.await?,
            environment: environment.clone(),
            device_state: device_state.await?,
            memory: memory.await?,
            created_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        progress.step("trying it");
        let vmm = self.standby_vmm(language, machine, files, &slot).await?;
        let session =
            Standby { vmm, slot, environment, in_use: None, phases: Phases::default() }.restore().await?;
        prove(session, spec, self).await?;
        let directory = staged.publish(&manifest).map_err(CreateSnapshotError::Catalogue)?;
        self.note_checked(language, machine, progress).await;
        Ok((manifest, directory))
    }

    /// Whether a snapshot can only be made again: what it depends on is not there any more. One that another VMM could
    /// restore, or whose image is missing, is not stale.
    pub fn is_stale(&self, status: &SnapshotStatus) -> bool {
        match &status.problem {
            Some(NotPrepared::Manifest { .. }) => true,
            Some(NotPrepared::Mismatch { source: Mismatch::Vmm { .. }, .. }) => {
                let ours = self.host_record();
                let made_with = status.entry.manifest.as_ref().ok().map(|manifest| &manifest.host);
                made_with.is_some_and(|host| host.vmm == ours.vmm && host.acceleration == ours.acceleration)
            }
            Some(NotPrepared::Mismatch { source, .. }) => !matches!(source, Mismatch::Cpu { .. }),
            _ => false,
        }
    }

    /// The snapshot's files and the environment of its image, if it can be restored here and now.
    pub(crate) async fn usable_snapshot(
        &self,
        language: &Language,
        machine: MachineSpec,
    ) -> Result<UsableSnapshot, NotPrepared> {
        let entry = self
            .catalogue
            .find(language, size(machine))
            .ok_or_else(|| NotPrepared::Snapshot { language: language.clone(), machine })?;
        let files = SnapshotFiles { device_state: entry.device_state(), memory: entry.memory() };
        // Before the check: what is changed after that is noticed. Where it is missing the check says so.
        let memory = Original::of(&files.memory).ok();
        let status = self.check_snapshot(entry, false, Arc::new(images::Quiet)).await;
        match status.problem {
            None => {
                let in_use = Some(InUse {
                    _lock: status.entry.in_use(),
                    memory,
                    path: files.memory.clone(),
                    remedy: create_command(language, machine),
                });
                // What has been checked has a manifest.
                let manifest = status.entry.manifest.ok();
                let environment = manifest.map(|manifest| manifest.environment).unwrap_or_default();
                Ok(UsableSnapshot { files, environment, in_use })
            }
            Some(problem) => Err(problem),
        }
    }

    /// Checks a snapshot, reading every file of it where `thorough`.
    pub async fn check_snapshot(
        &self,
        entry: Entry,
        thorough: bool,
        progress: Arc<dyn Progress>,
    ) -> SnapshotStatus {
        let current = match self.current(&entry.language) {
            Ok(current) => current,
            Err(problem) => return SnapshotStatus { entry, problem: Some(problem) },
        };
        // A file that has changed is read: a second of hashing does not belong on the runtime's thread.
        let checked = spawn_blocking(move || {
            let problem = problem(&entry, &current, thorough, &*progress);
            SnapshotStatus { entry, problem }
        });
        checked.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// What a snapshot of `language` is compared with.
    pub fn current(&self, language: &Language) -> Result<Current, NotPrepared> {
        Ok(Current {
            host: self.host_record(),
            // Without a bundle a snapshot can be restored all the same.
            kernel: self.kernel_record().ok(),
            rootfs: self.data.image(language),
            environment: self.environment(language)?,
            protocol_generation: GENERATION,
        })
    }

    fn host_record(&self) -> HostRecord {
        let identity = self.vmm.identity();
        HostRecord {
            vmm: identity.vmm.clone(),
            vmm_version: identity.version.clone(),
            acceleration: identity.acceleration.to_string().to_lowercase(),
            cpu: identity.cpu.clone(),
            tsc_mhz: identity.tsc_mhz,
        }
    }

    fn kernel_record(&self) -> Result<KernelRecord, NotPrepared> {
        let bundle = KernelBundle::open(&self.data.kernel()).map_err(NotPrepared::Kernel)?;
        let manifest = bundle.manifest();
        Ok(KernelRecord {
            release: manifest.kernel_release.clone(),
            vmlinux: manifest.vmlinux_sha256.clone(),
            initramfs: manifest.initramfs_sha256.clone(),
        })
    }

    /// Spares the first restore the reading of all files, for they have just been read.
    async fn note_checked(&self, language: &Language, machine: MachineSpec, progress: Arc<dyn Progress>) {
        if let Some(entry) = self.catalogue.find(language, size(machine)) {
            let status = self.check_snapshot(entry, false, progress).await;
            tracing::debug!(%language, problem = ?status.problem, "checked");
        }
    }
}

fn problem(entry: &Entry, current: &Current, thorough: bool, progress: &dyn Progress) -> Option<NotPrepared> {
    let (language, machine) = (entry.language.clone(), machine(entry.size));
    let read_again;
    let manifest = if let Ok(manifest) = &entry.manifest {
        manifest
    } else {
        // The catalogue keeps the error; this one says the same of the same file, unless that was replaced meanwhile.
        match Manifest::read_for(&entry.directory, &entry.language, entry.size) {
            Ok(manifest) => read_again = manifest,
            Err(source) => return Some(NotPrepared::Manifest { language, machine, source }),
        }
        &read_again
    };
    match entry.check(manifest, current, thorough, progress) {
        Ok(None) => None,
        Ok(Some(Mismatch::Rootfs { path })) if !path.exists() => Some(NotPrepared::Image { path, language }),
        Ok(Some(source)) => Some(NotPrepared::Mismatch { language, machine, source }),
        Err(source) => Some(NotPrepared::Verify(source)),
    }
}

/// Tries a clone of the new snapshot, and ends it.
async fn prove(
    mut session: Session,
    spec: &LanguageSpec,
    engine: &Engine,
) -> Result<(), CreateSnapshotError> {
    let (code, expected) = PROOF;
    let request =
        Request::from_code(spec.name.as_str(), code.to_owned(), String::new(), None, engine.languages());
    let request = request.map_err(|error| CreateSnapshotError::Proof { answer: error.to_string() })?;
    let executions = session.run(&request, &Job::of("proof")).await;
    session.end().await;
    match executions?.first() {
        Some(execution) if execution.stdout.bytes.0 == expected.as_bytes() => Ok(()),
        other => {
            let answer = other.map(|execution| {
                let stderr = String::from_utf8_lossy(&execution.stderr.bytes.0);
                format!("{:?}, {}", execution.outcome, printable(&stderr))
            });
            Err(CreateSnapshotError::Proof { answer: answer.unwrap_or_default() })
        }
    }
}

/// Full before anything was written is better than full in the middle.
fn check_disk(staged: &Staged, machine: MachineSpec) -> Result<(), CreateSnapshotError> {
    require_free(staged, machine, u64::from(machine.memory_mib) + DISK_RESERVE_MIB)
}

/// Whether a microVM may have failed because the disk is full: a VMM whose memory file cannot grow dies by SIGBUS,
/// without a word.
fn check_room(staged: &Staged, machine: MachineSpec) -> Result<(), CreateSnapshotError> {
    require_free(staged, machine, 1)
}

fn require_free(staged: &Staged, machine: MachineSpec, least_mib: u64) -> Result<(), CreateSnapshotError> {
    let Ok(disk) = rustix::fs::statvfs(staged.directory()) else { return Ok(()) };
    let free_mib = (disk.f_bavail * disk.f_frsize) >> 20;
    if free_mib < least_mib {
        let path = staged.directory().to_owned();
        let needed_mib = u64::from(machine.memory_mib) + DISK_RESERVE_MIB;
        return Err(CreateSnapshotError::DiskFull { path, free_mib, needed_mib });
    }
    Ok(())
}

/// Reads a file for its record, on a thread of its own, from now on.
fn record(
    path: PathBuf,
    progress: &Arc<dyn Progress>,
) -> impl Future<Output = Result<FileRecord, CreateSnapshotError>> + use<> {
    let progress = Arc::clone(progress);
    let reading = spawn_blocking(move || {
        let sha256 = Sha256Digest::of_file(&path, &*progress)?;
        let bytes = std::fs::metadata(&path)
            .map_err(|source| images::DigestError::Read { path: path.clone(), source })?
            .len();
        Ok(FileRecord { sha256, bytes })
    });
    async {
        let read = reading.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        read.map_err(CreateSnapshotError::Digest)
    }
}

/// The size of a snapshot of `machine`.
pub fn size(machine: MachineSpec) -> Size {
    Size { memory_mib: machine.memory_mib, vcpus: machine.vcpus }
}

/// The machine that a snapshot of this size holds.
pub fn machine(size: Size) -> MachineSpec {
    MachineSpec { memory_mib: size.memory_mib, vcpus: size.vcpus }
}
