//! The engine: requests in, answers out.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, sync::Arc, time::Instant};

use images::{KernelBundle, rootfs::RootfsDetails};
use store::{DataDirectory, Language, snapshot::Catalogue};
use uuid::Uuid;
use vmm::{
    Restored, StandbyVmm, Vmm,
    spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles},
};

use crate::{
    error::{NotPrepared, RunError, chain},
    execution::{self, Held, Job, Outcome, Phases, Session},
    in_use::InUse,
    languages::Languages,
    live::Live,
    request::Request,
    slots::{Room, Slot, Slots},
    snapshots::UsableSnapshot,
};

/// How many microVMs are booted for a request until one has a timer that is good enough.
const BOOTS: u32 = 4;

/// What an engine works with.
pub struct EngineSettings {
    /// The VMM.
    pub vmm: Arc<dyn Vmm>,
    /// Where images, kernel bundle and snapshots are.
    pub data: DataDirectory,
    /// The languages.
    pub languages: Languages,
    /// Where its microVMs have their room.
    pub room: Room,
}

/// What a microVM starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The snapshot; without one that can be used, an error.
    Snapshot,
    /// A boot.
    Boot,
    /// The snapshot where one can be used, else a boot.
    Best,
}

/// Runs programs in microVMs.
pub struct Engine {
    pub(crate) vmm: Arc<dyn Vmm>,
    pub(crate) data: DataDirectory,
    pub(crate) catalogue: Catalogue,
    languages: Languages,
    slots: Slots,
    /// What the names of its microVMs begin with.
    prefix: String,
}

