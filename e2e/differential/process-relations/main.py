# Parent, process group, session, controlling terminal, as relations.
import os

print(os.getppid() == 1, os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid(), os.getpgrp() == os.getsid(0))
print(os.getpgrp() == os.getppid(), os.getsid(0) == os.getppid(), os.getpgid(os.getppid()) == os.getpgrp() if os.getppid() else None)
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
print("tty", stat[4], "tpgid", stat[5], "exit signal", stat[35], "priority", stat[15:17], "threads", stat[17], "policy", stat[38])
try:
    os.open("/dev/tty", os.O_RDWR)
except OSError as exc:
    print(exc)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError as exc:
    print(exc)
print(repr(open(f"/proc/self/task/{os.getpid()}/children").read()) if os.path.exists("/proc/self/task/%d/children" % os.getpid()) else "no children file")
