//! All of it, where it matters.

use vmm::kvm::KvmVerdict;

use super::{
    super::{finding::Finding, fix::Shell},
    facts::ProductionFacts,
    kernel, memory, processor,
};
use crate::config::Acceleration;

/// Whether guests run on the processor itself here, or are meant to. Where they are emulated this is somebody's desk
/// or build machine, and a dozen warnings would hide the one that counts.
pub(in super::super) fn matters(verdict: &KvmVerdict, chosen: Option<Acceleration>) -> bool {
    match chosen {
        Some(Acceleration::Kvm) => true,
        Some(Acceleration::Tcg) => false,
        None => verdict.is_usable(),
    }
}

/// The findings. `facts` are there where they matter.
pub(in super::super) fn findings(facts: Option<&ProductionFacts>, shell: &Shell) -> Vec<Finding> {
    let Some(facts) = facts else {
        let detail = "not looked at: microVMs are emulated here (doctor --accel kvm looks all the same)";
        return vec![Finding::ok("production host", detail)];
    };
    let mut findings = vec![processor::bare_metal(facts, shell), processor::smt(facts, shell)];
    findings.extend(processor::vulnerabilities(facts, shell));
    findings.extend([
        processor::microcode(facts, shell),
        memory::ksm(facts, shell),
        memory::swap(facts, shell),
    ]);
    findings.extend(memory::error_correction(&facts.error_correction, shell));
    findings.extend([
        kernel::series(facts, shell),
        kernel::start(facts, shell),
        kernel::timers(facts, shell),
        kernel::console(facts, shell),
    ]);
    findings
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
