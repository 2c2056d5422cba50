# OSError texts and subclasses of failing system calls, as an unprivileged user.
import os

calls = {
    "missing": lambda: open("/nonexistent/file"),
    "directory": lambda: open("/"),
    "write-root": lambda: open("/etc/new-file", "w"),
    "shadow": lambda: open("/etc/shadow"),
    "mkdir-root": lambda: os.mkdir("/new-directory"),
    "setuid": lambda: os.setuid(0),
    "setgid": lambda: os.setgid(0),
    "chown": lambda: os.chown(__file__, 0, 0),
    "chroot": lambda: os.chroot("/tmp"),
    "bad-fd": lambda: os.read(99, 1),
    "kill-init": lambda: os.kill(1, 0),
    "nice": lambda: os.nice(-5),
    "hostname": lambda: os.sethostname("x") if hasattr(os, "sethostname") else open("/proc/sys/kernel/hostname", "w"),
}
for name, fn in calls.items():
    try:
        fn()
        print(name, "ok")
    except OSError as exc:
        print(name, type(exc).__name__, exc)
