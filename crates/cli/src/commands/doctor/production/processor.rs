//! The processor: what its threads share, what it leaks, and its microcode.

use super::{
    super::{finding::Finding, fix::Shell},
    facts::ProductionFacts,
};

/// What the kernel says of a vulnerability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leak {
    state: State,
    /// Threads of one core leak to each other, whatever else is done.
    across_threads: bool,
}

/// Whether something is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The processor is not affected, or the kernel mitigates it.
    Closed,
    /// It is open, or in part.
    Open,
    /// The kernel does not know, or its words are not understood.
    Unknown,
}

/// The kernel's parameter against each vulnerability, with a value that turns it on, where there is one
/// (`Documentation/admin-guide/kernel-parameters.txt`).
const PARAMETERS: [(&str, &str, &str); 17] = [
    ("gather_data_sampling", "gather_data_sampling", ""),
    ("indirect_target_selection", "indirect_target_selection", "on"),
    ("itlb_multihit", "kvm.nx_huge_pages", "auto"),
    // The host's own page tables, and then what is flushed when a guest is entered.
    ("l1tf", "l1tf", "full"),
    ("l1tf", "kvm-intel.vmentry_l1d_flush", "cond"),
    ("mds", "mds", "full"),
    ("meltdown", "pti", "on"),
    ("mmio_stale_data", "mmio_stale_data", "full"),
    ("reg_file_data_sampling", "reg_file_data_sampling", "on"),
    ("retbleed", "retbleed", "auto"),
    ("spec_rstack_overflow", "spec_rstack_overflow", "safe-ret"),
    ("spec_store_bypass", "spec_store_bypass_disable", "prctl"),
    ("spectre_v1", "spectre_v1", ""),
    ("spectre_v2", "spectre_v2", "auto"),
    ("srbds", "srbds", ""),
    ("tsa", "tsa", "on"),
    ("tsx_async_abort", "tsx_async_abort", "full"),
];

/// Whether there is another kernel beneath this one, that hides what the other checks look at.
pub(super) fn bare_metal(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "machine";
    match &facts.cpuinfo {
        Err(untold) => untold.finding(NAME, shell),
        Ok(text) if field(text, "flags").is_none() => {
            Finding::unknown(NAME, "/proc/cpuinfo has no flags", "lscpu".to_owned())
        }
        Ok(text) if is_virtual(text) => {
            let detail =
                "a virtual one: SMT, microcode and memory of the one beneath cannot be seen from here";
            let fix = "use a whole machine, or have whoever runs the one beneath check these".to_owned();
            Finding::warning(NAME, detail, fix)
        }
        Ok(_) => Finding::ok(NAME, "no virtual one"),
    }
}

/// Threads that share a core.
pub(super) fn smt(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "smt";
    let control = facts.smt_control.as_deref().unwrap_or("unknown");
    match facts.smt_active.as_deref() {
        Ok("1") => Finding::warning(
            NAME,
            "is on: tenants on threads of one core can spy on each other",
            smt_off(shell),
        ),
        Ok("0") => Finding::ok(
            NAME,
            format!("no two threads that the kernel sees share a core (control: {control})"),
        ),
        Ok(other) => Finding::unknown(NAME, format!("smt/active says {other:?}"), smt_off(shell)),
        Err(untold) => untold.finding(NAME, shell),
    }
}

fn smt_off(shell: &Shell) -> String {
    let command = shell.as_root("sh -c 'echo off > /sys/devices/system/cpu/smt/control'");
    format!("{command}  # and nosmt on the kernel's command line")
}

/// Known vulnerabilities: one finding for each that is open, one for those that only SMT leaves open, one for those
/// of which nothing is known; or one that says that there are none.
pub(super) fn vulnerabilities(facts: &ProductionFacts, shell: &Shell) -> Vec<Finding> {
    const NAME: &str = "vulnerabilities";
    let all = match &facts.vulnerabilities {
        Ok(all) if !all.is_empty() => all,
        Ok(_) => {
            let fix = "boot a newer kernel".to_owned();
            return vec![Finding::unknown(NAME, "the kernel names none", fix)];
        }
        Err(untold) => return vec![untold.finding(NAME, shell)],
    };
    let (mut findings, mut across_threads, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (name, told) in all {
        let Ok(text) = told else {
            unknown.push(name.as_str());
            continue;
        };
        let Leak { state, across_threads: is_across } = leak(text);
        match state {
            State::Closed => {}
            State::Unknown => unknown.push(name),
            State::Open => findings.push(Finding::warning(
                format!("vulnerability {name}"),
                text.clone(),
                mitigation(name, text, facts, shell),
            )),
        }
        if is_across {
            across_threads.push(name.as_str());
        }
    }
    if !across_threads.is_empty() {
        let detail = format!("open between threads of one core: {}", across_threads.join(", "));
        findings.push(Finding::warning("vulnerabilities by smt", detail, smt_off(shell)));
    }
    if !unknown.is_empty() {
        let fix = "grep . /sys/devices/system/cpu/vulnerabilities/*".to_owned();
        findings.push(Finding::unknown(NAME, format!("whether mitigated: {}", unknown.join(", ")), fix));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(NAME, format!("none of the {} known ones is open", all.len())));
    }
    findings
}

