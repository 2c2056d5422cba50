//! The traits that a VMM backend implements.
//!
//! ```text
//! Vmm ──boot────────────────────▶ MicroVm ──wait──▶ Exit
//!  └─snapshots()─▶ Snapshots       └─pausing()─▶ Pausing ──pause, resume
//!                   ├─start─────▶ StandbyVmm ──load──▶ MicroVm
//!                   └─boot──────▶ SavableVm ──save──▶ files (the microVM is gone)
//! ```
//!
//! A power that a backend lacks is absent (`snapshots()`, `pausing()` are `None`), never a pretended success. Dropping a microVM
//! ends its VMM and takes away everything that the VMM had: process, jail, cgroup, sockets.

use std::{io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::{
    jail::LaunchError,
    spec::{BootSpec, RestoreSpec, SnapshotFiles},
};

/// How the VMM executes guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// The processor's virtualization, through `/dev/kvm`.
    Kvm,
    /// Software emulation by QEMU's Tiny Code Generator.
    Tcg,
}

impl std::fmt::Display for Acceleration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// What a snapshot depends on besides its own files: it can be restored where all of this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmmIdentity {
    /// The backend: `firecracker`, `qemu`.
    pub vmm: String,
    /// The VMM's version, as it prints it.
    pub version: String,
    /// How it executes guest code.
    pub acceleration: Acceleration,
    /// The processor that the guest sees: the host's model under KVM, or its vendor and a template; the emulated one under
    /// TCG.
    pub cpu: String,
    /// The rate of the time-stamp counter in MHz, which the guest's kernel has calibrated its clock with. Nothing where
    /// the VMM sees to it that a clone has the rate that it was saved with.
    pub tsc_mhz: Option<u32>,
}

/// A virtual machine monitor.
#[async_trait]
pub trait Vmm: Send + Sync {
    /// What it is.
    fn identity(&self) -> &VmmIdentity;

    /// Boots a microVM. It returns as soon as the guest executes, long before the guest agent answers.
    async fn boot(&self, spec: &BootSpec) -> Result<Box<dyn MicroVm>, BootError>;

    /// Its snapshots, where it has them.
    fn snapshots(&self) -> Option<&dyn Snapshots>;
}

/// A VMM's ability to save and restore microVMs.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Boots a microVM whose memory lies in `files` from the beginning, so that it can be saved to them. The files
    /// must not exist.
    async fn boot(&self, spec: &BootSpec, files: &SnapshotFiles) -> Result<Box<dyn SavableVm>, BootError>;

    /// Starts a VMM for a snapshot: all that can be done before there is a request, but for the guest.
    async fn start(&self, spec: &RestoreSpec) -> Result<Box<dyn StandbyVmm>, RestoreError>;
}

/// A VMM in its jail that waits for the snapshot which it was started for. Dropping it ends it.
#[async_trait]
pub trait StandbyVmm: Send {
    /// Restores the microVM. Its guest executes from where it was paused when it was saved; nothing it does changes
    /// the files.
    async fn load(self: Box<Self>) -> Result<Restored, RestoreError>;

    /// Ends the VMM and waits until it and all that belonged to it is gone.
    async fn kill(&mut self);

    /// The VMM's process on the host, for measurements.
    fn process_id(&self) -> u32;
}

/// A microVM that was restored, and how long that took.
pub struct Restored {
    /// The microVM.
    pub vm: Box<dyn MicroVm>,
    /// Until its state was loaded; until its guest executed, where the VMM does both in one step.
    pub load: Duration,
    /// From there until its guest executed, where that is a step of its own.
    pub resume: Option<Duration>,
}

/// One running microVM.
#[async_trait]
pub trait MicroVm: Send {
    /// The byte stream to the guest agent, once. Where the VMM's channel has to be opened by the guest too, this waits
    /// until it has been, for as long as `patience`; elsewhere what is written waits for the agent.
    async fn connect(&mut self, patience: Duration) -> Result<UnixStream, ControlError>;

    /// Its ability to stand still and go on, where it has it.
    fn pausing(&mut self) -> Option<&mut dyn Pausing>;

    /// Ends the VMM and waits until it and all that belonged to it is gone.
    async fn kill(&mut self);

    /// Waits for the VMM to end by itself.
    async fn wait(&mut self) -> Exit;

    /// The last lines of the guest's console and of the VMM's own messages, for an error message. Empty where
    /// there are none. The guest wrote them: they may hold anything.
    fn last_words(&self) -> String;

    /// The VMM's process on the host, for measurements.
    fn process_id(&self) -> u32;

    /// What the VMM reports about itself, in its own format; nothing where it does not.
    async fn metrics(&mut self) -> Option<String> {
        None
    }
}

/// A microVM's ability to stand still, and to go on as if nothing had been, its connections included.
#[async_trait]
pub trait Pausing: Send {
    /// Stops the guest's processors.
    async fn pause(&mut self) -> Result<(), ControlError>;

    /// Lets them go on.
    async fn resume(&mut self) -> Result<(), ControlError>;
}

/// A microVM that can be saved.
#[async_trait]
pub trait SavableVm: MicroVm {
    /// Saves it to the files that it was booted with, and ends it.
    async fn save(self: Box<Self>) -> Result<(), SaveError>;
}

