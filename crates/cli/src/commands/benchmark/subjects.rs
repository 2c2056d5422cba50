//! What is measured: microVMs from their start to their answer, and what stands beside them.
//!
//! ```text
//! restore and first run   restore ─▶ run ─▶ end
//! warm run                restore ─▶ warm up ─▶ run ─▶ end
//! cold boot               boot ─▶ run ─▶ end
//! snapshot create         boot, prepare, save, try; in a scratch directory
//! native run              the host's own interpreter
//! host --snapshot         this program, as a user starts it
//! ```
//!
//! Each sample is taken in a microVM of its own, whose end is waited for: what it leaves to do is not to be measured
//! with the next sample.

use std::{fmt, sync::Arc, time::Instant};

use anyhow::{Context as _, anyhow};
use engine::{Engine, Job, LanguageSpec, Request, Session, Start};
use images::{GUEST_AGENT, Quiet};
use vmm::MachineSpec;

use super::{
    programs::{HostCommand, Native},
    sampling::Samples,
    scratch::Alone,
};
use crate::{
    failure::{Failure, OrFail as _},
    host::engine_over,
    settings::Global,
};

/// Names of the figures.
pub(super) mod figures {
    /// Whole `host --snapshot`, from process start to its end.
    pub(crate) const HOST_COMMAND: &str = "host --snapshot";
    /// From starting the VMM to the guest agent's answer.
    pub(crate) const RESTORE: &str = "restore";
    /// The same in a VMM that was started before.
    pub(crate) const STANDBY_RESTORE: &str = "restore, VMM waiting";
    /// From sending the job to having the answer, in a clone that has run nothing.
    pub(crate) const FIRST_RUN: &str = "first run";
    /// The same after a warm-up run.
    pub(crate) const WARM_RUN: &str = "warm run";
    /// The host's own interpreter, from process start to its end.
    pub(crate) const NATIVE_RUN: &str = "native run";
    /// The VMM's proportional memory after the handshake.
    pub(crate) const IDLE_MEMORY: &str = "memory, idle clone";
    /// The same where several idle clones share what they can.
    pub(crate) const SHARED_MEMORY: &str = "memory, each of 4 idle clones";
    /// The VMM's proportional memory after the first run.
    pub(crate) const USED_MEMORY: &str = "memory, after a run";
    /// The guest agent's program.
    pub(crate) const GUEST_AGENT: &str = "guest agent binary";
    /// From starting the VMM to the guest agent's answer.
    pub(crate) const COLD_BOOT: &str = "cold boot";
    /// From starting the VMM to the program's answer.
    pub(crate) const COLD_ANSWER: &str = "cold boot to answer";
    /// From the beginning until it is in its place.
    pub(crate) const SNAPSHOT_CREATE: &str = "snapshot create";
}

/// A program that says hello, and what it has to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello {
    pub(super) code: &'static str,
    pub(super) answer: &'static str,
}

/// The programs, by language.
const HELLOS: [(&str, Hello); 1] =
    [("python", Hello { code: "print('Hello, World!')\n", answer: "Hello, World!\n" })];

impl Hello {
    /// The one of `language`.
    pub(super) fn of(language: &LanguageSpec) -> Option<Self> {
        HELLOS.iter().find(|(name, _)| *name == language.name.as_str()).map(|(_, hello)| *hello)
    }
}

/// One thing to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    RestoreAndFirstRun,
    StandbyRestore,
    WarmRun,
    NativeRun,
    HostCommand,
    IdleTogether,
    ColdBoot,
    SnapshotCreate,
}

