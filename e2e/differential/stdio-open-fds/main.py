# Which file descriptors are open at the start, and their kinds; the next free fd.
import os

for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        target = "(the listing itself)"
    print(fd, target.split(":")[0])
fd = os.open("/", os.O_RDONLY)
print("next", fd, os.dup(fd))
for line in open(f"/proc/self/fdinfo/{fd}"):
    print(line.split(":")[0])
