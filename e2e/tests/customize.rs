//! Images are added to, by hand as documented and by `rootfs customize`: all or nothing, and out of reach of the host.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command, time::Duration};

use e2e::{
    TestHost, eventually,
    running::{Ended, Process, Running},
};
use images::Sha256Digest;
use rustix::{
    fs::StatVfsMountFlags,
    mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount},
    process::Signal,
};

/// The command line is wrong.
const USAGE: i32 = 2;
/// This host cannot do it.
const HOST: i32 = 3;

/// How long a command may take to end, on a busy machine.
const SECONDS: Duration = Duration::from_secs(30);

fn digest(host: &TestHost) -> Sha256Digest {
    Sha256Digest::of_file(&host.image(), &images::Quiet).unwrap()
}

fn customize(host: &TestHost, arguments: &[&str]) -> e2e::running::Ended {
    host.ended(&[&["rootfs", "customize", "--lang", "python"], arguments].concat())
}

fn nothing_is_left(host: &TestHost) {
    eventually("all processes end", SECONDS, || host.processes().unwrap().is_empty()).unwrap();
    assert_eq!(host.leftovers().unwrap(), Vec::<PathBuf>::new());
    let data = host.data().to_string_lossy().into_owned();
    // The kernel lets go of a loop device some time after the last process that had a file of it open.
    eventually("no loop device is left", SECONDS, || {
        let devices = Command::new("losetup").arg("--all").output().unwrap();
        assert!(devices.status.success(), "{devices:?}");
        !String::from_utf8_lossy(&devices.stdout).contains(&data)
    })
    .unwrap();
}

