"""What a VMM process could do that a guest has taken over: goes where the process is, becomes who it is, and tries.

usage: escape.py PROCESS USER

Without the process's system call filter: everything here has to be refused by something else. Prints JSON.
"""

import ctypes
import errno
import json
import os
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
SETNS, PTRACE, MOUNT = 308, 101, 165
PTRACE_SEIZE, PR_SET_NO_NEW_PRIVS = 0x4206, 38
process, user = map(int, sys.argv[1:])
status = open(f"/proc/{process}/status").read()
is_first = status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"


def call(function, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, function)(*arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return "done"


def attempt(action):
    try:
        return repr(action())[:100]
    except OSError as error:
        return errno.errorcode[error.errno]


def can(path, flags):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
        return True
    except OSError:
        return False


def can_make_files(directory):
    made = os.path.join(directory, "mine")
    if not can(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
        return False
    os.unlink(made)
    return True


def connect():
    with socket.socket() as client:
        client.settimeout(2)
        client.connect(("10.0.2.2", 80))


def try_all():
    directories, files, devices = [], [], []
    for directory, _, names in os.walk("/"):
        directories.append(directory)
        for name in names:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                files.append(path)
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                devices.append(path)
    may_signal = []
    for number in range(1, 300):
        if attempt(lambda: os.kill(number, 0)) == "None" and number != os.getpid():
            may_signal.append(number)
    others = {
        "trace PID 1": attempt(lambda: call("syscall", PTRACE, PTRACE_SEIZE, 1, 0, 0)),
        "signal PID 1": attempt(lambda: os.kill(1, 0)),
    }
    return {
        "directories that can be written": sorted(filter(can_make_files, directories)),
        "files that can be written": sorted(path for path in files if can(path, os.O_WRONLY)),
        "devices that can be opened": sorted(path for path in devices if can(path, os.O_RDWR)),
        "others that can be signalled": len(may_signal),
        "refused": {
            "become root": attempt(lambda: os.setuid(0)),
            "mount": attempt(lambda: call("syscall", MOUNT, b"none", b"/", b"tmpfs", 0, None)),
            "make a device": attempt(lambda: os.mknod("/disk", stat.S_IFBLK | 0o666, os.makedev(254, 0))),
            "change the root": attempt(lambda: os.chroot("/")),
            "reach the network": attempt(connect),
            "open a raw socket": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
            "set the host's name": attempt(lambda: socket.sethostname("mine")),
            "reboot": attempt(lambda: call("reboot", 0x89ABCDEF)),
            "read the host's processes": attempt(lambda: os.listdir("/proc")),
            # The VMM may be PID 1 itself, which can do with itself as it likes.
            **({} if is_first else others),
        },
    }


root = os.open(f"/proc/{process}/root", os.O_PATH)
for namespace in [os.open(f"/proc/{process}/ns/{name}", os.O_RDONLY) for name in ("net", "ipc", "uts", "pid", "mnt")]:
    call("syscall", SETNS, namespace, 0)
os.fchdir(root)
os.chroot(".")
# A process enters a pid namespace by its children.
if (child := os.fork()) == 0:
    os.closerange(3, 64)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    print(json.dumps(try_all()), flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
