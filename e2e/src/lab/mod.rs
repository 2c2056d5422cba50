//! A host with KVM inside an emulated machine, for machines that have none.
//!
//! ```text
//! this machine ── QEMU, TCG, AMD-V emulated ──▶ the lab: Debian, /dev/kvm ──▶ microVMs under KVM
//!                 disk 1: Debian, made once            disk 2: what is tried, at /lab
//! ```
//!
//! It is slow, and no measure of speed: everything in a microVM is emulated twice. It shows what is right and wrong.

mod disk;
mod machine;

pub use self::{
    disk::LabDisk,
    machine::{Ended, Lab, Processor, Stage},
};
