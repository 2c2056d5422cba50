# An exception in a forked child prints its traceback and the child goes through normal exit.
import os
import sys

print("buffered before")
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    raise ValueError("in the forked child")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
