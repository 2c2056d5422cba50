# Exception while a helper is being imported: importlib's frames are stripped from the traceback.
try:
    import broken
except ZeroDivisionError as exc:
    print("first", exc)
import sys

print("broken" in sys.modules)
import broken
