# More stdin than a pipe holds, read to the end through the text layer.
import hashlib
import sys

n = 0
h = hashlib.sha256()
for line in sys.stdin:
    n += 1
    h.update(line.encode())
print(n, h.hexdigest())