impl Subject {
    /// Those that take less than a second. The two that are compared stand side by side.
    pub(super) const QUICK: [Self; 5] =
        [Self::RestoreAndFirstRun, Self::StandbyRestore, Self::WarmRun, Self::NativeRun, Self::HostCommand];
    /// Those that take several.
    pub(super) const SLOW: [Self; 3] = [Self::IdleTogether, Self::ColdBoot, Self::SnapshotCreate];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RestoreAndFirstRun => "restore and first run",
            Self::StandbyRestore => figures::STANDBY_RESTORE,
            Self::WarmRun => figures::WARM_RUN,
            Self::NativeRun => figures::NATIVE_RUN,
            Self::HostCommand => figures::HOST_COMMAND,
            Self::IdleTogether => figures::SHARED_MEMORY,
            Self::ColdBoot => figures::COLD_BOOT,
            Self::SnapshotCreate => figures::SNAPSHOT_CREATE,
        })
    }
}

/// One language on this host, ready to be measured.
pub(super) struct Workload<'a> {
    global: &'a Global,
    alone: &'a Alone,
    engine: &'a Engine,
    hello: Hello,
    request: Request,
    machine: MachineSpec,
    native: Option<Native>,
    host_command: HostCommand,
}

impl<'a> Workload<'a> {
    /// For `language`.
    pub(super) fn new(
        global: &'a Global,
        alone: &'a Alone,
        engine: &'a Engine,
        language: &LanguageSpec,
        hello: Hello,
        machine: MachineSpec,
    ) -> Result<Self, Failure> {
        let code = hello.code.to_owned();
        let request =
            Request::from_code(language.name.as_str(), code, String::new(), None, engine.languages())
                .map_err(Failure::host)?;
        let native = Native::find(language, hello).map_err(Failure::host)?;
        let host_command = HostCommand::new(global, language, machine, hello).map_err(Failure::host)?;
        Ok(Self { global, alone, engine, hello, request, machine, native, host_command })
    }

    /// The native interpreter, where there is one.
    pub(super) fn native(&self) -> Option<&Native> {
        self.native.as_ref()
    }

    /// Takes what is no sample: the size of the guest agent.
    pub(super) fn measure_once(samples: &mut Samples) {
        samples.size(figures::GUEST_AGENT, GUEST_AGENT.len() as u64);
    }

    /// Takes one sample of `subject`.
    pub(super) async fn measure(&self, subject: Subject, samples: &mut Samples) -> Result<(), Failure> {
        match subject {
            Subject::RestoreAndFirstRun => self.restore_and_first_run(samples).await,
            Subject::StandbyRestore => self.standby_restore(samples).await,
            Subject::WarmRun => self.warm_run(samples).await,
            Subject::NativeRun => self.native_run(samples).await,
            Subject::HostCommand => {
                let took = self.host_command.run(self.hello).await.map_err(Failure::host)?;
                samples.time(figures::HOST_COMMAND, took);
                Ok(())
            }
            Subject::IdleTogether => self.idle_together(samples).await,
            Subject::ColdBoot => self.cold_boot(samples).await,
            Subject::SnapshotCreate => self.snapshot_create(samples).await,
        }
    }

    async fn restore_and_first_run(&self, samples: &mut Samples) -> Result<(), Failure> {
        let mut session = self.open(Start::Snapshot).await?;
        self.run(&mut session).await?;
        note_memory(figures::USED_MEMORY, &session, samples);
        let phases = session.end().await;
        samples.time(figures::RESTORE, phases.start());
        samples.time(figures::FIRST_RUN, phases.run);
        Ok(())
    }

    async fn standby_restore(&self, samples: &mut Samples) -> Result<(), Failure> {
        let standby = self.engine.stand_by(&self.request.language.name, self.machine).await.or_fail()?;
        let mut session = standby.restore().await.or_fail()?;
        self.run(&mut session).await?;
        let phases = session.end().await;
        samples.time(figures::STANDBY_RESTORE, phases.start());
        Ok(())
    }

    async fn warm_run(&self, samples: &mut Samples) -> Result<(), Failure> {
        let mut session = self.open(Start::Snapshot).await?;
        // Here and not before the first run, which it would delay: the guest settles meanwhile.
        note_memory(figures::IDLE_MEMORY, &session, samples);
        session.warm_up(&self.request.language).await.or_fail()?;
        self.run(&mut session).await?;
        let phases = session.end().await;
        samples.time(figures::WARM_RUN, phases.run);
        Ok(())
    }

