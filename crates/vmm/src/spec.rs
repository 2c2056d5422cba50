//! What a microVM is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The size of a microVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Guest memory, in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
}

/// Where on the host a microVM lives: what must differ between two that run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// A name, unique among the microVMs that run on the host: letters, digits and `-`.
    pub name: String,
    /// A small number, unique among the microVMs that run on the host. It chooses the VMM's user.
    pub slot: u32,
}

/// A microVM to be booted.
#[derive(Clone, Debug)]
pub struct BootSpec {
    /// Where it lives.
    pub placement: Placement,
    /// Its size.
    pub machine: MachineSpec,
    /// The kernel, an ELF `vmlinux` with a PVH entry point.
    pub vmlinux: PathBuf,
    /// The initramfs that holds the guest agent.
    pub initramfs: PathBuf,
    /// The rootfs image, attached read-only.
    pub rootfs: PathBuf,
}

/// A microVM to be restored from a snapshot.
#[derive(Clone, Debug)]
pub struct RestoreSpec {
    /// Where it lives.
    pub placement: Placement,
    /// The size that it was saved with.
    pub machine: MachineSpec,
    /// The rootfs image that it was saved with, attached read-only.
    pub rootfs: PathBuf,
    /// What it was saved to.
    pub files: SnapshotFiles,
}

/// The files that hold a paused microVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFiles {
    /// Device and processor state.
    pub device_state: PathBuf,
    /// Guest memory, as long as the memory is large, with holes where it was never written.
    pub memory: PathBuf,
}
