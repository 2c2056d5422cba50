//! A VMM that a guest has taken over could do nothing to the host.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use e2e::{TestHost, running::Process};
use engine::{Languages, Session, Start};
use vmm::MachineSpec;

async fn session(host: &TestHost) -> Session {
    let language = Languages::built_in().find("python").unwrap().name.clone();
    let machine = MachineSpec { memory_mib: 512, vcpus: 1 };
    host.engine().open(&language, machine, Start::Snapshot).await.unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a field of `/proc/<id>/status`.
fn status(id: u32, field: &str) -> Vec<String> {
    let text = read(format!("/proc/{id}/status"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_vmm_has_a_user_of_its_own_and_no_power() {
    let host = TestHost::prepared();
    let (first, second) = (session(&host).await, session(&host).await);
    let mut users = Vec::new();
    for session in [&first, &second] {
        let id = session.process_id();
        let user = status(id, "Uid");
        let number: u32 = user[0].parse().unwrap();
        assert!((1_910_000_000..1_910_010_000).contains(&number), "{user:?}");
        assert!(user.iter().all(|other| *other == user[0]), "{user:?}");
        assert_eq!(status(id, "Gid"), user);
        assert_eq!(status(id, "Groups"), Vec::<String>::new());
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(id, set), ["0000000000000000"], "{set}");
        }
        assert_eq!(status(id, "NoNewPrivs"), ["1"]);
        assert_eq!(status(id, "Seccomp"), ["2"]);
        // QEMU's own, ours, and the one by which it asks about opens.
        let filters: u32 = status(id, "Seccomp_filters")[0].parse().unwrap();
        assert!(filters >= 3, "{filters} filters");
        for thread in fs::read_dir(format!("/proc/{id}/task")).unwrap() {
            let text = read(thread.unwrap().path().join("status"));
            assert!(text.contains("Seccomp:\t2\n"), "a thread without a filter: {text}");
        }
        users.push(user);
    }
    assert_ne!(users[0], users[1], "two VMMs share a user");
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_vmm_has_namespaces_of_its_own_and_no_network() {
    let host = TestHost::prepared();
    let session = session(&host).await;
    let id = session.process_id();
    for kind in ["mnt", "pid", "ipc", "net", "uts"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
        assert_ne!(of(&id.to_string()), of("self"), "{kind}");
    }
    let devices = read(format!("/proc/{id}/net/dev"));
    let names: Vec<_> =
        devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert!(names.iter().all(|name| *name == "lo" || is_fallback_tunnel(name)), "{names:?}");
    session.end().await;
}

/// A device that the kernel makes in every network namespace once its module is there. It leads nowhere.
fn is_fallback_tunnel(name: &str) -> bool {
    ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"]
        .contains(&name)
}

/// All names beneath `directory` that are no part of a directory of libraries.
fn shown(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(directory)).unwrap().flatten() {
        let path = directory.join(entry.file_name());
        let name = format!("/{}", path.display());
        if ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/qemu", "/usr/share/seabios"]
            .contains(&name.as_str())
        {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            shown(root, &path, found);
        } else {
            found.push(name);
        }
    }
}

#[tokio::test]
async fn a_vmm_sees_its_own_files_and_can_write_none() {
    let host = TestHost::prepared();
    let session = session(&host).await;
    let id = session.process_id();
    let root = PathBuf::from(format!("/proc/{id}/root"));
    let mut files = Vec::new();
    shown(&root, Path::new(""), &mut files);
    files.sort();
    assert_eq!(
        files,
        [
            "/dev/null",
            "/dev/urandom",
            "/etc/ld.so.cache",
            "/usr/bin/qemu-system-x86_64",
            "/vm/memory",
            "/vm/rootfs.ext4"
        ]
    );
    assert!(!root.join("proc").exists() && !root.join("home").exists() && !root.join("root").exists());
    let same = |jail: &str, of: &Path| {
        let (jail, of) = (fs::metadata(root.join(jail)).unwrap(), fs::metadata(of).unwrap());
        assert_eq!((jail.dev(), jail.ino()), (of.dev(), of.ino()));
    };
    same("vm/memory", &host.snapshot().join("mem.snapshot"));
    same("vm/rootfs.ext4", &host.image());

    let mounts = read(format!("/proc/{id}/mounts"));
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let options: Vec<_> = fields[3].split(',').collect();
        let is_device = fields[1].starts_with("/dev/");
        assert!(options.contains(&"ro") || is_device, "{line}");
        assert!(options.contains(&"nosuid"), "{line}");
    }
    session.end().await;
}

#[tokio::test]
async fn a_vmm_holds_no_descriptor_through_which_it_could_change_the_snapshot() {
    const ACCESS_MODE: u32 = 0o3;
    let host = TestHost::prepared();
    let session = session(&host).await;
    let id = session.process_id();
    let maps = read(format!("/proc/{id}/maps"));
    let memory = fs::metadata(host.snapshot().join("mem.snapshot")).unwrap();
    let mapped: Vec<_> = maps
        .lines()
        .filter(|line| line.split_whitespace().nth(4) == Some(&memory.ino().to_string()))
        .map(|line| line.split_whitespace().nth(1).unwrap())
        .collect();
    assert!(!mapped.is_empty(), "the memory is not mapped: {maps}");
    assert!(mapped.iter().all(|permissions| permissions.ends_with('p')), "{mapped:?}");

    let ours = [host.snapshot().join("mem.snapshot"), host.snapshot().join("vmstate.snapshot"), host.image()];
    let ours = ours.map(|path| fs::metadata(path).unwrap()).map(|file| (file.dev(), file.ino()));
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten() {
        let Ok(file) = fs::metadata(entry.path()) else { continue };
        let info = read(format!("/proc/{id}/fdinfo/{}", entry.file_name().to_string_lossy()));
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let mode = u32::from_str_radix(flags, 8).unwrap() & ACCESS_MODE;
        if ours.contains(&(file.dev(), file.ino())) {
            seen += 1;
            assert_eq!(mode, 0, "{:?} is open for writing", fs::read_link(entry.path()));
        } else {
            assert!(!file.is_file() || mode == 0, "{:?} can be written", fs::read_link(entry.path()));
        }
    }
    assert!(seen > 0, "no descriptor of ours was found");
    session.end().await;
}

#[tokio::test]
async fn a_vmm_is_in_a_cgroup_that_limits_it_and_goes_with_it() {
    let host = TestHost::prepared();
    let session = session(&host).await;
    let vmm = Process::find(session.process_id()).unwrap();
    let groups = vmm.cgroups();
    assert!(!groups.is_empty(), "no cgroup: {}", read(format!("/proc/{}/cgroup", vmm.id)));
    let limit = |names: [&str; 2]| {
        groups
            .iter()
            .flat_map(|group| names.map(|name| group.join(name)))
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap_or_else(|| panic!("no {names:?} in {groups:?}"))
    };
    let memory: u64 = limit(["memory.max", "memory.limit_in_bytes"]).trim().parse().unwrap();
    assert!((512 << 20..1 << 30).contains(&memory), "{memory}");
    let tasks: u32 = limit(["pids.max", "pids.max"]).trim().parse().unwrap();
    assert!(tasks < 100, "{tasks}");
    session.end().await;
    assert!(!vmm.is_alive());
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
}
