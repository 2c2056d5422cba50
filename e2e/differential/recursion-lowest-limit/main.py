# setrecursionlimit fails when the current depth is too high: probe the lowest limit accepted.
import sys

for n in range(1, 30):
    try:
        sys.setrecursionlimit(n)
    except RecursionError as exc:
        print(n, exc)
    else:
        sys.setrecursionlimit(1000)
        print("accepted", n)
        break
