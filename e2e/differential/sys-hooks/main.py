# Every hook of sys is the default one, no tracing is on.
import sys
import threading

print(sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile())
print(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__)
print(sys.unraisablehook is sys.__unraisablehook__, sys.breakpointhook is sys.__breakpointhook__)
print(threading.excepthook is threading.__excepthook__, sys.get_asyncgen_hooks())
print(sys.get_coroutine_origin_tracking_depth(), sys.exc_info(), sys.is_finalizing())
print([hasattr(sys, n) for n in ("ps1", "ps2", "last_value", "tracebacklimit", "__interactivehook__", "gettotalrefcount")])
print(sys.__interactivehook__.__module__, sys.__interactivehook__.__qualname__)
