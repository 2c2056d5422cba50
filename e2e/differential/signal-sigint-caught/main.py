# SIGINT to itself is caught as KeyboardInterrupt; main thread only.
import _thread
import os
import signal
import time

for how in (lambda: os.kill(os.getpid(), signal.SIGINT), lambda: signal.raise_signal(signal.SIGINT), _thread.interrupt_main):
    try:
        how()
        time.sleep(1)
        print("not interrupted")
    except KeyboardInterrupt as exc:
        print("caught", repr(exc))
