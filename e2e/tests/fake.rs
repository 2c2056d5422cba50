//! The backend whose microVMs are tasks keeps those promises of the suite that are about no process of its own.

use std::fs;

use vmm::{
    conformance::{CASES, Case, Parts, Trial, Verdict},
    fake::{Fake, FakeSettings},
};

/// What it has to do like any other backend.
const KEPT: [&str; 5] = [
    "a_booted_guest_answers",
    "its_stream_is_given_once",
    "a_file_that_is_missing_is_named",
    "a_guest_that_shuts_down_is_told",
    "files_that_are_there_are_not_saved_over",
];

/// What it does not have.
const ABSENT: [&str; 1] = ["a_paused_guest_says_nothing_until_it_goes_on"];

/// What is tried on the process of a VMM, or needs a kernel that is executed. Its own tests try the same on its tasks,
/// where it can be.
const ABOUT_PROCESSES_AND_KERNELS: [&str; 12] = [
    "a_vmm_inherits_no_descriptor",
    "a_kernel_that_is_none_is_refused",
    "a_guest_that_panics_is_told",
    "a_vmm_that_is_killed_is_told",
    "a_vmm_that_crashes_is_told_from_one_that_was_killed",
    "nothing_is_left_of_what_was_killed",
    "nothing_is_left_of_what_was_dropped",
    "a_saved_guest_goes_on_in_a_clone",
    "clones_run_side_by_side_and_leave_the_snapshot_as_it_is",
    "a_memory_file_that_is_missing_is_named",
    "a_damaged_device_state_is_refused",
    "nothing_is_left_of_a_vmm_that_waited_in_vain",
];

async fn verdict(name: &str) -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let part = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let parts = Parts { vmlinux: part("vmlinux"), initramfs: part("initramfs"), rootfs: part("rootfs") };
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let trial = Trial::new(Box::new(Fake::new(FakeSettings::default())), parts, scratch);
    Case::named(name).unwrap().run(&trial).await
}

#[tokio::test]
async fn the_fake_keeps_what_is_promised_of_every_backend() {
    for name in KEPT {
        assert_eq!(verdict(name).await, Verdict::Kept, "{name}");
    }
    for name in ABSENT {
        assert!(matches!(verdict(name).await, Verdict::Absent(_)), "{name}");
    }
}

#[test]
fn every_case_of_the_suite_is_tried_or_known_to_be_about_something_else() {
    let mut known: Vec<_> = KEPT.into_iter().chain(ABSENT).chain(ABOUT_PROCESSES_AND_KERNELS).collect();
    let mut cases: Vec<_> = CASES.iter().map(|case| case.name).collect();
    known.sort_unstable();
    cases.sort_unstable();
    assert_eq!(known, cases);
}
