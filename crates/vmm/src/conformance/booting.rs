//! Boots, and what cannot be booted.

use std::{
    fs::{self, File},
    time::Duration,
};

use super::{
    PATIENCE, Trial, Verdict,
    guest::{answered, booted, greet},
};
use crate::backend::{BootError, ControlError};

/// How long is waited for what should not come.
const A_WHILE: Duration = Duration::from_millis(500);

pub(super) async fn a_booted_guest_answers(trial: &Trial) -> Verdict {
    let (mut vm, _stream) = booted(trial).await;
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn its_stream_is_given_once(trial: &Trial) -> Verdict {
    let (mut vm, mut stream) = booted(trial).await;
    let again = vm.connect(PATIENCE).await;
    assert!(matches!(again, Err(ControlError::Connected)), "{again:?}");
    greet(&mut stream).await;
    assert!(answered(&mut stream, PATIENCE).await, "the first stream is gone");
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn a_paused_guest_says_nothing_until_it_goes_on(trial: &Trial) -> Verdict {
    let (mut vm, mut stream) = booted(trial).await;
    if vm.pausing().is_none() {
        vm.kill().await;
        return Verdict::Absent("ability to pause");
    }
    for _ in 0..2 {
        vm.pausing().expect("it was there").pause().await.expect("it pauses");
        greet(&mut stream).await;
        assert!(!answered(&mut stream, A_WHILE).await, "a paused guest answers");
        vm.pausing().expect("it was there").resume().await.expect("it goes on");
        assert!(answered(&mut stream, PATIENCE).await, "it does not go on");
    }
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn a_vmm_inherits_no_descriptor(trial: &Trial) -> Verdict {
    let secret = trial.scratch("secret");
    fs::write(&secret, "not for a VMM").expect("files can be made");
    let opened = File::open(&secret).expect("it was just made");
    // As descriptors are that whoever started this process has left open: not closed on exec.
    let _inheritable = rustix::io::dup(&opened).expect("descriptors can be copied");
    let (mut vm, _stream) = booted(trial).await;
    let process = vm.process_id();
    let links: Vec<_> = fs::read_dir(format!("/proc/{process}/fd"))
        .expect("the VMM's process can be looked into")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    assert!(!links.is_empty(), "a VMM has descriptors");
    assert!(!links.contains(&secret), "it was inherited: {links:?}");
    // What its supervisor is spoken to with: whoever has that can tell how the VMM has ended.
    let ours = std::iter::successors(parent(process), |process| parent(*process));
    for ours in ours.take_while(|process| *process != std::process::id()) {
        // The keeper has closed its own.
        let Ok(control) = fs::read_link(format!("/proc/{ours}/fd/0")) else { continue };
        let is_shared = control.to_string_lossy().starts_with("socket:") && links.contains(&control);
        assert!(!is_shared, "the VMM has its supervisor's socket: {links:?}");
    }
    vm.kill().await;
    Verdict::Kept
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

pub(super) async fn a_file_that_is_missing_is_named(trial: &Trial) -> Verdict {
    let nowhere = trial.scratch("nowhere");
    let mut spec = trial.boot_spec();
    spec.rootfs.clone_from(&nowhere);
    match trial.vmm.boot(&spec).await.map(drop) {
        Err(BootError::File { path, .. }) => assert_eq!(path, nowhere),
        other => unreachable!("a microVM without an image: {other:?}"),
    }
    Verdict::Kept
}

pub(super) async fn a_kernel_that_is_none_is_refused(trial: &Trial) -> Verdict {
    let text = trial.scratch("kernel");
    fs::write(&text, "This is no kernel.\n".repeat(1000)).expect("files can be made");
    let mut spec = trial.boot_spec();
    spec.vmlinux = text;
    match trial.vmm.boot(&spec).await {
        // Some say so at once, others by the end of the VMM.
        Err(BootError::Control { .. }) => {}
        Err(other) => unreachable!("refused for another reason: {other:?}"),
        Ok(mut vm) => {
            let connected = vm.connect(PATIENCE).await.map(drop);
            let exit = tokio::time::timeout(PATIENCE, vm.wait()).await;
            assert!(exit.is_ok(), "it runs: {connected:?}");
        }
    }
    Verdict::Kept
}
