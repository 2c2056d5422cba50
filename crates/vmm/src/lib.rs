//! Starts, stops, snapshots and restores one microVM, under any VMM.
//!
//! [`backend`] holds the traits that every backend implements, [`firecracker`] and [`qemu`] the backends, [`jail`] what every
//! VMM process is locked into, [`kvm`] the question whether this host's KVM is worth using. What runs inside the
//! guest, and which microVM serves which request, is not decided here.

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod firecracker;
mod first_line;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod jail;
pub mod kvm;
pub mod qemu;
pub mod spec;
mod sys;

pub use backend::{
    BootError, ControlError, Exit, MicroVm, Pausing, RestoreError, Restored, SavableVm, SaveError, Snapshots,
    StandbyVmm, Vmm, VmmIdentity, printable,
};
pub use spec::{BootSpec, MachineSpec, Placement, RestoreSpec, SnapshotFiles};
