# With a high limit 20000 Python frames are reached on the main thread, and the C stack holds 3000 levels.
import sys

sys.setrecursionlimit(30000)


def py(n):
    return 0 if n == 0 else 1 + py(n - 1)


class K:
    def __init__(self, n):
        self.n = n

    def __lt__(self, other):
        return self.n > 0 and K(self.n - 1) < other


print(py(20000))
print(sorted([K(0), K(2000)])[0].n in (0, 2000))
