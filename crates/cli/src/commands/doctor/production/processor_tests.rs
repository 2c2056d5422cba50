//! Each verdict on the processor, from made-up hosts and with the kernel's own words.

use super::{
    super::{
        super::finding::Status,
        fake::{Host, ROOT, VULNERABILITIES, assert_ok, assert_unknown, assert_warns},
    },
    *,
};

const VIRTUAL: &str = "vendor_id : AuthenticAMD\nmicrocode : 0x1000065\nflags : fpu svm hypervisor lahf_lm\n";

fn amd(lines: &str) -> Host {
    Host::good().with("proc/cpuinfo", &format!("vendor_id : AuthenticAMD\nflags : fpu svm\n{lines}"))
}

fn with_vulnerability(name: &str, text: &str) -> Host {
    Host::good().with(&format!("{VULNERABILITIES}/{name}"), text)
}

#[test]
fn a_virtual_machine_hides_the_real_one() {
    assert_ok(&bare_metal(&Host::good().facts(), &ROOT), "no virtual one");
    let nested = Host::good().with("proc/cpuinfo", VIRTUAL);
    assert_warns(&bare_metal(&nested.facts(), &ROOT), "a virtual one", "whole machine");
    assert_unknown(&bare_metal(&Host::good().with("proc/cpuinfo", "Features : fp\n").facts(), &ROOT));
    assert_unknown(&bare_metal(&Host::mute().facts(), &ROOT));
}

#[test]
fn smt_is_on_off_or_not_known() {
    let judged =
        |active: &str| smt(&Host::good().with("sys/devices/system/cpu/smt/active", active).facts(), &ROOT);
    assert_ok(&judged("0\n"), "control: forceoff");
    assert_warns(&judged("1\n"), "is on", "echo off > /sys/devices/system/cpu/smt/control");
    assert_unknown(&judged("?"));
    assert_unknown(&smt(&Host::mute().facts(), &ROOT));
}

#[test]
fn the_kernels_words_are_understood() {
    use State::{Closed, Open, Unknown};
    for (text, state, across_threads) in [
        ("Not affected", Closed, false),
        ("Mitigation: PTI", Closed, false),
        ("Mitigation: Clear CPU buffers; SMT disabled", Closed, false),
        ("Mitigation: Clear CPU buffers; SMT vulnerable", Closed, true),
        ("Mitigation: PTE Inversion; VMX: conditional cache flushes, SMT vulnerable", Closed, true),
        ("Mitigation: PTE Inversion; VMX: vulnerable", Open, false),
        ("Mitigation: untrained return thunk; SMT enabled with STIBP protection", Closed, false),
        ("Mitigation: Retpolines; STIBP: disabled; RSB filling; BHI: Not affected", Closed, false),
        (
            "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; BHI: Vulnerable, KVM: SW loop",
            Open,
            false,
        ),
        ("Vulnerable", Open, false),
        ("Vulnerable: Safe RET, no microcode", Open, false),
        ("Vulnerable; SMT vulnerable", Open, true),
        ("Vulnerable: Clear CPU buffers attempted, no microcode; SMT vulnerable", Open, true),
        ("KVM: Vulnerable", Open, false),
        ("Processor vulnerable", Open, false),
        ("KVM: Mitigation: VMX unsupported", Closed, false),
        ("Unknown: Dependent on hypervisor status", Unknown, false),
        ("Mitigation: Clear CPU buffers; SMT Host state unknown", Unknown, false),
        ("", Unknown, false),
        ("All is well", Unknown, false),
    ] {
        assert_eq!(leak(text), Leak { state, across_threads }, "{text}");
    }
}

#[test]
fn each_open_vulnerability_is_a_finding_and_what_smt_leaves_open_is_one_more() {
    let good = vulnerabilities(&Host::good().facts(), &ROOT);
    assert_eq!(good.len(), 1);
    assert_ok(&good[0], "none of the 3 known ones");
    let bad = with_vulnerability("meltdown", "Vulnerable")
        .with(&format!("{VULNERABILITIES}/mds"), "Vulnerable; SMT vulnerable")
        .with(&format!("{VULNERABILITIES}/retbleed"), "Mitigation: untrained return thunk; SMT vulnerable")
        .with(&format!("{VULNERABILITIES}/srbds"), "Unknown: Dependent on hypervisor status");
    let findings = vulnerabilities(&bad.facts(), &ROOT);
    let names: Vec<_> = findings.iter().map(|finding| finding.name.as_str()).collect();
    assert_eq!(
        names,
        ["vulnerability mds", "vulnerability meltdown", "vulnerabilities by smt", "vulnerabilities"]
    );
    assert!(findings.iter().all(|finding| finding.status == Status::Warning && finding.fix.is_some()));
    assert_warns(&findings[2], "one core: mds, retbleed", "smt/control");
    assert_warns(&findings[3], "unknown: whether mitigated: srbds", "grep");
}

