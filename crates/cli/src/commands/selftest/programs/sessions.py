# Spins in hundreds of processes, each in a session of its own: a scheduler that is fair to sessions gives the agent one share of
# hundreds.
import os

for _ in range(480):
    if os.fork() == 0:
        os.setsid()
        break
while True:
    pass
