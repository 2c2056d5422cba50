//! What PID 1 does: named steps from the bare initramfs to a runner that talks to the host.

use std::{
    fs::{self, File},
    io::Write as _,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use rustix::{
    mount::{MountFlags, mount},
    net::{AddressFamily, SocketType, socket},
    process::{WaitOptions, wait},
    system::{RebootCommand, init_module, reboot, sethostname},
    thread::UnshareFlags,
};

use crate::{
    cgroup, channel,
    exits::Exits,
    fault::{Doing, Fault},
    root, sys,
    uevent::DeviceEvents,
};

/// The argument with which PID 1 starts this binary once more, as the runner.
pub(crate) const RUNNER_ROLE: &str = "runner";

/// Where the image builder put the kernel modules, named in the order in which they are loaded.
const MODULES: &str = "/modules";

/// The disk that holds the image: the only one there is.
const DISK: &str = "/dev/vda";

/// There where the machine has vsock, which no machine of QEMU's has with us.
const VSOCK_DEVICE: &str = "/dev/vsock";

/// Boots, runs the runner to its end, and turns the microVM off. Never returns.
pub(crate) fn boot() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| log(&format!("panic: {panic}"))));
    if let Err(fault) = boot_steps() {
        log(&fault.to_string());
    }
    // Firecracker has a keyboard controller that resets the machine, and tells such an end from a triple fault: which is how
    // the kernel's command line has a panic end.
    if fs::exists(VSOCK_DEVICE).unwrap_or(false) {
        let _ = fs::write("/sys/kernel/reboot/type", "kbd");
    }
    // The host sees the VMM end. A PID 1 that returned would be a kernel panic instead.
    let _ = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}

/// Writes a line to the kernel's log, and so to the console that the host reads when a boot fails.
pub(crate) fn log(line: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // "<2>": critical, so that it passes `quiet`. There is no one to tell if this fails.
        // In one write, which is one record: each has a priority of its own.
        let _ = log.write_all(format!("<2>guest agent: {line}\n").as_bytes());
    }
}

fn boot_steps() -> Result<(), Fault> {
    mount_kernel_filesystems()?;
    let events = DeviceEvents::subscribe()?;
    load_modules()?;
    set_kernel_parameters()?;
    bring_loopback_up()?;
    cgroup::mount()?;
    events
        .wait_for("disk", Duration::from_secs(30), || Ok(fs::exists(DISK).unwrap_or(false).then_some(())))?;
    root::assemble(DISK)?;
    let channel = channel::open(&events)?;
    run_the_runner(channel, Exits::subscribe()?)
}

fn mount_kernel_filesystems() -> Result<(), Fault> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(target).doing(format!("make {target}"))?;
        mount(kind, target, kind, flags, None).doing(format!("mount {target}"))?;
    }
    Ok(())
}

fn load_modules() -> Result<(), Fault> {
    let Ok(entries) = fs::read_dir(MODULES) else { return Ok(()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let module = fs::read(&path).doing(format!("read {}", path.display()))?;
        match init_module(&module, c"") {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).doing(format!("load {}", path.display())),
        }
    }
    Ok(())
}

fn set_kernel_parameters() -> Result<(), Fault> {
    for (name, value) in [
        // A job that needs more memory than there is ends as out of memory, by the limit of its cgroup, and not
        // in whatever each language makes of a failed allocation.
        ("vm/overcommit_memory", "1"),
        // The initialised interpreter changes its user; without this its /proc/self would belong to root then,
        // and /dev/stdin could not be opened. Core dumps are off, and the two users cannot trace each other.
        ("fs/suid_dumpable", "1"),
        ("kernel/core_pattern", ""),
        // Nothing in a job needs the kernel's log or addresses.
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/unprivileged_bpf_disabled", "1"),
        ("kernel/perf_event_paranoid", "3"),
        ("user/max_user_namespaces", "0"),
        // Ways to keep something beyond an execution, or to reach far into the kernel, that no program of ours needs.
        ("kernel/io_uring_disabled", "2"),
        ("kernel/keys/maxkeys", "1"),
        // The name of a user's own keyring, which is made for whoever asks for a key there, has more.
        ("kernel/keys/maxbytes", "1"),
        // A closed connection would keep its ports for a minute: an execution could see that of an earlier one, and could not
        // listen where that did.
        ("net/ipv4/tcp_max_tw_buckets", "0"),
        // What TCP remembers of a pair of addresses, for anybody to read.
        ("net/ipv4/tcp_no_metrics_save", "1"),
        ("net/ipv4/tcp_fastopen", "0"),
    ] {
        match fs::write(format!("/proc/sys/{name}"), value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(format!("set {name}"));
            }
            _ => {}
        }
    }
    sethostname(b"sandbox").doing("set the host name")
}

fn bring_loopback_up() -> Result<(), Fault> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).doing("open a socket")?;
    sys::bring_loopback_up(&socket).doing("bring the loopback device up")
}

fn run_the_runner(channel: OwnedFd, exits: Option<Exits>) -> Result<(), Fault> {
    // The children of PID 1 get a pid namespace of their own: the runner is PID 1 there.
    let namespaces = UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    sys::unshare(namespaces).doing("make the jobs' namespaces")?;
    let runner = Command::new("/proc/self/exe")
        .arg0("init")
        .arg(RUNNER_ROLE)
        .env_clear()
        .stdin(Stdio::from(channel))
        .stdout(exits.map_or_else(Stdio::null, |exits| Stdio::from(OwnedFd::from(exits))))
        .stderr(Stdio::null())
        .spawn()
        .doing("start the runner")?;
    let runner = runner.id();
    loop {
        // Orphans of the runner's own namespace end up at the runner: here comes the runner alone.
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == runner => {
                return match status.exit_status() {
                    Some(0) => Ok(()),
                    _ => Err(Fault::new(format!("the runner ended: {status:?}"))),
                };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing("wait for the runner"),
        }
    }
}
