# The limit also ends children that hold the pipes.
import os
import time

if os.fork() == 0:
    os.setsid()
    print("child", flush=True)
    time.sleep(60)
time.sleep(60)
