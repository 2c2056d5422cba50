//! What every backend does, whatever it is made of: one suite, run over all of them.
//!
//! A case is a promise of the traits in [`crate::backend`], tried on a real microVM. It panics where the promise is not
//! kept. What a backend does not have cannot be tried; the case then says so instead of passing in silence.
//!
//! For tests: behind the feature `conformance`, which no release has.

mod booting;
mod ending;
mod guest;
mod snapshots;
mod traces;

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::OnceCell;

use crate::{
    backend::Vmm,
    spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles},
};

/// How long a guest may take to boot: emulated, on a busy host.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backend that is tried, and what microVMs are made of.
pub struct Trial {
    vmm: Box<dyn Vmm>,
    machine: MachineSpec,
    parts: Parts,
    scratch: PathBuf,
    /// Microvms so far.
    count: AtomicU32,
    /// A snapshot, made by the first case that needs one.
    saved: OnceCell<SnapshotFiles>,
}

/// What a microVM is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// A kernel.
    pub vmlinux: PathBuf,
    /// An initramfs with the guest agent.
    pub initramfs: PathBuf,
    /// A rootfs image.
    pub rootfs: PathBuf,
}

/// What came of a case that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The promise is kept.
    Kept,
    /// There was nothing to be tried, for the backend has no such power.
    Absent(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Absent(power) => write!(f, "NOT TRIED: it has no {power}"),
        }
    }
}

/// A promise that is tried.
pub struct Case {
    /// The promise, as a sentence with `_` for blanks.
    pub name: &'static str,
    run: for<'a> fn(&'a Trial) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>,
}

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// The suite.
        pub const CASES: &[Case] = &[
            $(Case { name: stringify!($name), run: |trial| Box::pin($module::$name(trial)) }),*
        ];
    };
}

cases![
    booting::a_booted_guest_answers,
    booting::its_stream_is_given_once,
    booting::a_vmm_inherits_no_descriptor,
    booting::a_paused_guest_says_nothing_until_it_goes_on,
    booting::a_file_that_is_missing_is_named,
    booting::a_kernel_that_is_none_is_refused,
    ending::a_guest_that_shuts_down_is_told,
    ending::a_guest_that_panics_is_told,
    ending::a_vmm_that_is_killed_is_told,
    ending::a_vmm_that_crashes_is_told_from_one_that_was_killed,
    ending::nothing_is_left_of_what_was_killed,
    ending::nothing_is_left_of_what_was_dropped,
    snapshots::a_saved_guest_goes_on_in_a_clone,
    snapshots::clones_run_side_by_side_and_leave_the_snapshot_as_it_is,
    snapshots::files_that_are_there_are_not_saved_over,
    snapshots::a_memory_file_that_is_missing_is_named,
    snapshots::a_damaged_device_state_is_refused,
    snapshots::nothing_is_left_of_a_vmm_that_waited_in_vain,
];

impl Case {
    /// The case of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Tries it. Panics where the promise is not kept.
    pub async fn run(&self, trial: &Trial) -> Verdict {
        (self.run)(trial).await
    }
}

impl Trial {
    /// Of `vmm`, with files made in `scratch`, which must be an empty directory that this user owns.
    pub fn new(vmm: Box<dyn Vmm>, parts: Parts, scratch: PathBuf) -> Self {
        let machine = MachineSpec { memory_mib: 256, vcpus: 1 };
        Self { vmm, machine, parts, scratch, count: AtomicU32::new(0), saved: OnceCell::new() }
    }

    fn placement(&self) -> Placement {
        let slot = self.count.fetch_add(1, Ordering::Relaxed);
        Placement { name: format!("conformance-{}-{slot}", std::process::id()), slot }
    }

    fn boot_spec(&self) -> BootSpec {
        let Parts { vmlinux, initramfs, rootfs } = self.parts.clone();
        BootSpec { placement: self.placement(), machine: self.machine, vmlinux, initramfs, rootfs }
    }

    fn restore_spec(&self, files: SnapshotFiles) -> RestoreSpec {
        let rootfs = self.parts.rootfs.clone();
        RestoreSpec { placement: self.placement(), machine: self.machine, rootfs, files }
    }

    /// A path for a file of this name, in the directory for files.
    fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Paths of a snapshot to be made.
    fn snapshot_files(&self, name: &str) -> SnapshotFiles {
        let path = |kind: &str| self.scratch(&format!("{name}.{kind}"));
        SnapshotFiles { device_state: path("state"), memory: path("memory") }
    }
}