#[test]
fn what_is_added_is_there_for_programs_and_makes_the_snapshot_stale() {
    let host = TestHost::prepared().copy();
    let ended = customize(&host, &["--pip", "six", "--run", "echo added > /etc/added"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    let renew = "infra.operator snapshot create --lang python";
    assert!(ended.stderr.contains(&format!("hint: its snapshots are stale now; run: {renew}")), "{ended:?}");
    let program = "import six; print(six.__name__, open('/etc/added').read())";
    let refused = host.ended(&["host", "--lang", "python", "--snapshot", "--code", program]);
    assert_eq!(refused.code, HOST, "{refused:?}");
    let renew = host.typed(&format!("{renew} --mem 512 --vcpus 1"));
    assert_eq!(refused.error(), format!("E009: language not prepared: python (run: {renew})"));
    assert!(refused.stderr.contains("has changed since"), "{refused:?}");
    let booted = host.ended(&["host", "--lang", "python", "--code", program]);
    assert_eq!(booted.json()["stdout"], "six added\n", "{booted:?}");
    let listed: serde_json::Value =
        serde_json::from_str(&host.expect_done(&["rootfs", "list", "--json"])).unwrap();
    let steps = serde_json::json!([
        { "kind": "pip", "what": ["six"] },
        { "kind": "run", "what": "echo added > /etc/added" }
    ]);
    assert_eq!(listed[0]["steps"], steps);
    nothing_is_left(&host);
}

#[test]
fn a_step_that_fails_leaves_the_image_as_it_was() {
    let host = TestHost::with_image().copy();
    let before = digest(&host);
    for (arguments, said) in [
        (&["--run", "echo changed > /etc/hostname", "--run", "echo no room >&2; exit 7"][..], "no room"),
        (&["--pip", "no-such-distribution-of-anybody"], "No matching distribution found"),
        (&["--run", "dd if=/dev/zero of=/full bs=1M"], "No space left on device"),
    ] {
        let ended = customize(&host, arguments);
        assert_eq!(ended.code, HOST, "{ended:?}");
        let expected = "error: a step failed, and the image stays as it was:";
        assert!(ended.stderr.contains(expected) && ended.stderr.contains(said), "{ended:?}");
        assert_eq!(digest(&host), before);
        nothing_is_left(&host);
    }
    let ended = customize(&host, &[]);
    assert_eq!(ended.code, USAGE, "{ended:?}");
    for (arguments, hint) in [
        (&["--pip=--index-url=http://x"][..], "give names"),
        (&["--size", "1", "--run", "true"], "or more, or none"),
    ] {
        let ended = customize(&host, arguments);
        assert_eq!(ended.code, HOST, "{ended:?}");
        assert!(ended.stderr.contains("hint: ") && ended.stderr.contains(hint), "{ended:?}");
    }
}

/// Run as a step: prints what it should not have been able to do.
const ATTACK: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
MARK = sys.argv[1]
def reached(what):
    if os.path.exists(MARK):
        print("REACHED the host's files by", what)
os.makedirs("/tmp/x", exist_ok=True)
if os.fork() == 0:
    os.chroot("/tmp/x")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    reached("chroot")
    os._exit(0)
os.wait()
if os.fork() == 0:
    try:
        os.chroot("/proc/1/root")
        os.chdir("/")
        reached("process 1")
    except OSError:
        pass
    os._exit(0)
os.wait()
for what, outcome in {
    "mount": libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None),
    "unshare": libc.unshare(0x20000),
    "mknod": libc.mknod(b"/disk", 0o60600, os.makedev(7, 0)),
    "reboot": libc.syscall(169, 0xfee1dead, 672274793, 0, None),
}.items():
    if outcome == 0:
        print("ALLOWED", what)
for what, outcome in {
    "user namespace": libc.unshare(0x10000000),
    "keyctl": libc.syscall(250, 0, -4, 0, 0, 0),
    "keyctl of x32": libc.syscall(250 | 0x40000000, 0, -4, 0, 0, 0),
    "io_uring": libc.syscall(425, 1, 0),
    "vsock": libc.socket(40, 1, 0),
}.items():
    if outcome != -1:
        print("ALLOWED", what)
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
        return True
    except OSError:
        return False
for directory, names, files in os.walk("/proc"):
    if directory == "/proc":
        names[:] = [name for name in names if not name.isdigit() and not os.path.islink("/proc/" + name)]
    for path in (os.path.join(directory, name) for name in files):
        if not os.path.islink(path) and opened(path, os.O_WRONLY):
            print("ALLOWED writing", path)
for task in os.listdir("/proc/1/task"):
    for name in ["exe", "mem"]:
        if opened(f"/proc/1/task/{task}/{name}", os.O_RDONLY):
            print("REACHED process 1 by", name)
if open("/proc/keys").read():
    print("SEEN keys")
for name in ["cgroup", "ipc", "mnt", "pid", "uts"]:
    if os.readlink("/proc/self/ns/" + name) in sys.argv[2:]:
        print("REACHED the host's namespace", name)
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2 and os.path.isdir("/proc/self/fd/" + name) and os.path.exists(f"/proc/self/fd/{name}{MARK}"):
        print("REACHED the host's files by descriptor", name)
processes = [name for name in os.listdir("/proc") if name.isdigit()]
if len(processes) > 8:
    print("SEEN", processes)
print("attacked")
"#;

#[test]
fn steps_reach_neither_the_hosts_files_nor_its_processes_and_leave_none_behind() {
    let host = TestHost::with_image().copy();
    let mark = host.data().join("mark");
    fs::write(&mark, "").unwrap();
    let namespaces = ["cgroup", "ipc", "mnt", "pid", "uts"]
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string());
    let attack = format!(
        "cat > /tmp/attack.py <<'END'\n{ATTACK}\nEND\npython3 /tmp/attack.py {} {}",
        mark.display(),
        namespaces.join(" ")
    );
    let children = "sleep 1000 & sleep 1000 </dev/null >/dev/null 2>&1 &";
    let arguments = ["rootfs", "customize", "--lang", "python", "--run", &attack, "--run", children];
    let command = host.command(&arguments);
    // Whoever starts it has the host's root directory open.
    let mut careless = Command::new("sh");
    careless
        .args(["-c", "exec 9</ && exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => careless.env(name, value),
            None => careless.env_remove(name),
        };
    }
    let ended = Ended::new(&careless.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    for forbidden in ["REACHED", "ALLOWED", "SEEN"] {
        assert!(!ended.stderr.contains(&format!("\n{forbidden}")), "{ended:?}");
    }
    assert!(ended.stderr.contains("\nattacked"), "{ended:?}");
    nothing_is_left(&host);
}

#[test]
fn what_is_still_this_program_while_steps_are_taken_is_read_only_to_them() {
    let host = TestHost::with_image().copy();
    let arguments = ["rootfs", "customize", "--lang", "python", "--run", "echo begun; sleep 1000"];
    let mut running = Running::start(&mut host.command(&arguments));
    running.wait_until_said("\nbegun").unwrap();
    let own = fs::metadata(host.command(&[]).get_program()).unwrap();
    // Process 1 of the namespace is the one of this program that has another root directory.
    let inside: Vec<PathBuf> = fs::read_dir("/proc")
        .unwrap()
        .map(|process| process.unwrap().path())
        .filter(|process| {
            let same = fs::metadata(process.join("exe"))
                .is_ok_and(|file| (file.dev(), file.ino()) == (own.dev(), own.ino()));
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            let data = host.data().to_string_lossy().into_owned();
            same && String::from_utf8_lossy(&environment).contains(&data)
                && fs::read_link(process.join("ns/pid")).ok() != fs::read_link("/proc/self/ns/pid").ok()
        })
        .collect();
    assert_eq!(inside.len(), 1, "{inside:?}");
    let mounted = rustix::fs::statvfs(inside[0].join("exe")).unwrap();
    assert!(mounted.f_flag.contains(StatVfsMountFlags::RDONLY));
    running.signal(Signal::TERM);
    running.end_within(SECONDS).unwrap();
    nothing_is_left(&host);
}

#[test]
fn what_an_image_says_about_itself_neither_stops_the_host_nor_leads_elsewhere() {
    let host = TestHost::with_image().copy();
    let tuned = Command::new("tune2fs").args(["-e", "panic"]).arg(host.image()).output().unwrap();
    assert!(tuned.status.success(), "{tuned:?}");
    let ended = customize(&host, &["--run", "grep ' / / ' /proc/self/mountinfo | grep errors=remount-ro"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for command in ["rmdir /run", "symlink /run /proc"] {
        let edited = Command::new("debugfs").args(["-w", "-R", command]).arg(host.image()).output().unwrap();
        assert!(edited.status.success(), "{edited:?}");
    }
    let ended = customize(&host, &["--run", "true"]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains("/run is no directory there"), "{ended:?}");
    nothing_is_left(&host);
}

#[test]
fn a_command_that_is_killed_in_the_middle_leaves_no_process_and_the_next_one_succeeds() {
    let host = TestHost::with_image().copy();
    let before = digest(&host);
    for signal in [Signal::KILL, Signal::TERM] {
        let arguments = ["rootfs", "customize", "--lang", "python", "--run", "echo begun; sleep 1000"];
        let mut running = Running::start(&mut host.command(&arguments));
        running.wait_until_said("\nbegun").unwrap();
        let processes = running.process().descendants();
        running.signal(signal);
        running.end_within(SECONDS).unwrap();
        eventually("the steps end", SECONDS, || !processes.iter().any(Process::is_alive)).unwrap();
        assert_eq!(digest(&host), before);
        if signal == Signal::TERM {
            nothing_is_left(&host);
        }
    }
    assert_eq!(customize(&host, &["--run", "true"]).code, 0);
    nothing_is_left(&host);
}

/// The documented way by hand, undone when dropped.
struct ByHand {
    root: tempfile::TempDir,
}

impl ByHand {
    fn mount(host: &TestHost) -> Self {
        let root = tempfile::tempdir().unwrap();
        let status = Command::new("mount").args(["-o", "loop"]).arg(host.image()).arg(root.path()).status();
        assert!(status.unwrap().success());
        for directory in ["dev", "proc", "sys"] {
            mount_bind(format!("/{directory}"), root.path().join(directory)).unwrap();
            mount_change(root.path().join(directory), MountPropagationFlags::PRIVATE).unwrap();
        }
        Self { root }
    }

    fn run(&self, command: &str) -> String {
        let output = Command::new("chroot").arg(self.root.path()).args(["/bin/bash", "-c", command]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for directory in ["sys", "proc", "dev", ""] {
            let _ = unmount(self.root.path().join(directory), UnmountFlags::empty());
        }
    }
}

#[test]
fn an_image_can_be_mounted_and_added_to_by_hand_as_documented() {
    let host = TestHost::prepared().copy();
    let by_hand = ByHand::mount(&host);
    fs::copy("/etc/resolv.conf", by_hand.root.path().join("etc/resolv.conf")).unwrap();
    assert!(by_hand.run("pip3 install --quiet --root-user-action=ignore six && pip3 list").contains("six"));
    let listed = host.expect_done(&["rootfs", "list"]);
    assert!(listed.contains("is mounted, or was not unmounted"), "{listed}");
    let ended = customize(&host, &["--run", "true"]);
    assert_eq!(ended.code, HOST, "{ended:?}");
    assert!(ended.stderr.contains("hint: unmount it"), "{ended:?}");
    drop(by_hand);
    let refused = host.ended(&["host", "--lang", "python", "--snapshot", "--code", "import six"]);
    assert!(refused.error().contains("(run: infra.operator snapshot create --lang python"), "{refused:?}");
    let booted = host.ended(&["host", "--lang", "python", "--code", "import six; print('imported')"]);
    assert_eq!(booted.json()["stdout"], "imported\n", "{booted:?}");
}
