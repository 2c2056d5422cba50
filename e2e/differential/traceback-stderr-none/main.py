# With sys.stderr = None an uncaught exception prints nothing but still exits 1.
import sys

print("before")
sys.stderr = None
raise ValueError("invisible")
