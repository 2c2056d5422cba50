# os.read first, sys.stdin after: no bytes may sit in Python's buffer.
import os
import sys

print(os.read(0, 5))
print(sys.stdin.readline(), end="")
print(os.read(0, 100))
print(repr(sys.stdin.read()))
