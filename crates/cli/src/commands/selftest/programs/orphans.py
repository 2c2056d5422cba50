# Leaves processes in sessions of their own, whose parents are gone; one of them forks on for ever.
import os, time

for number in range(30):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while number == 0:
                if os.fork():
                    os._exit(0)
            time.sleep(60)
        os._exit(0)
print('orphans are left')
