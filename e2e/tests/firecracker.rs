//! Firecracker's backend as the product's own commands use it, over the stand-in for Firecracker and its jailer.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use e2e::{TestHost, stand_in, wiring};
use engine::{Job, Languages, Request, Start};
use serde_json::json;
use vmm::{MachineSpec, Placement, RestoreSpec, SnapshotFiles, Snapshots as _};

const HELLO: &str = "print('Hello, World!')";

/// How the stand-in logs a request, as Firecracker does.
const REQUEST: &str = "The API server received a request: ";

fn with_stand_in() -> TestHost {
    let program = stand_in::installation().program;
    with_firecracker(&program)
}

fn with_firecracker(program: &Path) -> TestHost {
    let program = program.to_string_lossy();
    // Its KVM is not used, and may be none.
    let options = ["--vmm", "firecracker", "--accel", "kvm", "--firecracker-bin", &program];
    TestHost::with_image().copy().with_options(&options)
}

#[test]
fn a_program_runs_in_a_clone_and_details_have_the_vmms_metrics() {
    let host = with_stand_in();
    host.expect_done(&["snapshot", "create", "--lang", "python"]);
    let ended = host.ended(&["host", "--snapshot", "--lang", "python", "--code", HELLO, "-vv"]);
    assert_eq!((ended.code, &ended.json()["stdout"]), (0, &json!("Hello, World!\n")), "{ended:?}");
    assert!(ended.stderr.contains("what the VMM reports of itself"), "{}", ended.stderr);
    assert!(ended.stderr.contains("latencies_us"), "{}", ended.stderr);
    // Nobody is asked for what nobody wants to know.
    let ended = host.ended(&["host", "--snapshot", "--lang", "python", "--code", HELLO]);
    assert!(!ended.stderr.contains("latencies_us"), "{}", ended.stderr);
    assert_eq!(host.processes().unwrap(), Vec::<String>::new());
}

#[test]
fn a_restore_is_one_request_to_a_firecracker_that_waits() {
    let host = with_stand_in();
    let machine = MachineSpec { memory_mib: 256, vcpus: 1 };
    host.expect_done(&["snapshot", "create", "--lang", "python", "--mem", "256"]);
    let snapshot = host.data().join("snapshots/python/256m-1c");
    let firecracker = wiring::firecracker(stand_in::installation(), None);
    let spec = RestoreSpec {
        placement: Placement { name: "one-request".to_owned(), slot: 0 },
        machine,
        rootfs: host.image(),
        files: SnapshotFiles {
            device_state: snapshot.join("vmstate.snapshot"),
            memory: snapshot.join("mem.snapshot"),
        },
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(async {
        let standby = firecracker.start(&spec).await.unwrap();
        let mut vm = standby.load().await.unwrap().vm;
        // Its end is the end of what it says.
        vm.kill().await;
        vm.wait().await;
        vm.last_words()
    });
    let requests: Vec<_> = said.lines().filter_map(|line| line.strip_prefix(REQUEST)).collect();
    // The first two before there is anything to be restored.
    assert_eq!(requests, ["PUT /serial", "PUT /logger", "PUT /snapshot/load"], "{said}");
}

#[test]
fn a_batch_is_answered_in_one_clone() {
    let host = with_stand_in();
    host.expect_done(&["snapshot", "create", "--lang", "python"]);
    let engine = host.engine_over(wiring::firecracker(stand_in::installation(), None));
    let request = json!({ "language": "python", "code": HELLO, "stdin": ["a", "b", "c"] }).to_string();
    let request = Request::from_json(request.as_bytes(), &Languages::built_in()).unwrap();
    let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answers = runtime.block_on(async {
        let mut session = engine.open(&request.language.name, machine, Start::Snapshot).await.unwrap();
        let answers = session.run(&request, &Job::of("test")).await.unwrap();
        session.end().await;
        answers
    });
    assert_eq!(answers.iter().map(|answer| answer.index).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_firecracker_that_is_too_old_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["firecracker", "jailer"] {
        let program = directory.path().join(name);
        fs::write(&program, "#!/bin/sh\necho Firecracker v1.15.1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let host = with_firecracker(&directory.path().join("firecracker"));
    let ended = host.ended(&["host", "--lang", "python", "--code", HELLO]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("Firecracker 1.15.1 is too old: 1.16.1 or newer is needed"), "{ended:?}");
    assert!(ended.stderr.contains("hint: install a newer one: infra.operator setup"), "{ended:?}");
}
