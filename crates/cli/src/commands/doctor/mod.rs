//! `infra.operator doctor`: what this host has and lacks.
//!
//! [`look`] reads files and asks programs. What is found goes as plain facts to the pure functions of [`host`],
//! [`data`], [`snapshots`] and [`leftovers`], which judge: each gives a [`finding::Finding`], with the fix.
//! [`production`] is the same in small, for a host that tenants share.
//! [`finding`] renders them, [`command`] prints. Nothing is mended here, and nothing is made but the notes that every command keeps.

mod command;
mod data;
mod finding;
mod fix;
mod host;
mod leftovers;
mod look;
mod production;
mod snapshots;

pub(super) use self::command::{DoctorArgs, run};
