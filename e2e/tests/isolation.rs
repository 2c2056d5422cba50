//! A job can do nothing to its guest, and a VMM that a guest has taken over could do nothing to the host.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use e2e::{TestHost, running::Process};
use engine::{Languages, Session, Start};
use serde_json::{Value, json};
use vmm::MachineSpec;

/// Tries what a job must not be able to do. Prints the name of each attempt with the error that it met, or what it
/// has got.
const ATTEMPTS: &str = r"
import ctypes, errno, glob, json, os, signal, socket, stat, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
results = {}

def attempt(name, action):
    try:
        results[name] = repr(action())[:200]
    except OSError as error:
        results[name] = errno.errorcode[error.errno]

def call(function, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, function)(*arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return 'done'

def opened(path, flags=os.O_RDONLY):
    return os.read(os.open(path, flags), 16) if flags == os.O_RDONLY else os.open(path, flags)

def status(name):
    return [line.split()[1] for line in open('/proc/self/status') if line.startswith(name + ':')][0]

class Timespec(ctypes.Structure):
    _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000, 0x20000000, 0x40000000
others = [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) not in (os.getpid(), os.getppid())]

for process in [1, os.getppid()] + others:
    name = 'pid 1' if process == 1 else 'parent' if process == os.getppid() else 'another process'
    attempt(f'signal {name}', lambda: os.kill(process, signal.SIGTERM))
    attempt(f'trace {name}', lambda: call('ptrace', PTRACE_SEIZE, process, 0, 0))
    for file in ('environ', 'mem', 'maps', 'syscall', 'stack'):
        attempt(f'read {file} of {name}', lambda: opened(f'/proc/{process}/{file}'))
    for directory in ('fd', 'map_files'):
        attempt(f'list {directory} of {name}', lambda: os.listdir(f'/proc/{process}/{directory}'))
    for link in ('root', 'exe', 'cwd', 'ns/mnt'):
        attempt(f'follow {link} of {name}', lambda: os.readlink(f'/proc/{process}/{link}'))
    attempt(f'make {name} the first to be killed', lambda: open(f'/proc/{process}/oom_score_adj', 'w').write('1000'))

for device in ('vda', 'vport0p1', 'vport1p1', 'kmsg', 'mem', 'port', 'kcore', 'console', 'ttyS0', 'hvc0', 'rtc0'):
    attempt(f'open /dev/{device}', lambda: opened(f'/dev/{device}', os.O_RDWR))
