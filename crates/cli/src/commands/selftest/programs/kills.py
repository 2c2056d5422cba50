# Kills and stops whom it can: everybody at once, the agent, its parent.
import os, signal

for process in [-1, 1, os.getppid(), -os.getppid()]:
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(process, number)
        except OSError:
            pass
print('unharmed')
