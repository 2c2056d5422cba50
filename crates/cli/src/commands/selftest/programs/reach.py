# Tries whatever would lead out of a job: to other processes, devices, the kernel, other users, the rest of the file system.
# Says what it has reached.
import ctypes, errno, glob, json, os, signal, socket, stat, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
attempts = 0
reached = []

# It is not allowed, or what it needs does not exist. ECONNRESET and ETIMEDOUT are what the vsock of a VMM says where nobody
# listens.
REFUSALS = {errno.EPERM, errno.EACCES, errno.ECONNRESET, errno.ENOENT, errno.EROFS, errno.ENOSPC, errno.ENOSYS, errno.ENODEV,
            errno.ENXIO, errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.ESRCH, errno.ETIMEDOUT}


def attempt(name, action):
    global attempts
    attempts += 1
    try:
        reached.append(f'{name}: {action()!r}'[:200])
    except OSError as error:
        if error.errno not in REFUSALS:
            reached.append(f'{name}: {error}')


def expect(name, found, wanted):
    global attempts
    attempts += 1
    if found != wanted:
        reached.append(f'{name}: {found!r} instead of {wanted!r}')


def call(function, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, function)(*arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return 'done'


def opened(path, flags=os.O_RDONLY):
    return os.read(os.open(path, flags), 16) if flags == os.O_RDONLY else os.open(path, flags)


def write(path, text):
    # Without a buffer, whose error nobody would hear.
    file = os.open(path, os.O_WRONLY)
    try:
        return os.write(file, text)
    finally:
        os.close(file)


def status(name):
    return [line.split()[1] for line in open('/proc/self/status') if line.startswith(name + ':')][0]


# Other processes.
PTRACE_SEIZE = 0x4206
others = [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) not in (os.getpid(), os.getppid())]
for process in [1, os.getppid()] + others:
    name = 'pid 1' if process == 1 else 'parent' if process == os.getppid() else 'another process'
    attempt(f'signal {name}', lambda: os.kill(process, signal.SIGTERM))
    attempt(f'trace {name}', lambda: call('ptrace', PTRACE_SEIZE, process, 0, 0))
    for file in ('environ', 'mem', 'maps', 'syscall', 'stack', 'auxv', 'io'):
        attempt(f'read {file} of {name}', lambda: opened(f'/proc/{process}/{file}'))
    for directory in ('fd', 'fdinfo', 'map_files'):
        attempt(f'list {directory} of {name}', lambda: os.listdir(f'/proc/{process}/{directory}'))
    for link in ('root', 'exe', 'cwd', 'ns/mnt', 'ns/pid'):
        attempt(f'follow {link} of {name}', lambda: os.readlink(f'/proc/{process}/{link}'))
    attempt(f'make {name} the first to be killed', lambda: write(f'/proc/{process}/oom_score_adj', b'1000'))
attempt('be killed last', lambda: write('/proc/self/oom_score_adj', b'-1000'))

# Devices, the kernel's files, its parameters.
for device in ('vda', 'vport0p1', 'vport1p1', 'vsock', 'kmsg', 'mem', 'kmem', 'port', 'kcore', 'console', 'ttyS0', 'hvc0', 'rtc0',
               'kvm', 'fuse', 'loop-control', 'cpu/0/msr', 'hwrng', 'userfaultfd', 'net/tun', 'vhost-vsock'):
    attempt(f'open /dev/{device}', lambda: opened(f'/dev/{device}', os.O_RDWR))
for kind, major, minor in ((stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 10, 200)):
    attempt('make a device', lambda: os.mknod('/tmp/device', kind | 0o666, os.makedev(major, minor)))
for file in ('kcore', 'kmsg', 'kallsyms-hidden', 'vmcore', 'timer_list', 'slabinfo', 'kpagecount', 'kpageflags', 'iomem-hidden',
             'sysrq-trigger', '1/environ', 'sys/kernel/cad_pid'):
    attempt(f'open /proc/{file}', lambda: opened(f'/proc/{file}'))
expect('kernel addresses', {line.split()[0] for line in open('/proc/kallsyms')} if os.path.exists('/proc/kallsyms') else {'0' * 16},
       {'0' * 16})