/// Tells one image from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageIdentity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Engine {
    /// An engine. Nothing is touched until something is asked of it.
    pub fn new(settings: EngineSettings) -> Self {
        let prefix = settings.room.prefix().to_owned();
        let slots = Slots::new(settings.data.run().join("slots"), &settings.room);
        Self {
            vmm: settings.vmm,
            catalogue: Catalogue::new(settings.data.snapshots()),
            data: settings.data,
            languages: settings.languages,
            slots,
            prefix,
        }
    }

    /// The languages.
    pub fn languages(&self) -> &Languages {
        &self.languages
    }

    /// Whether a language has an image, without which none of its programs can be run.
    pub fn has_image(&self, language: &Language) -> bool {
        self.data.image(language).is_file()
    }

    /// Which image a language has: another one is another.
    pub fn image_identity(&self, language: &Language) -> Option<ImageIdentity> {
        let file = std::fs::metadata(self.data.image(language)).ok().filter(std::fs::Metadata::is_file)?;
        Some(ImageIdentity {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    /// The snapshots.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Runs `request` in a microVM of its own, and ends that. Tells of it where somebody watches.
    pub async fn run(
        &self,
        request: &Request,
        machine: MachineSpec,
        start: Start,
        trace_id: &str,
        live: Option<&mut Live>,
    ) -> Result<Outcome, RunError> {
        let mut session = self.open(&request.language.name, machine, start).await?;
        let streamed = live.is_some();
        let report = session.serve(request, &Job::of(trace_id), live).await;
        let restored = session.restored;
        // Also after an error: it is to be gone when the error is told.
        let phases = session.end().await;
        let answer = execution::answer(request, report?, trace_id, streamed);
        tracing::info!(trace_id, restored, ?phases, "ran");
        Ok(Outcome { answer, phases, restored })
    }

    /// Starts a microVM and makes it ready for a request.
    pub async fn open(
        &self,
        language: &Language,
        machine: MachineSpec,
        start: Start,
    ) -> Result<Session, RunError> {
        let not_prepared = |source| RunError::NotPrepared { language: language.clone(), source };
        let since = Instant::now();
        let mut slot = self.slot().await?;
        let mut phases = Phases { queue: since.elapsed(), ..Phases::default() };
        if start != Start::Boot {
            let since = Instant::now();
            match self.usable_snapshot(language, machine).await {
                Ok(UsableSnapshot { files, environment, in_use }) => {
                    let vmm = self.standby_vmm(language, machine, files, &slot).await?;
                    phases.process = since.elapsed();
                    return Standby { vmm, slot, environment, in_use, phases }.restore().await;
                }
                Err(reason) if start == Start::Snapshot => return Err(not_prepared(reason)),
                Err(reason) => {
                    let hint = format!("run: {}", reason.command());
                    let reason = std::error::Error::source(&reason)
                        .map_or(reason.to_string(), std::string::ToString::to_string);
                    tracing::warn!(%language, reason, hint, "booting instead of restoring a snapshot");
                }
            }
        }
        for _ in 1..BOOTS {
            match self.boot(language, machine, slot, phases).await {
                Err(error) if error.is_of_the_timer() => {
                    tracing::info!(%language, error = %chain(&error), "booting another microVM");
                }
                booted => return booted,
            }
            let since = Instant::now();
            slot = self.slot().await?;
            phases.queue += since.elapsed();
        }
        self.boot(language, machine, slot, phases).await
    }

    /// Boots a microVM in `slot` and makes it ready for a request.
    async fn boot(
        &self,
        language: &Language,
        machine: MachineSpec,
        slot: Slot,
        mut phases: Phases,
    ) -> Result<Session, RunError> {
        let not_prepared = |source| RunError::NotPrepared { language: language.clone(), source };
        let since = Instant::now();
        let spec = self.boot_spec(language, machine, &slot).map_err(not_prepared)?;
        let environment = self.environment(language).map_err(not_prepared)?;
        let vm = self.vmm.boot(&spec).await.map_err(RunError::Boot)?;
        phases.process = since.elapsed();
        Session::open(vm, Held { _slot: slot, in_use: None }, environment, false, phases).await
    }

    /// Waits for room for a microVM.
    pub(crate) async fn slot(&self) -> Result<Slot, RunError> {
        self.slots.take().await.map_err(RunError::Slot)
    }

    /// Starts a VMM that waits for a request of this language and size, so that restoring takes no more than loading
    /// the snapshot. It holds a slot.
    pub async fn stand_by(&self, language: &Language, machine: MachineSpec) -> Result<Standby, RunError> {
        let slot = self.slot().await?;
        let UsableSnapshot { files, environment, in_use } = self
            .usable_snapshot(language, machine)
            .await
            .map_err(|source| RunError::NotPrepared { language: language.clone(), source })?;
        let vmm = self.standby_vmm(language, machine, files, &slot).await?;
        Ok(Standby { vmm, slot, environment, in_use, phases: Phases::default() })
    }

    pub(crate) async fn standby_vmm(
        &self,
        language: &Language,
        machine: MachineSpec,
        files: SnapshotFiles,
        slot: &Slot,
    ) -> Result<Box<dyn StandbyVmm>, RunError> {
        let source = NotPrepared::Unsupported;
        let snapshots = self
            .vmm
            .snapshots()
            .ok_or_else(|| RunError::NotPrepared { language: language.clone(), source })?;
        let rootfs = self.data.image(language);
        let spec = RestoreSpec { placement: self.placement(slot), machine, rootfs, files };
        snapshots.start(&spec).await.map_err(RunError::Restore)
    }

    /// What the image of `language` adds to the environment of its programs.
    pub(crate) fn environment(&self, language: &Language) -> Result<BTreeMap<String, String>, NotPrepared> {
        match RootfsDetails::of_image(&self.data.image(language)) {
            Ok(details) => Ok(details.map(|details| details.config.environment).unwrap_or_default()),
            Err(source) => Err(NotPrepared::Details { language: language.clone(), source }),
        }
    }

    /// A microVM of `language` to be booted in `slot`.
    pub(crate) fn boot_spec(
        &self,
        language: &Language,
        machine: MachineSpec,
        slot: &Slot,
    ) -> Result<BootSpec, NotPrepared> {
        let rootfs = self.data.image(language);
        if !rootfs.is_file() {
            return Err(NotPrepared::Image { path: rootfs, language: language.clone() });
        }
        let bundle = KernelBundle::open(&self.data.kernel()).map_err(NotPrepared::Kernel)?;
        if !bundle.is_current() {
            return Err(NotPrepared::OldKernel);
        }
        let (vmlinux, initramfs) = (bundle.vmlinux(), bundle.initramfs());
        Ok(BootSpec { placement: self.placement(slot), machine, vmlinux, initramfs, rootfs })
    }

    /// A new microVM's place.
    fn placement(&self, slot: &Slot) -> Placement {
        Placement { name: format!("{}{}", self.prefix, Uuid::now_v7().simple()), slot: slot.number }
    }
}

/// A VMM that waits for its request. Dropping it ends it.
pub struct Standby {
    pub(crate) vmm: Box<dyn StandbyVmm>,
    pub(crate) slot: Slot,
    /// What the image adds to the environment of its programs.
    pub(crate) environment: BTreeMap<String, String>,
    /// The snapshot that it will be restored from.
    pub(crate) in_use: Option<InUse>,
    pub(crate) phases: Phases,
}

impl Standby {
    /// Restores the microVM, and greets and reseeds it.
    pub async fn restore(self) -> Result<Session, RunError> {
        let Self { vmm, slot, environment, in_use, mut phases } = self;
        let Restored { vm, load, resume } = vmm.load().await.map_err(RunError::Restore)?;
        phases.load = load;
        phases.resume = resume;
        Session::open(vm, Held { _slot: slot, in_use }, environment, true, phases).await
    }

    /// The VMM's process on the host, for measurements.
    pub fn process_id(&self) -> u32 {
        self.vmm.process_id()
    }
}
