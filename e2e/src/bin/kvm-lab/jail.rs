//! What the process of a VMM may see and do, looked at from the host while its guest computes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{eventually, running::Process};
use serde_json::{Value, json};

use crate::inside::{Trial, Vmm, python};

const PATIENCE: Duration = Duration::from_secs(60);

/// Tries what a VMM must not be able to do: see there.
const ESCAPE: &str = include_str!("../../../lab/escape.py");

/// The first of the users that VMMs get, where nobody says otherwise, and how many of them there can be here.
const USERS: std::ops::Range<u32> = 1_900_000_000..1_900_000_008;

type Check = fn(&mut Trial) -> Result<String>;

/// What is looked at, on one running VMM.
pub(crate) const CHECKS: [(&str, Check); 7] = [
    ("a user of its own without any power, and a system call filter", power),
    ("namespaces of its own, and no network", namespaces),
    ("its root holds nothing but what it needs", root),
    ("kernel, image and snapshot are mounted read-only", mounts),
    ("nothing of ours is open for writing", descriptors),
    ("a cgroup and limits", limits),
    ("with its rights and without its filter nothing more can be done", escape),
];

/// Directories of libraries and firmware, of which only QEMU needs any.
const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/qemu", "/usr/share/seabios"];

/// Its jailer makes the devices, of which `/dev/net/tun` leads nowhere: it has no network.
const FIRECRACKER_FILES: [&str; 12] = [
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/urandom",
    "/firecracker",
    "/firecracker.pid",
    "/run/api",
    "/run/metrics",
    "/run/serial",
    "/run/vsock",
    "/vm/memory",
    "/vm/rootfs.ext4",
    "/vm/state",
];

const QEMU_FILES: [&str; 7] = [
    "/dev/kvm",
    "/dev/null",
    "/dev/urandom",
    "/etc/ld.so.cache",
    "/usr/bin/qemu-system-x86_64",
    "/vm/memory",
    "/vm/rootfs.ext4",
];

fn vmm(trial: &Trial) -> Result<&Process> {
    Ok(&trial.endless.as_ref().context("there is no microVM")?.1)
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    fs::read_to_string(&path).with_context(|| path.as_ref().display().to_string())
}

/// The values of a field of a `status` file of `/proc`.
fn field(status: &str, name: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn user(process: &Process) -> Result<u32> {
    let users = field(&read(format!("/proc/{}/status", process.id))?, "Uid");
    users.first().and_then(|user| user.parse().ok()).context("a process has a user")
}

fn power(trial: &mut Trial) -> Result<String> {
    let process = vmm(trial)?;
    let user = user(process)?;
    ensure!(USERS.contains(&user), "it is user {user}");
    for task in fs::read_dir(format!("/proc/{}/task", process.id))?.flatten() {
        let status = read(task.path().join("status"))?;
        let same = vec![user.to_string(); 4];
        ensure!(field(&status, "Uid") == same && field(&status, "Gid") == same, "{status}");
        ensure!(field(&status, "Groups").iter().all(|group| *group == user.to_string()), "{status}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            ensure!(field(&status, set) == ["0000000000000000"], "{set}: {status}");
        }
        ensure!(field(&status, "NoNewPrivs") == ["1"], "NoNewPrivs: {status}");
        ensure!(field(&status, "Seccomp") == ["2"], "a thread without a filter: {status}");
    }
    Ok(format!("user {user}"))
}

fn namespaces(trial: &mut Trial) -> Result<String> {
    let process = vmm(trial)?;
    for kind in ["mnt", "pid", "ipc", "net", "uts"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
        ensure!(of(&process.id.to_string())? != of("self")?, "{kind} is the host's");
    }
    let devices = read(format!("/proc/{}/net/dev", process.id))?;
    let names: Vec<_> =
        devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    ensure!(names == ["lo"], "{names:?}");
    Ok(String::new())
}

/// All names beneath `directory` of a root, but for libraries.
fn shown(root: &Path, directory: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in
        fs::read_dir(root.join(directory)).with_context(|| directory.display().to_string())?.flatten()
    {
        let path = directory.join(entry.file_name());
        let name = format!("/{}", path.display());
        if LIBRARIES.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            shown(root, &path, found)?;
        } else {
            found.push(name);
        }
    }
    Ok(())
}

fn root(trial: &mut Trial) -> Result<String> {
    let root = PathBuf::from(format!("/proc/{}/root", vmm(trial)?.id));
    let mut files = Vec::new();
    shown(&root, Path::new(""), &mut files)?;
    files.sort();
    let wanted: &[&str] = match trial.vmm {
        Vmm::Firecracker => &FIRECRACKER_FILES,
        Vmm::Qemu => &QEMU_FILES,
    };
    ensure!(files == wanted, "{files:?}");
    Ok(String::new())
}

fn mounts(trial: &mut Trial) -> Result<String> {
    let mounts = read(format!("/proc/{}/mounts", vmm(trial)?.id))?;
    let mut read_only = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let (at, kind, options) = (fields[1], fields[2], fields[3].split(',').collect::<Vec<_>>());
        ensure!(options.contains(&"nosuid"), "{line}");
        // All that exists for this process alone: its root in memory, and single devices.
        let is_own = kind == "tmpfs" || at.starts_with("/dev/");
        ensure!(is_own || options.contains(&"ro"), "{line}");
        if options.contains(&"ro") {
            read_only.push(at);
        }
    }
    ensure!(["/vm/rootfs.ext4", "/vm/memory"].iter().all(|file| read_only.contains(file)), "{mounts}");
    Ok(read_only.join(" "))
}

