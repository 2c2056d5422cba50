# Terminal size and curses-like queries without a terminal.
import os
import shutil

print(shutil.get_terminal_size(), shutil.which("python3") is not None, shutil.which("no-such-program"))
for fd in range(3):
    for fn in (os.get_terminal_size, os.ttyname):
        try:
            print(fn(fd))
        except OSError as exc:
            print(fd, fn.__name__, exc)
print(os.isatty(0), os.ctermid(), shutil.disk_usage(".").total > 0)
