//! Memory: what it shares, where it is written to, and whether it corrects errors.

use super::{
    super::{finding::Finding, fix::Shell},
    facts::{ProductionFacts, Told},
};

/// Kernel samepage merging: the time that a write takes tells one tenant what is in another's memory.
pub(super) fn ksm(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "ksm";
    // 2 also separates what has been merged; ksmtuned, where there is one, would start it again.
    let fix = shell.as_root("sh -c 'echo 2 > /sys/kernel/mm/ksm/run'");
    let run = match &facts.ksm_run {
        Ok(run) => run,
        Err(untold) if untold.is_absent() && facts.has_sysfs => {
            return Finding::ok(NAME, "this kernel cannot merge equal pages");
        }
        Err(untold) => return untold.finding(NAME, shell),
    };
    match (run.as_str(), &facts.ksm_sharing) {
        ("1", _) => {
            let detail = "equal pages of tenants are merged, and timing tells which";
            Finding::warning(NAME, detail, format!("{fix}  # and: systemctl disable --now ksmtuned"))
        }
        ("2", _) => Finding::ok(NAME, "equal pages are not merged"),
        // Stopped, and what was merged before stays so.
        ("0", Ok(sharing)) if sharing == "0" => Finding::ok(NAME, "equal pages are not merged"),
        ("0", Ok(sharing)) => {
            Finding::warning(NAME, format!("stopped, but {sharing} pages are still merged"), fix)
        }
        ("0", Err(untold)) => untold.finding(NAME, shell),
        (other, _) => Finding::unknown(NAME, format!("/sys/kernel/mm/ksm/run says {other:?}"), fix),
    }
}

/// Swap: what a microVM had in memory, on a disk, after it is gone.
pub(super) fn swap(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "swap";
    let swaps = match &facts.swaps {
        Ok(swaps) => swaps,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let lasting: Vec<_> = swaps.iter().filter(|swap| swap.lasts).map(|swap| swap.path.as_str()).collect();
    if !lasting.is_empty() {
        let detail = format!("memory of microVMs may be written to {}, and stay there", lasting.join(", "));
        let fix = format!(
            "{}  # and take it out of /etc/fstab, or encrypt it with a key of each boot (crypttab: swap)",
            shell.as_root("swapoff --all")
        );
        return Finding::warning(NAME, detail, fix);
    }
    if swaps.is_empty() {
        return Finding::ok(NAME, "there is none");
    }
    let paths: Vec<_> = swaps.iter().map(|swap| swap.path.as_str()).collect();
    Finding::ok(NAME, format!("in memory or encrypted: {}", paths.join(", ")))
}

/// Memory that corrects errors, which is harder to change by reading next to it (Rowhammer). Nothing where no driver
/// of a memory controller tells: most machines without such memory have none.
pub(super) fn error_correction(modes: &[Told], shell: &Shell) -> Option<Finding> {
    const NAME: &str = "memory errors";
    if modes.is_empty() {
        return None;
    }
    if let Some(untold) = modes.iter().find_map(|mode| mode.as_ref().err()) {
        return Some(untold.finding(NAME, shell));
    }
    let modes: Vec<_> = modes.iter().flatten().map(String::as_str).collect();
    let fix = || {
        "turn error correction on in the firmware, or use memory that has it (ECC, with Target Row Refresh)"
            .to_owned()
    };
    Some(if modes.contains(&"None") {
        Finding::warning(NAME, "not corrected: a program may change others' memory (Rowhammer)", fix())
    } else if let Some(mode) = modes.iter().find(|mode| !mode.contains("EC")) {
        Finding::unknown(NAME, format!("a memory module detects them by {mode:?}"), fix())
    } else {
        Finding::ok(NAME, format!("detected and corrected ({})", modes[0]))
    })
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
