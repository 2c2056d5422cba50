# Ignores every signal that can be ignored, in a session of its own, and never ends.
import os, signal

for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
if os.fork():
    os.wait()
os.setsid()
while True:
    pass
