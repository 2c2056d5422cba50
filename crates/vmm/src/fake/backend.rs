//! The backend itself: starts, and what a snapshot is.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    control::{Alive, FakeControl, Step},
    machine::{FakeStandby, FakeVm, told_to_fail},
};
use crate::{
    backend::{
        Acceleration, BootError, LastWords, MicroVm, RestoreError, SavableVm, Snapshots, StandbyVmm, Vmm,
        VmmIdentity,
    },
    spec::{BootSpec, RestoreSpec, SnapshotFiles},
};

/// How long things take that take their time in a real microVM. Nothing does by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeSettings {
    /// Starting a VMM.
    pub start_delay: Duration,
    /// Loading a snapshot.
    pub load_delay: Duration,
    /// The first run in a microVM in which nothing was rehearsed, beyond what its program takes.
    pub first_run_delay: Duration,
    /// A rehearsal.
    pub rehearsal_delay: Duration,
}

/// What a snapshot holds, in the file of the device state.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// Whether an initialised interpreter waits.
    pub(super) initialised: bool,
}

/// The snapshots that were looked at: their files, and what they hold where that can be understood.
type Known = Mutex<Vec<(SnapshotFiles, Option<Saved>)>>;

/// The backend. Its microVMs need a tokio runtime.
pub struct Fake {
    identity: VmmIdentity,
    settings: FakeSettings,
    control: Arc<FakeControl>,
    known: Known,
}

impl Fake {
    /// A backend without microVMs.
    pub fn new(settings: FakeSettings) -> Self {
        Self {
            identity: VmmIdentity {
                vmm: "fake".to_owned(),
                version: "1".to_owned(),
                acceleration: Acceleration::Tcg,
                cpu: "none".to_owned(),
                tsc_mhz: None,
            },
            settings,
            control: Arc::new(FakeControl::new()),
            known: Mutex::default(),
        }
    }

    /// What a test sees of it and has happen to it, also once the backend was given away.
    pub fn control(&self) -> Arc<FakeControl> {
        Arc::clone(&self.control)
    }

    async fn start_booting(&self, spec: &BootSpec) -> Result<Alive, BootError> {
        let alive = Alive::new(&self.control);
        pause(self.settings.start_delay).await;
        for path in [&spec.vmlinux, &spec.initramfs, &spec.rootfs] {
            if let Err(source) = fs::metadata(path) {
                alive.end_by_itself();
                return Err(BootError::File { path: path.clone(), source });
            }
        }
        if self.control.fails(Step::Start) {
            alive.end_by_itself();
            return Err(BootError::Control { source: told_to_fail("start"), said: LastWords::default() });
        }
        Ok(alive)
    }

    /// What a snapshot holds. Its files are looked at once.
    fn saved(&self, files: &SnapshotFiles) -> Result<Option<Saved>, RestoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, saved)) = known.iter().find(|(known, _)| known == files) {
            return Ok(*saved);
        }
        let failed = |path: &Path, source| RestoreError::File { path: path.to_owned(), source };
        fs::metadata(&files.memory).map_err(|source| failed(&files.memory, source))?;
        let state = fs::read(&files.device_state).map_err(|source| failed(&files.device_state, source))?;
        let saved = serde_json::from_slice(&state).ok();
        known.push((files.clone(), saved));
        Ok(saved)
    }
}

#[async_trait]
impl Vmm for Fake {
    fn identity(&self) -> &VmmIdentity {
        &self.identity
    }

    async fn boot(&self, spec: &BootSpec) -> Result<Box<dyn MicroVm>, BootError> {
        let alive = self.start_booting(spec).await?;
        let nothing = Saved { initialised: false };
        FakeVm::start(alive, &self.control, self.settings, nothing, None)
            .map(|vm| Box::new(vm) as Box<dyn MicroVm>)
            .map_err(|source| BootError::Control { source, said: LastWords::default() })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

#[async_trait]
impl Snapshots for Fake {
    async fn boot(&self, spec: &BootSpec, files: &SnapshotFiles) -> Result<Box<dyn SavableVm>, BootError> {
        for path in [&files.memory, &files.device_state] {
            create_new(path).map_err(|source| BootError::File { path: path.clone(), source })?;
        }
        let alive = self.start_booting(spec).await?;
        let nothing = Saved { initialised: false };
        FakeVm::start(alive, &self.control, self.settings, nothing, Some(files.clone()))
            .map(|vm| Box::new(vm) as Box<dyn SavableVm>)
            .map_err(|source| BootError::Control { source, said: LastWords::default() })
    }

    async fn start(&self, spec: &RestoreSpec) -> Result<Box<dyn StandbyVmm>, RestoreError> {
        let alive = Alive::new(&self.control);
        let crashes = self.control.crashes();
        pause(self.settings.start_delay).await;
        let saved = match self.saved(&spec.files) {
            Ok(_) if self.control.fails(Step::Start) => {
                Err(RestoreError::Control { source: told_to_fail("start"), said: LastWords::default() })
            }
            looked_at => looked_at,
        };
        match saved {
            Ok(saved) => {
                let control = Arc::clone(&self.control);
                let alive = Some(alive);
                Ok(Box::new(FakeStandby { alive, crashes, control, settings: self.settings, saved }))
            }
            Err(error) => {
                alive.end_by_itself();
                Err(error)
            }
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Lets `time` pass. A timer that is due at once would still cost a turn of the runtime.
pub(super) async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