/// How a VMM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself: the guest turned the machine off or reset it.
    GuestShutdown,
    /// The guest's kernel panicked.
    GuestPanic,
    /// With an error of its own.
    Failed {
        /// Its exit status.
        code: i32,
    },
    /// By a fault of its own: an access to memory, or a system call, that it must not make.
    Crashed {
        /// The number of the signal that it got for that.
        signal: i32,
    },
    /// By a signal from elsewhere: somebody, or the kernel for want of memory, killed it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// Unknown: the process that watched it is gone.
    Lost,
}

impl Exit {
    /// Signals that a process gets for what it does itself (`signal(7)`).
    const FAULTS: [Signal; 9] = [
        Signal::ILL,
        Signal::TRAP,
        Signal::ABORT,
        Signal::BUS,
        Signal::FPE,
        Signal::SEGV,
        Signal::XCPU,
        Signal::XFSZ,
        Signal::SYS,
    ];

    /// The end of a VMM that a signal of this number ended.
    pub(crate) fn by_signal(signal: i32) -> Self {
        if Self::FAULTS.iter().any(|fault| fault.as_raw() == signal) {
            Self::Crashed { signal }
        } else {
            Self::Killed { signal }
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::GuestShutdown => f.write_str("the guest shut down"),
            Self::GuestPanic => f.write_str("the guest's kernel panicked"),
            Self::Failed { code } => write!(f, "the VMM failed with exit status {code}"),
            Self::Crashed { signal } => write!(f, "the VMM crashed with signal {signal}"),
            Self::Killed { signal: 9 } => {
                f.write_str("the VMM was killed by signal 9, as the kernel does where memory runs out")
            }
            Self::Killed { signal } => write!(f, "the VMM was killed by signal {signal}"),
            Self::Lost => f.write_str("the process that watched the VMM is gone"),
        }
    }
}

/// Why a running microVM did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The VMM is gone, or closed its control channel.
    #[error("the VMM closed its control channel during {command}")]
    Closed {
        /// What it was asked.
        command: &'static str,
    },
    /// The control channel failed.
    #[error("control channel of the VMM failed during {command}")]
    Io {
        /// What it was asked.
        command: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VMM answered with an error.
    #[error("the VMM refused {command}: {reason}")]
    Refused {
        /// What it was asked.
        command: &'static str,
        /// Its answer.
        reason: String,
    },
    /// The VMM answered what it was not asked, or what it says is no answer.
    #[error("the VMM answered {command} with something else")]
    Unexpected {
        /// What it was asked.
        command: &'static str,
    },
    /// The VMM said more than is read.
    #[error("the VMM said too much during {command}")]
    TooMuch {
        /// What it was asked.
        command: &'static str,
    },
    /// The VMM did not answer.
    #[error("the VMM did not answer {command} within {} s", .after.as_secs())]
    TimedOut {
        /// What it was asked.
        command: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The stream to the guest was taken before.
    #[error("the stream to the guest is taken")]
    Connected,
}

/// Why a microVM could not be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file that it is made of cannot be used.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VMM's process could not be started in its jail.
    #[error("cannot start the VMM")]
    Launch(#[source] LaunchError),
    /// The VMM was started and ended, or did not do as told.
    #[error("the VMM did not start the guest{}", .said.context())]
    Control {
        /// Why.
        #[source]
        source: ControlError,
        /// What the VMM printed.
        said: LastWords,
    },
}

/// Why a microVM could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file of the snapshot, or the image, cannot be used.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VMM's process could not be started in its jail.
    #[error("cannot start the VMM")]
    Launch(#[source] LaunchError),
    /// The VMM did not take the snapshot.
    #[error("the VMM did not load the snapshot{}", .said.context())]
    Control {
        /// Why.
        #[source]
        source: ControlError,
        /// What the VMM printed.
        said: LastWords,
    },
}

/// Why a microVM could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A file could not be written.
    #[error("cannot write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VMM did not save it.
    #[error("the VMM did not save the microVM")]
    Control(#[source] ControlError),
}

/// The end of what a VMM printed, or how it ended without a word, as part of an error.
#[derive(Debug, Default)]
pub struct LastWords(pub String);

impl LastWords {
    fn context(&self) -> String {
        match self.0.trim() {
            "" => String::new(),
            said => format!(" ({})", printable(said)),
        }
    }
}

/// A text of a VMM's, a guest's or a snapshot's as it may be shown among words of ours: no control characters, nothing that
/// changes the direction of writing, and no line that begins where lines of ours do.
pub fn printable(text: &str) -> String {
    /// Some screens full.
    const MOST_CHARS: usize = 8 << 10;
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::new();
    for c in text.chars().take(MOST_CHARS) {
        match c {
            '\n' => shown.push_str("\n    "),
            c if is_harmful(c) => shown.push(' '),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_cannot_be_taken_for_ours_or_move_a_terminal() {
        let shown = printable("\u{1b}]0;x\u{7}a\u{9b}31m\u{202e}b\nhint: run: rm\r\n");
        assert_eq!(shown, " ]0;x a 31m b\n    hint: run: rm \n    ");
        assert_eq!(printable(&"x".repeat(1 << 20)).len(), 8 << 10);
    }
}
