//! What the host itself brings: VMMs, KVM, kernel, programs, memory, namespaces, cgroups.

use std::path::PathBuf;

use vmm::{
    firecracker,
    kvm::KvmVerdict,
    qemu::{Installation, ProbeError},
};

use super::{
    finding::{Finding, chain},
    fix::{Shell, quote},
};
use crate::{config::Acceleration, settings::DEFAULT_MACHINE};

/// Programs that make images and kernel bundles, each with the Debian package that has it.
pub(super) const PROGRAMS: [(&str, &str); 5] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
];

/// The first kernel whose seccomp user notification can answer an open with a file (`SECCOMP_ADDFD_FLAG_SEND`),
/// which is how a restored VMM gets its memory.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// The memory of the smallest microVM, in MiB.
const SMALLEST_MACHINE_MIB: u64 = 128;

/// What a VMM needs besides its guest's memory, in MiB: QEMU itself and its translations.
const OVERHEAD_MIB: u64 = 96;

/// `CAP_SYS_ADMIN`'s bit among a process's capabilities (`linux/capability.h`).
const CAP_SYS_ADMIN: u32 = 21;

/// QEMU, the VMM. `named` where the user has chosen it; `has_apt` on Debian.
pub(super) fn qemu(
    found: Result<Installation, ProbeError>,
    named: bool,
    has_apt: bool,
    shell: &Shell,
) -> Finding {
    const NAME: &str = "qemu";
    const PACKAGE: &str = "qemu-system-x86";
    let error = match found {
        Ok(Installation { program, version }) => {
            return Finding::ok(NAME, format!("{} is version {version}", program.display()));
        }
        Err(error) => error,
    };
    let fix = match &error {
        _ if named => {
            "name a QEMU that works with --qemu, or leave it (and LLM_FIRECRACKER_QEMU) out".to_owned()
        }
        _ if !has_apt => "install QEMU 7.2 or newer with the package manager of this system".to_owned(),
        ProbeError::Missing if shell.is_root => shell.operator("setup"),
        ProbeError::Missing => shell.install(&[PACKAGE]),
        ProbeError::TooOld { .. } => "install QEMU 7.2 or newer and name it with --qemu".to_owned(),
        ProbeError::Unusable { .. } | ProbeError::Unknown { .. } => {
            shell.as_root(&format!("apt-get install --reinstall --no-install-recommends {PACKAGE}"))
        }
    };
    let detail = match &error {
        // Some programs answer with a page.
        ProbeError::Unknown { program, printed } => {
            let first = printed.lines().next().unwrap_or_default();
            format!("{} --version does not say which QEMU it is: {first:?}", program.display())
        }
        _ => chain(&error),
    };
    Finding::problem(NAME, detail, fix)
}

/// Firecracker, which needs KVM and is used wherever both are there.
pub(super) fn firecracker(
    found: Result<firecracker::Installation, firecracker::ProbeError>,
    has_kvm: bool,
    shell: &Shell,
) -> Finding {
    const NAME: &str = "firecracker";
    match found {
        Ok(installation) => {
            let use_of_it = if has_kvm { "" } else { "; not used: it needs KVM" };
            let program = installation.program.display();
            Finding::ok(NAME, format!("{program} is version {}{use_of_it}", installation.version))
        }
        Err(firecracker::ProbeError::Missing) if !has_kvm => {
            Finding::ok(NAME, "not installed, and of no use without KVM: microVMs run in QEMU")
        }
        Err(error) => Finding::warning(
            NAME,
            format!("{}; microVMs run in QEMU", chain(&error)),
            shell.operator("setup"),
        ),
    }
}

/// What decides whether the processor or software executes guests.
pub(super) struct KvmFacts {
    /// What KVM does.
    pub(super) verdict: KvmVerdict,
    /// What other commands believe, until the host boots anew, and where that is noted.
    pub(super) noted: Option<(KvmVerdict, PathBuf)>,
    /// What the user has chosen.
    pub(super) chosen: Option<Acceleration>,
    /// The kernel module for this processor: nothing where it has no virtualization.
    pub(super) module: Option<&'static str>,
}

