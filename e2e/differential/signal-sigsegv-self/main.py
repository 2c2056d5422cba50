# SIGSEGV to itself: default action, no faulthandler report.
import os
import signal

print("flushed", flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
