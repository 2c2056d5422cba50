# Files that say they are larger than the host's disk, and have nothing in them.
import os

for number in range(100):
    file = os.open(f'/tmp/sparse-{number}', os.O_CREAT | os.O_RDWR)
    os.truncate(file, (1 << 43) - 1)
    os.pwrite(file, b'x', 1 << 42)
    try:
        os.posix_fallocate(file, 0, 1 << 42)
    except OSError as error:
        said = error
print(said)
