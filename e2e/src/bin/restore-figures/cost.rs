//! Restores, one after the other: how long each phase takes, and whose processor time it is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use engine::{Engine, Job, Phases, Session};

use crate::{
    backend::{Backend, HELLO, MACHINE, python, request, runtime},
    processes::{Family, own_processor_time, processor_time},
};

/// Samples of restores, with a VMM that is started for each, and with one that was waiting.
pub(crate) struct Samples {
    pub(crate) started: Vec<Sample>,
    pub(crate) waiting: Vec<Sample>,
}

/// The most processor time of ours for a restore in a VMM that was waiting.
pub(crate) const BAR: Duration = Duration::from_millis(2);

impl Samples {
    /// Whether the median restore in a VMM that was waiting takes no more than it may.
    pub(crate) fn are_within_bar(&self) -> bool {
        let mut ours: Vec<_> = self.waiting.iter().map(|sample| sample.host + sample.supervisor).collect();
        ours.sort();
        ours.get(ours.len() / 2).is_some_and(|median| *median <= BAR)
    }
}

/// One restore, and Hello World in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) phases: Phases,
    /// Processor time of the process that asks, until the microVM was ready for its job.
    pub(crate) host: Duration,
    /// Of the supervisor, and of the keeper where there is one.
    pub(crate) supervisor: Duration,
    /// Of the VMM: its jailer, itself and its guest.
    pub(crate) vmm: Duration,
}

pub(crate) fn samples(backend: &Backend, runs: u32) -> Result<Samples> {
    let (runtime, engine) = (runtime()?, backend.engine()?);
    runtime.block_on(async {
        let mut samples = Samples { started: Vec::new(), waiting: Vec::new() };
        // Not measured: files come into the page cache.
        started(&engine).await?;
        for _ in 0..runs {
            samples.started.push(started(&engine).await?);
            samples.waiting.push(waiting(&engine).await?);
        }
        Ok(samples)
    })
}

async fn started(engine: &Engine) -> Result<Sample> {
    let before = own_processor_time();
    let session = engine.open(&python().name, MACHINE, engine::Start::Snapshot).await?;
    let host = own_processor_time().saturating_sub(before);
    let family = Family::of(session.process_id());
    let (supervisor, vmm) = (family.processor_time(), processor_time(family.vmm));
    ensure!(!supervisor.is_zero(), "the host's kernel keeps no schedstat: there is nothing to be measured");
    Ok(Sample { host, supervisor, vmm, phases: answered(session).await? })
}

async fn waiting(engine: &Engine) -> Result<Sample> {
    let standby = engine.stand_by(&python().name, MACHINE).await?;
    let family = Family::of(standby.process_id());
    let (supervisor_before, vmm_before) = (family.processor_time(), processor_time(family.vmm));
    let before = own_processor_time();
    let session = standby.restore().await?;
    let host = own_processor_time().saturating_sub(before);
    let supervisor = family.processor_time().saturating_sub(supervisor_before);
    let vmm = processor_time(family.vmm).saturating_sub(vmm_before);
    Ok(Sample { host, supervisor, vmm, phases: answered(session).await? })
}

/// Runs Hello World, whose answer has to be right, and ends the microVM.
pub(crate) async fn answered(mut session: Session) -> Result<Phases> {
    let executions = session.run(&request(), &Job::of("figures")).await?;
    let phases = session.end().await;
    let execution = executions.first().context("there is no execution")?;
    ensure!(execution.stdout.bytes.0 == HELLO.1.as_bytes(), "it answered {execution:?}");
    Ok(phases)
}
