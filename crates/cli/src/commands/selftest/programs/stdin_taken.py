# Has a child read what was its own, and ends before that has read all.
import os, sys

if os.fork() == 0:
    while os.read(0, 1):
        pass
    os._exit(0)
print('left it to a child')