/// KVM.
pub(super) fn kvm(facts: &KvmFacts, shell: &Shell) -> Finding {
    const NAME: &str = "kvm";
    const NESTED: &str = "enable virtualization in the firmware, or nested virtualization where this host is itself \
                          a virtual machine";
    let verdict = &facts.verdict;
    if let Some((noted, note)) = &facts.noted
        && noted.is_usable() != verdict.is_usable()
        && facts.chosen.is_none()
    {
        let detail = format!("{verdict}, and other commands still believe that {noted}");
        return Finding::warning(NAME, detail, format!("rm {}", quote(note)));
    }
    let fix = match verdict {
        KvmVerdict::Usable => {
            let suffix = match facts.chosen {
                Some(Acceleration::Tcg) => "; not used, since emulation was chosen",
                _ => "",
            };
            return Finding::ok(NAME, format!("{verdict}{suffix}"));
        }
        KvmVerdict::Missing => Some(match facts.module {
            Some(module) => shell.as_root(&format!("modprobe {module}")),
            None => NESTED.to_owned(),
        }),
        KvmVerdict::Forbidden if shell.is_root => {
            Some("let this container use /dev/kvm, as docker run --device /dev/kvm does".to_owned())
        }
        KvmVerdict::Forbidden => {
            Some("sudo usermod --append --groups kvm \"$(id -un)\" && exec newgrp kvm".to_owned())
        }
        KvmVerdict::Busy => Some("stop the other hypervisor, for example VirtualBox".to_owned()),
        KvmVerdict::Broken { .. } => Some(NESTED.to_owned()),
        // Whoever runs this host has decided so; nothing on the host changes it.
        KvmVerdict::Emulated { .. } => None,
    };
    if facts.chosen == Some(Acceleration::Kvm) {
        let fix = "leave --accel kvm (and LLM_FIRECRACKER_ACCEL) out".to_owned();
        return Finding::problem(NAME, format!("{verdict}, and was chosen with --accel kvm"), fix);
    }
    Finding::warning(
        NAME,
        format!("{verdict}; microVMs are emulated in software, which is slower and a weaker wall"),
        fix,
    )
}

/// The host's kernel, by its release and the seccomp actions that it says it has.
pub(super) fn kernel(release: &str, seccomp_actions: Option<&str>) -> Finding {
    const NAME: &str = "host kernel";
    let (major, minor) = OLDEST_KERNEL;
    let fix = format!("boot Linux {major}.{minor} or newer, with CONFIG_SECCOMP_FILTER");
    let Some(version) = version(release) else {
        return Finding::warning(NAME, format!("cannot tell the version of Linux {release:?}"), fix);
    };
    if version < OLDEST_KERNEL {
        let detail = format!("Linux {release} is too old to restore snapshots (seccomp user notification)");
        return Finding::problem(NAME, detail, fix);
    }
    if seccomp_actions.is_some_and(|actions| !actions.split_whitespace().any(|action| action == "user_notif"))
    {
        let detail = format!("Linux {release} lacks seccomp user notification: snapshots cannot be restored");
        return Finding::problem(NAME, detail, fix);
    }
    Finding::ok(NAME, format!("Linux {release}"))
}

/// The series of a kernel's release: 6.1 of `6.1.0-44-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    numbers.next().zip(numbers.next())
}

