# input() over several lines, the last one without newline, then EOF.
import sys

print(repr(input()), repr(input("second? ")), repr(input()))
print(repr(sys.stdin.readline()))
try:
    input("again ")
except EOFError as exc:
    print("\n" + repr(exc))
