# Which other processes exist: names of all visible ones except this and what pid 1 is.
import os

print(open("/proc/1/comm").read().strip())
others = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        name = open(f"/proc/{pid}/comm").read().strip()
        kernel = open(f"/proc/{pid}/status").read().find("VmSize") < 0
    except OSError:
        continue
    if int(pid) not in (1, os.getpid()) and not kernel:
        others.append(name)
print(sorted(others))
