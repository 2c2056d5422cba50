# A forked child that returns runs the callbacks too, with os._exit it does not.
import atexit
import os
import sys

me = os.getpid()
atexit.register(lambda: print("atexit in", "parent" if os.getpid() == me else "child", flush=True))
for how in (sys.exit, os._exit):
    pid = os.fork()
    if pid == 0:
        how(3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
