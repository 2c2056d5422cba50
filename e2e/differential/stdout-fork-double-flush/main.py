# A forked child inherits unflushed output: printed twice.
import os

print("twice")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
