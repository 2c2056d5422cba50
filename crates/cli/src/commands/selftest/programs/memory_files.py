# Files in memory that have no name, and no file system that would bound them.
import os

taken = []
while True:
    file = os.memfd_create('taken')
    os.truncate(file, 64 << 20)
    os.posix_fallocate(file, 0, 64 << 20)
    taken.append(file)