fn descriptors(trial: &mut Trial) -> Result<String> {
    const ACCESS_MODE: u32 = 0o3;
    let process = vmm(trial)?;
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", process.id))?.flatten() {
        let (Ok(file), Ok(link)) = (fs::metadata(entry.path()), fs::read_link(entry.path())) else {
            continue;
        };
        let info = read(format!("/proc/{}/fdinfo/{}", process.id, entry.file_name().to_string_lossy()))?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).context("no flags")?.trim();
        let mode = u32::from_str_radix(flags, 8)? & ACCESS_MODE;
        let is_memory_alone = file.nlink() == 0;
        ensure!(!file.is_dir(), "a directory is open: {}", link.display());
        ensure!(!file.is_file() || mode == 0 || is_memory_alone, "{} can be written", link.display());
        seen += 1;
    }
    let maps = read(format!("/proc/{}/maps", process.id))?;
    let memory = fs::metadata(trial.host.snapshot().join("mem.snapshot"))?.ino().to_string();
    let mapped: Vec<_> =
        maps.lines().filter(|line| line.split_whitespace().nth(4) == Some(&memory)).collect();
    ensure!(!mapped.is_empty(), "the snapshot's memory is not mapped: {maps}");
    let is_private = |line: &&str| line.split_whitespace().nth(1).is_some_and(|mode| mode.ends_with('p'));
    ensure!(mapped.iter().all(is_private), "{mapped:?}");
    Ok(format!("{seen} descriptors"))
}

fn limits(trial: &mut Trial) -> Result<String> {
    let process = vmm(trial)?;
    let groups = process.cgroups();
    let limit = |name: &str| -> Result<u64> {
        let found = groups.iter().find_map(|group| fs::read_to_string(group.join(name)).ok());
        found.and_then(|text| text.trim().parse().ok()).with_context(|| format!("no {name} in {groups:?}"))
    };
    let (memory, tasks) = (limit("memory.max")?, limit("pids.max")?);
    ensure!((512 << 20..1 << 30).contains(&memory), "memory: {memory}");
    ensure!(tasks < 100, "tasks: {tasks}");
    let limits = read(format!("/proc/{}/limits", process.id))?;
    let soft =
        |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let descriptors: u32 =
        soft("Max open files").and_then(|limit| limit.parse().ok()).context("no limit of files")?;
    ensure!(descriptors <= 256, "{descriptors} descriptors");
    ensure!(soft("Max core file size") == Some("0"), "core dumps: {limits}");
    let file_bytes: u64 =
        soft("Max file size").and_then(|limit| limit.parse().ok()).context("no limit of a file")?;
    ensure!(file_bytes <= 64 << 10, "files of {file_bytes} bytes");
    Ok(format!("{} MiB, {tasks} tasks, {descriptors} descriptors, files of {file_bytes} bytes", memory >> 20))
}

/// What a process with the VMM's rights reaches.
fn attempts(process: &Process) -> Result<Value> {
    let output = Command::new(python())
        .args(["-c", ESCAPE, &process.id.to_string(), &user(process)?.to_string()])
        .output()
        .context("run the attempts")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the attempts print JSON")
}

fn escape(trial: &mut Trial) -> Result<String> {
    let process = vmm(trial)?;
    let threads = || Ok::<_, anyhow::Error>(fs::read_dir(format!("/proc/{}/task", process.id))?.count());
    // QEMU's workers come and go: it counts when none did meanwhile.
    let mut tried = None;
    eventually("the VMM has as many threads as before", PATIENCE, || {
        let attempt = threads().and_then(|before| Ok((before, attempts(process)?, threads()?)));
        let is_over = attempt.as_ref().map_or(true, |(before, _, after)| before == after);
        tried = Some(attempt);
        is_over
    })?;
    let (own, seen, _) = tried.context("nothing was tried")??;
    let refused = seen["refused"].as_object().context("nothing was tried")?;
    let is_refusal = |result: &Value| {
        ["EPERM", "EACCES", "EROFS", "ENOENT", "ENETUNREACH"].iter().any(|error| result == error)
    };
    ensure!(refused.values().all(is_refusal), "{seen}");
    // The root that its own jailer makes is Firecracker's, in memory that is counted as its own.
    let (directories, devices) = match trial.vmm {
        Vmm::Firecracker => {
            (json!(["/", "/dev", "/dev/net", "/run"]), json!(["/dev/kvm", "/dev/net/tun", "/dev/urandom"]))
        }
        Vmm::Qemu => (json!([]), json!(["/dev/kvm", "/dev/null", "/dev/urandom"])),
    };
    ensure!(seen["directories that can be written"] == directories, "{seen}");
    ensure!(seen["files that can be written"] == json!([]), "{seen}");
    ensure!(seen["devices that can be opened"] == devices, "{seen}");
    // A signal is sent to a process by the number of any of its threads.
    ensure!(seen["others that can be signalled"] == own, "{seen}, and it has {own} threads");
    Ok(format!("{} attempts refused", refused.len()))
}
