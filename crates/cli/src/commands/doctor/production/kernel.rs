//! The host's kernel: its series, and what it does when microVMs start, set timers and are logged.

use super::{
    super::{finding::Finding, fix::Shell, host::version},
    facts::ProductionFacts,
};

/// The series of host kernels that Firecracker is tested on (its `docs/kernel-policy.md`).
const TESTED: [(u32, u32); 3] = [(5, 10), (6, 1), (6, 18)];

/// From the first of these a change of cgroup waits for a grace period of RCU, unless `favordynmods` is set, and from
/// the second on KVM no longer makes such a change when it makes a virtual machine.
const SLOW_START: std::ops::Range<(u32, u32)> = (6, 0)..(6, 13);

/// KVM's own least period of a guest's timer, in µs: 5000 interrupts a second.
const LEAST_TIMER_PERIOD_US: u64 = 200;

/// Where a module's parameter is set for good.
const MODULE_FILE: &str = "/etc/modprobe.d/kvm.conf";

/// The series. A note: other kernels work, and distributions mend them too.
pub(super) fn series(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "kernel series";
    let release = match &facts.release {
        Ok(release) => release,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let names = TESTED.map(|(major, minor)| format!("{major}.{minor}")).join(", ");
    match version(release) {
        Some(version) if TESTED.contains(&version) => {
            Finding::ok(NAME, format!("Linux {release} is of one that Firecracker is tested on ({names})"))
        }
        Some(_) => Finding::ok(
            NAME,
            format!("note: Linux {release} is of none that Firecracker is tested on ({names})"),
        ),
        None => Finding::unknown(NAME, format!("Linux {release:?}"), "uname --kernel-release".to_owned()),
    }
}

/// The time that KVM takes to make a virtual machine.
pub(super) fn start(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "start of microVMs";
    let release = match &facts.release {
        Ok(release) => release,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let Some(version) = version(release) else {
        return Finding::unknown(NAME, format!("Linux {release:?}"), "uname --kernel-release".to_owned());
    };
    if !SLOW_START.contains(&version) {
        return Finding::ok(NAME, format!("Linux {release} is of no series that slows it down"));
    }
    if facts.nx_huge_pages.as_deref() == Ok("never") {
        return Finding::ok(NAME, "no thread that recovers huge pages slows it down");
    }
    let mounts = match &facts.mounts {
        Ok(mounts) => mounts,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let groups = || mounts.lines().map(Mount::parse).filter(|mount| mount.kind.starts_with("cgroup"));
    if groups().any(|mount| mount.has("favordynmods")) {
        return Finding::ok(NAME, "changes of cgroups are favoured (favordynmods)");
    }
    let detail = format!("Linux {release} is slow to make virtual machines while cgroups lack favordynmods");
    let is_second_version = groups().any(|mount| mount.kind == "cgroup2" && mount.place == "/sys/fs/cgroup");
    let favour = if is_second_version {
        shell.as_root("mount -o remount,favordynmods /sys/fs/cgroup")
    } else {
        "add cgroup_favordynmods=true to the kernel's command line and boot anew".to_owned()
    };
    // Tried at run time before it is written down: a module with a value that it does not know is not loaded.
    let is_affected = facts.vulnerabilities.as_ref().map_or(true, |all| {
        !all.iter().any(|(name, told)| {
            name == "itlb_multihit" && told.as_ref().is_ok_and(|text| text == "Not affected")
        })
    });
    let fix = if is_affected {
        favour
    } else {
        let never = shell.as_root("sh -c 'echo never > /sys/module/kvm/parameters/nx_huge_pages'");
        format!("{never}  # while no microVM runs; where that is refused: {favour}")
    };
    Finding::warning(NAME, detail, fix)
}

/// How often a guest may have its timer interrupt the host.
pub(super) fn timers(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "timer interrupts";
    let told = match &facts.min_timer_period {
        Ok(told) => told,
        Err(untold) => return untold.finding(NAME, shell),
    };
    let fix =
        || format!("options kvm min_timer_period_us={LEAST_TIMER_PERIOD_US} in {MODULE_FILE}, and boot anew");
    match told.parse::<u64>() {
        Ok(period) if period >= LEAST_TIMER_PERIOD_US => {
            Finding::ok(NAME, format!("a guest's timer has a period of at least {period} µs"))
        }
        Ok(period) => {
            let detail = format!("a guest's timer may have a period of {period} µs, and keep the host busy");
            Finding::warning(NAME, detail, fix())
        }
        Err(_) => Finding::unknown(NAME, format!("min_timer_period_us is {told:?}"), fix()),
    }
}

/// Messages to a serial console: whoever causes one waits until the line has taken it.
pub(super) fn console(facts: &ProductionFacts, shell: &Shell) -> Finding {
    const NAME: &str = "console";
    let (consoles, printk) = match (&facts.consoles, &facts.printk) {
        (Ok(consoles), Ok(printk)) => (consoles, printk),
        (Err(untold), _) | (_, Err(untold)) => return untold.finding(NAME, shell),
    };
    let names = consoles.lines().filter_map(|line| line.split_whitespace().next());
    let serial: Vec<_> =
        names.filter(|name| ["ttyS", "ttyAMA", "ttyUSB"].iter().any(|kind| name.starts_with(kind))).collect();
    if serial.is_empty() {
        return Finding::ok(NAME, "the kernel's messages go to no serial line");
    }
    let serial = serial.join(", ");
    let fix = format!(
        "{}  # and quiet loglevel=1 on the kernel's command line",
        shell.as_root("sysctl --write kernel.printk=1")
    );
    match printk.split_whitespace().next().and_then(|level| level.parse::<u32>().ok()) {
        Some(0 | 1) => Finding::ok(NAME, format!("only emergencies go to {serial}")),
        Some(level) => {
            let detail =
                format!("messages below level {level} go to {serial}, and microVMs wait for the slow line");
            Finding::warning(NAME, detail, fix)
        }
        None => Finding::unknown(NAME, format!("/proc/sys/kernel/printk says {printk:?}"), fix),
    }
}

/// A line of `/proc/self/mounts`.
#[derive(Default)]
struct Mount<'a> {
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Self {
        let mut fields = line.split(' ').skip(1);
        let mut next = || fields.next().unwrap_or_default();
        Self { place: next(), kind: next(), options: next() }
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|has| has == option)
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
