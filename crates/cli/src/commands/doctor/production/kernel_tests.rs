//! Each verdict on the kernel, from made-up hosts.

use super::{
    super::fake::{Host, ROOT, VULNERABILITIES, assert_ok, assert_unknown, assert_warns},
    *,
};

const RELEASE: &str = "proc/sys/kernel/osrelease";

#[test]
fn the_series_is_tested_or_noted_not_to_be() {
    let judged = |release: &str| series(&Host::good().with(RELEASE, release).facts(), &ROOT);
    for release in ["6.1.0-44-amd64", "5.10.230", "6.18.3"] {
        assert_ok(&judged(release), "of one that Firecracker is tested on");
    }
    for release in ["6.12.1", "6.10.1", "7.0.0", "5.15.0-100-generic"] {
        assert_ok(&judged(release), "note: ");
    }
    assert_unknown(&judged("plan 9"));
    assert_unknown(&series(&Host::mute().facts(), &ROOT));
}

#[test]
fn microvms_start_slowly_on_some_kernels_without_favordynmods() {
    const NX: &str = "sys/module/kvm/parameters/nx_huge_pages";
    let slow = |mounts: &str| Host::good().with("proc/self/mounts", mounts);
    let second = || slow("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n");
    let first = || slow("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n");
    let judged = |host: Host| start(&host.facts(), &ROOT);
    assert_ok(&judged(Host::good()), "favordynmods");
    assert_ok(&judged(slow("cgroup /sys/fs/cgroup/pids cgroup rw,pids,favordynmods 0 0\n")), "favordynmods");
    assert_warns(&judged(second()), "6.1.0", "mount -o remount,favordynmods /sys/fs/cgroup");
    assert_warns(&judged(first()), "6.1.0", "cgroup_favordynmods=true");
    for release in ["5.15.0", "6.13.0", "6.18.0"] {
        assert_ok(&judged(second().with(RELEASE, release)), "no series");
    }
    assert_warns(&judged(second().with(RELEASE, "6.12.9")), "6.12.9", "favordynmods");
    assert_ok(&judged(second().with(NX, "never")), "huge pages");
    let unaffected = second().with(&format!("{VULNERABILITIES}/itlb_multihit"), "Not affected\n");
    assert_warns(&judged(unaffected), "6.1.0", "echo never > /sys/module/kvm/parameters/nx_huge_pages");
    // Only a processor that is known not to be affected may do without the mitigation.
    let affected = judged(second()).fix.expect("a fix");
    assert!(!affected.contains("never"), "{affected}");
    let unknown = judged(second().without(VULNERABILITIES)).fix.expect("a fix");
    assert!(!unknown.contains("never"), "{unknown}");
    assert_unknown(&judged(Host::good().without("proc/self/mounts")));
    assert_unknown(&judged(Host::good().with(RELEASE, "?")));
    assert_unknown(&judged(Host::mute()));
}

#[test]
fn guests_timers_have_a_least_period() {
    const PERIOD: &str = "sys/module/kvm/parameters/min_timer_period_us";
    let judged = |period: &str| timers(&Host::good().with(PERIOD, period).facts(), &ROOT);
    assert_ok(&judged("200"), "200 µs");
    assert_ok(&judged("1000"), "1000 µs");
    assert_warns(&judged("199"), "199 µs", "options kvm min_timer_period_us=200 in /etc/modprobe.d/kvm.conf");
    assert_warns(&judged("0"), "0 µs", "options kvm");
    assert_unknown(&judged("often"));
    assert_unknown(&timers(&Host::mute().facts(), &ROOT));
}

#[test]
fn messages_to_a_serial_line_are_a_warning_unless_they_are_few() {
    let host = |console: &str, printk: &str| {
        Host::good().with("proc/consoles", console).with("proc/sys/kernel/printk", printk)
    };
    let judged = |host: Host| console(&host.facts(), &ROOT);
    let serial = "tty0 -WU (EC p  ) 4:1\nttyS0 -W- (E  p a) 4:64\n";
    assert_ok(&judged(host("tty0 -WU (EC p  ) 4:1\n", "7 4 1 7")), "no serial line");
    assert_ok(&judged(host(serial, "1 4 1 7")), "only emergencies go to ttyS0");
    assert_warns(&judged(host(serial, "4 4 1 7")), "below level 4 go to ttyS0", "kernel.printk=1");
    assert_warns(&judged(host("ttyAMA0 -W- (EC a) 204:64\n", "7 4 1 7")), "ttyAMA0", "quiet loglevel=1");
    assert_unknown(&judged(host(serial, "loud")));
    assert_unknown(&judged(Host::good().without("proc/consoles")));
    assert_unknown(&judged(Host::good().without("proc/sys/kernel/printk")));
}
