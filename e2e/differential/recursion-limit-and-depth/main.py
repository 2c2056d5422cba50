# The recursion limit and the depth really reached from main: nothing may lie below.
import sys

print(sys.getrecursionlimit())
depth = 0


def down():
    global depth
    depth += 1
    down()


try:
    down()
except RecursionError as exc:
    print(depth, exc)
sys.setrecursionlimit(60)
depth = 0
try:
    down()
except RecursionError:
    print(depth)
