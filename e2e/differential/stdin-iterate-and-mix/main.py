# Iterating sys.stdin, readline before and read after.
import sys

print("readline", repr(sys.stdin.readline()))
for line in sys.stdin:
    print("iter", repr(line))
    if line.startswith("3"):
        break
print("input", repr(input()))
print("buffer", sys.stdin.buffer.read())
print("rest", repr(sys.stdin.read()))