    /// Proportional memory tells little of a clone that is alone: it counts all that it could share.
    async fn idle_together(&self, samples: &mut Samples) -> Result<(), Failure> {
        const CLONES: u32 = 4;
        if self.global.slots() < CLONES {
            samples.missing(figures::SHARED_MEMORY, &format!("this host has fewer than {CLONES} slots"));
            return Ok(());
        }
        let mut sessions = Vec::new();
        for _ in 0..CLONES {
            sessions.push(self.open(Start::Snapshot).await?);
        }
        for session in &sessions {
            note_memory(figures::SHARED_MEMORY, session, samples);
        }
        for session in sessions {
            session.end().await;
        }
        Ok(())
    }

    async fn native_run(&self, samples: &mut Samples) -> Result<(), Failure> {
        let Some(native) = &self.native else {
            let reason = format!("this host has no {}", self.request.language.command[0]);
            samples.missing(figures::NATIVE_RUN, &reason);
            return Ok(());
        };
        samples.time(figures::NATIVE_RUN, native.run(self.hello).await.map_err(Failure::host)?);
        Ok(())
    }

    async fn cold_boot(&self, samples: &mut Samples) -> Result<(), Failure> {
        let mut session = self.open(Start::Boot).await?;
        self.run(&mut session).await?;
        let phases = session.end().await;
        samples.time(figures::COLD_BOOT, phases.start());
        samples.time(figures::COLD_ANSWER, phases.start() + phases.run);
        Ok(())
    }

    async fn snapshot_create(&self, samples: &mut Samples) -> Result<(), Failure> {
        let scratch = self.alone.scratch()?;
        let engine = engine_over(scratch.data(), self.global)?;
        let since = Instant::now();
        engine.create_snapshot(&self.request.language, self.machine, Arc::new(Quiet)).await.or_fail()?;
        samples.time(figures::SNAPSHOT_CREATE, since.elapsed());
        Ok(())
    }

    async fn open(&self, start: Start) -> Result<Session, Failure> {
        self.engine.open(&self.request.language.name, self.machine, start).await.or_fail()
    }

    /// Runs the program, whose answer has to be right.
    async fn run(&self, session: &mut Session) -> Result<(), Failure> {
        let executions = session.run(&self.request, &Job::of("benchmark")).await.or_fail()?;
        match executions.first() {
            Some(execution) if execution.stdout.bytes.0 == self.hello.answer.as_bytes() => Ok(()),
            other => Err(Failure::host(anyhow!("the microVM answered wrongly: {other:?}"))),
        }
    }
}

/// Notes how much memory the VMM of `session` takes: pages that it shares with others in equal parts.
fn note_memory(name: &'static str, session: &Session, samples: &mut Samples) {
    match proportional_bytes(session.process_id()) {
        Ok(bytes) => samples.size(name, bytes),
        // Without the right to look into the VMM's process, there is still all the rest to be measured.
        Err(error) => samples.missing(name, &format!("{error:#}")),
    }
}

fn proportional_bytes(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    pss(&text).with_context(|| format!("{path} has no Pss"))
}

/// The line is `Pss:    12345 kB`, where kB are KiB.
fn pss(rollup: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use engine::Languages;

    use super::*;

    #[test]
    fn every_built_in_language_says_hello() {
        for language in Languages::built_in().iter() {
            assert!(Hello::of(language).is_some(), "{}", language.name);
        }
    }

    #[test]
    fn the_proportional_size_is_the_one_of_all_pages() {
        let rollup =
            "7f00-7fff ---p 00000000 00:00 0  [rollup]\nRss:   900 kB\nPss:   512 kB\nPss_Anon:  7 kB\n";
        assert_eq!(pss(rollup), Some(512 << 10));
        assert_eq!(pss("Rss: 1 kB\n"), None);
    }
}