attempt('read the log', lambda: call('klogctl', 3, ctypes.create_string_buffer(64), 64))
attempt('press sysrq', lambda: write('/proc/sysrq-trigger', b'b'))
for parameter in ('kernel/hostname', 'kernel/core_pattern', 'kernel/modprobe', 'kernel/randomize_va_space', 'kernel/panic',
                  'kernel/sysrq', 'vm/overcommit_memory', 'vm/drop_caches', 'net/ipv4/ip_forward', 'user/max_user_namespaces'):
    attempt(f'set {parameter}', lambda: write(f'/proc/sys/{parameter}', b'1'))
attempt('look at /sys', lambda: os.listdir('/sys/class'))
expect('cgroup files', glob.glob('/sys/fs/cgroup/*') + glob.glob('/cgroup/*')
       + [line for line in open('/proc/self/mountinfo') if 'cgroup' in line], [])

# The network, and what passes for it.
attempt('open a raw socket', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('open a packet socket', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('reach the network', lambda: socket.create_connection(('10.0.2.2', 80), 1))
attempt('reach the network by IPv6', lambda: socket.create_connection(('2001:db8::1', 80), 1))
for peer in ((2, 1), (2, 22), (2, 1024), (2, 5000), (1, 5000), (0, 5000), (3, 5000), (4, 5000)):
    attempt(f'reach vsock {peer}', lambda: socket.socket(40, socket.SOCK_STREAM).connect(peer))
expect('interfaces', [name for _, name in socket.if_nameindex()], ['lo'])

# The clock, the machine, the limits.
attempt('set the clock', lambda: time.clock_settime(time.CLOCK_REALTIME, 0))
attempt('set the clock in another way', lambda: call('settimeofday', ctypes.create_string_buffer(16), None))
attempt('set the host name', lambda: socket.sethostname('mine'))
attempt('reboot', lambda: call('reboot', 0x1234567))
attempt('get more priority', lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
attempt('run in real time', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))

# Other users.
attempt('become root', lambda: os.setuid(0))
attempt('become root in another way', lambda: os.setresuid(-1, 0, -1))
attempt('become of group root', lambda: os.setgid(0))
attempt('take groups', lambda: os.setgroups([0]))
with open('/tmp/id', 'wb') as copy:
    copy.write(open('/usr/bin/id', 'rb').read())
os.chmod('/tmp/id', 0o6755)
attempt('give a file to root', lambda: os.chown('/tmp/id', 0, 0))
expect('setuid programs', subprocess.run(['find', '/', '-xdev', '-perm', '/6000', '-type', 'f', '-uid', '0'], text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split(), [])
expect('who setuid programs make one', {subprocess.run([program, '-u'], stdout=subprocess.PIPE, text=True).stdout.strip()
                                        for program in ('/tmp/id', 'id')}, {'65534'})
for name in ('CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
    expect(name, status(name), '0' * 16)
expect('NoNewPrivs', status('NoNewPrivs'), '1')
expect('groups', os.getgroups(), [])
expect('user and group', set(os.getresuid() + os.getresgid()), {65534})

# Files.
for place in ('/', '/etc', '/usr/bin', '/usr/lib/python3', '/root', '/home', '/var', '/var/lib', '/dev', '/run', '/opt', '/srv',
              '/proc', '/sys', '/boot', '/mnt', '/lower', '/overlay', '/newroot', '/cgroup', '/modules', '/init'):
    attempt(f'write in {place}', lambda: open(f'{place}/mine', 'w'))
for path in ('/etc/passwd', '/usr/bin/python3', '/bin/sh', '/lib/x86_64-linux-gnu/libc.so.6'):
    attempt(f'change {path}', lambda: open(path, 'a'))
attempt('list /root', lambda: os.listdir('/root'))
attempt('read /etc/shadow', lambda: open('/etc/shadow').read())
expect('scratch directories', [open(f'{place}/mine', 'w').write('x') for place in ('/tmp', '/var/tmp', '/dev/shm', '.')], [1] * 4)
expect('devices', sorted(os.listdir('/dev')), ['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout',
                                              'tty', 'urandom', 'zero'])
expect('descriptors', sorted(os.path.basename(path) for path in glob.glob('/proc/self/fd/*')
                             if os.path.exists(path) and int(os.path.basename(path)) > 2), [])

assert attempts > 130, attempts
print('\n'.join(reached) or 'nothing was reached')