/// Programs that are not there.
pub(super) fn programs(missing: &[(&str, &str)], shell: &Shell) -> Finding {
    const NAME: &str = "programs";
    if missing.is_empty() {
        let all: Vec<_> = PROGRAMS.iter().map(|(program, _)| *program).collect();
        return Finding::ok(NAME, format!("{} are there", all.join(", ")));
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let detail = format!(
        "missing: {}; needed to make images and kernel bundles, not to run programs",
        names.join(", ")
    );
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let fix = if names.contains(&"apt-get") {
        "make images and the kernel bundle on a Debian host, and copy the data directory".to_owned()
    } else {
        shell.install(&packages)
    };
    Finding::warning(NAME, detail, fix)
}

/// Memory that a microVM could have.
pub(super) fn memory(available_mib: Option<u64>) -> Finding {
    const NAME: &str = "memory";
    let usual_mib = u64::from(DEFAULT_MACHINE.memory_mib);
    let Some(available_mib) = available_mib else {
        return Finding::warning(
            NAME,
            "cannot tell how much is available",
            "mount -t proc proc /proc".to_owned(),
        );
    };
    if available_mib >= usual_mib + OVERHEAD_MIB {
        return Finding::ok(NAME, format!("{available_mib} MiB available"));
    }
    let detail = format!("{available_mib} MiB available, too little for one microVM of {usual_mib} MiB");
    if available_mib >= SMALLEST_MACHINE_MIB + OVERHEAD_MIB {
        let fix = format!("end other programs, or make microVMs smaller: --mem {SMALLEST_MACHINE_MIB}");
        return Finding::warning(NAME, detail, fix);
    }
    Finding::problem(
        NAME,
        format!("{detail}, and for the smallest"),
        "end other programs: ps aux --sort=-rss | head".to_owned(),
    )
}

/// What decides whether this process can make the namespaces of a jail.
#[derive(Clone, Copy, Default)]
pub(super) struct NamespaceFacts {
    /// The process's capabilities, as `/proc/self/status` has them; for root.
    pub(super) capabilities: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, which Debian's kernels have.
    pub(super) unprivileged_clone: Option<u64>,
    /// `user.max_user_namespaces`.
    pub(super) most: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, which Ubuntu's kernels have.
    pub(super) apparmor_restricts: Option<u64>,
}

/// The right to make namespaces.
pub(super) fn namespaces(facts: NamespaceFacts, shell: &Shell) -> Finding {
    const NAME: &str = "namespaces";
    let sysctl = |setting: &str| shell.as_root(&format!("sysctl --write {setting}"));
    if shell.is_root {
        if facts.capabilities.is_some_and(|capabilities| capabilities >> CAP_SYS_ADMIN & 1 == 0) {
            let fix = "give this container CAP_SYS_ADMIN, as docker run --privileged does".to_owned();
            return Finding::problem(NAME, "this root lacks CAP_SYS_ADMIN and cannot jail VMMs", fix);
        }
        return Finding::ok(NAME, "root may make them");
    }
    if facts.unprivileged_clone == Some(0) {
        let detail = "users may not make user namespaces (kernel.unprivileged_userns_clone is 0)";
        return Finding::problem(NAME, detail, sysctl("kernel.unprivileged_userns_clone=1"));
    }
    if facts.most == Some(0) {
        let detail = "there may be no user namespaces (user.max_user_namespaces is 0)";
        return Finding::problem(NAME, detail, sysctl("user.max_user_namespaces=10000"));
    }
    if facts.apparmor_restricts == Some(1) {
        let detail = "AppArmor takes the rights away that users have in their own user namespaces";
        return Finding::warning(NAME, detail, sysctl("kernel.apparmor_restrict_unprivileged_userns=0"));
    }
    Finding::ok(NAME, "users may make them")
}

/// Control groups.
pub(super) fn cgroups(available: bool, shell: &Shell) -> Finding {
    const NAME: &str = "cgroups";
    match (available, shell.is_root) {
        (true, _) => Finding::ok(NAME, "memory and tasks of VMMs are limited by them"),
        (false, false) => Finding::ok(NAME, "not used: only root can; VMMs have resource limits"),
        (false, true) => Finding::warning(
            NAME,
            "the memory and pids controllers in /sys/fs/cgroup cannot be used: nothing limits the memory of VMMs",
            "mount -o remount,rw /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
        ),
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
