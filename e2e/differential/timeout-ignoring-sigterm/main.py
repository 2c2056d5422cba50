# A program that ignores all it can is killed all the same.
import signal
import time

for num in signal.valid_signals():
    try:
        signal.signal(num, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
print("ignoring", flush=True)
while True:
    time.sleep(1)
