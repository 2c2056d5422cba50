# Limits the program sets on itself work: open files, file size, processes of a child, cpu time.
import os
import resource
import signal

resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
fds = []
try:
    while True:
        fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError as exc:
    print(exc.strerror, fds)
for fd in fds:
    os.close(fd)
print(signal.getsignal(signal.SIGXFSZ))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with open("small", "wb", buffering=0) as f:
    print(f.write(b"x" * 2000))
    f.write(b"more")
