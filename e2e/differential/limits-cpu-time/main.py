# RLIMIT_CPU counted from the real start: with one second more than used so far, SIGXCPU comes in a loop.
import os
import resource
import signal
import time

used = time.process_time()
print(used < 30, signal.getsignal(signal.SIGXCPU), flush=True)
pid = os.fork()
if pid == 0:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
