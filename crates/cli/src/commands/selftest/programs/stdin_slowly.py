# Reads all, a little at a time, and has a pipe that holds as little as can be.
import fcntl, os

try:
    fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, 4096)
except OSError:
    pass
read = 0
while part := os.read(0, 1000):
    read += len(part)
print(read)
