//! Programs that attack the guest they run in, or whoever runs in it next: the same results on every backend.
//!
//! Here on QEMU with emulation; `make test-kvm` runs this very program on Firecracker and on QEMU with KVM.

use std::collections::BTreeMap;

use e2e::TestHost;
use serde_json::{Value, json};

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

/// What an attempt may meet: it is not allowed, or what it needs does not exist. `ECONNRESET` is what the vsock of a VMM
/// that has one says where nobody listens.
const REFUSALS: [&str; 12] = [
    "EPERM",
    "EACCES",
    "ECONNRESET",
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
