# 200 kB on stderr and a line on stdout.
import sys

for i in range(2000):
    sys.stderr.write(f"{i:099d}\n")
print("done")
