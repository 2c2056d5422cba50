# Python ignores SIGPIPE: a write to a closed pipe is BrokenPipeError.
import os
import signal

print(signal.getsignal(signal.SIGPIPE))
r, w = os.pipe()
os.close(r)
try:
    os.write(w, b"x")
except BrokenPipeError as exc:
    print(exc)
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.write(w, b"x")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
