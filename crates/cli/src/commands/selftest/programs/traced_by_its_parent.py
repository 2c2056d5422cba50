# Has its parent trace it, which is the agent, and stops: that is not its end.
import ctypes, os, signal

TRACE_ME = 0
print('running', flush=True)
ctypes.CDLL(None).ptrace(TRACE_ME, 0, 0, 0)
os.kill(os.getpid(), signal.SIGCHLD)
print('goes on', flush=True)
