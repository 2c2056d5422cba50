# Without sys.excepthook the C fallback prints the traceback.
import sys

del sys.excepthook
raise ValueError("no hook at all")