#[test]
fn vulnerabilities_that_cannot_be_read_are_unknown() {
    let unreadable = Host::good().with(&format!("{VULNERABILITIES}/tsa/a-directory"), "");
    assert_warns(&vulnerabilities(&unreadable.facts(), &ROOT)[0], "unknown: whether mitigated: tsa", "");
    assert_unknown(&vulnerabilities(&Host::mute().facts(), &ROOT)[0]);
    let none = Host::good().without(VULNERABILITIES).with(&format!("{VULNERABILITIES}/x"), "");
    assert_unknown(&vulnerabilities(&none.without(&format!("{VULNERABILITIES}/x")).facts(), &ROOT)[0]);
}

#[test]
fn a_vulnerability_is_closed_by_what_opened_it() {
    let fix = |name: &str, text: &str, command_line: &str| {
        let host = with_vulnerability(name, text).with("proc/cmdline", command_line);
        mitigation(name, text, &host.facts(), &ROOT)
    };
    for (name, text, command_line, part) in [
        ("mds", "Vulnerable", "quiet mitigations=off", "take mitigations=off out"),
        ("mds", "Vulnerable", "mitigations=auto,no_guest_guest", "boot anew; if it stays"),
        ("mds", "Vulnerable", "mitigations=auto,nosmt mds=off", "take mds=off out"),
        ("mds", "Vulnerable", "mitigations=auto,nosmt retbleed=off", "mds=full on its command line"),
        ("meltdown", "Vulnerable", "nopti", "take nopti out"),
        ("spectre_v1", "Vulnerable: no swapgs barriers", "nospectre_v1", "take nospectre_v1 out"),
        ("itlb_multihit", "KVM: Vulnerable", "kvm.nx_huge_pages=never", "take kvm.nx_huge_pages=never out"),
        ("itlb_multihit", "KVM: Vulnerable", "", "kvm.nx_huge_pages=auto on"),
        ("l1tf", "Vulnerable", "", "l1tf=full on"),
        ("l1tf", "Mitigation: PTE Inversion; VMX: vulnerable", "", "kvm-intel.vmentry_l1d_flush=cond on"),
        (
            "l1tf",
            "Mitigation: PTE Inversion; VMX: vulnerable",
            "kvm_intel.vmentry_l1d_flush=never",
            "take kvm_intel.vmentry_l1d_flush=never out",
        ),
        ("spectre_v1", "Vulnerable", "", "boot a current kernel, with current microcode"),
        ("of_tomorrow", "Vulnerable", "", "boot a current kernel, with current microcode"),
        ("srbds", "Vulnerable: No microcode", "", "install --no-install-recommends intel-microcode"),
        ("old_microcode", "Vulnerable", "", "intel-microcode"),
    ] {
        let fix = fix(name, text, command_line);
        assert!(fix.contains(part), "{name}, {text}, {command_line}: {fix}");
    }
}

#[test]
fn microcode_is_known_the_same_everywhere_and_can_be_renewed() {
    let judged = |host: Host| microcode(&host.facts(), &ROOT);
    assert_ok(&judged(Host::good()), "revision 0x2b");
    let without = Host::good().without("lib/firmware/intel-ucode");
    assert_warns(&judged(without), "none that it could load", "intel-microcode");
    assert_warns(&judged(amd("microcode : 0x1\n")), "none that it could load", "amd64-microcode");
    assert_warns(&judged(amd("microcode : 0x1\nmicrocode : 0x2\n")), "0x1, 0x2", "amd64-microcode");
    assert_unknown(&judged(amd("")));
    assert_unknown(&judged(Host::mute()));
    let nested = Host::good().without("lib/firmware/intel-ucode").with("proc/cpuinfo", VIRTUAL);
    assert_ok(&judged(nested), "revision 0x1000065");
    let nested = mitigation(
        "tsa",
        "Vulnerable: No microcode",
        &Host::good().with("proc/cpuinfo", VIRTUAL).facts(),
        &ROOT,
    );
    assert!(nested.contains("beneath"), "{nested}");
    let foreign = Host::good().with("proc/cpuinfo", "vendor_id : CentaurHauls\nflags : fpu\n");
    assert_warns(&judged(foreign), "unknown", "firmware from the machine's vendor");
}
