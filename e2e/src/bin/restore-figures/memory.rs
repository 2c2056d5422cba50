//! The memory of idle clones of one snapshot, each with its part of what all share.

use anyhow::{Context as _, Result};

use crate::{
    backend::{Backend, MACHINE, python, runtime},
    processes::{Family, proportional_kib},
};

/// How many clones there are at the same time.
const CLONES: [usize; 4] = [1, 2, 4, 8];

/// Memory of one clone among several, in KiB.
pub(crate) struct Memory {
    pub(crate) clones: usize,
    /// Of its VMM.
    pub(crate) vmm: u64,
    /// Of our processes for it.
    pub(crate) ours: u64,
}

pub(crate) fn proportional(backend: &Backend) -> Result<Vec<Memory>> {
    let (runtime, engine) = (runtime()?, backend.engine()?);
    CLONES
        .into_iter()
        .map(|clones| {
            runtime.block_on(async {
                let mut sessions = Vec::new();
                for _ in 0..clones {
                    sessions.push(engine.open(&python().name, MACHINE, engine::Start::Snapshot).await?);
                }
                let (mut vmm, mut ours) = (0, 0);
                for session in &sessions {
                    let family = Family::of(session.process_id());
                    vmm += proportional_kib(family.vmm).context("cannot look into a VMM's memory")?;
                    ours += family.ours.iter().filter_map(|process| proportional_kib(*process)).sum::<u64>();
                }
                for session in sessions {
                    session.end().await;
                }
                let count = clones as u64;
                Ok(Memory { clones, vmm: vmm / count, ours: ours / count })
            })
        })
        .collect()
}
