//! Programs that attack the guest they run in, or whoever runs in it next: those of `infra.operator selftest`, and what it says
//! of them.
//!
//! Here on QEMU with emulation; `make test-kvm` runs this very program on Firecracker and on QEMU with KVM.

use e2e::{TestHost, running::unused_cgroups};
use serde_json::Value;

/// What is tried where a machine is emulated in an emulated machine, whose time limits mean nothing: what may not be reached,
/// forged, left or killed, and how many clones its memory holds.
const IN_THE_LAB: [&str; 16] = [
    "--clones",
    "4",
    "--only",
    "reach",
    "--only",
    "kernel.c",
    "--only",
    "forge",
    "--only",
    "leaves",
    "--only",
    "kills",
    "--only",
    "output_held",
    "--only",
    "clones",
];

#[test]
fn every_attack_is_withstood_and_leaves_nothing() {
    let host = TestHost::prepared();
    let cgroups = unused_cgroups();
    let is_lab = std::env::var_os(e2e::PREPARED).is_some();
    let scope: &[&str] = if is_lab { &IN_THE_LAB } else { &["--at-once", "2"] };
    let ended = host.ended(&[&["selftest", "--json"], scope].concat());
    let report = ended.json();
    let failed = |tried: &&Value| tried["wrong"] != serde_json::json!([]);
    let attacks = report["attacks"].as_array().unwrap();
    let wrong: Vec<_> = attacks.iter().chain([&report["clones"]]).filter(failed).collect();
    assert!(wrong.is_empty() && report["left"] == serde_json::json!([]), "{wrong:#?} {:#?}", report["left"]);
    assert_eq!((ended.code, &report["passed"]), (0, &Value::Bool(true)), "{ended:?}");
    assert!(attacks.len() > if is_lab { 10 } else { 80 }, "only {} attacks", attacks.len());
    // Its own census says the same; but whoever takes that might be wrong.
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
    assert_eq!(host.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
    let left: Vec<_> = unused_cgroups().into_iter().filter(|group| !cgroups.contains(group)).collect();
    assert!(left.iter().all(|group| !group.to_string_lossy().contains("selftest-")), "{left:?}");
}

#[test]
fn what_is_tried_can_be_listed_and_chosen() {
    let host = TestHost::empty();
    let listed = host.ended(&["selftest", "--list", "--json"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let names: Vec<String> = listed
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    for expected in ["fork_bomb.py", "fork_bomb.sh", "fork_bomb.c", "traced.c exiting"] {
        assert!(names.iter().any(|name| name == expected), "no {expected} in {names:?}");
    }
    let ended = host.ended(&["selftest", "--list", "--only", "traced.c"]);
    assert_eq!(ended.stdout.lines().count(), 3, "{ended:?}");
    let ended = host.ended(&["selftest", "--only", "no such attack"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("hint: infra.operator selftest --list"), "{ended:?}");
}

#[test]
fn a_host_that_cannot_be_tried_says_what_is_missing() {
    let host = TestHost::empty();
    let ended = host.ended(&["selftest", "--only", "calm", "--only", "kernel.c"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (3, ""), "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    assert!(ended.stderr.contains("infra.operator"), "{ended:?}");
}
