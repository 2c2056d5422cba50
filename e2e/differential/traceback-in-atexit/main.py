# Exceptions in atexit callbacks are printed, the others run, exit code stays 0.
import atexit


@atexit.register
def first_registered():
    print("runs last")


def fails(n):
    raise ValueError(f"in atexit {n}")


class Fixed:
    def __repr__(self):
        return "<fixed callback>"

    def __call__(self, n):
        fails(n)


atexit.register(Fixed(), 1)
atexit.register(print, "runs first")
