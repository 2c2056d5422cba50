//! QEMU's command line.

use std::path::Path;

use protocol::SERIAL_PORT_NAME;

use crate::{backend::Acceleration, jail::FIRST_DESCRIPTOR, spec::MachineSpec};

/// Where the jail shows QEMU its files.
pub(super) mod paths {
    pub(in super::super) const VMLINUX: &str = "/vm/vmlinux";
    pub(in super::super) const INITRAMFS: &str = "/vm/initramfs.cpio";
    pub(in super::super) const ROOTFS: &str = "/vm/rootfs.ext4";
    pub(in super::super) const MEMORY: &str = "/vm/memory";
}

/// The descriptors that QEMU is born with.
pub(super) const QMP_DESCRIPTOR: i32 = FIRST_DESCRIPTOR;
pub(super) const AGENT_DESCRIPTOR: i32 = FIRST_DESCRIPTOR + 1;
pub(super) const STATE_DESCRIPTOR: i32 = FIRST_DESCRIPTOR + 2;

/// How much of TCG's output is kept, in MiB. Its default of 1 GiB would be address space alone, but a guest that
/// runs through much code would fill it with memory that no snapshot shares.
const TRANSLATION_CACHE_MIB: u32 = 64;

/// Where a microVM's memory lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// In memory that nobody else sees.
    Anonymous,
    /// In the file [`paths::MEMORY`], which it fills: the memory of a snapshot to come.
    SharedFile,
    /// In pages of the file [`paths::MEMORY`], copied when written: the memory of a clone.
    PrivateFile,
}

/// What the guest starts from.
pub(super) enum Start<'a> {
    /// A kernel with this command line.
    Boot { kernel_command_line: &'a str },
    /// A saved state, given later.
    Incoming,
}

/// The whole command line but for the program.
pub(super) fn arguments(
    acceleration: Acceleration,
    machine: MachineSpec,
    memory: Memory,
    start: &Start<'_>,
) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |option: &str, value: &str| arguments.extend([option.to_owned(), value.to_owned()]);
    // Nothing but what is named here: no default devices, configuration files, display or network.
    for (option, value) in
        [("-display", "none"), ("-monitor", "none"), ("-parallel", "none"), ("-nic", "none")]
    {
        add(option, value);
    }
    // The 8259 and 8254 are needed by no guest of ours; the real-time clock is: the guest's first wall clock.
    add("-machine", "microvm,pit=off,pic=off,rtc=on,isa-serial=on,usb=off,memory-backend=memory");
    match acceleration {
        Acceleration::Kvm => {
            add("-accel", "kvm");
            add("-cpu", "host");
        }
        Acceleration::Tcg => {
            add("-accel", &format!("tcg,tb-size={TRANSLATION_CACHE_MIB}"));
            add("-cpu", "max");
        }
    }
    add("-smp", &machine.vcpus.to_string());
    add("-m", &format!("{}M", machine.memory_mib));
    let size = format!("size={}M", machine.memory_mib);
    let backend = match memory {
        Memory::Anonymous => format!("memory-backend-ram,id=memory,{size}"),
        Memory::SharedFile => {
            format!("memory-backend-file,id=memory,{size},mem-path={},share=on", paths::MEMORY)
        }
        Memory::PrivateFile => {
            format!("memory-backend-file,id=memory,{size},mem-path={},share=off", paths::MEMORY)
        }
    };
    add("-object", &backend);

    add("-chardev", &format!("socket,id=qmp,fd={QMP_DESCRIPTOR}"));
    add("-mon", "chardev=qmp,mode=control");
    // The console goes where QEMU's own messages go: the host keeps the end of both, also when QEMU has ended.
    add("-chardev", "stdio,id=console,signal=off");
    add("-serial", "chardev:console");
    add("-device", "virtio-serial-device,max_ports=2");
    add("-chardev", &format!("socket,id=agent,fd={AGENT_DESCRIPTOR}"));
    add("-device", &format!("virtserialport,chardev=agent,name={SERIAL_PORT_NAME}"));
    // Read-only for the VMM as well (the jail shows it so), and shared by all clones: no lock to be taken.
    let rootfs = paths::ROOTFS;
    add("-drive", &format!("if=none,id=rootfs,file={rootfs},format=raw,readonly=on,file.locking=off"));
    add("-device", "virtio-blk-device,drive=rootfs");

    match start {
        Start::Boot { kernel_command_line } => {
            add("-kernel", paths::VMLINUX);
            add("-initrd", paths::INITRAMFS);
            add("-append", kernel_command_line);
        }
        Start::Incoming => add("-incoming", "defer"),
    }
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    arguments
}

/// The guest kernel's command line.
pub(super) fn kernel_command_line(tsc_khz: u64) -> String {
    // Without the counter's rate the kernel calibrates it against timers that run at another pace under emulation,
    // and hangs about every second time. `lpj` (loops per jiffy, at 250 Hz) spares the other calibration.
    let loops_per_jiffy = tsc_khz * 1000 / 250;
    // What hardens a kernel against its own users costs emulation dearly, and this one serves a single request: the
    // barrier that counts is the VMM's. There is no network but loopback, and without IPv6 no table of flow labels, in which
    // an execution could leave something for the next.
    format!(
        "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t tsc_early_khz={tsc_khz} lpj={loops_per_jiffy} \
         no_timer_check tsc=reliable random.trust_cpu=on mitigations=off audit=0 nokaslr rcupdate.rcu_expedited=1 \
         init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off lsm=capability psi=0 nowatchdog \
         cgroup_disable=io,cpuset,hugetlb,net_cls,net_prio,perf_event,rdma,misc ipv6.disable=1 \
         rdinit=/init"
    )
}

/// Directories that hold the libraries and the firmware of the QEMU at `program`.
pub(super) fn directories(program: &Path) -> Vec<std::path::PathBuf> {
    let mut directories: Vec<std::path::PathBuf> =
        ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/qemu", "/usr/share/seabios"]
            .map(Into::into)
            .to_vec();
    // A QEMU of one's own, in /usr/local or /opt.
    if let Some(prefix) =
        program.parent().and_then(Path::parent).filter(|prefix| *prefix != Path::new("/usr"))
    {
        directories.extend(["lib", "lib64", "share/qemu"].map(|name| prefix.join(name)));
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_maps_its_memory_privately_and_loads_no_kernel() {
        let machine = MachineSpec { memory_mib: 256, vcpus: 1 };
        let line = arguments(Acceleration::Tcg, machine, Memory::PrivateFile, &Start::Incoming).join(" ");
        assert!(line.contains("mem-path=/vm/memory,share=off"), "{line}");
        assert!(!line.contains("-kernel"), "{line}");
    }

    #[test]
    fn no_microvm_has_a_network_device() {
        let machine = MachineSpec { memory_mib: 256, vcpus: 1 };
        let start = Start::Boot { kernel_command_line: "quiet" };
        let line = arguments(Acceleration::Kvm, machine, Memory::Anonymous, &start).join(" ");
        assert!(line.contains("-nic none") && !line.contains("-netdev"), "{line}");
    }
}
