//! Snapshots and clones.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use super::{
    BOOT_PATIENCE, Trial, Verdict,
    guest::{answered, answers, connected, greet},
    traces::Traces,
};
use crate::{
    backend::{BootError, MicroVm, RestoreError, Snapshots, StandbyVmm},
    spec::SnapshotFiles,
};

const NO_SNAPSHOTS: Verdict = Verdict::Absent("snapshots");

/// A snapshot of a microVM whose agent has answered, made once.
async fn saved(trial: &Trial, snapshots: &dyn Snapshots) -> SnapshotFiles {
    let make = || async {
        let files = trial.snapshot_files("saved");
        let mut vm = snapshots.boot(&trial.boot_spec(), &files).await.expect("a microVM boots");
        let traces = Traces::of(vm.process_id());
        let stream = connected(vm.as_mut(), BOOT_PATIENCE).await;
        vm.save().await.expect("it is saved");
        assert!(traces.are_gone(), "the saved microVM is still there");
        drop(stream);
        files
    };
    trial.saved.get_or_init(make).await.clone()
}

async fn waiting(trial: &Trial, snapshots: &dyn Snapshots, files: SnapshotFiles) -> Box<dyn StandbyVmm> {
    snapshots.start(&trial.restore_spec(files)).await.expect("a VMM starts")
}

async fn clone(trial: &Trial, snapshots: &dyn Snapshots, files: SnapshotFiles) -> Box<dyn MicroVm> {
    waiting(trial, snapshots, files).await.load().await.expect("a clone is restored").vm
}

pub(super) async fn a_saved_guest_goes_on_in_a_clone(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let files = saved(trial, snapshots).await;
    let bytes = fs::metadata(&files.memory).expect("memory was saved").len();
    assert_eq!(bytes, u64::from(trial.machine.memory_mib) << 20);
    let mut clone = clone(trial, snapshots, files).await;
    let mut stream = answers(clone.as_mut()).await;
    greet(&mut stream).await;
    assert!(answered(&mut stream, BOOT_PATIENCE).await, "it answers once");
    clone.kill().await;
    Verdict::Kept
}

pub(super) async fn clones_run_side_by_side_and_leave_the_snapshot_as_it_is(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let files = saved(trial, snapshots).await;
    let before = fingerprint(&files);
    let mut clones = Vec::new();
    for _ in 0..3 {
        let mut clone = clone(trial, snapshots, files.clone()).await;
        let stream = answers(clone.as_mut()).await;
        clones.push((clone, stream));
    }
    for (_, stream) in &mut clones {
        greet(stream).await;
        assert!(answered(stream, BOOT_PATIENCE).await, "a clone was disturbed by another");
    }
    for (clone, _) in &mut clones {
        clone.kill().await;
    }
    assert_eq!(fingerprint(&files), before, "clones have changed their snapshot");
    Verdict::Kept
}

/// What the files hold, and who may change them.
fn fingerprint(files: &SnapshotFiles) -> Vec<(u64, u32, u32)> {
    let of = |path: &std::path::Path| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(path).expect("a snapshot's file can be read"));
        let metadata = fs::metadata(path).expect("a snapshot's file is there");
        (hasher.finish(), metadata.permissions().mode(), metadata.uid())
    };
    let found = vec![of(&files.memory), of(&files.device_state)];
    let own = rustix::process::geteuid().as_raw();
    assert!(found.iter().all(|(_, _, owner)| *owner == own), "a VMM's user owns a file of a snapshot");
    found
}

pub(super) async fn files_that_are_there_are_not_saved_over(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let files = trial.snapshot_files("there-already");
    fs::write(&files.memory, "precious").expect("files can be made");
    match snapshots.boot(&trial.boot_spec(), &files).await.map(drop) {
        Err(BootError::File { path, .. }) => assert_eq!(path, files.memory),
        other => unreachable!("it takes a file that was there: {other:?}"),
    }
    assert_eq!(fs::read(&files.memory).expect("it is still there"), b"precious");
    Verdict::Kept
}

pub(super) async fn a_memory_file_that_is_missing_is_named(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let nowhere = trial.scratch("nowhere.memory");
    let files = SnapshotFiles { memory: nowhere.clone(), ..saved(trial, snapshots).await };
    match snapshots.start(&trial.restore_spec(files)).await.map(drop) {
        Err(RestoreError::File { path, .. }) => assert_eq!(path, nowhere),
        other => unreachable!("a clone without memory: {other:?}"),
    }
    Verdict::Kept
}

pub(super) async fn a_damaged_device_state_is_refused(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let files = saved(trial, snapshots).await;
    let mut state = fs::read(&files.device_state).expect("the state can be read");
    state.iter_mut().take(4096).for_each(|byte| *byte ^= 0x5a);
    let damaged = SnapshotFiles { device_state: trial.scratch("damaged.state"), ..files };
    fs::write(&damaged.device_state, state).expect("files can be made");
    let vmm = waiting(trial, snapshots, damaged).await;
    let traces = Traces::of(vmm.process_id());
    match vmm.load().await.map(drop) {
        Err(RestoreError::Control { .. }) => {}
        other => unreachable!("it takes a damaged state: {other:?}"),
    }
    assert!(traces.are_gone(), "something is left of the VMM that refused");
    Verdict::Kept
}

pub(super) async fn nothing_is_left_of_a_vmm_that_waited_in_vain(trial: &Trial) -> Verdict {
    let Some(snapshots) = trial.vmm.snapshots() else { return NO_SNAPSHOTS };
    let files = saved(trial, snapshots).await;
    let mut killed = waiting(trial, snapshots, files.clone()).await;
    let traces = Traces::of(killed.process_id());
    killed.kill().await;
    assert!(traces.are_gone(), "something is left when kill returns");
    let dropped = waiting(trial, snapshots, files).await;
    let traces = Traces::of(dropped.process_id());
    drop(dropped);
    traces.end().await;
    Verdict::Kept
}
