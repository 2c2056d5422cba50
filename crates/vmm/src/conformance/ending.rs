//! Ends, each told from the others, and what they leave.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use super::{
    BOOT_PATIENCE, Trial, Verdict,
    guest::{booted, offend},
    traces::Traces,
};
use crate::backend::{Exit, MicroVm};

/// An archive with nothing in it: a kernel that finds no program to start panics.
const EMPTY_INITRAMFS: &str = concat!(
    "070701",
    // Inode, mode, user, group; one link.
    "00000000000000000000000000000000",
    "00000001",
    // Time, size, four numbers of devices; eleven bytes of name, no checksum.
    "000000000000000000000000000000000000000000000000",
    "0000000b",
    "00000000",
    "TRAILER!!!\0\0\0\0"
);

async fn ended(vm: &mut dyn MicroVm) -> Exit {
    timeout(BOOT_PATIENCE, vm.wait()).await.expect("its end is told")
}

pub(super) async fn a_guest_that_shuts_down_is_told(trial: &Trial) -> Verdict {
    let (mut vm, mut stream) = booted(trial).await;
    offend(&mut stream).await;
    assert_eq!(ended(vm.as_mut()).await, Exit::GuestShutdown, "{}", vm.last_words());
    // And again: the end does not change.
    assert_eq!(ended(vm.as_mut()).await, Exit::GuestShutdown);
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn a_guest_that_panics_is_told(trial: &Trial) -> Verdict {
    let mut spec = trial.boot_spec();
    spec.initramfs = trial.scratch("empty.cpio");
    fs::write(&spec.initramfs, EMPTY_INITRAMFS).expect("files can be made");
    let mut vm = trial.vmm.boot(&spec).await.expect("the guest starts");
    assert_eq!(ended(vm.as_mut()).await, Exit::GuestPanic, "{}", vm.last_words());
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn a_vmm_that_is_killed_is_told(trial: &Trial) -> Verdict {
    let (mut vm, _stream) = booted(trial).await;
    signal(vm.process_id(), Signal::KILL);
    let killed = Exit::Killed { signal: Signal::KILL.as_raw() };
    assert_eq!(ended(vm.as_mut()).await, killed, "{}", vm.last_words());
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn a_vmm_that_crashes_is_told_from_one_that_was_killed(trial: &Trial) -> Verdict {
    let (mut vm, _stream) = booted(trial).await;
    if is_first_of_its_namespace(vm.process_id()) {
        vm.kill().await;
        // pid_namespaces(7): signals from outside pass it by, unless it handles them or cannot.
        return Verdict::Absent("way to be sent a fault's signal: it is PID 1 of its namespace");
    }
    signal(vm.process_id(), Signal::SEGV);
    let crashed = Exit::Crashed { signal: Signal::SEGV.as_raw() };
    assert_eq!(ended(vm.as_mut()).await, crashed, "{}", vm.last_words());
    vm.kill().await;
    Verdict::Kept
}

pub(super) async fn nothing_is_left_of_what_was_killed(trial: &Trial) -> Verdict {
    let (mut vm, _stream) = booted(trial).await;
    let traces = Traces::of(vm.process_id());
    vm.kill().await;
    assert!(traces.are_gone(), "something is left when kill returns");
    Verdict::Kept
}

pub(super) async fn nothing_is_left_of_what_was_dropped(trial: &Trial) -> Verdict {
    let (vm, stream) = booted(trial).await;
    let traces = Traces::of(vm.process_id());
    drop(vm);
    traces.end().await;
    drop(stream);
    Verdict::Kept
}

fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(process, signal).expect("the VMM's process runs");
}

fn is_first_of_its_namespace(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the VMM's process runs");
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().next_back() == Some("1"))
}
