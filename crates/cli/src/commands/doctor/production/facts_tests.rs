//! What is read of made-up files.

use super::{super::fake::Host, *};

const SWAPS: &str = "Filename\tType\tSize\tUsed\tPriority\n";

fn lasting(host: &Host) -> Vec<(String, bool)> {
    let swaps = host.facts().swaps.expect("swaps");
    swaps.into_iter().map(|swap| (swap.path, swap.lasts)).collect()
}

#[test]
fn swap_lasts_on_disks_and_in_files_but_not_encrypted_or_in_memory() {
    let one = |path: &str| Host::mute().with("proc/swaps", &format!("{SWAPS}{path} partition 1 0 -2\n"));
    for (host, path, lasts) in [
        (one("/dev/sda2"), "/dev/sda2", true),
        (one("/swap\\040file"), "/swap\\040file", true),
        (one("/dev/zram0"), "/dev/zram0", false),
        (one("/dev/zram0").with("sys/block/zram0/backing_dev", "none\n"), "/dev/zram0", false),
        (one("/dev/zram0").with("sys/block/zram0/backing_dev", "/dev/sda3\n"), "/dev/zram0", true),
        (one("/dev/dm-0").with("sys/block/dm-0/dm/uuid", "CRYPT-PLAIN-swap\n"), "/dev/dm-0", false),
        (one("/dev/dm-0").with("sys/block/dm-0/dm/uuid", "LVM-abc\n"), "/dev/dm-0", true),
    ] {
        assert_eq!(lasting(&host), [(path.to_owned(), lasts)]);
    }
    let volume = one("/dev/dm-1")
        .with("sys/block/dm-1/dm/uuid", "LVM-abc\n")
        .with("sys/block/dm-1/slaves/dm-0/x", "")
        .with("sys/block/dm-0/dm/uuid", "CRYPT-LUKS2-abc\n");
    assert_eq!(lasting(&volume), [("/dev/dm-1".to_owned(), false)]);
    let half = volume.with("sys/block/dm-1/slaves/sda1/x", "");
    assert_eq!(lasting(&half), [("/dev/dm-1".to_owned(), true)]);
    assert_eq!(lasting(&Host::mute().with("proc/swaps", SWAPS)), []);
}

#[test]
fn a_file_that_says_nothing_is_told_apart_from_one_that_is_empty() {
    let host = Host::mute().with("proc/cmdline", "\n").with("proc/cpuinfo/a-directory", "");
    let facts = host.facts();
    assert_eq!(facts.command_line, Ok(String::new()));
    let absent = facts.release.expect_err("there is no such file");
    assert!(absent.is_absent());
    assert_eq!(absent.to_string(), "/proc/sys/kernel/osrelease cannot be read: entity not found");
    let hidden = facts.cpuinfo.expect_err("no file");
    assert!(!hidden.is_absent());
    let finding = hidden.finding("x", &Shell::default());
    assert_eq!(finding.fix.as_deref(), Some("cat /proc/cpuinfo"));
    assert!(facts.swaps.is_err() && facts.vulnerabilities.is_err());
    assert!(!facts.has_sysfs && facts.microcode_for.is_empty());
}

#[test]
fn what_only_root_may_read_is_read_by_root() {
    let untold = Untold { path: "/proc/x".into(), kind: io::ErrorKind::PermissionDenied };
    assert_eq!(untold.finding("x", &Shell::default()).fix.as_deref(), Some("sudo cat /proc/x"));
}

#[test]
fn memory_modules_are_found_by_dimm_and_by_rank_and_nothing_else_is_one() {
    let controllers = "sys/devices/system/edac/mc";
    let host = Host::mute()
        .with(&format!("{controllers}/power/control"), "auto\n")
        .with(&format!("{controllers}/mc0/dimm0/dimm_edac_mode"), "SECDED\n")
        .with(&format!("{controllers}/mc0/dimm_errors/x"), "")
        .with(&format!("{controllers}/mc1/rank3/dimm_edac_mode"), "None\n")
        .with(&format!("{controllers}/mc1/rank4/x"), "");
    let modes: Vec<_> = host.facts().error_correction.into_iter().map(Result::ok).collect();
    assert_eq!(modes, [Some("SECDED".to_owned()), Some("None".to_owned()), None]);
    assert!(Host::mute().facts().error_correction.is_empty());
}

#[test]
fn microcode_is_there_when_its_directory_has_files() {
    let host = Host::mute().with("usr/lib/firmware/amd-ucode/microcode_amd.bin", "");
    assert_eq!(host.facts().microcode_for, ["AuthenticAMD"]);
    let emptied = host.without("usr/lib/firmware/amd-ucode/microcode_amd.bin");
    assert!(emptied.facts().microcode_for.is_empty());
}
