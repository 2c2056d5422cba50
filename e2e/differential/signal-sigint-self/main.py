# SIGINT to itself raises KeyboardInterrupt, uncaught.
import os
import signal
import time

print("before", flush=True)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(1)
print("never")
