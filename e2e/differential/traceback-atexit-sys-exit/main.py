# sys.exit inside an atexit callback must not change the exit code.
import atexit
import sys


class Leave:
    def __repr__(self):
        return "<leave>"

    def __call__(self):
        sys.exit(9)


atexit.register(print, "after the exit")
atexit.register(Leave())
sys.exit(4)
