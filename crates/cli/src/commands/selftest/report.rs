//! What came of it: a line for each trial, and JSON.

use std::time::Duration;

use serde::Serialize;

use crate::{failure::Failure, output};

/// What came of one trial.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tried {
    /// Which.
    pub(super) name: String,
    /// How it was run.
    pub(super) way: &'static str,
    /// How its executions ended.
    pub(super) ended: Vec<String>,
    /// How long they took together, in milliseconds.
    pub(super) milliseconds: u64,
    /// What is wrong with that; nothing where all is as it has to be.
    pub(super) wrong: Vec<String>,
}

impl Tried {
    /// One of which nothing is known yet.
    pub(super) fn new(name: String, way: &'static str) -> Self {
        Self { name, way, ended: Vec::new(), milliseconds: 0, wrong: Vec::new() }
    }

    /// The same, and there was no answer for this reason.
    pub(super) fn failed(mut self, what: &str, error: &engine::RunError) -> Self {
        self.wrong.push(format!("{what}: {}", engine::chain(error)));
        self
    }

    /// Notes how long it took.
    pub(super) fn took(&mut self, time: Duration) {
        self.milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    }

    /// Notes how an execution ended, once for each way of ending.
    pub(super) fn ended(&mut self, end: String) {
        if !self.ended.contains(&end) {
            self.ended.push(end);
        }
    }

    /// Whether all is as it has to be.
    pub(super) fn passed(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Its line.
    pub(super) fn line(&self) -> String {
        let Self { name, way, ended, milliseconds, .. } = self;
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        let head = format!("{verdict:<6}  {name:<28}  {way:<5}  {milliseconds:>6} ms  {}", ended.join(", "));
        let wrong = self.wrong.iter().map(|wrong| format!("        {wrong}"));
        std::iter::once(head).chain(wrong).collect::<Vec<_>>().join("\n")
    }
}

/// All that was tried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Whether all is as it has to be.
    pub(super) passed: bool,
    /// The VMM and how it executes code.
    pub(super) vmm: String,
    /// How many trials there were, and how many failed.
    pub(super) tried: usize,
    pub(super) failed: usize,
    /// The attacks.
    pub(super) attacks: Vec<Tried>,
    /// The microVMs of one snapshot beside each other, where they were tried.
    pub(super) clones: Option<Tried>,
    /// What was left on the host.
    pub(super) left: Vec<String>,
}

impl Report {
    /// Of these trials.
    pub(super) fn new(vmm: String, attacks: Vec<Tried>, clones: Option<Tried>, left: Vec<String>) -> Self {
        let all = || attacks.iter().chain(&clones);
        let (tried, failed) = (all().count(), all().filter(|tried| !tried.passed()).count());
        Self { passed: failed == 0 && left.is_empty(), vmm, tried, failed, attacks, clones, left }
    }

    /// Prints the summary: what stands at the end of the lines, and what it is not worth where guests' processors are emulated.
    pub(super) fn summary(&self, is_emulated: bool) -> Result<(), Failure> {
        for left in &self.left {
            output::line(&format!("FAILED  left on the host: {left}"))?;
        }
        let Self { tried, failed, vmm, .. } = self;
        let host = if self.left.is_empty() {
            "the host is as it was before"
        } else {
            "something is left on the host"
        };
        if is_emulated {
            output::line(
                "emulated microVMs are a weaker wall than those with KVM, whatever is tried here: docs/threat-model.md",
            )?;
        }
        output::line(&format!("{tried} tried on {vmm}, {failed} failed; {host}"))
    }
}
