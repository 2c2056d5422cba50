//! Why a request was not run, or a snapshot not made.

use std::path::PathBuf;

use store::{
    Language,
    snapshot::{CatalogueError, ManifestError, Mismatch, VerifyError},
};
use vmm::{
    BootError, ControlError, Exit, RestoreError, SaveError, jail::LaunchError, printable, spec::MachineSpec,
};

use crate::{guest_client::GuestError, shortage::Shortage, slots::SlotError};

/// Why a request was not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it needs is not there, or cannot be used.
    #[error("{language} is not prepared")]
    NotPrepared {
        /// The language.
        language: Language,
        /// What is missing.
        #[source]
        source: NotPrepared,
    },
    /// No slot was free in time: more microVMs run than this host has room for.
    #[error("no slot for a microVM")]
    Slot(#[source] SlotError),
    /// The microVM could not be booted.
    #[error("cannot boot a microVM")]
    Boot(#[source] BootError),
    /// The microVM could not be restored.
    #[error("cannot restore a microVM")]
    Restore(#[source] RestoreError),
    /// The microVM could not be controlled.
    #[error("cannot control the microVM{fate}")]
    Control {
        /// What went wrong.
        #[source]
        source: ControlError,
        /// What became of the microVM.
        fate: Fate,
    },
    /// The memory that the microVM was restored from is not what was saved any more.
    #[error("{} was changed while a microVM ran from it{fate}", .path.display())]
    SnapshotChanged {
        /// The snapshot's memory.
        path: PathBuf,
        /// The command that makes the snapshot again.
        remedy: String,
        /// What became of the microVM.
        fate: Fate,
    },
    /// The guest agent did not do its part.
    #[error("the microVM did not answer as it should{fate}")]
    Guest {
        /// What went wrong.
        #[source]
        source: GuestError,
        /// What became of the microVM.
        fate: Fate,
    },
}

/// What became of a microVM that did not answer as it should.
#[derive(Debug, Default)]
pub struct Fate {
    /// How it ended; nothing where it runs on.
    pub exit: Option<Exit>,
    /// The end of what guest and VMM have printed.
    pub last_words: String,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(exit) = &self.exit {
            write!(f, ", for {exit}")?;
        }
        f.write_str(&context(&self.last_words))
    }
}

/// What is missing before programs of a language can be run.
#[derive(Debug, thiserror::Error)]
pub enum NotPrepared {
    /// It has no image.
    #[error("there is no image {}", .path.display())]
    Image {
        /// Where it would be.
        path: PathBuf,
        /// The language.
        language: Language,
    },
    /// What is noted beside its image cannot be used.
    #[error("the image cannot be used")]
    Details {
        /// The language.
        language: Language,
        /// Why.
        #[source]
        source: images::rootfs::ReadDetailsError,
    },
    /// There is no kernel bundle, or one that cannot be used.
    #[error("the kernel bundle cannot be used")]
    Kernel(#[source] images::OpenKernelError),
    /// The kernel bundle holds the guest agent of another release.
    #[error("the kernel bundle was made by another release")]
    OldKernel,
    /// There is no snapshot of this size.
    #[error("there is no snapshot with {} MiB and {} vCPUs", .machine.memory_mib, .machine.vcpus)]
    Snapshot {
        /// The language.
        language: Language,
        /// The size.
        machine: MachineSpec,
    },
    /// The snapshot's manifest cannot be used.
    #[error("the snapshot cannot be used")]
    Manifest {
        /// The language.
        language: Language,
        /// The size.
        machine: MachineSpec,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The snapshot does not fit what there is now.
    #[error("the snapshot cannot be used")]
    Mismatch {
        /// The language.
        language: Language,
        /// The size.
        machine: MachineSpec,
        /// Why.
        #[source]
        source: Mismatch,
    },
    /// The snapshot could not be checked.
    #[error("the snapshot cannot be checked")]
    Verify(#[source] VerifyError),
    /// The VMM has no snapshots.
    #[error("the VMM has no snapshots")]
    Unsupported,
}

impl NotPrepared {
    /// The command that mends it.
    pub fn command(&self) -> String {
        match self {
            Self::Image { language, .. } | Self::Details { language, .. } => {
                format!("infra.operator rootfs create --lang {language}")
            }
            Self::Kernel(_) | Self::OldKernel => "infra.operator setup".to_owned(),
            Self::Snapshot { language, machine }
            | Self::Manifest { language, machine, .. }
            | Self::Mismatch { language, machine, .. } => create_command(language, *machine),
            Self::Verify(_) | Self::Unsupported => "infra.operator doctor".to_owned(),
        }
    }
}

/// The command that makes a snapshot.
pub(crate) fn create_command(language: &Language, machine: MachineSpec) -> String {
    let MachineSpec { memory_mib, vcpus } = machine;
    format!("infra.operator snapshot create --lang {language} --mem {memory_mib} --vcpus {vcpus}")
}

impl RunError {
    /// The error as the page has it, with its code.
    pub fn page(&self, trace_id: &str) -> String {
        match self {
            Self::NotPrepared { language, source } => {
                format!("E009: language not prepared: {language} (run: {})", source.command())
            }
            Self::Slot(SlotError::TimedOut { .. })
            | Self::Guest { source: GuestError::TimedOut { .. }, .. }
            | Self::Control { source: ControlError::TimedOut { .. }, .. }
            | Self::Boot(BootError::Control { source: ControlError::TimedOut { .. }, .. })
            | Self::Restore(RestoreError::Control { source: ControlError::TimedOut { .. }, .. }) => {
                "E001: operation timed out".to_owned()
            }
            error => match error.shortage() {
                Some(shortage) => format!("E008: server busy: this host is out of {shortage}"),
                None => format!("E010: internal error (trace id {trace_id})"),
            },
        }
    }

    /// Whether another boot would do: this one's kernel could not measure its timer.
    pub(crate) fn is_of_the_timer(&self) -> bool {
        matches!(self, Self::Guest { source: GuestError::Timer { .. }, .. })
    }

    /// What became of the microVM, of one of which that is known.
    pub(crate) fn into_fate(self) -> Fate {
        match self {
            Self::Control { fate, .. } | Self::Guest { fate, .. } | Self::SnapshotChanged { fate, .. } => {
                fate
            }
            _ => Fate::default(),
        }
    }

    /// What the host has run out of, where that is why.
    pub fn shortage(&self) -> Option<Shortage> {
        let jail = match self {
            Self::Boot(BootError::Launch(LaunchError::Jail { .. }))
            | Self::Restore(RestoreError::Launch(LaunchError::Jail { .. })) => true,
            Self::Boot(_) | Self::Restore(_) | Self::Slot(SlotError::Io { .. }) => false,
            _ => return None,
        };
        Shortage::of(self, jail)
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        if let Some(shortage) = self.shortage() {
            return Some(shortage.hint().to_owned());
        }
        match self {
            Self::SnapshotChanged { remedy, .. } => Some(format!("run: {remedy}")),
            Self::NotPrepared { source, .. } => Some(format!("run: {}", source.command())),
            Self::Slot(SlotError::Io { .. }) => Some(
                "the data directory may be another user's: work as that user, or name one of your own with --data-dir"
                    .to_owned(),
            ),
            Self::Slot(_) => Some("fewer at a time, or more slots: see LLM_FIRECRACKER_SLOTS".to_owned()),
            Self::Boot(_) | Self::Restore(_) => Some("infra.operator doctor says what is wrong".to_owned()),
            Self::Guest { source: GuestError::Timer { .. }, .. } => Some(
                "fewer microVMs at a time (see LLM_FIRECRACKER_SLOTS), or try again when this host is less busy"
                    .to_owned(),
            ),
            Self::Guest { .. } | Self::Control { .. } => None,
        }
    }
}

/// Why a snapshot was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateSnapshotError {
    /// The microVM that was to be saved, or the clone that was to prove the snapshot, failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The snapshot could not be stored.
    #[error("cannot store the snapshot")]
    Catalogue(#[source] CatalogueError),
    /// The microVM could not be saved.
    #[error("cannot save the microVM")]
    Save(#[source] SaveError),
    /// A file could not be read back.
    #[error("cannot read the snapshot back")]
    Digest(#[source] images::DigestError),
    /// There is less disk than it needs.
    #[error("{} has {free_mib} MiB free, the snapshot may need {needed_mib} MiB", .path.display())]
    DiskFull {
        /// Where it was to be.
        path: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What it may need.
        needed_mib: u64,
    },
    /// The finished snapshot was tried, and did not work.
    #[error("the finished snapshot answered wrongly: {answer}")]
    Proof {
        /// What came instead of the right answer.
        answer: String,
    },
}

impl CreateSnapshotError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run(error) => error.hint(),
            Self::Catalogue(CatalogueError::Locked { .. }) => {
                Some("wait for the other command to finish".to_owned())
            }
            Self::Catalogue(CatalogueError::Io { path, .. }) => {
                Some(format!("check that {} can be written, and that its disk is not full", path.display()))
            }
            Self::Save(SaveError::File { .. }) | Self::DiskFull { .. } => {
                Some("free some disk space, or choose another --data-dir".to_owned())
            }
            Self::Save(_) => Some("infra.operator doctor says what is wrong".to_owned()),
            Self::Digest(error) => error.hint(),
            Self::Proof { .. } => Some("this is a defect: please report it".to_owned()),
        }
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The end of what guest and VMM printed, as part of an error.
fn context(last_words: &str) -> String {
    match last_words.trim() {
        "" => String::new(),
        said => format!(" (last words: {})", printable(said)),
    }
}
