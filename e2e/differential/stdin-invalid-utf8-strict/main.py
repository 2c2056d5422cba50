# The same with reconfigure(errors="strict"): UnicodeDecodeError, uncaught.
import sys

sys.stdin.reconfigure(errors="strict")
print(sys.stdin.read())
