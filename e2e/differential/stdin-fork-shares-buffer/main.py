# A forked child inherits Python's read-ahead buffer of stdin.
import os
import sys

print(sys.stdin.readline(), end="", flush=True)
pid = os.fork()
if pid == 0:
    print("child", repr(sys.stdin.read()), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", repr(sys.stdin.read()))
