# stderr dup'ed onto stdout shows the real order of the writes.
import os
import sys

os.dup2(1, 2)
print("1 out")
print("2 err", file=sys.stderr)
os.write(1, b"3 os.write\n")
sys.stdout.buffer.write(b"4 buffer\n")
sys.stdout.flush()
print("5 out")
os.write(2, b"6 os.write 2\n")
