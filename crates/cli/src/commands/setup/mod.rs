//! `infra.operator setup`: everything that this host needs besides this program.
//!
//! [`command`] is the command, the other modules are its parts, each of which does nothing where all is there.

mod command;
mod firecracker;
mod kernel;
mod packages;

pub(crate) use command::SetupArgs;
pub(super) use command::{kernel_bundle, run};
