# os.write to 1 and 2 around a print.
import os
import sys

print("buffered first, seen last")
os.write(1, b"direct\n")
os.write(2, b"direct err\n")
sys.stdout.flush()
os.writev(1, [b"a", b"b", b"\n"])
