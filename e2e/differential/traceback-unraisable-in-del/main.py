# An exception in __del__ is reported as ignored, without an address in the output.
import gc
import sys


class Noisy:
    def __del__(self):
        raise RuntimeError("from del")


print(sys.unraisablehook is sys.__unraisablehook__)


def hook(args):
    print("hook", args.exc_type.__name__, args.exc_value, args.err_msg, args.object.__qualname__)


sys.unraisablehook = hook
n = Noisy()
del n
gc.collect()
print("alive")
