//! `infra.operator doctor`: what this host has and lacks.
//!
//! [`look`] reads files and asks programs. What is found goes as plain facts to the pure functions of [`host`],
//! [`data`], [`snapshots`] and [`leftovers`], which judge: each gives a [`finding::Finding`], with the fix.
//! [`finding`] renders them, [`command`] prints. Nothing is mended here, and nothing is made but the notes that every command keeps.

mod command;
mod data;
mod finding;
mod fix;
mod host;
mod leftovers;
mod look;
mod snapshots;

pub(super) use self::command::{DoctorArgs, run};
