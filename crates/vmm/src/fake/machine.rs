//! A VMM that waits, and a microVM that runs.

use std::{
    fs,
    panic::resume_unwind,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::{
    net::UnixStream,
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::{
    backend::{FakeSettings, Saved, pause},
    control::{Alive, FakeControl, Step},
    guest::Guest,
};
use crate::{
    backend::{
        ControlError, Exit, LastWords, MicroVm, Pausing, RestoreError, Restored, SavableVm, SaveError,
        StandbyVmm,
    },
    spec::SnapshotFiles,
};

/// What the console of a microVM says that has crashed.
const LAST_WORDS: &str = "crashed, as it was told";

/// What the memory file of a snapshot holds: there is no memory to be saved.
const MEMORY: &[u8] = b"The memory of a microVM that is a task.\n";

/// The error of a VMM that refuses.
fn refused(command: &'static str, reason: &str) -> ControlError {
    ControlError::Refused { command, reason: reason.to_owned() }
}

/// The error of a step that was told to fail.
pub(super) fn told_to_fail(command: &'static str) -> ControlError {
    refused(command, "it was told to fail")
}

/// A VMM that waits for its snapshot.
pub(super) struct FakeStandby {
    /// Nothing once it was killed.
    pub(super) alive: Option<Alive>,
    pub(super) crashes: watch::Receiver<()>,
    pub(super) control: Arc<FakeControl>,
    pub(super) settings: FakeSettings,
    /// Nothing where that cannot be understood.
    pub(super) saved: Option<Saved>,
}

#[async_trait]
impl StandbyVmm for FakeStandby {
    async fn load(mut self: Box<Self>) -> Result<Restored, RestoreError> {
        let failed = |source| RestoreError::Control { source, said: LastWords::default() };
        let command = "load";
        let Some(alive) = self.alive.take() else { return Err(failed(ControlError::Closed { command })) };
        let since = Instant::now();
        pause(self.settings.load_delay).await;
        // The sender lives as long as the control, which is held here.
        let has_crashed = self.crashes.has_changed().unwrap_or_default();
        let error = match self.saved {
            _ if has_crashed => ControlError::Closed { command },
            None => refused(command, "the state is damaged"),
            Some(_) if self.control.fails(Step::Load) => told_to_fail(command),
            Some(saved) => {
                let vm = FakeVm::start(alive, &self.control, self.settings, saved, None).map_err(failed)?;
                return Ok(Restored { vm: Box::new(vm), load: since.elapsed(), resume: None });
            }
        };
        alive.end_by_itself();
        Err(failed(error))
    }

    async fn kill(&mut self) {
        self.alive = None;
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }
}

/// The guest, or how it ended.
enum Life {
    Running(JoinHandle<Exit>),
    Ended(Exit),
}

/// A microVM that runs. Its process, for who asks, is the one that plays it.
pub(super) struct FakeVm {
    life: Life,
    /// The host's end, until it is taken.
    stream: Option<UnixStream>,
    initialised: Arc<AtomicBool>,
    /// What it is saved to, where it can be.
    files: Option<SnapshotFiles>,
}

impl FakeVm {
    /// Has the guest of the VMM that is `alive` go on from what was `saved`.
    pub(super) fn start(
        alive: Alive,
        control: &Arc<FakeControl>,
        settings: FakeSettings,
        saved: Saved,
        files: Option<SnapshotFiles>,
    ) -> Result<Self, ControlError> {
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|source| ControlError::Io { command: "start", source })?;
        let initialised = Arc::new(AtomicBool::new(saved.initialised));
        let guest = Guest::new(theirs, Arc::clone(control), settings, Arc::clone(&initialised));
        let task = tokio::spawn(async move {
            let exit = guest.live().await;
            alive.end_by_itself();
            exit
        });
        Ok(Self { life: Life::Running(task), stream: Some(ours), initialised, files })
    }

    /// How it ended, once it has.
    async fn end(&mut self) -> Exit {
        if let Life::Running(task) = &mut self.life {
            self.life = Life::Ended(exit(task.await));
        }
        match &self.life {
            Life::Ended(exit) => exit.clone(),
            Life::Running(_) => Exit::Lost,
        }
    }
}

fn exit(ended: Result<Exit, JoinError>) -> Exit {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_aborted) => Exit::Killed { signal: Signal::KILL.as_raw() },
    })
}

impl Drop for FakeVm {
    fn drop(&mut self) {
        if let Life::Running(task) = &self.life {
            task.abort();
        }
    }
}

#[async_trait]
impl MicroVm for FakeVm {
    async fn connect(&mut self, _patience: Duration) -> Result<UnixStream, ControlError> {
        self.stream.take().ok_or(ControlError::Connected)
    }

    fn pausing(&mut self) -> Option<&mut dyn Pausing> {
        None
    }

    async fn kill(&mut self) {
        if let Life::Running(task) = &self.life {
            task.abort();
        }
        self.end().await;
    }

    async fn wait(&mut self) -> Exit {
        self.end().await
    }

    fn last_words(&self) -> String {
        let has_crashed = matches!(self.life, Life::Ended(Exit::Crashed { .. }));
        if has_crashed { LAST_WORDS.to_owned() } else { String::new() }
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }
}

#[async_trait]
impl SavableVm for FakeVm {
    async fn save(mut self: Box<Self>) -> Result<(), SaveError> {
        self.kill().await;
        let command = "save";
        let Some(files) = self.files.take() else {
            return Err(SaveError::Control(refused(command, "it was booted without files")));
        };
        if !matches!(self.life, Life::Ended(Exit::Killed { .. })) {
            return Err(SaveError::Control(ControlError::Closed { command }));
        }
        let saved = Saved { initialised: self.initialised.load(SeqCst) };
        let failed = |path: &Path, source| SaveError::File { path: path.to_owned(), source };
        let state = serde_json::to_vec(&saved)
            .map_err(|error| failed(&files.device_state, std::io::Error::other(error)))?;
        for (path, content) in [(&files.device_state, &state[..]), (&files.memory, MEMORY)] {
            fs::write(path, content).map_err(|source| failed(path, source))?;
        }
        Ok(())
    }
}
