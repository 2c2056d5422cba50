# A background child with closed pipes must not keep the job going.
import os
import sys
import time

if os.fork() == 0:
    for fd in range(3):
        os.close(fd)
    time.sleep(30)
    os._exit(0)
print("main ends")
sys.exit(3)
