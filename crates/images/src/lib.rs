//! Kernel bundles and rootfs images: everything on disk that a microVM boots from.
//!
//! * [`kernel`] gets an ELF `vmlinux` out of a distribution's `bzImage`.
//! * [`modules`] collects the kernel modules that the guest needs, in load order.
//! * [`initramfs`] packs the guest agent and those modules into a cpio archive.
//! * [`bundle`] is the directory in which the three are kept.
//! * [`oci`] pulls images of others and makes rootfs images of them.
//! * [`rootfs`] makes and lists the ext4 images that programs run in.
//! * [`digest`], [`progress`] and [`staging`] serve the others, and who else puts something in place.
//!
//! It does not start microVMs, choose languages, or talk to object storage. The code blocks, but for what speaks to
//! registries: asynchronous callers run it on a blocking thread.

pub mod bundle;
pub mod compression;
mod debian_kernel;
pub mod digest;
mod elf;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod oci;
mod program;
pub mod progress;
pub mod rootfs;
pub mod staging;

pub use bundle::{BundleManifest, KernelBundle, KernelSource, OpenKernelError, PrepareKernelError};
pub use debian_kernel::DebianKernelError;
pub use digest::{DigestError, ParseDigestError, Sha256Digest, Sha256Hasher};
pub use initramfs::GUEST_AGENT;
pub use program::ProgramError;
pub use progress::{Progress, Quiet};
