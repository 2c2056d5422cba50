//! Each verdict on the host, from made-up facts.

use super::{super::finding::Status, *};

const ROOT: Shell = Shell { is_root: true, flags: String::new() };
const USER: Shell = Shell { is_root: false, flags: String::new() };

fn fix(finding: &Finding) -> &str {
    finding.fix.as_deref().unwrap_or("-")
}

#[test]
fn qemu_is_there_missing_too_old_or_broken() {
    let found = Installation { program: "/usr/bin/qemu-system-x86_64".into(), version: "7.2.22".to_owned() };
    let finding = qemu(Ok(found), false, true, &ROOT);
    assert_eq!(
        (finding.status, finding.detail.as_str()),
        (Status::Ok, "/usr/bin/qemu-system-x86_64 is version 7.2.22")
    );
    let missing = qemu(Err(ProbeError::Missing), false, true, &ROOT);
    assert_eq!((missing.status, fix(&missing)), (Status::Problem, "infra.operator setup"));
    let missing = qemu(Err(ProbeError::Missing), false, true, &USER);
    assert!(fix(&missing).starts_with("sudo apt-get install"), "{missing:?}");
    let elsewhere = qemu(Err(ProbeError::Missing), false, false, &ROOT);
    assert!(!fix(&elsewhere).contains("apt-get"), "{elsewhere:?}");
    let old = qemu(Err(ProbeError::TooOld { version: "5.2".to_owned() }), false, true, &ROOT);
    assert!(old.detail.contains("5.2 is too old") && fix(&old).contains("--qemu"), "{old:?}");
    let broken = ProbeError::Unknown { program: "/bin/false".into(), printed: String::new() };
    let named = qemu(Err(broken), true, true, &ROOT);
    assert_eq!(named.status, Status::Problem);
    assert!(fix(&named).contains("leave it"), "{named:?}");
}

fn facts(verdict: KvmVerdict) -> KvmFacts {
    KvmFacts { verdict, noted: None, chosen: None, module: Some("kvm_intel") }
}

#[test]
fn each_verdict_on_kvm_has_the_fix_that_would_help() {
    assert_eq!(kvm(&facts(KvmVerdict::Usable), &ROOT).status, Status::Ok);
    let slow = KvmVerdict::Emulated { nanos_per_instruction: 2000 };
    let cases = [
        (KvmVerdict::Missing, "sudo modprobe kvm_intel"),
        (KvmVerdict::Forbidden, "--groups kvm"),
        (KvmVerdict::Busy, "stop the other hypervisor"),
        (KvmVerdict::Broken { reason: "open".to_owned() }, "nested virtualization"),
        (slow, "-"),
    ];
    for (verdict, expected) in cases {
        let finding = kvm(&facts(verdict.clone()), &USER);
        assert_eq!(finding.status, Status::Warning, "{finding:?}");
        assert!(finding.detail.starts_with(&verdict.to_string()), "{finding:?}");
        assert!(fix(&finding).contains(expected), "{finding:?}");
    }
    let without = kvm(&KvmFacts { module: None, ..facts(KvmVerdict::Missing) }, &USER);
    assert!(fix(&without).contains("firmware"), "{without:?}");
    assert!(fix(&kvm(&facts(KvmVerdict::Forbidden), &ROOT)).contains("container"));
}

#[test]
fn kvm_that_was_chosen_and_cannot_be_used_is_a_problem() {
    let chosen = KvmFacts { chosen: Some(Acceleration::Kvm), ..facts(KvmVerdict::Missing) };
    assert_eq!(kvm(&chosen, &ROOT).status, Status::Problem);
}

#[test]
fn an_outdated_note_about_kvm_is_to_be_removed() {
    let noted = Some((KvmVerdict::Missing, "/d/run/host.json".into()));
    let finding = kvm(&KvmFacts { noted, ..facts(KvmVerdict::Usable) }, &ROOT);
    assert_eq!((finding.status, fix(&finding)), (Status::Warning, "rm /d/run/host.json"));
}

#[test]
fn kernels_before_5_14_or_without_user_notification_cannot_restore() {
    for (release, actions, expected) in [
        ("6.1.0-44-amd64", Some("kill_process user_notif allow"), Status::Ok),
        ("5.14.0", None, Status::Ok),
        ("6.18-rc1", None, Status::Ok),
        ("6.1.0", Some("kill allow"), Status::Problem),
        ("5.10.0-33-amd64", None, Status::Problem),
        ("", None, Status::Warning),
    ] {
        let finding = kernel(release, actions);
        assert_eq!(finding.status, expected, "{finding:?}");
        assert_eq!(finding.fix.is_some(), expected != Status::Ok);
    }
}

#[test]
fn missing_programs_are_a_warning_with_their_packages() {
    assert_eq!(programs(&[], &ROOT).status, Status::Ok);
    let finding = programs(&PROGRAMS[..3], &USER);
    assert_eq!(finding.status, Status::Warning);
    assert_eq!(fix(&finding), "sudo apt-get install --no-install-recommends mmdebstrap e2fsprogs");
    assert!(!fix(&programs(&PROGRAMS, &ROOT)).contains("apt-get"));
}

#[test]
fn memory_is_enough_for_the_usual_the_smallest_or_no_microvm() {
    for (mib, expected) in [
        (Some(24_000), Status::Ok),
        (Some(608), Status::Ok),
        (Some(607), Status::Warning),
        (Some(224), Status::Warning),
        (Some(223), Status::Problem),
        (None, Status::Warning),
    ] {
        assert_eq!(memory(mib).status, expected, "{mib:?}");
    }
}

#[test]
fn users_need_user_namespaces_and_root_its_capability() {
    let open = NamespaceFacts { most: Some(96_365), ..NamespaceFacts::default() };
    assert_eq!(namespaces(open, &USER).status, Status::Ok);
    let finding = namespaces(NamespaceFacts { unprivileged_clone: Some(0), ..open }, &USER);
    assert_eq!(finding.status, Status::Problem);
    assert_eq!(fix(&finding), "sudo sysctl --write kernel.unprivileged_userns_clone=1");
    assert_eq!(namespaces(NamespaceFacts { most: Some(0), ..open }, &USER).status, Status::Problem);
    assert_eq!(namespaces(NamespaceFacts { most: Some(0), ..open }, &ROOT).status, Status::Ok);
    let ubuntu = NamespaceFacts { apparmor_restricts: Some(1), ..open };
    assert_eq!(namespaces(ubuntu, &USER).status, Status::Warning);
    for (capabilities, expected) in [(0x1ff_ffff_ffff, Status::Ok), (0xa804_25fb, Status::Problem)] {
        let facts = NamespaceFacts { capabilities: Some(capabilities), ..open };
        assert_eq!(namespaces(facts, &ROOT).status, expected);
    }
}

#[test]
fn missing_cgroups_are_a_warning_for_root_alone() {
    assert_eq!(cgroups(true, &ROOT).status, Status::Ok);
    assert_eq!(cgroups(false, &USER).status, Status::Ok);
    assert_eq!(cgroups(false, &ROOT).status, Status::Warning);
}
