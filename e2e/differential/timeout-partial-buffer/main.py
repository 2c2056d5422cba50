# A full buffer is written, the rest is not: the amount shows the buffer's size (8192).
import time

for i in range(3000):
    print(f"{i:06d}")
while True:
    time.sleep(60)
