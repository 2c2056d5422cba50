# SIGTERM to itself, default action; buffered output is lost.
import os
import signal

print("flushed", flush=True)
print("lost")
os.kill(os.getpid(), signal.SIGTERM)
print("never", flush=True)
