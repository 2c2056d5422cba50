//! Each verdict on memory, from made-up hosts.

use super::{
    super::fake::{Host, ROOT, assert_ok, assert_unknown, assert_warns},
    *,
};

#[test]
fn ksm_runs_has_run_or_is_not_there() {
    let run = |run: &str, sharing: &str| {
        let host = Host::good().with("sys/kernel/mm/ksm/run", run);
        ksm(&host.with("sys/kernel/mm/ksm/pages_sharing", sharing).facts(), &ROOT)
    };
    assert_ok(&run("0", "0"), "not merged");
    assert_ok(&run("2", "17"), "not merged");
    assert_warns(&run("1", "0"), "are merged", "echo 2 > /sys/kernel/mm/ksm/run");
    assert_warns(&run("0", "17"), "17 pages are still merged", "echo 2 >");
    assert_unknown(&run("7", "0"));
    let without = Host::good().without("sys/kernel/mm/ksm");
    assert_ok(&ksm(&without.facts(), &ROOT), "cannot merge");
    assert_unknown(&ksm(&Host::mute().facts(), &ROOT));
    assert_unknown(&ksm(&Host::good().without("sys/kernel/mm/ksm/pages_sharing").facts(), &ROOT));
}

#[test]
fn swap_to_a_disk_is_a_warning_that_names_it() {
    let with = |lines: &str| Host::good().with("proc/swaps", &format!("Filename Type\n{lines}"));
    assert_ok(&swap(&with("").facts(), &ROOT), "there is none");
    assert_ok(&swap(&with("/dev/zram0 partition\n").facts(), &ROOT), "/dev/zram0");
    let both = swap(&with("/dev/zram0 partition\n/dev/sda2 partition\n").facts(), &ROOT);
    assert_warns(&both, "written to /dev/sda2, and", "swapoff --all");
    assert_unknown(&swap(&Host::mute().facts(), &ROOT));
}

#[test]
fn errors_of_memory_are_corrected_are_not_or_cannot_be_measured() {
    const MODE: &str = "sys/devices/system/edac/mc/mc0/dimm1/dimm_edac_mode";
    let judged = |host: &Host| error_correction(&host.facts().error_correction, &ROOT);
    assert_ok(&judged(&Host::good()).expect("measured"), "S4ECD4ED");
    assert_warns(&judged(&Host::good().with(MODE, "None")).expect("measured"), "Rowhammer", "ECC");
    assert_unknown(&judged(&Host::good().with(MODE, "Unknown")).expect("measured"));
    let unreadable = Host::good().with("sys/devices/system/edac/mc/mc0/dimm1/x", "");
    assert_unknown(&judged(&unreadable).expect("measured"));
    assert_eq!(judged(&Host::mute()), None);
}
