# sys.tracebacklimit set by the program is honoured at exit.
import sys


def f(n):
    if n == 0:
        raise ValueError("limited")
    f(n - 1)


sys.tracebacklimit = 2
f(5)
