# sys.exit with an object whose __str__ fails.
import sys


class Odd:
    def __str__(self):
        raise ValueError("no str")


sys.exit(Odd())
