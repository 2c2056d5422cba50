# sys.last_* are unset before and set for atexit after an uncaught exception.
import atexit
import sys


def at_exit():
    print(sys.last_type.__name__, sys.last_value, sys.last_traceback.tb_lineno)
    print(sys.exc_info())


atexit.register(at_exit)
print([hasattr(sys, n) for n in ("last_type", "last_value", "last_traceback", "tracebacklimit")])
print(sys.exc_info())
raise ArithmeticError("the last one")