attempt('make a device', lambda: os.mknod('/tmp/vda', stat.S_IFBLK | 0o666, os.makedev(254, 0)))
attempt('open /proc/kcore', lambda: opened('/proc/kcore'))
attempt('open /proc/kmsg', lambda: opened('/proc/kmsg'))
attempt('read the log', lambda: call('klogctl', 3, ctypes.create_string_buffer(64), 64))
attempt('press sysrq', lambda: open('/proc/sysrq-trigger', 'w').write('b'))
attempt('set a kernel parameter', lambda: open('/proc/sys/kernel/hostname', 'w').write('mine'))
attempt('set the core pattern', lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x'))

attempt('mount', lambda: call('mount', b'none', b'/tmp', b'tmpfs', 0, None))
attempt('bind', lambda: call('mount', b'/etc', b'/tmp', None, 4096, None))
attempt('remount', lambda: call('mount', None, b'/', None, 32, None))
attempt('unmount', lambda: call('umount2', b'/tmp', 2))
attempt('change the root', lambda: os.chroot('/tmp'))
attempt('pivot the root', lambda: call('syscall', 155, b'/tmp', b'/tmp'))
for name, flags in (('user', CLONE_NEWUSER), ('user and mount', CLONE_NEWUSER | CLONE_NEWNS), ('mount', CLONE_NEWNS),
                    ('pid', CLONE_NEWPID), ('network', CLONE_NEWNET)):
    attempt(f'unshare {name} namespaces', lambda: call('unshare', flags))
attempt('enter the namespaces of pid 1', lambda: call('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0))

attempt('set the clock', lambda: time.clock_settime(time.CLOCK_REALTIME, 0))
attempt('set the clock in another way', lambda: call('settimeofday', ctypes.byref(Timespec(0, 0)), None))
attempt('set the host name', lambda: socket.sethostname('mine'))
attempt('reboot', lambda: call('reboot', 0x1234567))
attempt('load a module', lambda: call('syscall', 175, b'', 0, b''))
attempt('load a kernel', lambda: call('syscall', 246, 0, 0, None, 0))
attempt('load a bpf program', lambda: call('syscall', 321, 5, ctypes.create_string_buffer(128), 128))
attempt('open a raw socket', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('open a packet socket', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('reach the network', lambda: socket.create_connection(('10.0.2.2', 80), 1))
attempt('reach a vsock', lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 1)))
attempt('get more priority', lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
attempt('run in real time', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt('raise a limit', lambda: __import__('resource').prlimit(1, __import__('resource').RLIMIT_NOFILE))

attempt('become root', lambda: os.setuid(0))
attempt('become root in another way', lambda: os.setresuid(-1, 0, -1))
attempt('become of group root', lambda: os.setgid(0))
attempt('take groups', lambda: os.setgroups([0]))
with open('/tmp/id', 'wb') as copy:
    copy.write(open('/usr/bin/id', 'rb').read())
os.chmod('/tmp/id', 0o6755)
attempt('give a file to root', lambda: os.chown('/tmp/id', 0, 0))
results['setuid programs'] = subprocess.run(
    ['find', '/', '-xdev', '-perm', '/6000', '-type', 'f', '-uid', '0'], capture_output=True, text=True).stdout.split()
results['who setuid programs make one'] = sorted({
    subprocess.run([program, '-u'], capture_output=True, text=True).stdout.strip() for program in ('/tmp/id', 'id')})

for place in ('/', '/etc', '/usr/bin', '/usr/lib/python3', '/root', '/home', '/var', '/var/lib', '/dev', '/run', '/opt',
              '/srv', '/proc', '/sys', '/boot', '/mnt', '/lower', '/overlay'):
    attempt(f'write in {place}', lambda: open(f'{place}/mine', 'w'))
attempt('change /etc/passwd', lambda: open('/etc/passwd', 'a'))
attempt('list /root', lambda: os.listdir('/root'))
attempt('read /etc/shadow', lambda: open('/etc/shadow').read())
results['scratch'] = [open(f'{place}/mine', 'w').write('x') for place in ('/tmp', '/var/tmp', '/dev/shm', '.')]

results['cgroup files'] = glob.glob('/sys/fs/cgroup/*') + glob.glob('/cgroup/*') + [
    line for line in open('/proc/self/mountinfo') if 'cgroup' in line]
results['status'] = {name: status(name) for name in
    ('Uid', 'Gid', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs')}
results['groups'] = os.getgroups()
results['uid'] = os.getresuid() + os.getresgid()
results['devices'] = sorted(os.listdir('/dev'))
results['interfaces'] = [name for _, name in socket.if_nameindex()]
results['descriptors'] = sorted(os.path.basename(path) for path in glob.glob('/proc/self/fd/*')
                                if os.path.exists(path) and int(os.path.basename(path)) > 2)
print(json.dumps(results))
";

/// What an attempt may meet: it is not allowed, or what it needs does not exist.
const REFUSALS: [&str; 11] = [
    "EPERM",
    "EACCES",
    "ENOENT",
    "EROFS",
    "ENOSPC",
    "ENOSYS",
    "ENODEV",
    "ENXIO",
    "ENETUNREACH",
    "EAFNOSUPPORT",
    "ESRCH",
];

#[test]
fn a_job_cannot_reach_out_of_itself() {
    let host = TestHost::prepared();
    // It runs in the initialised interpreter; in a child of that, for a batch; in a process of its own, for arguments.
    for (way, args, stdin) in [
        ("the interpreter", json!([]), json!("")),
        ("a child of it", json!([]), json!(["", ""])),
        ("a process of its own", json!(["fresh"]), json!("")),
    ] {
        let request =
            json!({ "language": "python", "code": ATTEMPTS, "args": args, "stdin": stdin, "timeout": 60 });
        let (_, answer) = host.request(&request);
        let answer = answer.get(1).unwrap_or(&answer);
        assert_eq!(answer["stderr"], Value::Null, "{answer}");
        let mut seen: BTreeMap<String, Value> = serde_json::from_str(answer["stdout"].as_str().unwrap())
            .unwrap_or_else(|error| panic!("{error}: {answer}"));
        let mut take = |name: &str| seen.remove(name).unwrap_or_else(|| panic!("no {name}"));

        let status = take("status");
        for name in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[name], "0000000000000000", "{name}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(take("uid"), json!([65534, 65534, 65534, 65534, 65534, 65534]));
        assert_eq!(take("groups"), json!([]));
        assert_eq!(take("setuid programs"), json!([]));
        assert_eq!(take("who setuid programs make one"), json!(["65534"]));
        assert_eq!(take("cgroup files"), json!([]));
        assert_eq!(take("interfaces"), json!(["lo"]));
        assert_eq!(take("scratch"), json!([1, 1, 1, 1]), "the scratch directories can be written");
        assert_eq!(take("descriptors"), json!([]), "descriptors of somebody else");
        let devices = take("devices");
        assert_eq!(
            devices,
            json!([
                "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
                "urandom", "zero"
            ])
        );
        assert!(seen.len() > 60, "only {} attempts", seen.len());
        let done: Vec<_> =
            seen.iter().filter(|(_, result)| !REFUSALS.contains(&result.as_str().unwrap())).collect();
        assert!(done.is_empty(), "{way}: {done:?}");
    }
}

#[test]
fn a_job_that_kills_whom_it_can_harms_nobody() {
    let code = "
import os, signal
if input() == 'kill':
    for process in [-1, 1, os.getppid()]:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            try: os.kill(process, number)
            except OSError: pass
print('unharmed')
";
    let host = TestHost::prepared();
    let stdin = ["kill", "nothing", "kill", "nothing"];
    let (status, answer) = host.request(&json!({ "language": "python", "code": code, "stdin": stdin }));
    assert_eq!(status, 0, "{answer}");
    for answer in answer.as_array().unwrap() {
        assert_eq!((&answer["stdout"], &answer["exitCode"]), (&json!("unharmed\n"), &json!(0)), "{answer}");
    }
}

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
        assert!((710_000..720_000).contains(&number), "{user:?}");
        assert!(user.iter().all(|other| *other == user[0]), "{user:?}");
        assert_eq!(status(id, "Gid"), user);
        assert_eq!(status(id, "Groups"), Vec::<String>::new());
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(id, set), ["0000000000000000"], "{set}");
        }
        assert_eq!(status(id, "NoNewPrivs"), ["1"]);
        assert_eq!(status(id, "Seccomp"), ["2"]);
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

/// Puts both ends of a socket pair, with the program's output, into the pair itself: so they stay open without a process.
const HOLD_STREAMS: &str = "import os, socket, sys, time
a, b = socket.socketpair()
socket.send_fds(a, [b'x'], [a.fileno(), b.fileno(), 1, 2])
socket.send_fds(b, [b'x'], [a.fileno(), b.fileno(), 1, 2])
os.write(1, b'said')
if sys.stdin.read() == 'child' and os.fork() == 0:
    time.sleep(60)
os._exit(4)
";

#[test]
fn a_job_cannot_hold_its_streams_open_beyond_its_end() {
    let host = TestHost::prepared();
    let request = json!({
        "language": "python", "stdin": ["child", "alone", "child"], "timeout": 10,
        "files": [{ "name": "main.py", "content": HOLD_STREAMS }],
    });
    let (code, answer) = host.request(&request);
    let all: Vec<_> =
        answer.as_array().unwrap().iter().map(|one| (&one["stdout"], &one["exitCode"])).collect();
    assert_eq!((code, all), (0, vec![(&json!("said"), &json!(4)); 3]), "{answer}");
}

/// Leaves something wherever it may, and says what it finds of an earlier execution.
const LEAVE: &str = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = []
for directory, _, files in os.walk('/', onerror=None):
    if directory.startswith(('/proc', '/sys', '/dev/pts', os.getcwd())):
        continue
    if 'leaked' in files:
        found.append(directory)
    try:
        open(directory + '/leaked', 'w').close()
    except OSError:
        pass
key = libc.syscall(248, b'user', b'leaked', b'x', 1, -4)
queue = libc.mq_open(b'/leaked', os.O_CREAT | os.O_RDWR, 0o600, None)
shared = libc.shmget(0x1ea, 4096, 0o600)
libc.shmget(0x1ea, 4096, 0o1600)
semaphore = libc.semget(0x1ea, 1, 0o1600)
messages = libc.msgget(0x1ea, 0o1600)
print(found, key, queue, shared, semaphore, messages)
";

#[test]
fn an_execution_finds_nothing_of_an_earlier_one() {
    let host = TestHost::prepared();
    let request = json!({
        "language": "python", "stdin": ["", "", ""], "timeout": 60,
        "files": [{ "name": "main.py", "content": LEAVE }],
    });
    let (_, answer) = host.request(&request);
    for one in answer.as_array().unwrap() {
        assert_eq!(one["stdout"], "[] -1 -1 -1 -1 -1\n", "{answer}");
    }
}
