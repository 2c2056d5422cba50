# Every byte value through sys.stdin.buffer, in pieces.
import hashlib
import sys

b = sys.stdin.buffer
print(b.read(3), b.peek(4)[:4], b.readline()[:12], len(b.read1(5)))
rest = b.read()
print(len(rest), hashlib.sha256(rest).hexdigest())
