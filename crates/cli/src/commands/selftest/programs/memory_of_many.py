# Many processes, none of which has much.
import os, time

for number in range(64):
    if os.fork() == 0:
        taken = b'x' * (16 << 20)
        time.sleep(60)
time.sleep(60)
