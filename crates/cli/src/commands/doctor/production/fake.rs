//! Made-up hosts: files in a directory that has the place of `/`.

use std::fs;

use super::{
    super::{
        finding::{Finding, Status},
        fix::Shell,
    },
    facts::ProductionFacts,
};

/// Root's.
pub(super) const ROOT: Shell = Shell { is_root: true, flags: String::new() };

/// Where the kernel tells of vulnerabilities.
pub(super) const VULNERABILITIES: &str = "sys/devices/system/cpu/vulnerabilities";

/// A host.
pub(super) struct Host(tempfile::TempDir);

impl Host {
    /// One of which nothing can be told: no file is there.
    pub(super) fn mute() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// One as it should be.
    pub(super) fn good() -> Self {
        let cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nmicrocode\t: 0x2b\nflags\t\t: fpu vmx\n\n\
                       processor\t: 1\nvendor_id\t: GenuineIntel\nmicrocode\t: 0x2b\nflags\t\t: fpu vmx\n";
        Self::mute()
            .with("proc/cpuinfo", cpuinfo)
            .with("proc/cmdline", "root=/dev/vda1 nosmt quiet loglevel=1\n")
            .with("proc/sys/kernel/osrelease", "6.1.0-44-amd64\n")
            .with("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
            .with("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,favordynmods 0 0\n")
            .with("proc/consoles", "tty0                 -WU (EC p  )    4:1\n")
            .with("proc/sys/kernel/printk", "1\t4\t1\t7\n")
            .with("sys/devices/system/cpu/smt/active", "0\n")
            .with("sys/devices/system/cpu/smt/control", "forceoff\n")
            .with("sys/kernel/mm/ksm/run", "0\n")
            .with("sys/kernel/mm/ksm/pages_sharing", "0\n")
            .with("sys/module/kvm/parameters/nx_huge_pages", "Y\n")
            .with("sys/module/kvm/parameters/min_timer_period_us", "200\n")
            .with("sys/devices/system/edac/mc/mc0/dimm0/dimm_edac_mode", "S4ECD4ED\n")
            .with("lib/firmware/intel-ucode/06-8f-08", "")
            .with(&format!("{VULNERABILITIES}/meltdown"), "Not affected\n")
            .with(&format!("{VULNERABILITIES}/itlb_multihit"), "KVM: Mitigation: Split huge pages\n")
            .with(&format!("{VULNERABILITIES}/mds"), "Mitigation: Clear CPU buffers; SMT disabled\n")
    }

    /// This one, with a file.
    pub(super) fn with(self, path: &str, text: &str) -> Self {
        let place = self.0.path().join(path);
        fs::create_dir_all(place.parent().expect("a file has a directory")).expect("a directory");
        fs::write(place, text).expect("a file");
        self
    }

    /// This one, without a file or directory.
    pub(super) fn without(self, path: &str) -> Self {
        let place = self.0.path().join(path);
        if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) }.expect("removed");
        self
    }

    /// What is read there.
    pub(super) fn facts(&self) -> ProductionFacts {
        ProductionFacts::read(self.0.path())
    }
}

/// Asserts that a check is unhappy, what it says and what would mend it.
pub(super) fn assert_warns(finding: &Finding, detail: &str, fix: &str) {
    assert_eq!(finding.status, Status::Warning, "{finding:?}");
    assert!(finding.detail.contains(detail), "{finding:?}");
    assert!(finding.fix.as_deref().is_some_and(|text| text.contains(fix)), "{finding:?}");
}

/// Asserts that a check is happy, and says why.
pub(super) fn assert_ok(finding: &Finding, detail: &str) {
    assert_eq!((finding.status, finding.fix.as_deref()), (Status::Ok, None), "{finding:?}");
    assert!(finding.detail.contains(detail), "{finding:?}");
}

/// Asserts that a check does not know.
pub(super) fn assert_unknown(finding: &Finding) {
    assert_warns(finding, "unknown: ", "");
}
