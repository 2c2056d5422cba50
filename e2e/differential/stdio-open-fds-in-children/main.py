# fds that leak into an exec'd child or into a forked one.
import os
import subprocess
import sys

subprocess.run(["ls", "/proc/self/fd"], close_fds=False)
pid = os.fork()
if pid == 0:
    print(sorted(map(int, os.listdir("/proc/self/fd"))), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
code = "import os; print([n for n in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{n}')])"
subprocess.run([sys.executable, "-c", code], close_fds=False)
