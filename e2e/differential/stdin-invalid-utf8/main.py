# Invalid UTF-8 on stdin: the error handler of the C.UTF-8 locale decides.
import sys

print(sys.stdin.encoding, sys.stdin.errors)
for line in sys.stdin:
    print(ascii(line))
    print(line.encode("utf-8", "surrogateescape"))
