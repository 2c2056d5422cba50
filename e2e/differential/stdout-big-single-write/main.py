# One os.write of 500 kB: partial writes and blocking behaviour of the pipe.
import os

data = b"0123456789abcdef" * 32000
n = os.write(1, data)
print("\n", n, n == len(data))
