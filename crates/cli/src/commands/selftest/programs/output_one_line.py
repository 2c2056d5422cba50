# A line of a gigabyte.
import os

part = b'x' * (1 << 20)
for _ in range(1024):
    os.write(1, part)
