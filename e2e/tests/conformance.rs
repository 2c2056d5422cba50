//! Every backend does what the traits promise: one suite over all that can run here.
//!
//! QEMU with emulation, on real microVMs; and the backend of Firecracker, in its real jail, over a stand-in for Firecracker
//! and its jailer. `make test-kvm` runs the same over Firecracker itself and over QEMU with KVM.

use e2e::{TestHost, stand_in, wiring};
use vmm::{
    Vmm,
    backend::Acceleration,
    conformance::{Case, Verdict},
};

/// Tries one promise. Where a backend has no such power, that must be known here.
fn run(vmm: impl Vmm + 'static, name: &str, absent: &[&str]) {
    let host = TestHost::with_image();
    let scratch = tempfile::tempdir_in(e2e::build_directory()).unwrap();
    let trial = host.trial(vmm, scratch.path());
    let case = Case::named(name).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let verdict = runtime.block_on(case.run(&trial));
    println!("{name}: {verdict}");
    assert_eq!(verdict == Verdict::Kept, !absent.contains(&name), "{verdict}");
}

macro_rules! conformance {
    ($backend:ident, $vmm:expr, without $absent:expr; $($case:ident)*) => {
        mod $backend {
            use super::*;

            $(
                #[test]
                fn $case() {
                    run($vmm, stringify!($case), &$absent);
                }
            )*

            #[test]
            fn every_case_of_the_suite_is_a_test() {
                let tests = [$(stringify!($case)),*];
                let cases: Vec<_> = vmm::conformance::CASES.iter().map(|case| case.name).collect();
                assert_eq!(cases, tests);
            }
        }
    };
}

macro_rules! suite {
    ($backend:ident, $vmm:expr, without $absent:expr) => {
        conformance! {
            $backend, $vmm, without $absent;
            a_booted_guest_answers
            its_stream_is_given_once
            a_vmm_inherits_no_descriptor
            a_paused_guest_says_nothing_until_it_goes_on
            a_file_that_is_missing_is_named
            a_kernel_that_is_none_is_refused
            a_guest_that_shuts_down_is_told
            a_guest_that_panics_is_told
            a_vmm_that_is_killed_is_told
            a_vmm_that_crashes_is_told_from_one_that_was_killed
            nothing_is_left_of_what_was_killed
            nothing_is_left_of_what_was_dropped
            a_saved_guest_goes_on_in_a_clone
            clones_run_side_by_side_and_leave_the_snapshot_as_it_is
            files_that_are_there_are_not_saved_over
            a_memory_file_that_is_missing_is_named
            a_damaged_device_state_is_refused
            nothing_is_left_of_a_vmm_that_waited_in_vain
        }
    };
}

suite!(
    qemu_with_emulation,
    wiring::qemu(Acceleration::Tcg),
    without["a_vmm_that_crashes_is_told_from_one_that_was_killed"]
);

suite!(
    firecracker_stand_in,
    wiring::firecracker(stand_in::installation(), None),
    without["a_paused_guest_says_nothing_until_it_goes_on"]
);