/// What the words mean, of which the kernel has many (`arch/x86/kernel/cpu/bugs.c`): parts of a text are apart by
/// semicolons and commas, and any of them may be vulnerable.
fn leak(text: &str) -> Leak {
    let text = text.to_lowercase();
    let parts = || text.split([';', ',']).map(str::trim);
    let says = |part: &str, word: &str| part.split(|c: char| !c.is_alphanumeric()).any(|has| has == word);
    let is_about_threads = |part: &str| part.contains("smt vulnerable");
    let state = if parts().any(|part| says(part, "vulnerable") && !is_about_threads(part)) {
        State::Open
    } else if parts().any(|part| says(part, "unknown")) {
        State::Unknown
    } else if text.starts_with("not affected") || says(&text, "mitigation") {
        State::Closed
    } else {
        State::Unknown
    };
    Leak { state, across_threads: parts().any(is_about_threads) }
}

/// What closes one.
fn mitigation(name: &str, text: &str, facts: &ProductionFacts, shell: &Shell) -> String {
    let cpuinfo = facts.cpuinfo.as_deref().unwrap_or_default();
    if name == "old_microcode" || text.to_lowercase().contains("no microcode") {
        return newer_microcode(cpuinfo, shell);
    }
    let parameters = || PARAMETERS.into_iter().filter(|(file, ..)| *file == name);
    let command_line = facts.command_line.as_deref().unwrap_or_default();
    let turns_off = |word: &&str| {
        let word = word.replace("kvm_intel.", "kvm-intel.");
        word.strip_prefix("mitigations=")
            .is_some_and(|value| value.split(',').any(|choice| choice == "off" || choice.starts_with("no_")))
            || parameters().any(|(_, parameter, _)| {
                ["off", "never"].iter().any(|value| word == format!("{parameter}={value}"))
                    || word == format!("no{parameter}")
            })
    };
    if let Some(word) = command_line.split_whitespace().find(turns_off) {
        // Of a choice that leaves some mitigations on, it is not certain that it has turned this one off.
        let doubt = if word.contains("no_") { "; if it stays, load newer microcode" } else { "" };
        return format!("take {word} out of the kernel's command line and boot anew{doubt}");
    }
    let is_flush = |parameter: &str| parameter.contains("l1d_flush");
    let wants_flush = text.to_lowercase().contains("vmx: vulnerable");
    match parameters().find(|(_, parameter, value)| {
        !value.is_empty() && is_flush(parameter) == (name == "l1tf" && wants_flush)
    }) {
        Some((_, parameter, value)) => format!(
            "boot a current kernel with {parameter}={value} on its command line, and current microcode"
        ),
        None => "boot a current kernel, with current microcode".to_owned(),
    }
}

/// The processor's own program.
pub(super) fn microcode(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "microcode";
    let cpuinfo = match &facts.cpuinfo {
        Ok(text) => text,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let mut revisions: Vec<_> = fields(cpuinfo, "microcode").collect();
    revisions.sort_unstable();
    revisions.dedup();
    let fix = || newer_microcode(cpuinfo, shell);
    match *revisions {
        [] => Finding::unknown(NAME, "/proc/cpuinfo does not tell the revision", fix()),
        [revision] if is_virtual(cpuinfo) => {
            Finding::ok(NAME, format!("revision {revision}, if the machine beneath tells the truth"))
        }
        [revision]
            if field(cpuinfo, "vendor_id").is_some_and(|vendor| facts.microcode_for.contains(&vendor)) =>
        {
            Finding::ok(NAME, format!("revision {revision}"))
        }
        [revision] => {
            let detail = format!("revision {revision}, and the kernel has none that it could load");
            Finding::warning(NAME, detail, fix())
        }
        _ => {
            let detail = format!("processors have different revisions: {}", revisions.join(", "));
            Finding::warning(NAME, detail, fix())
        }
    }
}

fn newer_microcode(cpuinfo: &str, shell: &Shell) -> String {
    if is_virtual(cpuinfo) {
        return "have newer microcode loaded by the machine beneath this virtual one".to_owned();
    }
    let package = match field(cpuinfo, "vendor_id") {
        Some("GenuineIntel") => "intel-microcode",
        Some("AuthenticAMD") => "amd64-microcode",
        _ => return "install newer firmware from the machine's vendor and boot anew".to_owned(),
    };
    // Debian has them in its section non-free-firmware.
    format!("{}  # or newer firmware; then boot anew", shell.install(&[package]))
}

fn is_virtual(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// The first processor's field.
fn field<'a>(cpuinfo: &'a str, name: &'a str) -> Option<&'a str> {
    fields(cpuinfo, name).next()
}

/// All processors' fields of this name.
fn fields<'a>(cpuinfo: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
#[path = "processor_tests.rs"]
mod tests;
