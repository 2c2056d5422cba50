//! Where it matters, and that all of it is said there.

use super::{
    super::{
        super::finding::Status,
        fake::{Host, ROOT, assert_ok},
    },
    *,
};

#[test]
fn it_matters_where_the_processor_executes_guests_or_is_meant_to() {
    let slow = KvmVerdict::Emulated { nanos_per_instruction: 2000 };
    for (verdict, chosen, expected) in [
        (KvmVerdict::Usable, None, true),
        (KvmVerdict::Missing, None, false),
        (slow.clone(), None, false),
        (KvmVerdict::Usable, Some(Acceleration::Tcg), false),
        (slow, Some(Acceleration::Kvm), true),
    ] {
        assert_eq!(matters(&verdict, chosen), expected, "{verdict}");
    }
}

#[test]
fn a_host_that_emulates_gets_a_single_finding_and_no_warning() {
    let findings = findings(None, &ROOT);
    assert_eq!(findings.len(), 1);
    assert_ok(&findings[0], "--accel kvm");
}

#[test]
fn a_good_host_gets_no_warning() {
    let findings = findings(Some(&Host::good().facts()), &ROOT);
    assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
    let names: Vec<_> = findings.iter().map(|finding| finding.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "machine",
            "smt",
            "vulnerabilities",
            "microcode",
            "ksm",
            "swap",
            "memory errors",
            "kernel series",
            "start of microVMs",
            "timer interrupts",
            "console",
        ]
    );
}

#[test]
fn a_host_that_tells_nothing_is_nowhere_ok_and_nothing_is_worse_than_a_warning() {
    let findings = findings(Some(&Host::mute().facts()), &ROOT);
    assert_eq!(findings.len(), 10);
    for finding in findings {
        assert_eq!(finding.status, Status::Warning, "{finding:?}");
        assert!(finding.detail.starts_with("unknown: ") && finding.fix.is_some(), "{finding:?}");
    }
}
